"""A refinement: what is asked, and what is answered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, create_model

from .base import (
    TEXT,
    Answer,
    Body,
    EngineName,
    LatencyMs,
    ModelName,
    Problem,
    RecordId,
    RecordStatus,
    ShownId,
    ShownMoment,
    Text,
    Tokens,
)

MAX_INSTRUCTIONS_CHARS = 4_000

_PROMPT = Field(description="The draft to be refined. Left out where `parent_id` names one.")
_STRATEGY = Field(description="How to improve the draft: one of `GET /strategies`. `general` where nothing is said.")
_MODEL = Field(description="The model to ask: one of `GET /models`. The service's default where nothing is said.")

# What `Refinements` checks, in JSON Schema: a draft, or the refinement that has it, and not both.
_ONE_DRAFT: dict[str, Any] = {
    "oneOf": [
        {"required": ["prompt"], "properties": {"prompt": {"type": "string"}, "parent_id": {"type": "null"}}},
        {"required": ["parent_id"], "properties": {"parent_id": {"type": "string"}, "prompt": {"type": "null"}}},
    ]
}


class RefineRequest(Body):
    """A draft, as `prompt` or as the `parent_id` of a refinement whose refined prompt it is, and how to refine it."""

    model_config = ConfigDict(json_schema_extra=_ONE_DRAFT)

    prompt: Annotated[Text | None, _PROMPT] = None
    instructions: Annotated[
        Annotated[str, Field(max_length=MAX_INSTRUCTIONS_CHARS), TEXT] | None,
        Field(description="What to change, in plain words."),
    ] = None
    strategy: Annotated[str | None, _STRATEGY] = None
    parent_id: Annotated[
        RecordId | None,
        Field(description="The id of a succeeded refinement of the caller's own: its refined prompt is the draft."),
    ] = None
    model: Annotated[str | None, _MODEL] = None


def refine_request(
    max_prompt_chars: int, models: Iterable[str], strategies: Iterable[str], *, name: str = "RefineRequest"
) -> type[RefineRequest]:
    """The request's model with the limits of one service."""
    prompt = Annotated[str, Field(max_length=max_prompt_chars), TEXT] | None
    fields: dict[str, Any] = {
        "prompt": (Annotated[prompt, _PROMPT], None),
        "strategy": (Annotated[Literal[*strategies] | None, _STRATEGY], None),
        "model": (Annotated[Literal[*models] | None, _MODEL], None),
    }
    return create_model(name, __base__=RefineRequest, __doc__=RefineRequest.__doc__, **fields)


class Change(Answer):
    """One thing that was changed; `before` is empty for what is new, `after` for what was taken out."""

    reason: str
    before: str
    after: str


class Placeholders(Answer):
    """The draft's placeholders, each as often as it stands, and those that the refined prompt made up."""

    kept: list[str]
    lost: list[str]
    added: list[str]


class CodeBlocks(Answer):
    """How many fenced code blocks of the draft were kept, byte for byte, and lost."""

    kept: int
    lost: int


class Urls(Answer):
    """How many URLs of the draft were kept, and which were lost."""

    kept: int
    lost: list[str]


class IntegrityReport(Answer):
    """What a program depends on, counted before and after, in the last text that the model gave."""

    ok: Annotated[bool, Field(description="Nothing was lost, and no placeholder made up.")]
    attempts: Annotated[int, Field(description="How often the model was asked: twice where the first text was not ok.")]
    placeholders: Placeholders
    code_blocks: CodeBlocks
    urls: Urls
    script_changed: Annotated[bool, Field(description="The writing system changed unasked. For information only.")]


class Refinement(Answer):
    """A refinement, whatever its status: what is not known yet is null or empty."""

    id: Annotated[ShownId, Field(description="Finds it again, and its record in the log; may be a `parent_id`.")]
    status: RecordStatus
    refined: Annotated[
        bool | None, Field(description="False where no text kept the promise: then `refined_prompt` is the draft.")
    ]
    original_prompt: Annotated[str, Field(description="The draft.")]
    refined_prompt: Annotated[str | None, Field(description="The better prompt, with all a program depends on.")]
    changes: list[Change]
    assumptions: Annotated[list[str], Field(description="What the draft left open, and how it was taken.")]
    integrity: IntegrityReport | None
    model: ModelName
    engine: EngineName
    strategy: str
    parent_id: Annotated[ShownId | None, Field(description="The refinement that this one went on from.")]
    usage: Tokens | None
    latency_ms: LatencyMs | None
    created_at: ShownMoment
    error: Annotated[
        Problem | None,
        Field(exclude_if=lambda error: error is None, description="Why it `failed` or was `abandoned`; else left out."),
    ] = None


class Accepted(Answer):
    """A refinement that is made in the background: `GET /refine/<id>` says what has become of it."""

    id: Annotated[ShownId, Field(description="Finds it again, and its record in the log.")]
    status: Literal["pending"] = "pending"
