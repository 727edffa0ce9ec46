"""The `Prefer` header (RFC 7240): a caller may ask to be answered before the work is done."""

from __future__ import annotations

import re

from flask import request

from problems import MalformedRequest

RESPOND_ASYNC = "respond-async"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_NAMED = rf"(?P<name>{_TOKEN})(?:[\t ]*=[\t ]*(?P<value>{_TOKEN}|{_QUOTED}))?"
_PARAMETER = rf"{_TOKEN}(?:[\t ]*=[\t ]*(?:{_TOKEN}|{_QUOTED}))?"
# Elements of a list may be empty (RFC 9110 §5.6.1.2).
_PREFERENCE = re.compile(rf"[\t ,]*(?:{_NAMED}(?:[\t ]*;(?:[\t ]*{_PARAMETER})?)*[\t ]*)?(?:,|$)")


def prefers_async() -> bool:
    """Whether the caller prefers `respond-async`; other preferences are passed over.

    Raises: `MalformedRequest` for a header that is none, or a value of this preference, which has none.
    """
    header, place = request.headers.get("Prefer", ""), 0
    found = False
    while place < len(header):
        preference = _PREFERENCE.match(header, place)
        if preference is None:
            raise MalformedRequest("Prefer must be a list of preferences, such as respond-async.")
        place = preference.end()
        if (preference["name"] or "").lower() == RESPOND_ASYNC:
            if preference["value"] not in (None, '""'):
                raise MalformedRequest("Prefer: respond-async takes no value.")
            found = True
    return found
