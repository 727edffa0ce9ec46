"""Every store behind one handle, and the real server that the tests start for themselves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import mongomock
from pymongo import MongoClient
from sqlalchemy import inspect, select

from records import Client, Completion, Kind, Owner, Record, Status, new_id, utc_now
from storage import Storage, open_storage
from stores.mongo import MongoStorage
from stores.sql import SqlStorage
from stores.tables import requests

ROOT = Path(__file__).parents[1]
REAL_MONGODB = os.environ.get("TEST_MONGODB_URI", "")
STORES = ("sqlite", "mongomock", "nx", *(["mongodb"] if REAL_MONGODB else []))
BOUND = 20.0
OWNER = Owner("klm_client", "user-1")


@dataclass
class Clock:
    """A clock that stands still until a test moves it."""

    now: datetime = field(default_factory=utc_now)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


@dataclass
class Backend:
    """A new, empty database of one kind, and every store that a test opens on it."""

    name: str
    connect: Callable[[bool, Callable[[], datetime]], Storage]
    url: str = ""
    clock: Clock = field(default_factory=Clock)
    opened: list[Storage] = field(default_factory=list)

    def open(self, *, create: bool = True, clock: Callable[[], datetime] | None = None) -> Storage:
        """Another store on the same database, closed at the end of the test."""
        storage = self.connect(create, clock or self.clock)
        self.opened.append(storage)
        return storage

    def record(self, **changes: Any) -> Record:
        """A pending record of now, with 25 seconds to its deadline."""
        return pending(self.clock(), **changes)

    def client(self, client_id: str = "klm_client", **changes: Any) -> Client:
        values = {"name": "a name", "scopes": ("refine", "log:read"), "key_hash": "a" * 64, "created_at": self.clock()}
        return Client(client_id=client_id, **{**values, **changes})

    def completion(self, status: Status = Status.SUCCEEDED, **changes: Any) -> Completion:
        return completion(self.clock(), status=status, **changes)

    def close(self) -> None:
        for storage in self.opened:
            storage.close()


def pending(now: datetime, **changes: Any) -> Record:
    """A pending record of that moment, with 25 seconds to its deadline."""
    values = {
        "id": new_id(),
        "kind": Kind.REFINE,
        "source": "server",
        "status": Status.PENDING,
        "user_id": OWNER.user_id,
        "client_id": OWNER.client_id,
        "request_id": "request-1",
        "prompt": "a prompt",
        "detail": {"strategy": "general"},
        "model": "gpt-test",
        "engine": "scripted",
        "timestamp": now,
        "deadline_at": now + timedelta(seconds=25),
        "body_hash": "0" * 64,
    }
    return Record(**{**values, **changes})


def completion(now: datetime, **changes: Any) -> Completion:
    """A success of that moment."""
    values = {
        "status": Status.SUCCEEDED,
        "response": "a response",
        "detail": {"strategy": "general", "refined": True},
        "usage": {"input_tokens": 3, "output_tokens": None},
        "latency_ms": 12,
        "completed_at": now,
    }
    return Completion(**{**values, **changes})


def stored(storage: Storage, record: Record) -> Record:
    """The record as the store holds it now; the test fails when it is not there."""
    found = storage.read(record.id, record.owner)
    assert found is not None, "the record is not in the store"
    return _with_times(found)


def _with_times(record: Record) -> Record:
    # nx-27017 0.8.1 gives a datetime in a top-level `$set` back as the text "2026-11-20 01:02:03.004000"; MongoDB
    # gives a datetime. Only a completion and an abandonment write one that way.
    moment: Any = record.completed_at
    if not isinstance(moment, str):
        return record
    return replace(record, completed_at=datetime.fromisoformat(moment).replace(tzinfo=UTC))


def ids(storage: Storage) -> list[str]:
    """The ids of all records that are there, past the interface."""
    if isinstance(storage, SqlStorage):
        with storage._database.engine.connect() as connection:
            return list(connection.execute(select(requests.c.id)).scalars())
    assert isinstance(storage, MongoStorage)
    return [document["_id"] for document in storage._requests.find({}, {"_id": 1})]


def made_by(storage: Storage) -> list[str]:
    """The names of the tables, or of the collections and indexes, that a store has made."""
    if isinstance(storage, SqlStorage):
        with storage._database.engine.connect() as connection:
            return inspect(connection).get_table_names()
    assert isinstance(storage, MongoStorage)
    database = storage._database
    collections = list(database.list_collection_names())
    indexes = [name for collection in collections for name in database[collection].index_information()]
    return [*collections, *(name for name in indexes if name != "_id_")]


def free_port() -> int:
    """A port of loopback on which nothing listens."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class NxServer:
    """An `nx-27017` process: MongoDB's wire protocol over SQLite files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, database: str) -> str:
        return f"mongodb://127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Start on a free port and return once the server answers a ping; another process may take a port first."""
        for _ in range(3):
            self._port = free_port()
            if self._answers(self._spawn()):
                return
            self.stop()
        raise AssertionError(f"nx-27017 did not start:\n{(self.folder / 'console').read_text('utf-8')}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        program = str(Path(sys.executable).with_name("nx-27017"))
        files = {"--data-dir": "data", "--log-file": "log", "--pid-file": "pid"}
        options = [part for name, value in files.items() for part in (name, str(self.folder / value))]
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        with (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [program, "--host", "127.0.0.1", "-p", str(self._port), *options], stdout=console, stderr=console
            )
        return self._process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        ends = time.monotonic() + BOUND
        while process.poll() is None and time.monotonic() < ends:
            with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self._port), 1)):
                break
            time.sleep(0.02)
        if process.poll() is not None:
            return False
        client: MongoClient[dict[str, Any]]
        with MongoClient(self.url(""), serverSelectionTimeoutMS=int(BOUND * 1000)) as client:
            client.admin.command("ping")
        return True

    def kill(self) -> None:
        """`kill -9`."""
        self._signal(signal.SIGKILL)
        self._ended()

    def pause(self) -> None:
        """Make the server accept and be silent, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process:
            self.resume()
            self._signal(signal.SIGTERM)
            self._ended()

    def _signal(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(number)

    def _ended(self) -> None:
        if self._process:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(BOUND)
            self._process.kill()
            self._process.wait()
            self._process = None


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def at_url(name: str, url: str) -> Backend:
    """A backend on the database that the URL names."""
    return Backend(name, lambda create, clock: open_storage(url, create=create, clock=clock), url)


def in_mongomock() -> Backend:
    """MongoDB's store on a double that lives in the process."""
    database: Any = mongomock.MongoClient(tz_aware=True).klamala
    return Backend("mongomock", lambda create, clock: MongoStorage(database, create=create, clock=clock))


@contextmanager
def in_mongodb() -> Iterator[Backend]:
    """A new database on the server that `TEST_MONGODB_URI` names, dropped afterwards."""
    name = new_database()
    try:
        yield at_url("mongodb", urlsplit(REAL_MONGODB)._replace(path=f"/{name}").geturl())
    finally:
        client: MongoClient[dict[str, Any]]
        with MongoClient(REAL_MONGODB) as client:
            client.drop_database(name)


def new_database() -> str:
    return f"test_{uuid.uuid4().hex}"


def as_text(value: object) -> str:
    """A JSON value with the order of its names and the type of its numbers, which `==` passes over."""
    return json.dumps(value, ensure_ascii=False)
