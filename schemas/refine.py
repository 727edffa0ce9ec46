"""A refinement: what is asked, and what is answered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from .base import TEXT, Answer, Body, Problem, RecordStatus, ShownMoment, Text, Tokens

MAX_INSTRUCTIONS_CHARS = 4_000


class RefineRequest(Body):
    """The body of `POST /refine`: `prompt`, or the `parent_id` of a refinement whose refined prompt is the draft."""

    prompt: Text | None = None
    instructions: Annotated[str, Field(max_length=MAX_INSTRUCTIONS_CHARS), TEXT] | None = None
    strategy: str | None = None
    parent_id: Text | None = None
    model: str | None = None


def refine_request(
    max_prompt_chars: int, models: Iterable[str], strategies: Iterable[str], *, name: str = "RefineRequest"
) -> type[RefineRequest]:
    """The request's model with the limits of one service."""
    fields: dict[str, Any] = {
        "prompt": (Annotated[str, Field(max_length=max_prompt_chars), TEXT] | None, None),
        "strategy": (Literal[*strategies] | None, None),
        "model": (Literal[*models] | None, None),
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

    ok: bool
    attempts: int
    placeholders: Placeholders
    code_blocks: CodeBlocks
    urls: Urls
    script_changed: bool


class Refinement(Answer):
    """A refinement, whatever its status: what is not known yet is null or empty."""

    id: str
    status: RecordStatus
    refined: bool | None
    original_prompt: str
    refined_prompt: str | None
    changes: list[Change]
    assumptions: list[str]
    integrity: IntegrityReport | None
    model: str | None
    engine: str | None
    strategy: str
    parent_id: str | None
    usage: Tokens | None
    latency_ms: int | None
    created_at: ShownMoment
    error: Annotated[Problem | None, Field(exclude_if=lambda error: error is None)] = None
