"""The tables of the SQL stores, with their indexes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TextClause,
    TypeDecorator,
    literal_column,
    text,
)
from sqlalchemy.schema import CreateColumn


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC; SQLite keeps no zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def adding(column: Column[Any], dialect: Dialect) -> TextClause:
    """The statement that adds a column, which may be null, to a table that an earlier version has made."""
    return text(f"ALTER TABLE {column.table.name} ADD COLUMN {CreateColumn(column).compile(dialect=dialect)}")


def _string(length: int) -> String:
    # By bytes, as in the other stores: a language's order differs, is slower, and may change with the server's system.
    return String(length).with_variant(String(length, collation="C"), "postgresql")


metadata = MetaData()
# Not `jsonb`, which loses the order of names and the form of numbers.
_json = JSON(none_as_null=True)

requests = Table(
    "requests",
    metadata,
    Column("id", _string(36), primary_key=True),
    Column("v", Integer, nullable=False),
    Column("kind", _string(16), nullable=False),
    Column("source", _string(16), nullable=False),
    Column("status", _string(16), nullable=False),
    Column("user_id", _string(128), nullable=False),
    Column("client_id", _string(32), nullable=False),
    Column("request_id", _string(128), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("response", Text),
    Column("metadata", _json),
    Column("detail", _json, nullable=False),
    Column("model", _string(256)),
    Column("engine", _string(32)),
    Column("usage", _json),
    Column("error", _json),
    Column("latency_ms", Integer),
    Column("timestamp", UtcDateTime, nullable=False),
    Column("completed_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
    Column("deadline_at", UtcDateTime),
    Column("lease_until", UtcDateTime),
    Column("attempt", Integer, nullable=False),
    Column("idempotency_key", _string(255)),
    Column("body_hash", _string(64)),
    # A copy of the detail's, for its index.
    Column("parent_id", _string(36)),
)


def _index(name: str, *columns: str, where: ColumnElement[bool] | None = None, unique: bool = False) -> None:
    columns_of = (requests.c[column] for column in columns)
    Index(f"requests_{name}", *columns_of, unique=unique, sqlite_where=where, postgresql_where=where)


# The claim on a key; a record without one is not in it.
_KEY = ("client_id", "user_id", "kind", "idempotency_key")
_index("idempotency", *_KEY, where=requests.c.idempotency_key.is_not(None), unique=True)
_index("retention", "expires_at", where=requests.c.expires_at.is_not(None))

# A page is read in the order of an index, whichever single filter it has: of a client's records, or of a user's.
FILTERS = ("parent_id", "status", "model", "kind")
_OWNERS = {"client": ("client_id",), "user": ("client_id", "user_id")}
_PAGES = {
    "time": (),
    **_OWNERS,
    **{f"{owner}_{item}": (*columns, item) for owner, columns in _OWNERS.items() for item in FILTERS},
}
# Indexes of pending records.
_PENDING = ("overdue", "jobs")


def in_order_of(name: str) -> ColumnElement[bool]:
    """True of every record, and the condition of this one index: only a statement that has it is served.

    A database that may choose goes by how frequent a value is in the whole table: for a frequent one it may take the
    index without the filter, or with fewer of the owner's names, and reads all that is newer of who rarely has it. An
    index of pending records it takes for small, and would read all of it for one that is named by its id.
    """
    return requests.c.v != literal_column(f"-{[*_PAGES, *_PENDING].index(name) + 1}")


for _name, _columns in _PAGES.items():
    _where = in_order_of(_name)
    if "parent_id" in _columns:
        # Few records have one.
        _where &= requests.c.parent_id.is_not(None)
    _index(f"by_{_name}", *_columns, "timestamp", "id", where=_where)

# Written into statements, not bound: a partial index serves a query only if its condition can be seen there.
is_pending = requests.c.status == literal_column("'pending'")
is_job = requests.c.lease_until.is_not(None)
_index("overdue", "deadline_at", where=is_pending & in_order_of("overdue"))
_index("jobs", "lease_until", "id", where=is_pending & is_job & in_order_of("jobs"))

clients = Table(
    "clients",
    metadata,
    Column("client_id", _string(32), primary_key=True),
    Column("name", _string(256), nullable=False),
    Column("scopes", _json, nullable=False),
    Column("key_hash", _string(64), nullable=False),
    Column("previous_key_hash", _string(64)),
    Column("previous_key_expires_at", UtcDateTime),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("key", _string(64), primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
Index("counters_expiry", counters.c.expires_at)
