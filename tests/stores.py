"""Every store behind one handle, and the real servers that the tests start for themselves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Lock
from typing import Any, Self
from urllib.parse import quote, urlsplit

import mongomock
import psycopg
import pytest
from pymongo import MongoClient
from sqlalchemy import insert, inspect, select, update

from counters import Count, Mark, Quota, Taking
from records import Client, Completion, Kind, Owner, Record, Selection, Status, new_id, utc_now
from storage import Storage, StorageUnavailable, open_storage
from stores import statements
from stores.documents import document_of, previous_key
from stores.mongo import MongoStorage
from stores.sql import SqlStorage
from stores.tables import clients, requests


def _postgresql_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`: of the path, else the latest of Debian's, which are not on the path."""
    if program := shutil.which("initdb"):
        return Path(program).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in versions), key=lambda folder: float(folder.parent.name), default=None)


ROOT = Path(__file__).parents[1]
REAL_MONGODB = os.environ.get("TEST_MONGODB_URI", "")
POSTGRESQL_BINARIES = _postgresql_binaries()
NO_POSTGRESQL = "PostgreSQL's server is not installed (Debian's package postgresql): its part of this suite is left out"
STORES = (
    "sqlite",
    *(["postgresql"] if POSTGRESQL_BINARIES else []),
    "mongomock",
    "nx",
    *(["mongodb"] if REAL_MONGODB else []),
)
NO_MONGODB = "TEST_MONGODB_URI names no MongoDB server: its part of this suite is left out"
BOUND = 20.0
OWNER = Owner("klm_client", "user-1")
PASSWORD = "hunter2"


@dataclass
class Clock:
    """A clock that stands still until a test moves it."""

    now: datetime = field(default_factory=utc_now)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


def on(*names: str) -> pytest.MarkDecorator:
    """Run the test on these stores only, as far as they are here."""
    return pytest.mark.parametrize("backend", [name for name in names if name in STORES], indirect=True)


@dataclass
class Backend:
    """A new, empty database of one kind, and every store that a test opens on it."""

    name: str
    connect: Callable[[bool, Callable[[], datetime]], Storage]
    url: str = ""
    # The smallest step between two moments that a filter tells apart.
    tick: timedelta = timedelta(milliseconds=1)
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

    def job(self, **changes: Any) -> Record:
        """A job that is begun now, with five minutes to its deadline."""
        return job(self.clock(), **changes)

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
        "prompt": "CANARY-prompt",
        "detail": {"strategy": "general"},
        "model": "gpt-test",
        "engine": "scripted",
        "timestamp": now,
        "deadline_at": now + timedelta(seconds=25),
        "body_hash": "0" * 64,
    }
    return Record(**{**values, **changes})


def job(now: datetime, **changes: Any) -> Record:
    """A job that is begun at that moment, with five minutes to its deadline."""
    begun = {"attempt": 0, "lease_until": now, "deadline_at": now + timedelta(minutes=5)}
    return pending(now, **{**begun, **changes})


