"""The audit log: what a client may report, how records are looked for, and what is shown of them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model
from pydantic_core import PydanticCustomError

from records import Kind, Status

from .base import (
    TEXT,
    Answer,
    Body,
    EngineName,
    JsonObject,
    LatencyMs,
    ModelName,
    Moment,
    Problem,
    Query,
    RecordId,
    RecordStatus,
    ShownId,
    ShownMoment,
    Text,
    Tokens,
)

MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 64
MAX_MODEL_CHARS = 256
MAX_USER_ID_CHARS = 128
DEFAULT_PAGE = 20
MAX_PAGE = 100


class Inexact:
    """Stands for a number of a JSON text that cannot come back as it was written: no field takes it."""


def _returnable(metadata: JsonObject) -> JsonObject:
    """What is reported must come back exactly, from every store."""
    _check(metadata, MAX_METADATA_DEPTH)
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_METADATA_BYTES:
        raise PydanticCustomError("metadata_size", f"must be at most {MAX_METADATA_BYTES} bytes as JSON")
    return metadata


def _check(value: object, depth: int) -> None:
    if depth < 0:
        raise PydanticCustomError("metadata_depth", f"must be nested at most {MAX_METADATA_DEPTH} deep")
    if isinstance(value, Inexact):
        raise PydanticCustomError("metadata_number", "holds a number that cannot come back exactly: send it as text")
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= character <= "\udfff" for character in value)):
        raise PydanticCustomError("metadata_text", "must not contain a NUL character or an unpaired surrogate")
    for part in (
        (*value.keys(), *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        _check(part, depth - 1)


_PROMPT = Field(description="What the model was asked.")


class LogEntry(Body):
    """A prompt and its response, which the client had elsewhere."""

    prompt: Annotated[Text, _PROMPT]
    response: Annotated[Text, Field(description="What the model answered.")]
    model: Annotated[
        Annotated[str, Field(max_length=MAX_MODEL_CHARS), TEXT] | None,
        Field(description="The model, by any name."),
    ] = None
    timestamp: Annotated[
        Moment | None, Field(description="When it happened: at most 5 minutes ahead. Now, where nothing is said.")
    ] = None
    metadata: Annotated[
        Annotated[JsonObject, AfterValidator(_returnable)] | None,
        Field(
            description="What belongs to it; comes back exactly. "
            f"At most {MAX_METADATA_BYTES} bytes as JSON, nested at most {MAX_METADATA_DEPTH} deep."
        ),
    ] = None


def log_entry(max_prompt_chars: int) -> type[LogEntry]:
    """The request's model with the limits of one service."""
    fields: dict[str, Any] = {"prompt": (Annotated[str, Field(max_length=max_prompt_chars), TEXT, _PROMPT], ...)}
    return create_model("LogEntry", __base__=LogEntry, __doc__=LogEntry.__doc__, **fields)


class Logged(Answer):
    """The report was stored."""

    message: Literal["Request logged successfully"] = "Request logged successfully"
    id: ShownId
    created_at: ShownMoment


def _digits(value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise PydanticCustomError("digits", "must be a whole number")
    return int(value)


class Readers(Query):
    """What narrows the records to a user and a time."""

    user_id: Annotated[
        Annotated[str, Field(max_length=MAX_USER_ID_CHARS), TEXT] | None,
        Field(description="Only this user's; another's than the caller needs the scope `log:read:all`."),
    ] = None
    since: Annotated[Moment | None, Field(alias="from", description="Not before this moment (inclusive).")] = None
    until: Annotated[Moment | None, Field(alias="to", description="Before this moment (exclusive).")] = None


class LogQuery(Readers):
    """The query of `GET /log-request`."""

    limit: Annotated[
        int, Field(ge=1, le=MAX_PAGE, description="How many records a page has."), BeforeValidator(_digits)
    ] = DEFAULT_PAGE
    cursor: Annotated[
        str | None, Field(description="The `next_cursor` of the page before, with the rest of the query unchanged.")
    ] = None
    kind: Annotated[Kind | None, Field(description="Only calls of this kind.")] = None
    status: Annotated[Status | None, Field(description="Only calls in this state.")] = None
    parent_id: Annotated[RecordId | None, Field(description="Only refinements that go on from this one.")] = None
    model: Annotated[
        Annotated[str, Field(max_length=MAX_MODEL_CHARS), TEXT] | None,
        Field(description="Only calls to this model."),
    ] = None


class UsageQuery(Readers):
    """The query of `GET /usage`."""


class LogRecord(Answer):
    """An audit record, without its internal fields."""

    id: ShownId
    kind: Literal["refine", "generate", "client"]
    source: Annotated[
        Literal["server", "client"],
        Field(description="`server`: the service made the call. `client`: it was told of it."),
    ]
    status: RecordStatus
    user_id: Annotated[str, Field(description="Whose call it was: an end user, or the client itself.")]
    client_id: str
    request_id: Annotated[str, Field(description="The `X-Request-Id` of the call.")]
    prompt: str
    response: Annotated[str | None, Field(description="The text that the caller was given; null until there is one.")]
    metadata: Annotated[JsonObject | None, Field(description="What a client reported beside it.")]
    detail: Annotated[JsonObject, Field(description="What belongs to the kind, such as strategy, changes, integrity.")]
    model: ModelName
    engine: EngineName
    usage: Tokens | None
    error: Annotated[Problem | None, Field(description="Why it `failed` or was `abandoned`.")]
    latency_ms: LatencyMs | None
    timestamp: Annotated[ShownMoment, Field(description="When the call happened.")]
    completed_at: Annotated[ShownMoment | None, Field(description="When it got its last state.")]


class LogPage(Answer):
    """Records, newest first."""

    items: list[LogRecord]
    next_cursor: Annotated[str | None, Field(description="Leads to the next page; null on the last one.")]


class Latency(Answer):
    """In milliseconds, of whole calls."""

    mean: float
    max: int


class DayOfUsage(Answer):
    """What the calls to one model came to on one UTC day; tokens that nobody counted are 0."""

    day: Annotated[str, Field(json_schema_extra={"format": "date"})]
    model: str
    calls: int
    succeeded: int
    failed: int
    input_tokens: int
    output_tokens: int
    latency_ms: Latency


class Usage(Answer):
    """Finished calls from `from` (inclusive) to `to` (exclusive), by day, then model."""

    since: Annotated[ShownMoment, Field(alias="from")]
    until: Annotated[ShownMoment, Field(alias="to")]
    items: list[DayOfUsage]
