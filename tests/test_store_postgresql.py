"""PostgreSQL: its durability, its faults, and what its connections put up with."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from threading import Event
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from records import Kind, Record, Status, utc_now
from storage import RecordRejected, StorageUnavailable, open_storage
from stores import postgresql as module
from stores.postgresql import POOL_SIZE, PostgresqlDatabase
from stores.sql import SqlStorage
from tests.stores import (
    BOUND,
    NO_POSTGRESQL,
    OWNER,
    PASSWORD,
    POSTGRESQL_BINARIES,
    ROOT,
    Backend,
    PgServer,
    as_text,
    assert_unavailable,
    completion,
    free_port,
    ids,
    in_postgresql,
    made_by,
    pending,
    ping_seconds,
    race,
    stored,
)

# The longest that an operation may take, and what a busy machine adds.
OPERATION = 5 + 2.5
NUL = "\0"


@pytest.fixture
def backend(postgresql: PgServer) -> Iterator[Backend]:
    """A new, empty database."""
    with in_postgresql(postgresql) as opened:
        yield opened


@pytest.fixture
def store(backend: Backend) -> SqlStorage:
    return sql(backend)


@pytest.fixture(scope="module")
def victim() -> Iterator[PgServer]:
    """A server that tests may stop, kill and silence, as long as they leave it running."""
    if not POSTGRESQL_BINARIES:
        pytest.skip(NO_POSTGRESQL)
    with PgServer() as server:
        yield server


@pytest.fixture
def stricken(victim: PgServer) -> Iterator[SqlStorage]:
    """A store on that server, with its tables."""
    with in_postgresql(victim) as backend:
        store = sql(backend)
        store.initialize()
        yield store
        victim.resume()


def sql(backend: Backend, **options: Any) -> SqlStorage:
    store = backend.open(clock=utc_now, **options)
    assert isinstance(store, SqlStorage)
    return store


def asked(store: SqlStorage, question: str) -> Any:
    """The one value that a pooled connection answers with."""
    with store._database.engine.connect() as connection:
        return connection.exec_driver_sql(question).scalar_one()


def filled(store: SqlStorage, connections: int = POOL_SIZE) -> None:
    """Let the pool open so many connections, and rest."""
    with ExitStack() as stack:
        for _ in range(connections):
            stack.enter_context(store._database.engine.connect())


# Durability


@pytest.mark.parametrize("query", ["", "?options=-csynchronous_commit%3Doff"])
def test_a_commit_is_durable_on_every_connection(postgresql: PgServer, backend: Backend, query: str) -> None:
    """Each connection waits for the disk at a commit, whatever the URL, or the role's own setting, asks for."""
    database = backend.url.rpartition("/")[2]
    postgresql.run(f"ALTER DATABASE {database} SET synchronous_commit = off")
    with psycopg.connect(backend.url + query) as plain:
        assert plain.execute("SHOW synchronous_commit").fetchone() == ("off",)
    with closing(open_storage(backend.url + query)) as store, ExitStack() as stack:
        assert isinstance(store, SqlStorage)
        connections = [stack.enter_context(store._database.engine.connect()) for _ in range(POOL_SIZE)]
        settings = [connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() for connection in connections]
        assert settings == ["on"] * POOL_SIZE


def test_no_statement_is_prepared_on_the_server(backend: Backend, store: SqlStorage) -> None:
    """However often a statement is made, no later one needs the same server process: a pooler may stand between."""
    for _ in range(20):
        store.begin(backend.record())
    assert asked(store, "SELECT count(*) FROM pg_prepared_statements") == 0


def test_a_write_is_one_round_trip(backend: Backend, store: SqlStorage) -> None:
    """To begin a record is one statement that commits itself, and no more is sent for it."""
    store.begin(backend.record())
    with store._database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
    reads, writes = os.pipe()
    with os.fdopen(reads, encoding="utf-8", errors="replace") as trace:
        driver.pgconn.trace(writes)
        store.begin(backend.record())
        driver.pgconn.untrace()
        os.close(writes)
        # libpq notes a message a line; the server waits for more after each of these two and answers nothing before.
        sent = [line.split("\t")[3] for line in trace.read().splitlines() if "\tF\t" in line]
    assert [message for message in sent if message in ("Query", "Sync")] == ["Sync"]


# What it takes and what not


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": f"a{NUL}b"},
        {"user_id": NUL},
        {"request_id": "x" * 129},
        {"model": "x" * 257},
        {"user_id": "世" * 129},
        {"latency_ms": 2**31},
    ],
    ids=str,
)
def test_what_a_column_cannot_hold_is_rejected(backend: Backend, store: SqlStorage, changes: dict[str, Any]) -> None:
    """A NUL, a text that is too long and a number that is too large are refused, and the store goes on."""
    with pytest.raises(RecordRejected):
        store.begin(backend.record(**changes))
    assert ids(store) == []
    record = backend.record()
    assert store.begin(record) == record


