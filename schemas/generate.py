"""Text from a prompt: what is asked, and what is answered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from .base import TEXT, Answer, Body, ShownMoment, Text, Tokens

DEFAULT_MAX_LENGTH = 150


class GenerateRequest(Body):
    """The body of `POST /generate`; `max_length` counts output tokens."""

    prompt: Text
    max_length: int = DEFAULT_MAX_LENGTH
    model: str | None = None


def generate_request(max_prompt_chars: int, max_output_tokens: int, models: Iterable[str]) -> type[GenerateRequest]:
    """The request's model with the limits of one service."""
    default = min(DEFAULT_MAX_LENGTH, max_output_tokens)
    fields: dict[str, Any] = {
        "prompt": (Annotated[str, Field(max_length=max_prompt_chars), TEXT], ...),
        "max_length": (Annotated[int, Field(ge=1, le=max_output_tokens)], default),
        "model": (Literal[*models] | None, None),
    }
    return create_model("GenerateRequest", __base__=GenerateRequest, __doc__=GenerateRequest.__doc__, **fields)


class Generation(Answer):
    """What the model wrote; `finish_reason` is `length` where it was cut at `max_length`."""

    id: str
    generated_text: str
    user_id: str
    model: str | None
    engine: str | None
    finish_reason: Literal["stop", "length"]
    usage: Tokens
    latency_ms: int
    created_at: ShownMoment
