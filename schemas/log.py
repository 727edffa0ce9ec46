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
    JsonObject,
    Moment,
    Problem,
    Query,
    RecordId,
    RecordStatus,
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


class LogEntry(Body):
    """The body of `POST /log-request`: a prompt and its response, which the client had elsewhere."""

    prompt: Text
    response: Text
    model: Annotated[str, Field(max_length=MAX_MODEL_CHARS), TEXT] | None = None
    timestamp: Moment | None = None
    metadata: Annotated[JsonObject, AfterValidator(_returnable)] | None = None


def log_entry(max_prompt_chars: int) -> type[LogEntry]:
    """The request's model with the limits of one service."""
    fields: dict[str, Any] = {"prompt": (Annotated[str, Field(max_length=max_prompt_chars), TEXT], ...)}
    return create_model("LogEntry", __base__=LogEntry, __doc__=LogEntry.__doc__, **fields)


class Logged(Answer):
    """The report was stored."""

    message: Literal["Request logged successfully"] = "Request logged successfully"
    id: str
    created_at: ShownMoment


def _digits(value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise PydanticCustomError("digits", "must be a whole number")
    return int(value)


class Readers(Query):
    """What narrows the records to a user and a time; `from` is inclusive, `to` exclusive."""

    user_id: Annotated[str, Field(max_length=MAX_USER_ID_CHARS), TEXT] | None = None
    since: Annotated[Moment | None, Field(alias="from")] = None
    until: Annotated[Moment | None, Field(alias="to")] = None


class LogQuery(Readers):
    """The query of `GET /log-request`."""

    limit: Annotated[int, BeforeValidator(_digits), Field(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    cursor: str | None = None
    kind: Kind | None = None
    status: Status | None = None
    parent_id: RecordId | None = None
    model: Annotated[str, Field(max_length=MAX_MODEL_CHARS), TEXT] | None = None


class UsageQuery(Readers):
    """The query of `GET /usage`."""


class LogRecord(Answer):
    """An audit record, without its internal fields."""

    id: str
    kind: Literal["refine", "generate", "client"]
    source: Literal["server", "client"]
    status: RecordStatus
    user_id: str
    client_id: str
    request_id: str
    prompt: str
    response: str | None
    metadata: JsonObject | None
    detail: JsonObject
    model: str | None
    engine: str | None
    usage: Tokens | None
    error: Problem | None
    latency_ms: int | None
    timestamp: ShownMoment
    completed_at: ShownMoment | None


class LogPage(Answer):
    """Records, newest first; `next_cursor` leads to the next page, if there is one."""

    items: list[LogRecord]
    next_cursor: str | None


class Latency(Answer):
    """In milliseconds, of whole calls."""

    mean: float
    max: int


class DayOfUsage(Answer):
    """What the calls to one model came to on one UTC day."""

    day: str
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
