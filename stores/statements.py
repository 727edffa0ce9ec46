"""What the SQL store asks of its tables: the conditions of a selection, and the statements that have more to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, Update, case, func, literal_column, select, tuple_, update

from records import (
    FINISHED_STATES,
    IDEMPOTENCY_WINDOW,
    MAX_JOB_ATTEMPTS,
    MODEL_KINDS,
    REPORTED,
    DailyUsage,
    Position,
    Record,
    Selection,
    abandonment,
)

from .tables import FILTERS, in_order_of, is_job, is_pending, requests

_of = requests.c


def row(record: Record) -> dict[str, Any]:
    """The columns of a record, by name."""
    return {**record.as_dict(), "parent_id": record.detail.get("parent_id")}


def chosen(selection: Selection) -> list[ColumnElement[bool]]:
    """The conditions that select these records."""
    equal = ("client_id", "user_id", "kind", "status", "parent_id", "model")
    values = {name: getattr(selection, name) for name in equal}
    conditions: list[ColumnElement[bool]] = [_of[name] == value for name, value in values.items() if value is not None]
    if selection.since is not None:
        conditions.append(_of.timestamp >= selection.since)
    if selection.until is not None:
        conditions.append(_of.timestamp < selection.until)
    return conditions


def by_index(selection: Selection) -> list[ColumnElement[bool]]:
    """The conditions that select these records, and let those indexes serve that are made for them and no other."""
    if selection.client_id is None:
        names = ["time"]
    else:
        owner = "client" if selection.user_id is None else "user"
        filters = [name for name in FILTERS if getattr(selection, name) is not None]
        names = [f"{owner}_{name}" for name in filters] or [owner]
    return [*chosen(selection), *map(in_order_of, names)]


def page(selection: Selection, limit: int, after: Position | None) -> Select[Any]:
    """The selected records, newest first, from behind `after` on."""
    statement = select(requests)
    # One upper bound, the nearer one: given both, SQLite would look for the first of them and read on from there.
    if after is not None and (selection.until is None or after.timestamp < selection.until):
        selection = replace(selection, until=None)
        statement = statement.where(tuple_(_of.timestamp, _of.id) < tuple_(after.timestamp, after.id))
    statement = statement.where(*by_index(selection))
    return statement.order_by(_of.timestamp.desc(), _of.id.desc()).limit(limit)


def is_overdue(now: datetime) -> ColumnElement[bool]:
    """Whether a record is pending past its deadline."""
    return is_pending & (_of.deadline_at <= now)


def overdue_by_index(now: datetime) -> ColumnElement[bool]:
    """The same of many records, looked for by their deadlines."""
    return in_order_of("overdue") & is_overdue(now)


def abandoning(now: datetime) -> Update:
    """Closes overdue records as abandoned."""
    return update(requests).where(is_overdue(now)).values(abandonment(now))


def free_job(now: datetime, record_id: str | None) -> Select[Any]:
    """The job with this id, if it is free, or the one that is free for the longest."""
    if record_id is not None:
        return select(requests).where(_of.id == record_id, *_are_free(now))
    return _longest_free_first(select(requests), now).limit(1)


def lost_jobs(now: datetime, limit: int) -> Select[Any]:
    """The ids of free jobs that were leased before."""
    return _longest_free_first(select(_of.id).where(_of.attempt > 0), now).limit(limit)


def _longest_free_first(statement: Select[Any], now: datetime) -> Select[Any]:
    return statement.where(in_order_of("jobs"), *_are_free(now)).order_by(_of.lease_until, _of.id)


def _are_free(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return is_pending, is_job, _of.lease_until <= now, _of.deadline_at > now, _of.attempt < MAX_JOB_ATTEMPTS


def leasing(job: Record, until: datetime) -> Update:
    """Sets the lease of a job that is pending and was not leased since."""
    unchanged = update(requests).where(_of.id == job.id, is_pending, is_job, _of.attempt == job.attempt)
    return unchanged.values(lease_until=until)


def key_has_expired(now: datetime) -> ColumnElement[bool]:
    """Whether a record's receipt is so long ago that its idempotency key is free, as `Record.holds_its_key` has it."""
    reported = case((_of.source == REPORTED, _of.completed_at))
    return func.coalesce(reported, _of.timestamp) <= now - IDEMPOTENCY_WINDOW


def usage_by_day(selection: Selection) -> Select[Any]:
    """A row for each UTC day and model, in their order; `daily` reads it."""
    # Nothing bound: PostgreSQL would not see that what is grouped by and what is selected are the same.
    day, model = func.date(_of.timestamp), func.coalesce(_of.model, literal_column("''"))
    tokens = {name: _of.usage[name].as_float() for name in ("input_tokens", "output_tokens")}
    finished = (_of.kind.in_(MODEL_KINDS), _of.status.in_(FINISHED_STATES))
    return (
        select(
            day.label("day"),
            model.label("model"),
            func.count().label("calls"),
            *(func.count().filter(_of.status == status).label(status.value) for status in FINISHED_STATES),
            # Exact to 2**53, and beyond that a float does not overflow where an integer would.
            *(func.coalesce(func.sum(count, type_=Float()), 0).label(name) for name, count in tokens.items()),
            func.coalesce(func.avg(_of.latency_ms), 0).label("latency_mean"),
            func.coalesce(func.max(_of.latency_ms), 0).label("latency_max"),
        )
        .where(*by_index(selection), *finished)
        .group_by(day, model)
        .order_by(day, model)
    )


def daily(found: Any) -> DailyUsage:
    """What a row of `usage_by_day` says: a day is text to SQLite and a date to PostgreSQL, whose mean is a decimal."""
    as_own_type = {"day": str, "input_tokens": int, "output_tokens": int, "latency_mean": float}
    return DailyUsage(**{**found, **{name: of(found[name]) for name, of in as_own_type.items()}})
