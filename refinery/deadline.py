"""One wall-clock budget that everything a request does is measured against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a monotonic clock, in seconds, after which nobody waits for the answer any more."""

    at: float
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Clock = time.monotonic) -> Deadline:
        return cls(clock() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left; zero once the deadline has passed, never negative."""
        return max(0.0, self.at - self.clock())

    def minus(self, seconds: float) -> Deadline:
        """The same deadline, `seconds` earlier: what is left to a step when the next ones need their share."""
        return Deadline(self.at - seconds, self.clock)
