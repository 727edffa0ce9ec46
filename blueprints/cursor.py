"""Cursors: a place in the pages of the log, opaque to clients. One changes nothing in what its bearer may read."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

from problems import InvalidFields
from records import Position
from schemas.base import RECORD_ID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(rf"(-?[0-9]{{1,15}})\.({RECORD_ID})")


def as_cursor(position: Position) -> str:
    """The cursor that leads behind `position`: milliseconds since 1970 and the id, in base64url."""
    milliseconds = (position.timestamp - _EPOCH) // timedelta(milliseconds=1)
    return urlsafe_b64encode(f"{milliseconds}.{position.id}".encode()).decode().rstrip("=")


def position_in(cursor: str) -> Position:
    """The place that a cursor leads to. Raises: `InvalidFields`."""
    try:
        match = _CURSOR.fullmatch(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode())
        if match:
            return Position(_EPOCH + timedelta(milliseconds=int(match[1])), match[2])
    except (ValueError, OverflowError):
        pass
    raise InvalidFields(("cursor", "is not a cursor of this service"))
