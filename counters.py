"""Counters: what was used of something until a moment, counted by all processes together, in the storage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime


class OverLimit(Exception):
    """More is asked for than may be used. `retry_after` seconds later that is another matter."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(OverLimit):
    """Too many requests of one caller, or of one client."""


class BudgetExhausted(OverLimit):
    """The caller's tokens of the day are used up, or its client's."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How much may be used of what `key` stands for. A counter that begins `now` is void from `ends(now)` on."""

    key: str
    limit: int
    ends: Callable[[datetime], datetime]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a counter says: the amount that was used, and the moment from which on it is void."""

    amount: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Count:
    """A quota and what is used of it, `seconds_left` before its counter is void."""

    quota: Quota
    mark: Mark
    seconds_left: float

    @property
    def remaining(self) -> int:
        """What is left of the quota, never less than nothing."""
        return max(0, self.quota.limit - self.mark.amount)

    def changed(self, by: int) -> Count:
        """The same after a correction."""
        return replace(self, mark=replace(self.mark, amount=self.mark.amount + by))


@dataclass(frozen=True, slots=True)
class Taking:
    """Whether an amount was granted, and where that leaves each of the quotas."""

    granted: bool
    counts: Sequence[Count]

    @property
    def nearest(self) -> Count:
        """The quota that is nearest to its limit; of several that are used up, the one that is so for the longest."""
        return min(self.counts, key=lambda count: (count.remaining, -count.seconds_left))


class Counters(ABC):
    """A place for counters. Every method may raise `storage.StorageUnavailable`.

    A counter begins with its first use, and anew with the first one after its end, which needs one conditional write on
    any database (https://redis.io/docs/latest/commands/incr/, "Pattern: Rate limiter 2"). Two adjacent windows weighed
    against each other would be smoother at their seam, and twice the round trips.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    def take(self, quotas: Sequence[Quota], amount: int) -> Taking:
        """Add an amount to the counter of each quota, or to none. Their counters last equally long.

        Granted where each is below its limit: with an amount of one no counter ever passes it, with a larger one it
        does so once at most. What is refused is not counted.
        """
        now = self._clock()
        marks = self._take(quotas, amount, now)
        granted = len(marks) == len(quotas)
        if not granted:
            self._change(marks, -amount)
            marks = self._read([quota.key for quota in quotas])
        # The clock is read again: whoever had to wait may find a counter that began meanwhile.
        marked = [(quota, _valid(quota, marks.get(quota.key), now)) for quota in quotas]
        return Taking(granted, [Count(quota, mark, self._seconds_to(mark.until)) for quota, mark in marked])

    def _seconds_to(self, moment: datetime) -> float:
        return max(0.0, (moment - self._clock()).total_seconds())

    def correct(self, taking: Taking, by: int) -> None:
        """Add to what was taken, or with a negative number give some of it back; not once its counters have ended."""
        self._change({count.quota.key: count.mark for count in taking.counts}, by)

    def _change(self, marks: Mapping[str, Mark], by: int) -> None:
        if marks:
            # One that has begun anew since ends later than any of these, as all last equally long.
            self._add(list(marks), max(mark.until for mark in marks.values()), by)

    @abstractmethod
    def _take(self, quotas: Sequence[Quota], amount: int, now: datetime) -> Mapping[str, Mark]:
        """Add an amount to the counters below their limits, each atomically. Returns those, by key.

        They are looked at in order; what comes after one at its limit may be left as it is.
        """

    @abstractmethod
    def _add(self, keys: Sequence[str], until: datetime, amount: int) -> None:
        """Add an amount to each of these counters that ends at that moment or before it."""

    @abstractmethod
    def _read(self, keys: Sequence[str]) -> Mapping[str, Mark]:
        """Those of these counters that are there."""

    @abstractmethod
    def delete_expired(self) -> None:
        """Delete every counter that is void."""


def _valid(quota: Quota, mark: Mark | None, now: datetime) -> Mark:
    return mark if mark is not None and mark.until > now else Mark(0, quota.ends(now))
