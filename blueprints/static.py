"""Files that everybody may keep."""

from __future__ import annotations

from flask import Response, request


def static(content: bytes, media_type: str, max_age: int, *, immutable: bool = False) -> Response:
    """The file, or 304 to one who has it. It may be kept for `max_age` seconds; an immutable one is never asked again.

    The entity tag is of the content alone: in an artifact for AWS Lambda all files bear one date, so that a tag of
    date and size, as `flask.send_file` makes it, would outlive a change.
    """
    response = Response(content, mimetype=media_type)
    response.cache_control.public = True
    response.cache_control.max_age = max_age
    response.cache_control.immutable = immutable
    response.add_etag()
    response.make_conditional(request)
    return response
