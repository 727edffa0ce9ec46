"""From a request's bytes to a checked, typed object, with a message that names the field where that fails."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeVar

from flask import request
from pydantic import ValidationError

from problems import BodyTooLarge, InvalidFields, MalformedRequest, UnsupportedMediaType
from schemas import prefer
from schemas.base import Body, Query
from schemas.log import Inexact

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_MAX_FIELD_NAME = 100
MAX_DIGITS = 4000


B = TypeVar("B", bound=Body)
Q = TypeVar("Q", bound=Query)


def read_body(max_bytes: int) -> bytes:
    """The whole body. Raises: `BodyTooLarge`, with or without a `Content-Length`.

    Flask's own limit cuts a chunked body and goes on; so one byte more than the limit is asked for here.
    """
    if (request.content_length or 0) > max_bytes:
        raise BodyTooLarge(f"The body is larger than {max_bytes} bytes.")
    chunks, left = [], max_bytes + 1
    try:
        while left and (chunk := request.stream.read(left)):
            chunks.append(chunk)
            left -= len(chunk)
    except _unreadable() as error:
        raise MalformedRequest("The body cannot be read to its end.") from error
    if not left:
        raise BodyTooLarge(f"The body is larger than {max_bytes} bytes.")
    return b"".join(chunks)


def _unreadable() -> tuple[type[Exception], ...]:
    """What servers raise for chunks that are no chunks, and for a peer that goes away in the middle.

    gunicorn's own error is no `OSError`, and gunicorn need not be installed.
    """
    gunicorn: Any = sys.modules.get("gunicorn.http.errors")
    return (OSError, gunicorn.ParseException) if gunicorn else (OSError,)


def json_object(raw: bytes) -> dict[str, Any]:
    """Parse a body as strictly as RFC 8259 lets one: no NaN, no name twice, no endless nesting.

    A number that Python cannot hold exactly is an `Inexact`, which no field takes.

    Raises: `MalformedRequest`.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedRequest("The body is not valid JSON in UTF-8, with each name once.") from error
    if not isinstance(value, dict):
        raise MalformedRequest("The body must be a JSON object.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("duplicate name")
    return names


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _float(text: str) -> float | Inexact:
    value = float(text)
    try:
        return value if Decimal(text) == Decimal(repr(value)) else Inexact()
    except ArithmeticError:
        return Inexact()


def _int(text: str) -> int | Inexact:
    # Beyond that Python refuses to read and write them (https://docs.python.org/3/library/stdtypes.html#int-max-str-digits).
    return int(text) if len(text) <= MAX_DIGITS else Inexact()


def parse_body(model: type[B], max_bytes: int) -> B:
    """The request's JSON body as `model`; the request may carry no query.

    Raises: `UnsupportedMediaType`, `BodyTooLarge`, `MalformedRequest`, `InvalidFields`.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be JSON, sent with Content-Type: application/json.")
    fields = json_object(read_body(max_bytes))
    refuse_query()
    # Looked for here, because pydantic drops the name of a field that is no Unicode text.
    unknown = [(_shown(name), "unknown field") for name in fields if name not in model.model_fields]
    try:
        body = model.model_validate({name: value for name, value in fields.items() if name in model.model_fields})
    except ValidationError as error:
        raise InvalidFields(*_messages(error), *unknown) from error
    if unknown:
        raise InvalidFields(*unknown)
    return body


def parse_query(model: type[Q]) -> Q:
    """The request's query as `model`. Raises: `InvalidFields`, also for a parameter that is unknown or repeated."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    wrong = [(_shown(name), "unknown query parameter") for name in request.args if name not in names]
    wrong += [
        (name, "must not be repeated") for name, values in request.args.lists() if name in names and len(values) > 1
    ]
    try:
        query = model.model_validate({name: value for name, value in request.args.items() if name in names})
    except ValidationError as error:
        raise InvalidFields(*_messages(error), *wrong) from error
    if wrong:
        raise InvalidFields(*wrong)
    return query


def refuse_query() -> None:
    """Raises: `InvalidFields` naming each query parameter, for a route that has none."""
    if request.args:
        raise InvalidFields(*((_shown(name), "unknown query parameter") for name in request.args))


def _messages(error: ValidationError) -> Iterable[tuple[str, str]]:
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        yield ".".join(str(part) for part in item["loc"]), item["msg"]


def _shown(name: str) -> str:
    return name[:_MAX_FIELD_NAME].encode("utf-8", "replace").decode()


def idempotency_key() -> str | None:
    """The `Idempotency-Key` header; an empty one counts as none. Raises: `MalformedRequest`."""
    key = request.headers.get("Idempotency-Key", "")
    if not key:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise MalformedRequest("Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return key


def prefers_async() -> bool:
    """Whether the caller prefers `respond-async`; other preferences are passed over. Raises: `MalformedRequest`."""
    try:
        return prefer.prefers_async(request.headers.get("Prefer", ""))
    except ValueError as error:
        raise MalformedRequest("Prefer must be a list of preferences, such as respond-async.") from error
