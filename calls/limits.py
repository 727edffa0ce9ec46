"""How much callers may use: requests in a window of time, and tokens of the model on a UTC day."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta

from counters import BudgetExhausted, Count, Mark, Quota, RateLimited, Taking
from problems import RequestError
from rates import Rate
from records import Owner, Record
from refinery.engines import OFFLINE, EngineError, Usage
from storage import Storage, StorageError

from .arrival import Arrival
from .audit import usage_as_dict

# What the users of a client may use together, for each that one of them may.
CLIENT_FACTOR = 10
# Of English; what a call really used is set in its place afterwards
# (https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them).
CHARS_PER_TOKEN = 4
REQUESTS, TOKENS = "requests", "tokens"

_log = logging.getLogger("klamala.limits")
Call = Callable[[], tuple[Record, bool]]


class Limits:
    """The rate limit and the daily token budget of each caller, and ten times each for its client; `None` is no limit.

    What is left is noted in `Arrival.counts`, under `requests` and `tokens`, of the quota that is nearer to its limit.
    """

    def __init__(self, storage: Storage, rate: Rate | None = None, daily_tokens: int | None = None) -> None:
        self._storage = storage
        self._rate = rate
        self._daily_tokens = daily_tokens

    def counted(self, *, with_tokens: bool) -> tuple[str, ...]:
        """What is counted of a request: nothing, `requests`, and `tokens` where it may ask the model."""
        tokens = with_tokens and self._daily_tokens is not None
        return (*([REQUESTS] if self._rate else []), *([TOKENS] if tokens else []))

    def count_request(self, owner: Owner, arrival: Arrival) -> None:
        """Count one request. Raises: `RateLimited`; `StorageError`."""
        rate = self._rate
        if rate is None:
            return
        unit = f"{REQUESTS}/{rate.period.total_seconds():.0f}"
        taking = self._storage.counters.take(_quotas(unit, owner, rate.count, lambda now: now + rate.period), 1)
        nearest = arrival.counts[REQUESTS] = taking.nearest
        if not taking.granted:
            raise RateLimited(f"The limit of {nearest.quota.limit} requests is reached.", nearest.seconds_left)

    def within_budget(self, pending: Record, estimate: int, arrival: Arrival, call: Call) -> tuple[Record, bool]:
        """Make an audited call whose tokens count: `estimate` of them before it, those that it used after.

        An earlier answer to the same idempotency key costs nothing, and is given with a spent budget too.

        Raises: `BudgetExhausted`; `StorageError`; what the call raises.
        """
        if self._daily_tokens is None:
            return call()
        # The built-in rules use none.
        estimate = 0 if pending.engine == OFFLINE else estimate
        quotas = _quotas(TOKENS, pending.owner, self._daily_tokens, _next_midnight)
        taking = self._storage.counters.take(quotas, estimate)
        nearest = arrival.counts[TOKENS] = taking.nearest
        if not taking.granted:
            if self._storage.holder(pending) is None:
                raise BudgetExhausted(
                    f"The budget of {nearest.quota.limit} tokens a day is used up.", nearest.seconds_left
                )
            return call()
        return self._settled(taking, estimate, arrival, call)

    def settled(self, job: Record, estimate: int, arrival: Arrival, call: Call) -> None:
        """Make a call whose `estimate` was taken when it was accepted, maybe by another process.

        Raises: what the call raises.
        """
        if self._daily_tokens is None or job.engine == OFFLINE:
            call()
            return
        quotas = _quotas(TOKENS, job.owner, self._daily_tokens, _next_midnight)
        mark = Mark(estimate, _next_midnight(job.timestamp))
        self._settled(Taking(True, [Count(quota, mark, 0) for quota in quotas]), estimate, arrival, call)

    def _settled(self, taking: Taking, estimate: int, arrival: Arrival, call: Call) -> tuple[Record, bool]:
        # It stays where it is unknown what the call used, or whether it reached the model.
        used = estimate
        try:
            record, replayed = call()
            used = 0 if replayed else _used(record.usage, estimate)
        except EngineError as error:
            used = _used(usage_as_dict(error.usage or Usage(0, 0)), estimate)
            raise
        except RequestError:
            used = 0
            raise
        finally:
            self._settle(taking, used - estimate, arrival)
        return record, replayed

    def _settle(self, taking: Taking, by: int, arrival: Arrival) -> None:
        # Past the deadline nobody waits for a storage that is slow, or down.
        if not by or not arrival.deadline.remaining():
            return
        try:
            self._storage.counters.correct(taking, by)
        except StorageError as error:
            _log.warning("tokens not settled: %s", error, extra={"fields": {"request_id": arrival.request_id}})
        else:
            arrival.counts[TOKENS] = taking.nearest.changed(by)


def tokens_in(*texts: str | None) -> int:
    """About how many tokens these texts are."""
    return math.ceil(sum(len(text or "") for text in texts) / CHARS_PER_TOKEN)


def _used(usage: dict[str, int | None] | None, unknown: int) -> int:
    counts = list((usage or {"": None}).values())
    return unknown if None in counts else sum(count or 0 for count in counts)


def _quotas(unit: str, owner: Owner, limit: int, ends: Callable[[datetime], datetime]) -> tuple[Quota, Quota]:
    """The caller's and its client's. The caller's first: what that refuses must not count for all of its client."""
    caller = Quota(_key(unit, owner.client_id, owner.user_id), limit, ends)
    return caller, Quota(_key(unit, owner.client_id), CLIENT_FACTOR * limit, ends)


def _key(*parts: str) -> str:
    """A hash, so that nothing of a user who was erased is left in a counter's key."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _next_midnight(now: datetime) -> datetime:
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
