"""The `Prefer` header (RFC 7240 §2), by which a caller may ask to be answered before the work is done."""

from __future__ import annotations

import re

RESPOND_ASYNC = "respond-async"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_PAIR = rf"{_TOKEN}(?:[\t ]*=[\t ]*(?:{_TOKEN}|{_QUOTED}))?"
_PREFERENCE = rf"{_PAIR}(?:[\t ]*;(?:[\t ]*{_PAIR})?)*[\t ]*"
# The whole header. Elements of a list may be empty (RFC 9110 §5.6.1.2).
PATTERN = rf"^[\t ,]*(?:{_PREFERENCE}(?:,[\t ,]*|$))*$"

_HEADER = re.compile(PATTERN)
_NEXT = re.compile(rf"[\t ,]*({_PREFERENCE})?")
# A preference that has a value which it does not define is another one, and passed over.
_ASYNC = re.compile(rf'{RESPOND_ASYNC}(?:[\t ]*=[\t ]*"")?[\t ]*(?:;.*)?', re.IGNORECASE | re.DOTALL)


def prefers_async(header: str) -> bool:
    """Whether one of the preferences is `respond-async`. Raises: `ValueError` for a header that is none."""
    if not _HEADER.match(header) or header.endswith("\n"):
        raise ValueError("not a list of preferences")
    place = 0
    while place < len(header) and (found := _NEXT.match(header, place)):
        if _ASYNC.fullmatch(found[1] or ""):
            return True
        place = found.end()
    return False
