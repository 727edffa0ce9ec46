"""The engine that asks a model, over any server that speaks OpenAI's Chat Completions. The only importer of `openai`.

Reference: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import httpx2
import openai
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from tenacity.stop import stop_base

from .deadline import Deadline
from .engines import (
    Change,
    EngineError,
    ModelRefused,
    ModelTimeout,
    Rewrite,
    Task,
    UnusableAnswer,
    UpstreamRejected,
    UpstreamUnavailable,
    Usage,
)
from .transport import BoundedTransport, bounded_by

MAX_ATTEMPTS = 3
_RETRIED_STATUSES = {408, 409, 429}

_CODE_FENCE = re.compile(r"\A```(?:json)?[ \t]*\r?\n(.*)\r?\n```\Z", re.DOTALL)
_BACKOFF = wait_exponential_jitter(multiplier=0.5, max=8, jitter=0.5)


# No store and no terminal has a use for a NUL, and PostgreSQL refuses it.
_Text = Annotated[str, Field(pattern=r"\A[^\x00]*\z")]


class _ChangeAnswer(BaseModel):
    model_config = ConfigDict(strict=True)
    reason: _Text
    before: _Text
    after: _Text


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True)
    refined_prompt: Annotated[str, Field(pattern=r"\A[^\x00]*[^\s\x00][^\x00]*\z")]
    changes: list[_ChangeAnswer]
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


class OpenAIEngine:
    """Rewrites with a model behind `base_url`. One instance, with one connection pool, serves all threads."""

    name = "openai"

    def __init__(self, api_key: str | None, base_url: str | None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._client = openai.OpenAI(
            # Servers of one's own often want no key, but the client insists on one.
            api_key=api_key or "none",
            base_url=base_url,
            max_retries=0,
            # A redirect would carry the prompt to a host that nobody configured; a proxy from the environment would
            # go round the bounded transport.
            http_client=httpx2.Client(transport=BoundedTransport(), follow_redirects=False, trust_env=False),
        )
        self._without_schema: set[str] = set()

    def close(self) -> None:
        self._client.close()

    def model_for(self, requested: str) -> str:
        return requested

    def rewrite(self, task: Task, deadline: Deadline) -> Rewrite:
        """Ask the model for a refinement; at most two retries, all within `deadline`.

        Raises: `EngineError`, of the kind that says what the upstream did.
        """
        started = time.monotonic()
        completion = self._complete(task.model, _messages(task), deadline)
        answer = _parse_answer(completion)
        return Rewrite(
            refined_prompt=answer.refined_prompt,
            changes=tuple(Change(change.reason, change.before, change.after) for change in answer.changes),
            assumptions=tuple(answer.assumptions),
            model=task.model,
            usage=_usage(completion),
            upstream_ms=round((time.monotonic() - started) * 1000),
        )

    def _complete(self, model: str, messages: list[dict[str, str]], deadline: Deadline) -> dict[str, Any]:
        body: dict[str, Any] = {"model": model, "messages": messages}
        if model in self._without_schema:
            return self._post_with_retries(body, deadline)
        try:
            return self._post_with_retries({**body, "response_format": RESPONSE_FORMAT}, deadline)
        except UpstreamRejected as error:
            if error.upstream_status != 400:
                raise
        completion = self._post_with_retries(body, deadline)
        self._without_schema.add(model)
        return completion

    def _post_with_retries(self, body: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        retrying = Retrying(
            retry=retry_if_exception_type(UpstreamUnavailable),
            wait=_wait,
            stop=stop_after_attempt(MAX_ATTEMPTS) | _StopBeforeDeadline(deadline),
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._post, body, deadline)

    def _post(self, body: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        if not deadline.remaining():
            raise ModelTimeout("The model did not answer in time.")
        try:
            with bounded_by(deadline):
                # The untyped call: a third of the typed one's time goes into transforming parameters that are
                # right already, and a body that is no JSON is told from one that is.
                response = self._client.post("/chat/completions", cast_to=httpx2.Response, body=body)
        except openai.APITimeoutError as error:
            raise ModelTimeout("The model did not answer in time.") from error
        except openai.APIConnectionError as error:
            raise UpstreamUnavailable("The model's server cannot be reached, or closed the connection.") from error
        except openai.APIStatusError as error:
            raise _status_error(error) from error
        return _parse_completion(response.content)


def _messages(task: Task) -> list[dict[str, str]]:
    request = {"draft": task.draft, "instructions": task.instructions, "must_keep": task.must_keep}
    messages = [{"role": "system", "content": task.system}, _user_message(request)]
    if task.rejection:
        rejection = task.rejection
        messages.append(_user_message({"rejected": rejection.text, "lost": rejection.lost, "added": rejection.added}))
    return messages


def _user_message(content: Mapping[str, object]) -> dict[str, str]:
    return {"role": "user", "content": json.dumps(content, ensure_ascii=False)}


def _parse_completion(content: bytes) -> dict[str, Any]:
    try:
        completion = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnusableAnswer("The model's server answered with something that is not JSON.") from error
    if not isinstance(completion, dict):
        raise UnusableAnswer("The model's server answered with JSON of another shape.")
    return completion


def _parse_answer(completion: dict[str, Any]) -> _Answer:
    usage = _usage(completion)
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        finish_reason, refusal, content = choice.get("finish_reason"), message.get("refusal"), message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UnusableAnswer("The model's server answered without a choice.", usage=usage) from error
    if finish_reason == "content_filter":
        raise ModelRefused("A content filter stopped the model's answer.", usage=usage)
    if refusal:
        raise ModelRefused("The model refused to refine this draft.", usage=usage)
    if finish_reason == "length":
        raise UnusableAnswer("The model's answer was cut off at its length limit.", usage=usage)
    if not isinstance(content, str) or not content.strip():
        raise UnusableAnswer("The model's answer is empty.", usage=usage)
    fenced = _CODE_FENCE.match(content.strip())
    try:
        return _Answer.model_validate_json(fenced[1] if fenced else content)
    except ValidationError as error:
        raise UnusableAnswer("The model's answer is not a refinement of the agreed shape.", usage=usage) from error


def _usage(completion: dict[str, Any]) -> Usage:
    usage = completion.get("usage")
    if not isinstance(usage, dict):
        return Usage(None, None)
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _status_error(error: openai.APIStatusError) -> EngineError:
    status = error.status_code
    if status in _RETRIED_STATUSES or status >= 500:
        return UpstreamUnavailable(
            "The model's server is overloaded or failing.",
            retry_after=_retry_after(error.response.headers),
            upstream_status=status,
        )
    if status in (401, 403):
        return UpstreamRejected(
            "The model's server does not accept this service's credentials.", upstream_status=status
        )
    if status == 404:
        return UpstreamRejected("The model's server does not know the model, or the address.", upstream_status=status)
    return UpstreamRejected("The model's server does not accept the request.", upstream_status=status)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After` header (RFC 9110 §10.2.3) that holds a number; a date is not worth a clock's skew."""
    value = headers.get("retry-after", "").strip()
    return float(value) if re.fullmatch(r"\d{1,6}(\.\d{1,3})?", value) else None


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, UpstreamUnavailable) and error.retry_after is not None:
        return error.retry_after
    return _BACKOFF(state)


class _StopBeforeDeadline(stop_base):
    """Stops when the pause before the next attempt would leave it no time."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def __call__(self, state: RetryCallState) -> bool:
        return state.upcoming_sleep >= self._deadline.remaining()
