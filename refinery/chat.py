"""The conversation with a model over Chat Completions: what it is asked, and how its answer is read.

Reference: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from .engines import ModelRefused, Task, UnusableAnswer, Usage

Completion = dict[str, Any]

_CODE_FENCE = re.compile(r"\A```(?:json)?[ \t]*\r?\n(.*)\r?\n```\Z", re.DOTALL)

# No store and no terminal has a use for a NUL, and PostgreSQL refuses it.
_Text = Annotated[str, Field(pattern=r"\A[^\x00]*\z")]


class ChangeAnswer(BaseModel):
    """One of `changes` in a model's answer."""

    model_config = ConfigDict(strict=True)
    reason: _Text
    before: _Text
    after: _Text


class Answer(BaseModel):
    """A model's answer to a `Task`; fields that it adds are passed over."""

    model_config = ConfigDict(strict=True)
    refined_prompt: Annotated[str, Field(pattern=r"\A[^\x00]*[^\s\x00][^\x00]*\z")]
    changes: list[ChangeAnswer]
    assumptions: list[_Text]


def _strict_object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_STRING = {"type": "string"}
RESPONSE_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "refinement",
        "strict": True,
        "schema": _strict_object(
            {
                "refined_prompt": _STRING,
                "changes": {
                    "type": "array",
                    "items": _strict_object({"reason": _STRING, "before": _STRING, "after": _STRING}),
                },
                "assumptions": {"type": "array", "items": _STRING},
            }
        ),
    },
}


def messages_for(task: Task) -> list[dict[str, str]]:
    """System message, then the task as one JSON object, so that nothing in a draft can close a delimiter."""
    request = {"draft": task.draft, "instructions": task.instructions, "must_keep": task.must_keep}
    messages = [{"role": "system", "content": task.system}, _user_message(request)]
    if task.rejection:
        rejection = task.rejection
        messages.append(_user_message({"rejected": rejection.text, "lost": rejection.lost, "added": rejection.added}))
    return messages


def _user_message(content: Mapping[str, object]) -> dict[str, str]:
    return {"role": "user", "content": to_json(content).decode()}


def parse_completion(content: bytes) -> Completion:
    """The body of a 200 as a JSON object. Raises: `UnusableAnswer`."""
    try:
        completion = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnusableAnswer("The model's server answered with something that is not JSON.") from error
    if not isinstance(completion, dict):
        raise UnusableAnswer("The model's server answered with JSON of another shape.")
    return completion


def parse_answer(completion: Completion) -> Answer:
    """The refinement in a completion, with or without a code fence around it.

    Raises: `ModelRefused`; `UnusableAnswer` for what is cut off, empty, or of another shape.
    """
    usage = usage_of(completion)
    finish_reason, content = _choice(completion)
    if finish_reason == "length":
        raise UnusableAnswer("The model's answer was cut off at its length limit.", usage=usage)
    fenced = _CODE_FENCE.match(content.strip())
    try:
        return Answer.model_validate_json(fenced[1] if fenced else content)
    except ValidationError as error:
        raise UnusableAnswer("The model's answer is not a refinement of the agreed shape.", usage=usage) from error


def parse_text(completion: Completion) -> tuple[str, str]:
    """The text in a completion, and why it ends: `length` where it was cut off, else `stop`.

    Raises: `ModelRefused`; `UnusableAnswer` for what is empty or cannot be kept.
    """
    finish_reason, content = _choice(completion)
    if "\0" in content or any("\ud800" <= character <= "\udfff" for character in content):
        raise UnusableAnswer("The model's answer is not Unicode text.", usage=usage_of(completion))
    return content, "length" if finish_reason == "length" else "stop"


def _choice(completion: Completion) -> tuple[object, str]:
    """The finish reason and the text, never blank. Raises as its callers."""
    usage = usage_of(completion)
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        finish_reason, refusal, content = choice.get("finish_reason"), message.get("refusal"), message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UnusableAnswer("The model's server answered without a choice.", usage=usage) from error
    if finish_reason == "content_filter":
        raise ModelRefused("A content filter stopped the model's answer.", usage=usage)
    if refusal:
        raise ModelRefused("The model refused to answer.", usage=usage)
    if not isinstance(content, str) or not content.strip():
        raise UnusableAnswer("The model's answer is empty.", usage=usage)
    return finish_reason, content


def usage_of(completion: Completion) -> Usage:
    """What the completion cost; unknown where the server does not say."""
    usage = completion.get("usage")
    if not isinstance(usage, dict):
        return Usage(None, None)
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


def _count(value: object) -> int | None:
    # Beyond 2**53 it is no count, and not every store could keep it.
    return value if type(value) is int and 0 <= value <= 1 << 53 else None
