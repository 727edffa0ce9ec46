"""Whose records a caller may look at, and when they happened."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from auth import READ_ALL, Identity, InsufficientScope
from problems import InvalidFields
from records import Selection
from schemas.log import Readers


def selected_by(caller: Identity, query: Readers) -> Selection:
    """The caller's own records, or with `log:read:all` those of the client's users, narrowed by the query.

    Raises: `InsufficientScope` for another user without that scope; `InvalidFields` for a time that ends before it
    begins.
    """
    if query.since and query.until:
        check_order(query.since, query.until)
    readable = replace(caller.readable, since=query.since, until=query.until)
    if query.user_id is None or query.user_id == readable.user_id:
        return readable
    if readable.user_id is not None:
        raise InsufficientScope(f"Another user's records need the scope {READ_ALL}.", READ_ALL)
    return replace(readable, user_id=query.user_id)


def check_order(since: datetime, until: datetime) -> None:
    """Raises: `InvalidFields` for a time that ends before it begins."""
    if until < since:
        raise InvalidFields(("from", "must not be after to"))
