"""Records and clients in SQL, through SQLAlchemy Core: in a SQLite file or on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Delete,
    Engine,
    MetaData,
    Update,
    and_,
    delete,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.exc import DBAPIError as DriverError

from records import OPEN_STATES, Client, Completion, DailyUsage, Owner, Position, Record, Selection
from storage import BATCH, DuplicateKey, RecordRejected, Storage, StorageUnavailable

from . import statements
from .sql_counters import SqlCounters
from .tables import clients, metadata, requests

# One statement changes so many rows, so that it ends in time and nobody waits long for its locks.
_CHANGED_AT_ONCE = 500

# libpq reads both; hosting platforms hand out the shorter one.
POSTGRESQL = ("postgresql", "postgres")
# https://www.postgresql.org/docs/current/errcodes-appendix.html: class 54, a limit of the server's was exceeded.
_TOO_MUCH = "54"

_of = requests.c


class Database(Protocol):
    """What differs between the databases. What it raises is SQLAlchemy's."""

    @property
    def engine(self) -> Engine: ...

    def transaction(self) -> AbstractContextManager[Connection]:
        """A connection whose statement is committed at the end."""

    def create(self, metadata: MetaData) -> None:
        """Create the tables and indexes that are missing."""

    def ping(self) -> None:
        """Return when the database answers, within two seconds."""

    def close(self) -> None: ...


def open_sql(url: str, *, create: bool, clock: Callable[[], datetime]) -> SqlStorage:
    """A store on the database that `url` names. Raises: `ValueError` for an address that SQLAlchemy cannot read."""
    try:
        database = _open(url)
    except (ArgumentError, ValueError):
        raise ValueError("is not an address that SQLAlchemy can read") from None
    return SqlStorage(database, create=create, clock=clock)


def _open(url: str) -> Database:
    address = make_url(url)
    if address.drivername in POSTGRESQL:
        from .postgresql import PostgresqlDatabase

        return PostgresqlDatabase(address)
    from .sqlite import SqliteDatabase

    return SqliteDatabase(address)