def test_a_completion_with_a_nul_is_rejected(backend: Backend, store: SqlStorage) -> None:
    """The record stays pending and takes another completion."""
    record = backend.record()
    store.begin(record)
    with pytest.raises(RecordRejected):
        store.finish(record.id, backend.completion(response=NUL))
    assert stored(store, record) == record
    assert store.finish(record.id, backend.completion()) is True


def test_metadata_comes_back_as_it_was_written(backend: Backend, store: SqlStorage) -> None:
    """Order of names, doubled spaces, the form of a number and a NUL are kept, which `jsonb` would lose or refuse."""
    metadata = {"b": 1.0, "aa": 1, "a": -0.0, "n": [10**30, 1e30, NUL], "": {"z": "  ", "y": "世"}}
    record = backend.record(metadata=metadata)
    store.begin(record)
    assert as_text(stored(store, record).metadata) == as_text(metadata)


def test_what_is_nested_too_deeply_is_rejected(backend: Backend, store: SqlStorage) -> None:
    """JSON that the server's own parser cannot follow is the record's fault, not the storage's."""
    deep: dict[str, Any] = {}
    for _ in range(800):
        deep = {"a": deep}
    store.initialize()
    with store._database.engine.connect() as connection:
        # Its default is twenty times that. The pool is last in, first out: the store meets this connection.
        connection.exec_driver_sql("SET max_stack_depth = '100kB'")
    with pytest.raises(RecordRejected):
        store.begin(backend.record(metadata=deep))
    record = backend.record()
    assert store.begin(record) == record


def test_an_error_shows_nothing_of_a_record(backend: Backend, store: SqlStorage) -> None:
    """Neither the error that callers get nor the driver's, on which it is chained, quotes what was to be written."""
    with pytest.raises(RecordRejected) as caught:
        store.begin(backend.record(prompt=f"PROMPT-CANARY {NUL}", request_id="CANARY" * 50))
    assert caught.value.args == ("The audit log does not take this record.",)
    assert isinstance(caught.value.__cause__, SQLAlchemyError)
    assert "CANARY" not in f"{caught.value.__cause__}"


# Who may create


@pytest.fixture
def clerk(postgresql: PgServer, backend: Backend) -> str:
    """The URL of a role that may read and write what is there, and create nothing."""
    database = backend.url.rpartition("/")[2]
    postgresql.run(
        f"CREATE ROLE clerk_{database} LOGIN PASSWORD 'x'",
        f"REVOKE CREATE ON SCHEMA public FROM PUBLIC, clerk_{database}",
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO clerk_{database}",
        database=database,
    )
    return postgresql.url(database, user=f"clerk_{database}", password="x")


def test_a_role_that_may_not_create(backend: Backend, clerk: str) -> None:
    """Without tables its initialisation fails with our own error; with them it works, told to create or not."""
    with closing(open_storage(clerk)) as store:
        with pytest.raises(StorageUnavailable):
            store.initialize()
        backend.open().initialize()
        for create in (True, False):
            with closing(open_storage(clerk, create=create)) as another:
                record = pending(utc_now())
                assert another.begin(record) == record
        store.initialize()


def test_a_missing_index_is_created(backend: Backend, store: SqlStorage) -> None:
    """A table that lacks an index gets it, and a schema that the search path names first is used."""
    store.initialize()
    with store._database.engine.connect() as connection:
        connection.exec_driver_sql("DROP INDEX requests_by_client")
        connection.exec_driver_sql("CREATE SCHEMA own")
    store.initialize()
    assert asked(store, "SELECT count(*) FROM pg_indexes WHERE indexname = 'requests_by_client'") == 1
    with closing(open_storage(f"{backend.url}?options=-csearch_path%3Down")) as own:
        own.initialize()
        record = backend.record()
        own.begin(record)
        assert store.read(record.id, OWNER) is None
        assert set(made_by(own)) == {"requests", "clients", "counters"}


# Addresses


def test_both_forms_of_an_address(postgresql: PgServer, backend: Backend) -> None:
    """A Unix socket's folder, options of libpq's, and the shorter scheme that platforms hand out are understood."""
    database, scheme = backend.url.rpartition("/")[2], backend.url.replace("postgresql://", "postgres://")
    credentials = backend.url.removeprefix("postgresql://").partition("@")[0]
    by_socket = f"postgresql://{credentials}@/{database}?host={postgresql.folder}&port={postgresql.port}"
    for url in (by_socket, f"{scheme}?sslmode=prefer&connect_timeout=1"):
        with closing(open_storage(url)) as store:
            store.ping()
            assert store.clients() == []


