"""How long a store may take: what it is asked inside `within` has a deadline, whatever its own patience is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from time import monotonic

# To a driver, no time at all means all the time in the world.
_SHORTEST = 0.001

_ends: ContextVar[float] = ContextVar("ends", default=inf)


@contextmanager
def within(seconds: float, *, at_least: float = 0.0) -> Iterator[None]:
    """All that stores are asked inside has so many seconds together, or what is left of those around it.

    `at_least` seconds it has all the same.
    """
    now = monotonic()
    token = _ends.set(max(min(_ends.get(), now + seconds), now + at_least))
    try:
        yield
    finally:
        _ends.reset(token)


def seconds_left(most: float) -> float:
    """What is left of the time inside `within`, a millisecond at least; `most` where that is less, or nobody said."""
    return max(_SHORTEST, min(most, _ends.get() - monotonic()))


def time_is_up() -> bool:
    """Whether the time inside `within` is over."""
    return _ends.get() <= monotonic()
