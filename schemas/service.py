"""The small answers: health, readiness, tokens, errors, and what may be asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Answer, Problem


class Health(Answer):
    """The process is there."""

    status: Literal["ok"] = "ok"
    version: str


class Checks(Answer):
    """What the service needs to answer."""

    storage: Literal["ok", "unreachable"]


class Readiness(Answer):
    """Whether the service can answer."""

    status: Literal["ok", "unavailable"]
    checks: Checks


class Choice(Answer):
    """Something that may be asked for by its id."""

    id: str
    description: str
    default: bool


class Choices(Answer):
    """All that may be asked for."""

    items: list[Choice]


class Token(Answer):
    """An access token (RFC 6749 §5.1)."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int
    scope: str


class OAuthProblem(Answer):
    """An error of the token endpoint (RFC 6749 §5.2)."""

    error: str
    error_description: str


class FieldError(Answer):
    """What is wrong with one field of a body, or with one query parameter."""

    field: str
    message: str


class ProblemDocument(Problem):
    """An error (RFC 9457). `type` is stable; `errors` names each field of a 422."""

    request_id: str
    errors: Annotated[list[FieldError] | None, Field(exclude_if=lambda errors: errors is None)] = None
