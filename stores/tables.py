"""The tables of the SQL stores, with their indexes."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
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
    TypeDecorator,
    literal_column,
)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC; SQLite keeps no zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


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
    # SQL counts NULLs as distinct: records without a key never collide.
    Index("requests_idempotency", "client_id", "user_id", "kind", "idempotency_key", unique=True),
)

_ORDER = ("timestamp", "id")
_OWNERS = {"client": ("client_id",), "user": ("client_id", "user_id")}

# A page is read in the order of an index, whichever single filter it has: of a client's records or of a user's.
Index("requests_by_time", *(requests.c[name] for name in _ORDER))
for _owner, _names in _OWNERS.items():
    for _filter in ("", "kind", "status", "model"):
        Index(
            f"requests_by_{_owner}{_filter and '_'}{_filter}",
            *(requests.c[name] for name in (*_names, *filter(None, [_filter]), *_ORDER)),
        )


def _partial(name: str, condition: ColumnElement[bool], *columns: str) -> None:
    Index(name, *(requests.c[column] for column in columns), sqlite_where=condition, postgresql_where=condition)


# Written into the statement, not bound: a partial index serves a query only if its condition can be seen there.
is_pending = requests.c.status == literal_column("'pending'")
_partial("requests_by_parent", requests.c.parent_id.is_not(None), "parent_id", *_ORDER)
_partial("requests_overdue", is_pending, "deadline_at")
_partial("requests_retention", requests.c.expires_at.is_not(None), "expires_at")

clients = Table(
    "clients",
    metadata,
    Column("client_id", _string(32), primary_key=True),
    Column("name", _string(256), nullable=False),
    Column("scopes", _json, nullable=False),
    Column("key_hash", _string(64), nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