def test_the_driver_is_imported_only_where_it_is_used() -> None:
    """A store in a file needs no PostgreSQL driver."""
    program = "import sys; from storage import open_storage; open_storage('sqlite:///x').close(); "
    program += "sys.exit('psycopg' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


# Faults


def test_a_server_that_is_not_there() -> None:
    """Where nothing listens, every use of the store ends with our own error, without the password."""
    with closing(open_storage(f"postgresql://someone:{PASSWORD}@127.0.0.1:{free_port()}/db")) as store:
        assert_unavailable(store)


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64, "a..b", "%2Fnowhere"], ids=len)
def test_a_host_that_cannot_be_found(host: str) -> None:
    """A name that has no address, or that is none, and a folder without a socket end every use with our own error."""
    with closing(open_storage(f"postgresql://someone:{PASSWORD}@{host}/db")) as store:
        assert_unavailable(store)


def test_a_resolver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolving a name, which cannot be interrupted, keeps nobody past the deadline."""
    released = Event()

    def resolve(*_: object, **__: object) -> None:
        released.wait(BOUND)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with closing(open_storage(f"postgresql://someone:{PASSWORD}@host.example/db")) as store:
        assert ping_seconds(store) < 2
        started = time.monotonic()
        with pytest.raises(StorageUnavailable):
            store.client("klm_client")
        assert time.monotonic() - started < OPERATION
        released.set()


def wrong_password(server: PgServer) -> str:
    """The server knows the user by another password."""
    return server.url("postgres", password=PASSWORD)


def wrong_user(server: PgServer) -> str:
    """The server knows no such user."""
    return server.url("postgres", user="someone", password=PASSWORD)


def missing_database(server: PgServer) -> str:
    """The server has no such database."""
    return server.url(PASSWORD)


@pytest.mark.parametrize("url", [wrong_password, wrong_user, missing_database])
def test_a_server_that_refuses(postgresql: PgServer, url: Callable[[PgServer], str]) -> None:
    """A refusal ends every use with our own error, without the server's words."""
    with closing(open_storage(url(postgresql))) as store:
        assert_unavailable(store)


def test_a_server_that_was_silent_from_the_start(silent_port: int) -> None:
    """A server that accepts and says nothing is known for it within two seconds, and no use outlasts its deadline."""
    url = f"postgresql://someone:{PASSWORD}@127.0.0.1:{silent_port}/db"
    with closing(open_storage(url)) as store, ThreadPoolExecutor(1) as pool:
        started, pinging = time.monotonic(), pool.submit(ping_seconds, store)
        assert_unavailable(store)
        assert time.monotonic() - started < OPERATION
        assert pinging.result() < 2


@pytest.mark.parametrize("pooled", [0, POOL_SIZE])
def test_a_server_that_falls_silent(victim: PgServer, stricken: SqlStorage, pooled: int) -> None:
    """Uses of a server that falls silent end in time, pooled connections or not; a write repeated is there once."""
    filled(stricken, pooled)
    record = pending(utc_now(), idempotency_key="key-1")
    victim.pause()
    with ThreadPoolExecutor(2) as pool:
        started, pinging = time.monotonic(), pool.submit(ping_seconds, stricken)
        writing = pool.submit(stricken.begin, record)
        assert_unavailable(stricken)
        assert isinstance(writing.exception(), StorageUnavailable)
        assert time.monotonic() - started < OPERATION
        assert pinging.result() < 2
    victim.resume()
    stricken.ping()
    assert stricken.begin(record) == record
    assert ids(stricken).count(record.id) == 1


def waiting(server: PgServer) -> int:
    """How many connections to the server wait for a lock."""
    (count,) = server.run("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")[0]
    return int(count)


@pytest.fixture
def locked(victim: PgServer, stricken: SqlStorage) -> Iterator[psycopg.Connection[Any]]:
    """Another connection that keeps the table of records to itself."""
    database = stricken._database.engine.url.database or ""
    with psycopg.connect(victim.url(database)) as other:
        other.execute("LOCK TABLE requests IN ACCESS EXCLUSIVE MODE")
        yield other


def test_a_server_that_falls_silent_in_the_middle(
    victim: PgServer, stricken: SqlStorage, locked: psycopg.Connection[Any]
) -> None:
    """A write whose statement is at work when the server falls silent ends at its deadline."""
    record = pending(utc_now())
    with ThreadPoolExecutor(1) as pool:
        started, writing = time.monotonic(), pool.submit(stricken.begin, record)
        while not waiting(victim):
            assert not writing.done()
        victim.pause()
        assert isinstance(writing.exception(), StorageUnavailable)
        assert time.monotonic() - started < OPERATION
    victim.resume()
    locked.rollback()
    assert stricken.begin(record) == record
    assert ids(stricken) == [record.id]


