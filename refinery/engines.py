"""What an engine is: something that rewrites a draft or answers a prompt; its inputs, outputs and ways to fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from .deadline import Deadline


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was changed, with the reason and the passage before and after (either may be empty)."""

    reason: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the model was paid for; `None` where the upstream did not say."""

    input_tokens: int | None
    output_tokens: int | None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            _sum(self.input_tokens, other.input_tokens),
            _sum(self.output_tokens, other.output_tokens),
        )


def _sum(left: int | None, right: int | None) -> int | None:
    return left + right if left is not None and right is not None else None


NO_USAGE = Usage(0, 0)

# The name of the engine that uses no tokens.
OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an engine's first rewrite was not good enough: what it lost and what it made up, each as often as it did."""

    text: str
    lost: tuple[str, ...]
    added: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One rewrite to be made.

    `system` is the strategy's system message, `must_keep` every protected string as often as it must stand in the
    result, `model` the upstream's name of the model (an engine without one ignores it).
    """

    draft: str
    instructions: str | None
    system: str
    must_keep: tuple[str, ...]
    model: str
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What an engine made of a draft."""

    refined_prompt: str
    changes: tuple[Change, ...]
    assumptions: tuple[str, ...]
    model: str
    usage: Usage
    upstream_ms: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """What an engine answered to a prompt. `finish_reason` is the upstream's: `length` where the text was cut off."""

    text: str
    finish_reason: str
    usage: Usage
    upstream_ms: int = 0


class Engine(Protocol):
    """Something that rewrites a draft, and with a model behind it answers a prompt.

    `name` is what the API shows as `engine`; `model_for(requested)` is the model's name in answers and records.
    """

    @property
    def name(self) -> str: ...

    def model_for(self, requested: str) -> str: ...

    def rewrite(self, task: Task, deadline: Deadline) -> Rewrite:
        """Rewrite `task.draft`, or raise an `EngineError` no later than `deadline`."""
        ...

    def generate(self, prompt: str, *, model: str, max_tokens: int, deadline: Deadline) -> Generation:
        """Answer `prompt` with at most `max_tokens` output tokens, or raise an `EngineError` no later than `deadline`.

        `NoModel` where there is none to ask.
        """
        ...


class EngineError(Exception):
    """The engine did not deliver. The message is ours, fit for the caller: never the upstream's own words.

    `usage` is what the failed call cost all the same, `upstream_status` the HTTP status where there was one.
    """

    def __init__(self, message: str, *, usage: Usage | None = None, upstream_status: int | None = None) -> None:
        super().__init__(message)
        self.usage = usage
        self.upstream_status = upstream_status

    def audit_detail(self) -> dict[str, Any]:
        """What the audit record keeps beside the problem that the caller is shown."""
        return {"failure": type(self).__name__, "upstream_status": self.upstream_status}


class UpstreamRejected(EngineError):
    """The upstream does not take our credentials, our model or our request: asking again changes nothing."""


class UnusableAnswer(EngineError):
    """The upstream answered, but with nothing that can be given to a caller."""


class ModelRefused(EngineError):
    """The model, or a content filter before it, declined."""


class NoModel(EngineError):
    """This needs a language model, and none is configured."""


class UpstreamUnavailable(EngineError):
    """Overloaded, failing or out of reach, also after the retries; `retry_after` in seconds where it said so."""

    def __init__(self, message: str, *, retry_after: float | None = None, upstream_status: int | None = None) -> None:
        super().__init__(message, upstream_status=upstream_status)
        self.retry_after = retry_after


class ModelTimeout(EngineError):
    """No answer before the deadline."""
