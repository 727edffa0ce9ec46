"""What the requests and answers have in common: their bases, and the types of their fields."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError

from records import rfc3339

RECORD_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
# What `str.strip` takes for white space, spelt out: `\s` means something else in each dialect of regular expressions.
WHITE = r"\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_NOT_BLANK = rf"^[^\u0000]*[^\u0000{WHITE}][^\u0000]*$"


class Body(BaseModel):
    """A JSON body: each field of its exact type."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True)


class Query(BaseModel):
    """A query string: each parameter is text, at most once."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Answer(BaseModel):
    """A JSON answer."""

    model_config = ConfigDict(
        frozen=True,
        defer_build=True,
        validate_by_name=True,
        serialize_by_alias=True,
        json_schema_serialization_defaults_required=True,
    )


def _text(text: str) -> str:
    """Every store, log and terminal must be able to hold the text."""
    if "\0" in text:
        raise PydanticCustomError("nul", "must not contain a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("surrogate", "must not contain an unpaired surrogate")
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text


class _Text(AfterValidator):
    """The check, and as much of it as JSON Schema can say: of surrogates it cannot speak."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core_schema), "minLength": 1, "pattern": _NOT_BLANK}


TEXT = _Text(_text)
Text = Annotated[str, TEXT]


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's members. Raises: `ValueError` for a name that stands twice: readers differ in which they take."""
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("duplicate name")
    return names


def is_record_id(text: str) -> bool:
    """Whether a record can have this id: any other text need not be looked up."""
    return bool(re.fullmatch(RECORD_ID, text))


def _record_id(text: str) -> str:
    if not is_record_id(text):
        raise PydanticCustomError("record_id", "is not the id of a record")
    return text


RecordId = Annotated[
    str, AfterValidator(_record_id), WithJsonSchema({"type": "string", "pattern": f"^{RECORD_ID}$", "format": "uuid"})
]


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
ShownId = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]

# Fields that stand in several answers.
ModelName = Annotated[str | None, Field(description="The model that was asked.")]
EngineName = Annotated[str | None, Field(description="What did the work: `openai`, or `offline` for built-in rules.")]
LatencyMs = Annotated[int, Field(description="How long the call took, in milliseconds.")]


class Problem(Answer):
    """What went wrong (RFC 9457), as an audit record keeps it."""

    type: Annotated[
        str,
        Field(
            description="Which kind of problem this is: the code to go by. It stays.",
            json_schema_extra={"format": "uri-reference"},
        ),
    ]
    title: Annotated[str, Field(description="The kind of problem, for people.")]
    status: Annotated[int, Field(description="The HTTP status.")]
    detail: Annotated[str, Field(description="What went wrong this time, for people.")]


class Tokens(Answer):
    """What the model was paid for, in tokens; null where its server did not count."""

    input_tokens: int | None
    output_tokens: int | None


RecordStatus = Literal["pending", "succeeded", "failed", "abandoned"]
JsonObject = dict[str, Any]