def completion(now: datetime, **changes: Any) -> Completion:
    """A success of that moment."""
    values = {
        "status": Status.SUCCEEDED,
        "response": "CANARY-response",
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
    # gives a datetime. Only a completion, an abandonment and a lease write one that way.
    return replace(record, completed_at=_moment(record.completed_at), lease_until=_moment(record.lease_until))


def _moment(found: Any) -> Any:
    return datetime.fromisoformat(found).replace(tzinfo=UTC) if isinstance(found, str) else found


def ids(storage: Storage) -> list[str]:
    """The ids of all records that are there, past the interface."""
    if isinstance(storage, SqlStorage):
        with storage._database.engine.connect() as connection:
            return list(connection.execute(select(requests.c.id)).scalars())
    assert isinstance(storage, MongoStorage)
    return [document["_id"] for document in storage._requests.find({}, {"_id": 1})]


def in_order(records: Sequence[Record]) -> list[Record]:
    """Newest first, by the moment of the call, then by id."""
    return sorted(records, key=lambda record: (record.timestamp, record.id), reverse=True)


def bulk(storage: Storage, records: Sequence[Record]) -> None:
    """Write new records as they are, past the interface; the tables must be there."""
    if not records:
        return
    if isinstance(storage, SqlStorage):
        with storage._database.engine.begin() as connection:
            connection.execute(insert(requests), [statements.row(record) for record in records])
        return
    assert isinstance(storage, MongoStorage)
    storage._requests.insert_many([document_of(record) for record in records])


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


def forget_previous_keys(storage: Storage) -> None:
    """Leave the clients as a version stored them that knew one key only."""
    if isinstance(storage, SqlStorage):
        with storage._database.engine.begin() as connection:
            for column in ("previous_key_hash", "previous_key_expires_at"):
                connection.exec_driver_sql(f"ALTER TABLE clients DROP COLUMN {column}")
        return
    assert isinstance(storage, MongoStorage)
    storage._clients.update_many({}, {"$unset": {"previous_key": ""}})


def end_previous_keys(storage: Storage) -> None:
    """Have every key that works on beside a client's own end now, which nobody has to wait for then."""
    now = utc_now()
    if isinstance(storage, SqlStorage):
        ending = update(clients).where(clients.c.previous_key_hash.is_not(None)).values(previous_key_expires_at=now)
        with storage._database.engine.begin() as connection:
            connection.execute(ending)
        return
    assert isinstance(storage, MongoStorage)
    for client in storage.clients():
        storage._set_client({"_id": client.client_id}, {"previous_key": previous_key(client.previous_key_hash, now)})


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
        """Start and return once the server answers a ping: the first time on a free port, then there again if it can.

        Another process may take the port first.
        """
        for _ in range(3):
            self._port = self._port or free_port()
            if self._answers(self._spawn()):
                return
            self.stop()
            self._port = 0
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


class PgServer:
    """A PostgreSQL cluster of its own on a free port of loopback, in a folder that goes with it.

    `durable` waits for the disk, which only a test of durability needs.
    """

    PASSWORD = "p@ss/w:rd?"

    def __init__(self, *, durable: bool = False) -> None:
        assert POSTGRESQL_BINARIES, NO_POSTGRESQL
        self._binaries = POSTGRESQL_BINARIES
        self._options = [] if durable else ["-cfsync=off", "-cfull_page_writes=off"]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: list[int] = []
        self.port = 0
        # Not in pytest's folder, which is closed to the user that the server runs as.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        # PostgreSQL refuses to run as root; Debian's package has a user for it.
        self._user: dict[str, Any] = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        )

    def __enter__(self) -> Self:
        if self._user:
            shutil.chown(self.folder, "postgres", "postgres")
        secret = self.folder / "password"
        secret.write_text(self.PASSWORD, "utf-8")
        language = ["--locale-provider=icu", "--icu-locale=en-US"] if self._knows_icu() else []
        command = [str(self._binaries / "initdb"), f"--pgdata={self.folder / 'data'}", f"--pwfile={secret}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "-Utester", *language]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._user)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _knows_icu(self) -> bool:
        told = subprocess.run([str(self._binaries / "initdb"), "--help"], check=True, capture_output=True, text=True)
        return "--icu-locale" in told.stdout

    def url(self, database: str, *, user: str = "tester", password: str = PASSWORD, query: str = "") -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}{query}"

    def run(self, *statements: str, database: str = "postgres") -> list[Any]:
        """The rows of the last statement, each committed by itself."""
        conninfo = self.url(database)
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=int(BOUND)) as connection:
            cursors = [connection.execute(statement.encode()) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description else []

    def create(self, template: str | None = None) -> str:
        """The name of a new database, a copy of `template` if there is one: nobody may be connected to that."""
        name = new_database()
        self.run(f"CREATE DATABASE {name} TEMPLATE {template or 'template1'}")
        return name

    def start(self) -> None:
        """Start, the first time on a free port, and return once the server answers."""
        self.port = self.port or free_port()
        command = [str(self._binaries / "postgres"), f"-D{self.folder / 'data'}", f"-p{self.port}", f"-k{self.folder}"]
        command += ["-clisten_addresses=127.0.0.1", "-cshared_buffers=32MB", *self._options]
        with (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(command, stdout=console, stderr=console, cwd=self.folder, **self._user)
        ends = time.monotonic() + BOUND
        while time.monotonic() < ends and self._process.poll() is None:
            with suppress(psycopg.OperationalError):
                self.run("SELECT 1")
                return
            time.sleep(0.02)
        raise AssertionError(f"PostgreSQL did not start:\n{(self.folder / 'console').read_text('utf-8')}")

    def pause(self) -> None:
        """Make the server accept and be silent, until `resume`: every process of it, each connection has its own."""
        assert self._process
        self._signal([self._process.pid], signal.SIGSTOP)
        self._stopped = self._processes()
        self._signal(self._stopped, signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(self._stopped, signal.SIGCONT)
        self._stopped = []

    def kill(self) -> None:
        """`kill -9`, every process of it."""
        processes = self._processes()
        self._signal(processes, signal.SIGKILL)
        self._ended()
        while any(_runs(process) for process in processes):
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop as an administrator does who does not wait for connected clients."""
        self.resume()
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._ended()

    def _processes(self) -> list[int]:
        assert self._process
        server = self._process.pid
        children = Path(f"/proc/{server}/task/{server}/children").read_text("ascii").split()
        return [server, *map(int, children)]

    def _signal(self, processes: list[int], number: signal.Signals) -> None:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def _ended(self) -> None:
        if self._process:
            self._process.wait(BOUND)
            self._process = None


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def at_url(name: str, url: str) -> Backend:
    """A backend on the database that the URL names."""
    return Backend(name, lambda create, clock: open_storage(url, create=create, clock=clock), url)


def in_nx(url: str) -> Backend:
    """MongoDB's store on nx-27017 0.8.1, which compares moments by the second."""
    backend = at_url("nx", url)
    return replace(backend, tick=timedelta(seconds=1), clock=Clock(backend.clock().replace(microsecond=0)))


def in_mongomock() -> Backend:
    """MongoDB's store on a double that lives in the process.

    mongomock 4.3 looks for what an update changes and changes it in two steps, which MongoDB does in one
    (https://www.mongodb.com/docs/manual/core/write-operations-atomicity/): here one operation waits for the other.
    """
    database: Any = mongomock.MongoClient(tz_aware=True).klamala
    one_at_a_time = Lock()

    class InTurn(MongoStorage):
        @contextmanager
        def _operation(self) -> Iterator[None]:
            with one_at_a_time, super()._operation():
                yield

    return Backend("mongomock", lambda create, clock: InTurn(database, create=create, clock=clock))


@contextmanager
def in_postgresql(server: PgServer, template: str | None = None) -> Iterator[Backend]:
    """A new database on this server, a copy of `template` if there is one, dropped afterwards."""
    name = server.create(template)
    backend = at_url("postgresql", server.url(name))
    try:
        yield backend
    finally:
        backend.close()
        server.run(f"DROP DATABASE {name} WITH (FORCE)")


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


def race(racers: list[Callable[[], Any]]) -> list[Any]:
    """What they return, when all start at the same moment."""
    barrier = Barrier(len(racers))

    def run(racer: Callable[[], Any]) -> Any:
        barrier.wait(BOUND)
        return racer()

    with ThreadPoolExecutor(len(racers)) as pool:
        return list(pool.map(run, racers))


def race_of_processes(commands: Sequence[Sequence[str]]) -> list[str]:
    """What Python modules with arguments print after "ready", when their input ends at the same moment."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-m", *each], cwd=ROOT, **pipes) for each in commands]
    try:
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.close()
            process.stdin = None
        return [process.communicate(timeout=2 * BOUND)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def uses_of(store: Storage) -> dict[str, Callable[[], object]]:
    """Every way to use a store, by name."""
    anybody = Backend("", lambda *_: store)
    record = anybody.record(idempotency_key="key-1")
    return {
        "initialize": store.initialize,
        "ping": store.ping,
        "begin": lambda: store.begin(record),
        "read": lambda: store.read(record.id, OWNER),
        "lease": lambda: store.lease(utc_now()),
        "renew": lambda: store.renew(record, utc_now()),
        "finish": lambda: store.finish(record.id, anybody.completion()),
        "add_client": lambda: store.add_client(anybody.client()),
        "client": lambda: store.client("klm_client"),
        "page": lambda: store.page(Selection(), 20),
        "every": lambda: list(store.every(Selection())),
        "usage": lambda: store.usage(Selection()),
        "abandon_overdue": store.abandon_overdue,
        "delete_expired": store.delete_expired,
        "sweep": store.sweep,
        "erase": lambda: store.erase(OWNER),
        "clients": store.clients,
        "set_client_key": lambda: store.set_client_key("klm_client", "a" * 64),
        "set_client_disabled": lambda: store.set_client_disabled("klm_client", True),
        "holder": lambda: store.holder(record),
        "take": lambda: store.counters.take([Quota("k", 1, lambda now: now)], 1),
        "correct": lambda: store.counters.correct(_taking(), 1),
        "delete counters": store.counters.delete_expired,
    }


def _taking() -> Taking:
    """Something that was granted, no matter where."""
    return Taking(True, [Count(Quota("k", 1, lambda now: now), Mark(1, utc_now()), 0)])


def assert_unavailable(store: Storage) -> None:
    """Every use of the store at once ends with `StorageUnavailable`, which tells nothing of the address."""
    uses = uses_of(store)
    with ThreadPoolExecutor(len(uses)) as pool:
        ends: dict[str, Future[object]] = {name: pool.submit(use) for name, use in uses.items()}
    errors = {name: end.exception() for name, end in ends.items()}
    assert {name: type(error) for name, error in errors.items()} == dict.fromkeys(uses, StorageUnavailable)
    assert [name for name, error in errors.items() if PASSWORD in f"{error}{error!r}"] == []


def ping_seconds(store: Storage) -> float:
    """How long a ping took to fail."""
    started = time.monotonic()
    with pytest.raises(StorageUnavailable):
        store.ping()
    return time.monotonic() - started
