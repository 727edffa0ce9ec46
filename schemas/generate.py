"""Text from a prompt: what is asked, and what is answered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from .base import TEXT, Answer, Body, EngineName, LatencyMs, ModelName, ShownId, ShownMoment, Text, Tokens

DEFAULT_MAX_LENGTH = 150

_PROMPT = Field(description="Given to the model as it is.")
_MAX_LENGTH = Field(description="How long the text may be, in output tokens.")
_MODEL = Field(description="The model to ask: one of `GET /models`. The service's default where nothing is said.")


class GenerateRequest(Body):
    """A prompt, and how long the text may be."""

    prompt: Annotated[Text, _PROMPT]
    max_length: Annotated[int, _MAX_LENGTH] = DEFAULT_MAX_LENGTH
    model: Annotated[str | None, _MODEL] = None


def generate_request(max_prompt_chars: int, max_output_tokens: int, models: Iterable[str]) -> type[GenerateRequest]:
    """The request's model with the limits of one service."""
    default = min(DEFAULT_MAX_LENGTH, max_output_tokens)
    fields: dict[str, Any] = {
        "prompt": (Annotated[str, Field(max_length=max_prompt_chars), TEXT, _PROMPT], ...),
        "max_length": (Annotated[int, Field(ge=1, le=max_output_tokens), _MAX_LENGTH], default),
        "model": (Annotated[Literal[*models] | None, _MODEL], None),
    }
    return create_model("GenerateRequest", __base__=GenerateRequest, __doc__=GenerateRequest.__doc__, **fields)


class Generation(Answer):
    """What the model wrote."""

    id: Annotated[ShownId, Field(description="Finds the call's record in the log.")]
    generated_text: str
    user_id: Annotated[str, Field(description="Whose call it was: the subject of the token.")]
    model: ModelName
    engine: EngineName
    finish_reason: Annotated[
        Literal["stop", "length"], Field(description="`length` where the text was cut at `max_length`.")
    ]
    usage: Tokens
    latency_ms: LatencyMs
    created_at: ShownMoment