class SqlStorage(Storage):
    """Three tables, `requests`, `clients` and `counters`; each write is one statement in a transaction of its own."""

    def __init__(self, database: Database, *, create: bool, clock: Callable[[], datetime]) -> None:
        super().__init__(clock, create=create)
        self._database = database
        self.counters = SqlCounters(database.engine.dialect.name, self._transaction, clock)

    def initialize(self) -> None:
        with _translated():
            self._database.create(metadata)

    def ping(self) -> None:
        with _translated():
            self._database.ping()

    def close(self) -> None:
        self._database.close()

    def finish(self, record_id: str, completion: Completion) -> bool:
        statement = update(requests).where(_of.id == record_id, _of.status.in_(OPEN_STATES))
        return bool(self._changes(statement.values(completion.as_update())))

    def renew(self, job: Record, until: datetime) -> bool:
        return bool(self._changes(statements.leasing(job, until)))

    def _lease(self, job: Record, until: datetime, now: datetime) -> bool:
        free = statements.leasing(job, until).where(_of.lease_until <= now)
        return bool(self._changes(free.values(attempt=job.attempt + 1)))

    def _free_job(self, now: datetime, record_id: str | None) -> Record | None:
        return self._first(statements.free_job(now, record_id))

    def lost_jobs(self) -> Sequence[str]:
        return [row["id"] for row in self._rows(statements.lost_jobs(self._clock(), BATCH))]

    def _insert(self, record: Record) -> None:
        try:
            with self._transaction() as connection:
                connection.execute(insert(requests).values(statements.row(record)))
        except DuplicateKey:
            if self._find(record.id, record.owner) is None:
                raise

    def _holder_of_key(self, record: Record) -> Record | None:
        return self._one(
            _of.client_id == record.client_id,
            _of.user_id == record.user_id,
            _of.kind == record.kind,
            _of.idempotency_key == record.idempotency_key,
        )

    def _expire_key(self, record_id: str, now: datetime) -> None:
        expiring = update(requests).where(_of.id == record_id, statements.key_has_expired(now))
        self._changes(expiring.values(idempotency_key=None))

    def _abandon(self, record_id: str, now: datetime) -> int:
        return self._changes(statements.abandoning(now).where(_of.id == record_id))

    def abandon_overdue(self) -> int:
        now = self._clock()
        return self._in_batches(statements.abandoning(now), statements.overdue_by_index(now), _of.deadline_at)

    def delete_expired(self) -> int:
        return self._in_batches(delete(requests), _of.expires_at <= self._clock(), _of.expires_at)

    def erase(self, owner: Owner) -> int:
        own = statements.by_index(Selection(client_id=owner.client_id, user_id=owner.user_id))
        return self._in_batches(delete(requests), and_(*own), _of.timestamp)

    def _in_batches(self, statement: Update | Delete, condition: ColumnElement[bool], by: Column[datetime]) -> int:
        """Change or delete what meets the condition until nothing does. Returns how many rows that were.

        A row that another one changes meanwhile is judged again by the statement's own conditions only. In the order of
        an index: asked for any, PostgreSQL may look for them through the whole table.
        """
        some = select(_of.id).where(condition).order_by(by)
        batch, total = statement.where(_of.id.in_(some.limit(_CHANGED_AT_ONCE))), 0
        while self._rows(some.limit(1)):
            total += self._changes(batch)
        return total

    def _find(self, record_id: str, owner: Owner | Selection) -> Record | None:
        whose = Selection(client_id=owner.client_id, user_id=owner.user_id)
        return self._one(_of.id == record_id, *statements.chosen(whose))

    def _page(self, selection: Selection, limit: int, after: Position | None) -> Sequence[Record]:
        return [Record.from_dict(row) for row in self._rows(statements.page(selection, limit, after))]

    def usage(self, selection: Selection) -> Sequence[DailyUsage]:
        return [statements.daily(row) for row in self._rows(statements.usage_by_day(selection))]

    def _one(self, *conditions: Any) -> Record | None:
        return self._first(select(requests).where(*conditions))

    def _first(self, statement: Any) -> Record | None:
        rows = self._rows(statement)
        return Record.from_dict(rows[0]) if rows else None

    def add_client(self, client: Client) -> None:
        values = {column.name: getattr(client, column.name) for column in clients.columns}
        with self._transaction() as connection:
            connection.execute(insert(clients).values({**values, "scopes": list(client.scopes)}))

    def _client(self, client_id: str) -> Client | None:
        rows = self._rows(select(clients).where(clients.c.client_id == client_id))
        return _client_of(rows[0]) if rows else None

    def _all_clients(self) -> Sequence[Client]:
        return [_client_of(row) for row in self._rows(select(clients).order_by(clients.c.client_id))]

    def set_client_key(self, client_id: str, key_hash: str, previous_until: datetime | None = None) -> bool:
        return self._set_client(
            client_id,
            key_hash=key_hash,
            # The row's value from before this statement.
            previous_key_hash=None if previous_until is None else clients.c.key_hash,
            previous_key_expires_at=previous_until,
        )

    def set_client_disabled(self, client_id: str, disabled: bool) -> bool:
        return self._set_client(client_id, disabled=disabled)

    def _set_client(self, client_id: str, **values: Any) -> bool:
        return bool(self._changes(update(clients).where(clients.c.client_id == client_id).values(values)))

    def _changes(self, statement: Any) -> int:
        with self._transaction() as connection:
            return int(connection.execute(statement).rowcount)

    def _rows(self, statement: Any) -> Sequence[Any]:
        with self._transaction() as connection:
            return connection.execute(statement).mappings().all()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self.prepare()
        with _translated(), self._database.transaction() as connection:
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
        if str(getattr(error.orig, "sqlstate", "")).startswith(_TOO_MUCH):
            raise RecordRejected("The audit log does not take this record.") from error
        raise StorageUnavailable("The audit log cannot be reached.") from error
    except (StatementError, UnicodeEncodeError, OverflowError, RecursionError) as error:
        # The value could not even be handed to the driver.
        raise RecordRejected("The audit log does not take this record.") from error
    except SQLAlchemyError as error:
        raise StorageUnavailable("The audit log cannot be reached.") from error


def _client_of(row: Any) -> Client:
    return Client(**{**row, "scopes": tuple(row["scopes"])})
