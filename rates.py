"""A rate: so many requests in so much time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

_PERIODS = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
_RATE = re.compile(rf"([0-9]{{1,9}}) ?/ ?({'|'.join(_PERIODS)})s?")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` requests in a `period`."""

    count: int
    period: timedelta


def parse_rate(text: str) -> Rate | None:
    """Read `60/minute`; nothing, or `none`, is no limit. Raises: `ValueError`."""
    if text in ("", "none"):
        return None
    match = _RATE.fullmatch(text)
    if match is None or not int(match[1]):
        raise ValueError("must be a number from 1 and second, minute, hour or day, such as 60/minute, or none")
    return Rate(int(match[1]), _PERIODS[match[2]])
