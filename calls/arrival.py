"""The coming in of a request, and the time that it has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from counters import Count
from records import Record, utc_now
from refinery.deadline import Deadline
from stores.within import within


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: its id, its moment and its deadline on both clocks, and what the log shall say of it.

    `notes` never holds a prompt, a response, a token or a secret. `counts` is what is left of the caller's quotas, by
    what they count.
    """

    request_id: str
    received_at: datetime
    due_at: datetime
    started: float
    deadline: Deadline
    notes: dict[str, object] = field(default_factory=dict)
    counts: dict[str, Count] = field(default_factory=dict)

    @classmethod
    def now(cls, request_id: str, seconds: float) -> Arrival:
        """A request that comes in now and has so many seconds."""
        received = utc_now()
        due_at = received + timedelta(milliseconds=int(seconds * 1000))
        return cls(request_id, received, due_at, time.monotonic(), Deadline.after(seconds))

    @classmethod
    def of(cls, job: Record, seconds: float) -> Arrival:
        """The coming in of a job that is begun now: it has what is left to its deadline, or so many seconds if less."""
        now, due_at = utc_now(), job.deadline_at or utc_now()
        started = time.monotonic() - (now - job.timestamp).total_seconds()
        deadline = Deadline.after(min(seconds, (due_at - now).total_seconds()))
        return cls(job.request_id, job.timestamp, due_at, started, deadline)

    def elapsed_ms(self) -> int:
        """Milliseconds since the request came in."""
        return round((time.monotonic() - self.started) * 1000)

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Inside, no store is waited for beyond the deadline."""
        with within(self.deadline.remaining()):
            yield
