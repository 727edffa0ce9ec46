"""The app on a database with many records, and what is asked of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from flask.testing import FlaskClient

from app import create_app
from clients import register
from records import rfc3339, utc_now
from storage import Storage, open_storage
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.stores import POSTGRESQL_BINARIES, REAL_MONGODB, NxServer, PgServer, in_mongodb, new_database, sqlite_url

from .stored import DAYS, Stock, fill_mongodb, fill_postgresql, fill_sqlite

PAGE = 100
# nx-27017 0.8.1 reads through all documents: with ten times as many, a summary takes longer than the store waits.
NX_RECORDS = 10_000


@dataclass(frozen=True)
class Database:
    """A kind of database: how a new, empty one is named, how one is filled, and with how many records at most."""

    name: str
    new: Callable[[], str]
    fill: Callable[[str, Stock], None]
    most: int | None = None


def sqlite_in(folder: Path) -> Database:
    return Database("SQLite", lambda: sqlite_url(folder / f"{new_database()}.sqlite3"), fill_sqlite)


def postgresql_on(server: PgServer) -> Database:
    return Database("PostgreSQL", lambda: server.url(server.create()), fill_postgresql)


@contextmanager
def databases(folder: Path) -> Iterator[list[Database]]:
    """Every kind that is here, with its server."""
    with ExitStack() as stack:
        found = [sqlite_in(folder)]
        if POSTGRESQL_BINARIES:
            found.append(postgresql_on(stack.enter_context(PgServer())))
        nx = stack.enter_context(NxServer(folder / "nx"))
        found.append(Database("nx-27017", lambda: nx.url(new_database()), fill_mongodb, NX_RECORDS))
        if REAL_MONGODB:
            found.append(Database("MongoDB", lambda: stack.enter_context(in_mongodb()).url, fill_mongodb))
        yield found


@dataclass(frozen=True)
class Taken:
    """The seconds of one request: of the clock, and of this process's time on a processor."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Service:
    """The app, and what is asked of it by name: a path and who asks."""

    http: FlaskClient
    storage: Storage
    requests: Mapping[str, tuple[str, str]]

    def ask(self, name: str) -> Taken:
        """Raises: `RuntimeError` for any answer but 200."""
        path, token = self.requests[name]
        wall, cpu = time.perf_counter(), time.process_time()
        answer = self.http.get(path, headers={"Authorization": f"Bearer {token}"})
        taken = Taken(time.perf_counter() - wall, time.process_time() - cpu)
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")
        return taken


@contextmanager
def service_on(database: Database, records: int, folder: Path, chars: int = 250) -> Iterator[Service]:
    """The app on a new database with so many records, of prompts and responses of about so many characters."""
    settings = settings_in(folder, DATABASE_URL=database.new())
    with closing(open_storage(settings.database_url)) as empty:
        empty.prepare()
        large, steady = (register(empty, name, ("log:read",)) for name in ("large", "steady"))
    database.fill(settings.database_url, Stock(records, large.client_id, steady.client_id, chars))
    with closing(open_storage(settings.database_url)) as storage:
        engine = ScriptedEngine()
        harness = Harness(create_app(settings, storage=storage, engine=engine), settings, storage, engine)
        yield Service(harness.http, storage, _requests(harness, harness.token(large), harness.token(steady)))


def _requests(harness: Harness, large: str, steady: str) -> dict[str, tuple[str, str]]:
    page, usage = f"/log-request?limit={PAGE}", "/usage"
    middle = rfc3339(utc_now() - timedelta(days=DAYS / 2))
    cursor = harness.get("/log-request", large, {"limit": 1, "to": middle}).get_json()["next_cursor"]
    return {
        "first page": (page, large),
        "a page deep inside": (f"{page}&cursor={cursor}", large),
        "first page of 1,000 records": (page, steady),
        "usage, 1,000 records": (usage, steady),
        "usage, half of all records": (usage, large),
    }
