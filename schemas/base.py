"""What the requests and answers have in common: their bases, and the types of their fields."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from records import rfc3339

RECORD_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Body(BaseModel):
    """A JSON body: each field of its exact type."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Query(BaseModel):
    """A query string: each parameter is text, at most once."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(BaseModel):
    """A JSON answer."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)


def _text(text: str) -> str:
    """Every store, log and terminal must be able to hold the text."""
    if "\0" in text:
        raise PydanticCustomError("nul", "must not contain a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("surrogate", "must not contain an unpaired surrogate")
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text


TEXT = AfterValidator(_text)
Text = Annotated[str, TEXT]
RecordId = Annotated[str, Field(pattern=rf"^{RECORD_ID}$")]


def _moment(value: object) -> datetime:
    """A moment of RFC 3339 §5.6, in UTC and whole milliseconds: what every store can keep."""
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
            return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        except (ValueError, OverflowError):
            pass
    raise PydanticCustomError("moment", "must be a date and time of RFC 3339, such as 2026-11-20T12:00:00Z")


_MOMENT_SCHEMA = WithJsonSchema({"type": "string", "format": "date-time"})
Moment = Annotated[datetime, BeforeValidator(_moment), _MOMENT_SCHEMA]
ShownMoment = Annotated[datetime, PlainSerializer(rfc3339, return_type=str), _MOMENT_SCHEMA]


class Problem(Answer):
    """What went wrong (RFC 9457), as an audit record keeps it."""

    type: str
    title: str
    status: int
    detail: str


class Tokens(Answer):
    """What the model was paid for; null where its server did not count."""

    input_tokens: int | None
    output_tokens: int | None


RecordStatus = Literal["pending", "succeeded", "failed", "abandoned"]
JsonObject = dict[str, Any]
