"""The engine that asks a model, over any server that speaks Chat Completions. The only importer of `openai`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import openai
from pydantic_core import to_json
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from tenacity.stop import stop_base

from .chat import RESPONSE_FORMAT, Completion, messages_for, parse_answer, parse_completion, parse_text, usage_of
from .deadline import Deadline
from .engines import (
    Change,
    EngineError,
    Generation,
    ModelRefused,
    ModelTimeout,
    Rewrite,
    Task,
    UpstreamRejected,
    UpstreamUnavailable,
)
from .transport import BoundedTransport, bounded_by

OPENAI_URL = "https://api.openai.com/v1"
MAX_ATTEMPTS = 3
_RETRIED_STATUSES = {408, 409, 429}
# How Azure and OpenAI say that a filter stopped a prompt, and not that the request is wrong
# (https://learn.microsoft.com/en-us/azure/ai-foundry/openai/concepts/content-filter).
_FILTERED = {"content_filter", "content_policy_violation"}

# What the client would tell of this machine and of itself: no server needs it, and each header costs its way through
# the layers below.
_UNSENT = dict.fromkeys(
    (
        "X-Stainless-Arch",
        "X-Stainless-Async",
        "X-Stainless-Lang",
        "X-Stainless-OS",
        "X-Stainless-Package-Version",
        "X-Stainless-Read-Timeout",
        "X-Stainless-Retry-Count",
        "X-Stainless-Runtime",
        "X-Stainless-Runtime-Version",
    ),
    openai.omit,
)

_BACKOFF = wait_exponential_jitter(multiplier=0.5, max=8, jitter=0.5)


class OpenAIEngine:
    """Rewrites and answers with a model behind `base_url`. One instance and its connections serve all threads."""

    name = "openai"

    def __init__(self, api_key: str | None, base_url: str | None, sleep: Callable[[float], None] = time.sleep) -> None:
        base_url = base_url or OPENAI_URL
        # Whole, so that the client need not put it together from its base each time.
        self._url = f"{base_url}/chat/completions"
        self._client = openai.OpenAI(
            # Servers of one's own often want no key, but the client insists on one.
            api_key=api_key or "none",
            base_url=base_url,
            max_retries=0,
            # A redirect would carry the prompt to a host that nobody configured; a proxy from the environment would
            # go round the bounded transport.
            http_client=httpx2.Client(transport=BoundedTransport(), follow_redirects=False, trust_env=False),
        )
        self._refused: set[tuple[str, ...]] = set()
        self._retrying = Retrying(
            retry=retry_if_exception_type(UpstreamUnavailable),
            wait=_wait,
            stop=stop_after_attempt(MAX_ATTEMPTS) | _StopBeforeDeadline(),
            sleep=sleep,
            reraise=True,
        )

    def close(self) -> None:
        self._client.close()

    def model_for(self, requested: str) -> str:
        return requested

    def rewrite(self, task: Task, deadline: Deadline) -> Rewrite:
        """Ask the model for a refinement; at most two retries, all within `deadline`.

        Raises: `EngineError`, of the kind that says what the upstream did.
        """
        started = time.monotonic()
        body = {"model": task.model, "messages": messages_for(task)}
        completion = self._complete(body, {"response_format": RESPONSE_FORMAT}, {}, deadline)
        answer = parse_answer(completion)
        return Rewrite(
            refined_prompt=answer.refined_prompt,
            changes=tuple(Change(change.reason, change.before, change.after) for change in answer.changes),
            assumptions=tuple(answer.assumptions),
            model=task.model,
            usage=usage_of(completion),
            upstream_ms=round((time.monotonic() - started) * 1000),
        )

    def generate(self, prompt: str, *, model: str, max_tokens: int, deadline: Deadline) -> Generation:
        """Ask the model with the prompt as the one user message; retries as in `rewrite`. Raises: `EngineError`."""
        started = time.monotonic()
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        # The newer name is refused by few servers, but passed over by many older ones, which then know no limit.
        # OpenAI's reasoning models refuse the older one (https://platform.openai.com/docs/api-reference/chat/create).
        completion = self._complete(body, {"max_tokens": max_tokens}, {"max_completion_tokens": max_tokens}, deadline)
        text, finish_reason = parse_text(completion)
        upstream_ms = round((time.monotonic() - started) * 1000)
        return Generation(text, finish_reason, usage_of(completion), upstream_ms)

    def _complete(
        self, body: dict[str, Any], preferred: dict[str, Any], fallback: dict[str, Any], deadline: Deadline
    ) -> Completion:
        """Ask with `preferred`, or with `fallback` where the server answers 400 to that.

        A model whose server named the parameter is asked with `fallback` at once from then on.
        """
        known = (body["model"], *preferred)
        if known in self._refused:
            return self._post_with_retries({**body, **fallback}, deadline)
        try:
            return self._post_with_retries({**body, **preferred}, deadline)
        except UpstreamRejected as error:
            if error.upstream_status != 400:
                raise
            refused = _blames(error, preferred)
        completion = self._post_with_retries({**body, **fallback}, deadline)
        if refused:
            self._refused.add(known)
        return completion

    def _post_with_retries(self, body: dict[str, Any], deadline: Deadline) -> Completion:
        return self._retrying(self._post, body, deadline)

    def _post(self, body: dict[str, Any], deadline: Deadline) -> Completion:
        if not deadline.remaining():
            raise ModelTimeout("The model did not answer in time.")
        try:
            with bounded_by(deadline):
                # The untyped call: a third of the typed one's time goes into transforming parameters that are
                # right already, and a body that is no JSON is told from one that is.
                response = self._client.post(
                    self._url, cast_to=httpx2.Response, content=to_json(body), options={"headers": _UNSENT}
                )
        except openai.APITimeoutError as error:
            raise ModelTimeout("The model did not answer in time.") from error
        except openai.APIConnectionError as error:
            raise UpstreamUnavailable("The model's server cannot be reached, or closed the connection.") from error
        except openai.APIStatusError as error:
            raise _status_error(error) from error
        return parse_completion(response.content)


def _blames(error: EngineError, parameters: Mapping[str, object]) -> bool:
    """Whether the upstream's words name one of the parameters: a 400 may as well be about one draft."""
    cause = error.__cause__
    return isinstance(cause, openai.APIStatusError) and any(name in cause.response.text for name in parameters)


def _status_error(error: openai.APIStatusError) -> EngineError:
    status = error.status_code
    if status == 400 and error.code in _FILTERED:
        return ModelRefused("A content filter stopped the prompt.", upstream_status=status)
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
    """Stops when the pause before the next attempt would leave it no time. The deadline is the call's last argument."""

    def __call__(self, state: RetryCallState) -> bool:
        deadline: Deadline = state.args[-1]
        return state.upcoming_sleep >= deadline.remaining()
