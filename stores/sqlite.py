"""A SQLite file: how it is opened, so that a commit is on the disk, and written to by many at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Column, Connection, MetaData, create_engine, event
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable
from tenacity import retry, retry_if_exception_message, wait_fixed

from .tables import adding
from .within import seconds_left, time_is_up, within

BUSY_SECONDS = 5
PING_SECONDS = 1.5
# A transaction that reads first and then writes must have the lock from the start: what it read may be changed else.
_LOCKING = {"begin": "BEGIN IMMEDIATE"}


class SqliteDatabase:
    """`engine` pools connections for the store; a plain one serves what must stand outside a transaction."""

    def __init__(self, url: URL) -> None:
        self.engine = create_engine(
            url,
            max_overflow=-1,
            connect_args={"timeout": BUSY_SECONDS},
            json_serializer=lambda value: json.dumps(value, ensure_ascii=False),
            # The chain of an error must not show what is in a record.
            hide_parameters=True,
        )
        self._plain = create_engine(url, poolclass=NullPool, connect_args={"timeout": PING_SECONDS})
        event.listen(self.engine, "connect", _make_durable)
        event.listen(self.engine, "begin", _begin)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction that waits for other writers only as long as the caller may."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={seconds_left(BUSY_SECONDS) * 1000:.0f}")
            yield connection

    def create(self, metadata: MetaData) -> None:
        """Create the tables, columns and indexes that are missing."""
        with within(BUSY_SECONDS):
            self._write_ahead()
        with self.transaction() as connection:
            for table in metadata.sorted_tables:
                # Several processes may start at once: `create_all` looks first and then fails.
                connection.execute(CreateTable(table, if_not_exists=True))
            outdated = _missing(connection, metadata)
        if outdated:
            # Whoever is the second to have the lock finds nothing missing.
            with self.engine.execution_options(**_LOCKING).begin() as connection:
                for column in _missing(connection, metadata):
                    connection.execute(adding(column, connection.dialect))
        with self.transaction() as connection:
            for table in metadata.sorted_tables:
                for index in table.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))

    @retry(
        # The one statement that does not wait for a lock: several processes turn a fresh file at once.
        retry=retry_if_exception_message(match=r".*database is locked"),
        stop=lambda _: time_is_up(),
        wait=wait_fixed(0.02),
        reraise=True,
    )
    def _write_ahead(self) -> None:
        """Turn the file to write-ahead logging, which it then keeps."""
        with self._plain.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")

    def ping(self) -> None:
        with self._plain.connect() as connection:
            connection.exec_driver_sql("PRAGMA schema_version")

    def close(self) -> None:
        self.engine.dispose()
        self._plain.dispose()


def _make_durable(connection: Any, _record: object) -> None:
    # The driver must leave transactions to us: its own would begin a write without waiting for the lock.
    connection.isolation_level = None
    # FULL waits for the disk at each commit; WAL's usual NORMAL loses the last ones when the power goes
    # (https://www.sqlite.org/pragma.html#pragma_synchronous).
    connection.execute("PRAGMA synchronous=FULL").close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _missing(connection: Connection, metadata: MetaData) -> list[Column[Any]]:
    """The columns that the tables do not have."""
    missing: list[Column[Any]] = []
    for table in metadata.sorted_tables:
        found = {row.name for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}
        missing += [column for column in table.columns if column.name not in found]
    return missing
