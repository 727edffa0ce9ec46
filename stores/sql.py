"""Records and clients in SQL, through SQLAlchemy Core: in a SQLite file or on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    case,
    delete,
    func,
    insert,
    make_url,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.exc import DBAPIError as DriverError

from records import (
    FINISHED_STATES,
    IDEMPOTENCY_WINDOW,
    MODEL_KINDS,
    OPEN_STATES,
    REPORTED,
    Client,
    Completion,
    DailyUsage,
    Owner,
    Position,
    Record,
    Selection,
    Status,
    abandonment,
)
from storage import DuplicateKey, RecordRejected, Storage, StorageUnavailable

from .tables import clients, is_pending, metadata, requests

# One statement deletes so many rows, so that nobody waits long for its locks.
_DELETED_AT_ONCE = 1000

_of = requests.c


class Database(Protocol):
    """What differs between the databases. What it raises is SQLAlchemy's."""

    @property
    def engine(self) -> Engine: ...

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
    from .sqlite import SqliteDatabase

    return SqliteDatabase(make_url(url))


class SqlStorage(Storage):
    """Two tables, `requests` and `clients`; each write is one statement in a transaction of its own."""

    def __init__(self, database: Database, *, create: bool, clock: Callable[[], datetime]) -> None:
        super().__init__(clock, create=create)
        self._database = database

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

    def _insert(self, record: Record) -> None:
        try:
            with self._transaction() as connection:
                connection.execute(insert(requests).values(_row(record)))
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
        received_at = case((_of.source == REPORTED, _of.completed_at), else_=_of.timestamp)
        expired = received_at <= now - IDEMPOTENCY_WINDOW
        self._changes(update(requests).where(_of.id == record_id, expired).values(idempotency_key=None))

    def _abandon(self, record_id: str, now: datetime) -> None:
        self._changes(_abandoning(now).where(_of.id == record_id))

    def abandon_overdue(self) -> int:
        return self._changes(_abandoning(self._clock()))

    def delete_expired(self) -> int:
        return self._delete(_of.expires_at <= self._clock())

    def erase(self, owner: Owner) -> int:
        return self._delete(*_conditions(Selection(client_id=owner.client_id, user_id=owner.user_id)))

    def _delete(self, *conditions: ColumnElement[bool]) -> int:
        some = select(_of.id).where(*conditions).limit(_DELETED_AT_ONCE)
        statement, total = delete(requests).where(_of.id.in_(some)), 0
        while deleted := self._changes(statement):
            total += deleted
        return total

    def _find(self, record_id: str, owner: Owner | Selection) -> Record | None:
        whose = Selection(client_id=owner.client_id, user_id=owner.user_id)
        return self._one(_of.id == record_id, *_conditions(whose))

    def _page(self, selection: Selection, limit: int, after: Position | None) -> Sequence[Record]:
        statement = select(requests).where(*_conditions(selection))
        if after is not None:
            statement = statement.where(tuple_(_of.timestamp, _of.id) < tuple_(after.timestamp, after.id))
        statement = statement.order_by(_of.timestamp.desc(), _of.id.desc()).limit(limit)
        return [Record.from_dict({**row}) for row in self._rows(statement)]

    def usage(self, selection: Selection) -> Sequence[DailyUsage]:
        day = func.date(_of.timestamp)
        statement = select(
            day.label("day"),
            _of.model,
            func.count().label("calls"),
            func.sum(case((_of.status == Status.SUCCEEDED, 1), else_=0)).label("succeeded"),
            func.sum(case((_of.status == Status.FAILED, 1), else_=0)).label("failed"),
            func.coalesce(func.sum(_of.usage["input_tokens"].as_integer()), 0).label("input_tokens"),
            func.coalesce(func.sum(_of.usage["output_tokens"].as_integer()), 0).label("output_tokens"),
            func.avg(_of.latency_ms).label("latency_mean"),
            func.max(_of.latency_ms).label("latency_max"),
        ).where(*_conditions(selection), _of.kind.in_(MODEL_KINDS), _of.status.in_(FINISHED_STATES))
        rows = self._rows(statement.group_by(day, _of.model).order_by(day, _of.model))
        # A day is text to SQLite and a date to PostgreSQL, whose mean is a decimal.
        return [
            DailyUsage(**{**row, "day": str(row["day"]), "latency_mean": float(row["latency_mean"])}) for row in rows
        ]

    def _one(self, *conditions: Any) -> Record | None:
        rows = self._rows(select(requests).where(*conditions))
        return Record.from_dict({**rows[0]}) if rows else None

    def add_client(self, client: Client) -> None:
        values = {column.name: getattr(client, column.name) for column in clients.columns}
        with self._transaction() as connection:
            connection.execute(insert(clients).values({**values, "scopes": list(client.scopes)}))

    def client(self, client_id: str) -> Client | None:
        rows = self._rows(select(clients).where(clients.c.client_id == client_id))
        return _client(rows[0]) if rows else None

    def clients(self) -> Sequence[Client]:
        return [_client(row) for row in self._rows(select(clients).order_by(clients.c.client_id))]

    def set_client_key(self, client_id: str, key_hash: str) -> bool:
        return bool(self._changes(update(clients).where(clients.c.client_id == client_id).values(key_hash=key_hash)))

    def set_client_disabled(self, client_id: str, disabled: bool) -> bool:
        return bool(self._changes(update(clients).where(clients.c.client_id == client_id).values(disabled=disabled)))

    def _changes(self, statement: Any) -> int:
        with self._transaction() as connection:
            return int(connection.execute(statement).rowcount)

    def _rows(self, statement: Any) -> Sequence[Any]:
        with self._transaction() as connection:
            return connection.execute(statement).mappings().all()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self.prepare()
        with _translated(), self._database.engine.begin() as connection:
            yield connection


def _daily(row: Any) -> DailyUsage:
    # A day is text to SQLite and a date to PostgreSQL, whose mean is a decimal.
    return DailyUsage(**{**row, "day": str(row["day"]), "latency_mean": float(row["latency_mean"])})


def _row(record: Record) -> dict[str, Any]:
    return {**record.as_dict(), "parent_id": record.detail.get("parent_id")}


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    equal = ("client_id", "user_id", "kind", "status", "parent_id", "model")
    values = {name: getattr(selection, name) for name in equal}
    conditions: list[ColumnElement[bool]] = [_of[name] == value for name, value in values.items() if value is not None]
    if selection.since is not None:
        conditions.append(_of.timestamp >= selection.since)
    if selection.until is not None:
        conditions.append(_of.timestamp < selection.until)
    return conditions


def _abandoning(now: datetime) -> Any:
    return update(requests).where(is_pending, _of.deadline_at <= now).values(abandonment(now))


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