def test_a_locked_table_keeps_nobody(victim: PgServer, stricken: SqlStorage, locked: psycopg.Connection[Any]) -> None:
    """A statement that waits for another's lock ends in time, here and on the server; afterwards it succeeds."""
    record = pending(utc_now())
    started = time.monotonic()
    with pytest.raises(StorageUnavailable):
        stricken.begin(record)
    assert time.monotonic() - started < OPERATION
    while waiting(victim):
        assert time.monotonic() - started < BOUND
    stricken.ping()
    locked.rollback()
    assert stricken.begin(record) == record


def killed(server: PgServer) -> None:
    """The server is killed and started again."""
    server.kill()
    server.start()


def stopped(server: PgServer) -> None:
    """The server is stopped, which it tells its clients, and started again."""
    server.stop()
    server.start()


@pytest.mark.parametrize("end", [stopped, killed])
def test_a_restart_goes_unnoticed(victim: PgServer, stricken: SqlStorage, end: Callable[[PgServer], object]) -> None:
    """After the server was stopped or killed and started again, no use of any pooled connection fails."""
    before = pending(utc_now())
    stricken.begin(before)
    filled(stricken)
    end(victim)
    records = [pending(utc_now()) for _ in range(2 * POOL_SIZE)]
    assert race([partial(stricken.begin, record) for record in records]) == records
    assert stored(stricken, before) == before


def test_a_connection_that_died_unheard_is_replaced(
    victim: PgServer, stricken: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that rested is asked first whether anybody is there, and is replaced where nobody answers."""
    own = asked(stricken, "SELECT pg_backend_pid()")
    monkeypatch.setattr(module, "RESTED_SECONDS", -1)
    assert asked(stricken, "SELECT pg_backend_pid()") == own
    os.kill(own, signal.SIGSTOP)
    try:
        record = pending(utc_now())
        assert stricken.begin(record) == record
    finally:
        os.kill(own, signal.SIGCONT)
    assert asked(stricken, "SELECT pg_backend_pid()") != own


def test_a_former_primary_is_left(victim: PgServer, stricken: SqlStorage) -> None:
    """Connections to a server that takes no more writes are given up, and none is made; afterwards all is well."""
    filled(stricken)
    victim.run("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    record = pending(utc_now())
    try:
        while asked(stricken, "SHOW default_transaction_read_only") != "on":
            pass
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                stricken.begin(record)
        with pytest.raises(StorageUnavailable):
            stricken.ping()
    finally:
        victim.run("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
    _until(stricken.ping)
    assert stricken.begin(record) == record
    assert ids(stricken) == [record.id]


def _until(call: Callable[[], object]) -> object:
    """Call until it succeeds: the server takes its time to notice a new setting."""
    ends = time.monotonic() + BOUND
    while time.monotonic() < ends:
        with suppress(StorageUnavailable):
            return call()
    raise AssertionError("the server stays unavailable")


def test_a_process_keeps_to_its_connections(backend: Backend, store: SqlStorage) -> None:
    """More threads than connections share them, and PostgreSQL sees no more than are allowed."""
    records = [backend.record(kind=Kind.GENERATE) for _ in range(4 * POOL_SIZE)]

    def call(record: Record) -> None:
        assert store.begin(record) == record
        assert store.finish(record.id, completion(utc_now())) is True

    race([partial(call, record) for record in records])
    assert 1 <= asked(store, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") <= POOL_SIZE
    assert {stored(store, record).status for record in records} == {Status.SUCCEEDED}


def test_a_server_without_room_for_another_connection(postgresql: PgServer, backend: Backend) -> None:
    """A connection that is refused because there are too many ends the operation with our own error, and no other."""
    database = backend.url.rpartition("/")[2]
    postgresql.run(f"CREATE ROLE crowd_{database} LOGIN PASSWORD 'x' CONNECTION LIMIT 1")
    url = postgresql.url(database, user=f"crowd_{database}", password="x")
    with closing(open_storage(url, create=False)) as store, psycopg.connect(url):
        with pytest.raises(StorageUnavailable):
            store.ping()
        with pytest.raises(StorageUnavailable):
            store.client("klm_client")


def test_a_ping_needs_no_pooled_connection(store: SqlStorage) -> None:
    """While every connection of the pool is at work, the server is still found to be there."""
    database = store._database
    assert isinstance(database, PostgresqlDatabase)
    with ExitStack() as stack:
        for _ in range(POOL_SIZE):
            stack.enter_context(database.engine.connect())
        store.ping()
