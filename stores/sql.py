"""Records and clients in SQLite, through SQLAlchemy Core."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.exc import DBAPIError as DriverError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

from storage import (
    IDEMPOTENCY_WINDOW,
    OPEN_STATES,
    Client,
    Completion,
    DuplicateKey,
    Owner,
    Record,
    RecordRejected,
    Status,
    Storage,
    StorageUnavailable,
    abandonment,
)

BUSY_SECONDS = 5
PING_SECONDS = 1.5


class _UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC; SQLite keeps no zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


_metadata = MetaData()
_json = JSON(none_as_null=True)

requests = Table(
    "requests",
    _metadata,
    Column("id", String(36), primary_key=True),
    Column("v", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("source", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("client_id", String(32), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("response", Text),
    Column("metadata", _json),
    Column("detail", _json, nullable=False),
    Column("model", String(256)),
    Column("engine", String(32)),
    Column("usage", _json),
    Column("error", _json),
    Column("latency_ms", Integer),
    Column("timestamp", _UtcDateTime, nullable=False),
    Column("completed_at", _UtcDateTime),
    Column("expires_at", _UtcDateTime),
    Column("deadline_at", _UtcDateTime),
    Column("lease_until", _UtcDateTime),
    Column("attempt", Integer, nullable=False),
    Column("idempotency_key", String(255)),
    Column("body_hash", String(64)),
    # SQL counts NULLs as distinct: records without a key never collide.
    Index("requests_idempotency", "client_id", "user_id", "kind", "idempotency_key", unique=True),
)

clients = Table(
    "clients",
    _metadata,
    Column("client_id", String(32), primary_key=True),
    Column("name", String(256), nullable=False),
    Column("scopes", _json, nullable=False),
    Column("key_hash", String(64), nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", _UtcDateTime, nullable=False),
)


def open_sql(url: str, *, create: bool, clock: Callable[[], datetime]) -> SqlStorage:
    """A store on the database that `url` names. Raises: `ValueError` for an address that SQLAlchemy cannot read."""
    try:
        engine = create_engine(
            url,
            max_overflow=-1,
            connect_args={"timeout": BUSY_SECONDS},
            json_serializer=lambda value: json.dumps(value, ensure_ascii=False),
        )
        plain = create_engine(url, poolclass=NullPool, connect_args={"timeout": PING_SECONDS})
    except (ArgumentError, ValueError):
        raise ValueError("is not an address that SQLAlchemy can read") from None
    event.listen(engine, "connect", _make_durable)
    event.listen(engine, "begin", _begin)
    return SqlStorage(engine, plain, create=create, clock=clock)


def _make_durable(connection: Any, _record: object) -> None:
    # The driver must leave transactions to us: its own would begin a write without waiting for the lock.
    connection.isolation_level = None
    # FULL waits for the disk at each commit; WAL's usual NORMAL loses the last ones when the power goes
    # (https://www.sqlite.org/pragma.html#pragma_synchronous).
    connection.execute("PRAGMA synchronous=FULL").close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


class SqlStorage(Storage):
    """Two tables, `requests` and `clients`; each write is one statement in a transaction of its own.

    `engine` pools connections for these; `plain` opens one for what must stand outside a transaction or not wait long.
    """

    def __init__(self, engine: Engine, plain: Engine, *, create: bool, clock: Callable[[], datetime]) -> None:
        super().__init__(clock, create=create)
        self._engine = engine
        self._plain = plain

    def initialize(self) -> None:
        with _translated():
            self._write_ahead()
        with _translated(), self._engine.begin() as connection:
            for table in _metadata.sorted_tables:
                # Several processes may start at once: `create_all` looks first and then fails.
                connection.execute(CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))

    @retry(
        # The one statement that does not wait for a lock: several processes turn a fresh file at once.
        retry=retry_if_exception_message(match=r".*database is locked"),
        stop=stop_after_delay(BUSY_SECONDS),
        wait=wait_fixed(0.02),
        reraise=True,
    )
    def _write_ahead(self) -> None:
        """Turn the file to write-ahead logging, which it then keeps."""
        with self._plain.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")

    def ping(self) -> None:
        with _translated(), self._plain.connect() as connection:
            connection.exec_driver_sql("PRAGMA schema_version")

    def close(self) -> None:
        self._engine.dispose()
        self._plain.dispose()

    def finish(self, record_id: str, completion: Completion) -> bool:
        statement = update(requests).where(requests.c.id == record_id, requests.c.status.in_(OPEN_STATES))
        return self._changes(statement.values(completion.as_update()))

    def _insert(self, record: Record) -> None:
        try:
            with self._transaction() as connection:
                connection.execute(insert(requests).values(record.as_dict()))
        except DuplicateKey:
            if self._find(record.id, record.owner) is None:
                raise

    def _holder_of_key(self, record: Record) -> Record | None:
        return self._one(
            requests.c.client_id == record.client_id,
            requests.c.user_id == record.user_id,
            requests.c.kind == record.kind,
            requests.c.idempotency_key == record.idempotency_key,
        )

    def _expire_key(self, record_id: str, now: datetime) -> None:
        expired = requests.c.timestamp <= now - IDEMPOTENCY_WINDOW
        self._changes(update(requests).where(requests.c.id == record_id, expired).values(idempotency_key=None))

    def _abandon(self, record_id: str, now: datetime) -> None:
        overdue = (requests.c.status == Status.PENDING, requests.c.deadline_at <= now)
        self._changes(update(requests).where(requests.c.id == record_id, *overdue).values(abandonment(now)))

    def _find(self, record_id: str, owner: Owner) -> Record | None:
        return self._one(
            requests.c.id == record_id,
            requests.c.client_id == owner.client_id,
            requests.c.user_id == owner.user_id,
        )

    def _one(self, *conditions: Any) -> Record | None:
        with self._transaction() as connection:
            row = connection.execute(select(requests).where(*conditions)).mappings().first()
        return None if row is None else Record.from_dict({**row})

    def add_client(self, client: Client) -> None:
        values = {column.name: getattr(client, column.name) for column in clients.columns}
        with self._transaction() as connection:
            connection.execute(insert(clients).values({**values, "scopes": list(client.scopes)}))

    def client(self, client_id: str) -> Client | None:
        with self._transaction() as connection:
            row = connection.execute(select(clients).where(clients.c.client_id == client_id)).mappings().first()
        return None if row is None else _client(row)

    def clients(self) -> Sequence[Client]:
        with self._transaction() as connection:
            rows = connection.execute(select(clients).order_by(clients.c.client_id)).mappings().all()
        return [_client(row) for row in rows]

    def set_client_key(self, client_id: str, key_hash: str) -> bool:
        return self._changes(update(clients).where(clients.c.client_id == client_id).values(key_hash=key_hash))

    def set_client_disabled(self, client_id: str, disabled: bool) -> bool:
        return self._changes(update(clients).where(clients.c.client_id == client_id).values(disabled=disabled))

    def _changes(self, statement: Any) -> bool:
        with self._transaction() as connection:
            return bool(connection.execute(statement).rowcount)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self.prepare()
        with _translated(), self._engine.begin() as connection:
            yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise DuplicateKey("The audit log has this record already.") from error
    except DataError as error:
        raise RecordRejected("The audit log does not take this record.") from error
    except DriverError as error:
        raise StorageUnavailable("The audit log cannot be reached.") from error
    except (StatementError, UnicodeEncodeError, OverflowError) as error:
        # The value could not even be handed to the driver.
        raise RecordRejected("The audit log does not take this record.") from error
    except SQLAlchemyError as error:
        raise StorageUnavailable("The audit log cannot be reached.") from error


def _client(row: Any) -> Client:
    return Client(**{**row, "scopes": tuple(row["scopes"])})
