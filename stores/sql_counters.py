"""Counters in SQL: one statement counts for all quotas of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    bindparam,
    case,
    delete,
    exists,
    or_,
    select,
    union_all,
    update,
)

from counters import Counters, Mark, Quota

from .tables import UtcDateTime, counters

_of = counters.c
_COLUMNS = (_of.key, _of.amount, _of.expires_at)
# Whoever locks several rows does so in the order of their keys, which are hexadecimal and in one order everywhere, or
# leaves those that are locked: no two wait for one another. SQLite has one writer at a time, and no such clause.
_rows = counters.alias()
_ONE_BY_ONE = (
    select(_rows.c.key)
    .where(_rows.c.key.in_(bindparam("keys", expanding=True)))
    .order_by(_rows.c.key)
    .with_for_update()
)
_ADDING = (
    update(counters)
    .where(_of.key.in_(_ONE_BY_ONE), _of.expires_at <= bindparam("until"))
    .values(amount=_of.amount + bindparam("more", type_=BigInteger))
)
_FREE = select(_rows.c.key).where(_rows.c.expires_at <= bindparam("now")).with_for_update(skip_locked=True)
_DELETING = delete(counters).where(_of.key.in_(_FREE), _of.expires_at <= bindparam("now"))


class SqlCounters(Counters):
    """The table `counters`; each write is one statement in a transaction of its own. `dialect` is SQLAlchemy's name."""

    def __init__(
        self,
        dialect: str,
        transaction: Callable[[], AbstractContextManager[Connection]],
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(clock)
        self._transaction = transaction
        self._dialect = dialect

    def _take(self, quotas: Sequence[Quota], amount: int, now: datetime) -> Mapping[str, Mark]:
        values: dict[str, Any] = {"amount": amount, "now": now}
        for number, quota in enumerate(sorted(quotas, key=lambda quota: quota.key)):
            values |= {f"key_{number}": quota.key, f"limit_{number}": quota.limit, f"until_{number}": quota.ends(now)}
        return self._marks(_taking(self._dialect, len(quotas)), values)

    def _add(self, keys: Sequence[str], until: datetime, amount: int) -> None:
        with self._transaction() as connection:
            connection.execute(_ADDING, {"keys": list(keys), "until": until, "more": amount})

    def _read(self, keys: Sequence[str]) -> Mapping[str, Mark]:
        return self._marks(select(*_COLUMNS).where(_of.key.in_(keys)))

    def delete_expired(self) -> None:
        with self._transaction() as connection:
            connection.execute(_DELETING, {"now": self._clock()})

    def _marks(self, statement: Any, values: Mapping[str, Any] | None = None) -> Mapping[str, Mark]:
        with self._transaction() as connection:
            return {key: Mark(amount, until) for key, amount, until in connection.execute(statement, values)}


@cache
def _taking(dialect: str, quotas: int) -> Any:
    """Adds an amount for so many quotas. Built once: to build it takes as long as to run it."""
    numbers = range(quotas)
    now, amount = bindparam("now", type_=UtcDateTime), bindparam("amount", type_=BigInteger)
    keys = [bindparam(f"key_{number}", type_=_of.key.type) for number in numbers]
    limits = [bindparam(f"limit_{number}", type_=BigInteger) for number in numbers]
    untils = [bindparam(f"until_{number}", type_=UtcDateTime) for number in numbers]
    void = _of.expires_at <= now
    below = _of.amount < case(*((_of.key == key, limit) for key, limit in zip(keys, limits, strict=True)))
    # Looked at before any row is locked: a caller at its limit costs its client's row no write.
    used_up = exists().where(_of.key.in_(keys), ~void, ~below)
    wanted = union_all(*(select(key, amount, until) for key, until in zip(keys, untils, strict=True))).subquery()
    insert = _insert_for(dialect)(counters).from_select(_COLUMNS, select(wanted).where(~used_up).order_by(wanted.c[0]))
    statement = insert.on_conflict_do_update(
        index_elements=[_of.key],
        set_={
            "amount": case((void, insert.excluded.amount), else_=_of.amount + insert.excluded.amount),
            "expires_at": case((void, insert.excluded.expires_at), else_=_of.expires_at),
        },
        # Looked at again, at the row as it is once it is locked.
        where=or_(void, below),
    )
    return statement.returning(*_COLUMNS)


def _insert_for(dialect: str) -> Any:
    """`INSERT` with `ON CONFLICT`, which SQLAlchemy has for each database by itself."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert
    from sqlalchemy.dialects.postgresql import insert

    return insert
