"""Counters in SQL: one statement counts for all quotas of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Dialect,
    case,
    delete,
    exists,
    literal,
    or_,
    select,
    union_all,
    update,
)

from counters import Counters, Mark, Quota

from .tables import UtcDateTime, counters

_of = counters.c
_COLUMNS = (_of.key, _of.amount, _of.expires_at)


class SqlCounters(Counters):
    """The table `counters`; each write is one statement in a transaction of its own."""

    def __init__(
        self,
        dialect: Dialect,
        transaction: Callable[[], AbstractContextManager[Connection]],
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(clock)
        self._transaction = transaction
        self._insert = _insert_of(dialect)

    def _take(self, quotas: Sequence[Quota], amount: int, now: datetime) -> Mapping[str, Mark]:
        void = _of.expires_at <= now
        limit = case({quota.key: literal(quota.limit, BigInteger) for quota in quotas}, value=_of.key)
        # Looked at before any row is locked: a caller at its limit costs its client's row no write.
        used_up = exists().where(_of.key.in_([quota.key for quota in quotas]), ~void, _of.amount >= limit)
        wanted = union_all(*(_row(quota, amount, now) for quota in quotas)).subquery()
        insert = self._insert(counters).from_select(_COLUMNS, select(wanted).where(~used_up))
        statement = insert.on_conflict_do_update(
            index_elements=[_of.key],
            set_={
                "amount": case((void, insert.excluded.amount), else_=_of.amount + insert.excluded.amount),
                "expires_at": case((void, insert.excluded.expires_at), else_=_of.expires_at),
            },
            # Looked at again, at the row as it is once it is locked.
            where=or_(void, _of.amount < limit),
        )
        return self._marks(statement.returning(*_COLUMNS))

    def _add(self, keys: Sequence[str], until: datetime, amount: int) -> None:
        same = update(counters).where(_of.key.in_(keys), _of.expires_at <= until)
        with self._transaction() as connection:
            connection.execute(same.values(amount=_of.amount + amount))

    def _read(self, keys: Sequence[str]) -> Mapping[str, Mark]:
        return self._marks(select(*_COLUMNS).where(_of.key.in_(keys)))

    def delete_expired(self) -> None:
        with self._transaction() as connection:
            connection.execute(delete(counters).where(_of.expires_at <= self._clock()))

    def _marks(self, statement: Any) -> Mapping[str, Mark]:
        with self._transaction() as connection:
            return {key: Mark(amount, until) for key, amount, until in connection.execute(statement)}


def _row(quota: Quota, amount: int, now: datetime) -> Any:
    return select(literal(quota.key), literal(amount, BigInteger), literal(quota.ends(now), UtcDateTime))


def _insert_of(dialect: Dialect) -> Any:
    """`INSERT` with `ON CONFLICT`, which SQLAlchemy has for each database by itself."""
    if dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert
    from sqlalchemy.dialects.postgresql import insert

    return insert
