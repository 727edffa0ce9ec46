"""PostgreSQL: how it is connected to, so that a commit is durable, a restart goes unnoticed and nobody waits long."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from time import monotonic
from typing import Any

import psycopg
import sqlalchemy
from psycopg.conninfo import make_conninfo
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Dialect,
    Engine,
    ExceptionContext,
    Executable,
    Index,
    MetaData,
    Table,
    create_engine,
    event,
    func,
)
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from .bounded import OPERATION_SECONDS, BoundedConnection, connect
from .tables import adding
from .within import seconds_left, within

PING_SECONDS = 1.5
# So many operations of a process, and as many connections, are under way at most; others wait within their deadline.
# A ping has another connection. PostgreSQL takes 100 by default from all clients, each served by a process.
POOL_SIZE = 10
# A connection that rested longer is asked for a sign of life before it is used: firewalls forget idle ones silently.
RESTED_SECONDS = 5.0
_SIGN_OF_LIFE_SECONDS = 1.0

# Set on each connection, after what `?options=` in the URL or the role's own settings say: a commit is acknowledged
# when it is on the disk (https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-SYNCHRONOUS-COMMIT), and
# a statement whose caller has gone ends too.
_SETTINGS = (
    f"SET synchronous_commit TO on; SET statement_timeout TO {OPERATION_SECONDS * 1000:.0f};"
    # Each statement has an index that gives its rows in order. Without statistics, PostgreSQL would rather gather
    # all that a bitmap finds and sort it for the twenty that are wanted.
    "SET enable_bitmapscan TO off"
)
_DRIVER = {
    "connect_timeout": int(OPERATION_SECONDS),
    # Behind a pooler the next statement may meet another server process, which knows no prepared one.
    "prepare_threshold": None,
    "client_encoding": "utf8",
    # The primary alone: neither a record nor a key is read from, or claimed on, a standby.
    "target_session_attrs": "read-write",
    "fallback_application_name": "klamala",
}
_READ_ONLY = "25006"
# Whoever creates tables takes this advisory lock of the database: the name "klamala" in ASCII.
_CREATING = int.from_bytes(b"klamala")
_pg_class = sqlalchemy.table("pg_class", sqlalchemy.column("oid"), sqlalchemy.column("relname"), schema="pg_catalog")
# An index has attributes too: the columns that are in it.
_pg_attribute = sqlalchemy.table(
    "pg_attribute", sqlalchemy.column("attrelid"), sqlalchemy.column("attname"), schema="pg_catalog"
)


class PostgresqlDatabase:
    """`engine` pools connections for the store; a plain one connects anew for a ping, which waits for nobody."""

    def __init__(self, url: URL) -> None:
        """Raises: `ValueError` for an address or an option that libpq cannot read."""
        url = url.set(drivername="postgresql+psycopg")
        self.engine = _engine(url, pool_size=POOL_SIZE, max_overflow=-1, pool_use_lifo=True)
        self._plain = _engine(url, poolclass=NullPool)
        _check(self.engine, url)
        # Not the pool's own limit: who waits there is not told when a connection could not be made.
        self._free = BoundedSemaphore(POOL_SIZE)
        event.listen(self.engine, "checkin", _rests)
        event.listen(self.engine, "checkout", _is_alive)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection that commits each statement by itself: a write is one round trip."""
        with self._limits(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _limits(self) -> Iterator[None]:
        with within(OPERATION_SECONDS):
            if not self._free.acquire(timeout=seconds_left(OPERATION_SECONDS)):
                raise NoneFree("every connection is at work")
            try:
                yield
            finally:
                self._free.release()

    def create(self, metadata: MetaData) -> None:
        """Create the tables, columns and indexes that are missing; a role that may not will do where none is."""
        with self.transaction() as connection:
            if not _missing(connection, metadata):
                return
        together = self.engine.execution_options(isolation_level="READ COMMITTED")
        with self._limits(), together.begin() as connection:
            # Two that create a table at once would fail, even with IF NOT EXISTS; the lock ends with the transaction.
            connection.execute(sqlalchemy.select(func.pg_advisory_xact_lock(_CREATING)))
            for item in _missing(connection, metadata):
                connection.execute(_creation(item, connection.dialect))

    def ping(self) -> None:
        """Return when the server takes a connection and answers on it, within two seconds."""
        with within(PING_SECONDS), self._plain.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    def close(self) -> None:
        self.engine.dispose()
        self._plain.dispose()


def _engine(url: URL, **pool: Any) -> Engine:
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        connect_args=_DRIVER,
        json_serializer=lambda value: json.dumps(value, ensure_ascii=False),
        use_native_hstore=False,
        # The chain of an error must not show what is in a record.
        hide_parameters=True,
        **pool,
    )
    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", _make_durable)
    event.listen(engine, "handle_error", _leave_what_is_read_only)
    return engine


def _check(engine: Engine, url: URL) -> None:
    _, parameters = engine.dialect.create_connect_args(url)
    try:
        make_conninfo("", **{name: value for name, value in parameters.items() if name != "context"})
    except psycopg.Error:
        raise ValueError("is not an address that libpq can read") from None
    if not 0 < (url.port or 5432) < 1 << 16:
        raise ValueError("has no such port")


def _make_durable(connection: BoundedConnection, _record: object) -> None:
    connection.execute(_SETTINGS)


def _rests(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info["rests_since"] = monotonic()


def _is_alive(connection: BoundedConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Have a connection replaced, and all that are pooled, when its server has gone since it was used.

    What a server says unasked is its farewell: so that is seen without a round trip.
    """
    try:
        if connection.closed or _is_readable(connection):
            raise InvalidatePoolError
        if monotonic() - record.info.get("rests_since", monotonic()) > RESTED_SECONDS:
            with within(_SIGN_OF_LIFE_SECONDS):
                connection.execute("SELECT 1")
    except psycopg.Error as error:
        raise InvalidatePoolError from error


def _is_readable(connection: BoundedConnection) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _leave_what_is_read_only(context: ExceptionContext) -> None:
    """After a failover the connections to the former primary are worthless: each would refuse every write."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True


def _creation(item: Table | Column[Any] | Index, dialect: Dialect) -> Executable:
    match item:
        case Table():
            return CreateTable(item)
        case Column():
            return adding(item, dialect)
        case Index():
            return CreateIndex(item)


def _missing(connection: Connection, metadata: MetaData) -> list[Table | Column[Any] | Index]:
    """What the search path does not find, in the order in which it can be created."""
    tables = metadata.sorted_tables
    names = [table.name for table in tables] + [str(index.name) for table in tables for index in table.indexes]
    # Not `to_regclass`: it may remember from before the lock that there is none.
    visible = sqlalchemy.select(_pg_class.c.relname, _pg_attribute.c.attname).where(
        _pg_class.c.oid == _pg_attribute.c.attrelid,
        _pg_class.c.relname.in_(names),
        func.pg_table_is_visible(_pg_class.c.oid),
    )
    columns = {(row.relname, row.attname) for row in connection.execute(visible)}
    relations = {relation for relation, _ in columns}
    missing: list[Table | Column[Any] | Index] = []
    for table in tables:
        if table.name in relations:
            missing += [column for column in table.columns if (table.name, column.name) not in columns]
        else:
            missing.append(table)
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        missing += [index for index in indexes if index.name not in relations]
    return missing
