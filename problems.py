"""One table from exception to problem document (RFC 9457), and the last door that every error leaves by."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

import auth
import clients
import counters
import storage
from refinery import engines

MEDIA_TYPE = "application/problem+json"
TOKEN_PATH = "/token"
RETRY_AFTER_SECONDS = 5
# A body of nothing but unknown fields must not get an answer larger than itself.
MAX_FIELD_ERRORS = 20

_log = logging.getLogger("klamala.error")


class RequestError(Exception):
    """A request cannot be taken as it is."""


class MalformedRequest(RequestError):
    """The body is no JSON object, or a header has not the form it must have."""


class UnsupportedMediaType(RequestError):
    """The body is not `application/json`."""


class BodyTooLarge(RequestError):
    """The body is over `MAX_BODY_BYTES`."""


class InvalidFields(RequestError):
    """Fields or query parameters are wrong: pairs of a field's name and what is wrong with it."""

    def __init__(self, *errors: tuple[str, str]) -> None:
        self.errors = errors[:MAX_FIELD_ERRORS]
        super().__init__("; ".join(f"{name}: {message}" for name, message in self.errors))


class NotFound(RequestError):
    """No such record of the caller's."""


class IdempotencyKeyReused(RequestError):
    """The idempotency key was used with another body."""


class CallInProgress(RequestError):
    """The idempotency key's first request is being worked on; `retry_after` in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("A request with this Idempotency-Key is being worked on.")
        self.retry_after = retry_after


class ReplayedFailure(RequestError):
    """The idempotency key's first request ended with this problem, and so does this one."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["detail"])
        self.error = error


class OAuthError(RequestError):
    """An error of the token endpoint (RFC 6749 §5.2)."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document without the request it belongs to."""

    slug: str
    status: int
    title: str
    detail: str = ""
    errors: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """What the audit record keeps: `type`, `title`, `status`, `detail`."""
        return {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }


_INTERNAL = Problem(
    "internal-error", 500, "Internal error", "The service failed. The request id helps to find out why."
)

_TABLE: dict[type[Exception], Problem] = {
    OAuthError: Problem("invalid-token-request", 400, "Invalid token request"),
    clients.InvalidClient: Problem("invalid-client", 401, "Invalid client"),
    MalformedRequest: Problem("malformed-request", 400, "Malformed request"),
    clients.AmbiguousCredentials: Problem("ambiguous-credentials", 400, "Ambiguous credentials"),
    auth.MissingToken: Problem("authentication-required", 401, "Authentication required"),
    auth.InvalidToken: Problem("invalid-token", 401, "Invalid token"),
    auth.InsufficientScope: Problem("insufficient-scope", 403, "Insufficient scope"),
    NotFound: Problem("not-found", 404, "Not found"),
    CallInProgress: Problem("request-in-progress", 409, "Request in progress"),
    BodyTooLarge: Problem("body-too-large", 413, "Body too large"),
    UnsupportedMediaType: Problem("unsupported-media-type", 415, "Unsupported media type"),
    InvalidFields: Problem("invalid-request", 422, "Invalid request"),
    IdempotencyKeyReused: Problem("idempotency-key-reused", 422, "Idempotency key reused"),
    counters.RateLimited: Problem("rate-limited", 429, "Rate limited"),
    counters.BudgetExhausted: Problem("budget-exhausted", 429, "Budget exhausted"),
    engines.UpstreamRejected: Problem("upstream-rejected", 502, "Upstream rejected the request"),
    engines.UnusableAnswer: Problem("unusable-answer", 502, "Unusable answer"),
    engines.ModelRefused: Problem("model-refused", 502, "Model refused"),
    engines.NoModel: Problem("no-model", 503, "No model"),
    engines.UpstreamUnavailable: Problem("upstream-unavailable", 503, "Upstream unavailable"),
    engines.ModelTimeout: Problem("model-timeout", 504, "Model timeout"),
    storage.StorageError: Problem("storage-unavailable", 503, "Storage unavailable"),
}

# What the status of a problem is called at the token endpoint; `invalid_request` where nothing is said.
_OAUTH_ERRORS = {401: "invalid_client", 500: "server_error", 503: "temporarily_unavailable"}


def problem_for(error: Exception) -> Problem:
    """The problem that an exception means to a caller; `internal-error` for one that nobody expected."""
    if isinstance(error, HTTPException):
        return _http_problem(error)
    if isinstance(error, ReplayedFailure):
        return _replayed(error)
    for kind in type(error).__mro__:
        if kind in _TABLE:
            errors = error.errors if isinstance(error, InvalidFields) else ()
            return replace(_TABLE[kind], detail=str(error), errors=errors, headers=_headers(error, _TABLE[kind].status))
    return _INTERNAL


def known_errors() -> tuple[type[Exception], ...]:
    """The exceptions that have a problem of their own."""
    return tuple(_TABLE)


def _http_problem(error: HTTPException) -> Problem:
    slug = re.sub(r"[^a-z]+", "-", error.name.lower()).strip("-")
    allowed = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    headers = {"Allow": ", ".join(sorted(allowed))} if allowed else {}
    return Problem(slug, error.code or 500, error.name.capitalize(), error.name + ".", headers=headers)


def _replayed(error: ReplayedFailure) -> Problem:
    stored = error.error
    slug = stored["type"].removeprefix("/problems/")
    return Problem(slug, stored["status"], stored["title"], stored["detail"], headers={"Idempotent-Replayed": "true"})


def _headers(error: Exception, status: int) -> dict[str, str]:
    if isinstance(error, auth.AuthError):
        return {"WWW-Authenticate": _challenge(error)}
    if isinstance(error, clients.InvalidClient):
        return {"WWW-Authenticate": 'Basic realm="klamala", charset="UTF-8"'}
    if status in (429, 503) or isinstance(error, CallInProgress):
        wait = getattr(error, "retry_after", None)
        return {"Retry-After": str(max(1, math.ceil(RETRY_AFTER_SECONDS if wait is None else wait)))}
    return {}


def _challenge(error: auth.AuthError) -> str:
    parts = ['realm="klamala"']
    if error.error:
        parts.append(f'error="{error.error}"')
    if error.scope:
        parts.append(f'scope="{error.scope}"')
    return "Bearer " + ", ".join(parts)


def install(app: Flask) -> None:
    """Answer every error, of whatever kind, in the form that its route promises."""
    app.register_error_handler(Exception, _answer)


def _answer(error: Exception) -> Response:
    problem = problem_for(error)
    if problem is _INTERNAL:
        report(error, g.request_id)
    if request.path == TOKEN_PATH:
        return _response(as_oauth_document(error, problem), problem.status, problem.headers)
    return _response(as_document(problem, g.request_id), problem.status, problem.headers, MEDIA_TYPE)


def as_document(problem: Problem, request_id: str) -> dict[str, Any]:
    """The problem document (RFC 9457 §3) that a caller is sent."""
    document = {**problem.as_dict(), "request_id": request_id}
    if problem.errors:
        document["errors"] = [{"field": name, "message": message} for name, message in problem.errors]
    return document


def as_oauth_document(error: Exception, problem: Problem) -> dict[str, Any]:
    """The same in the form of RFC 6749 §5.2."""
    code = error.error if isinstance(error, OAuthError) else _OAUTH_ERRORS.get(problem.status, "invalid_request")
    return {"error": code, "error_description": problem.detail}


def _response(
    document: Mapping[str, Any],
    status: int,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    return Response(json.dumps(document, ensure_ascii=False), status, headers, mimetype=media_type)


def report(error: Exception, request_id: str) -> None:
    """Log where an unexpected error came from, without its message: that may hold a prompt or a key."""
    frames = []
    trace = error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    fields = {"request_id": request_id, "error": type(error).__qualname__, "trace": frames}
    _log.error("unexpected error", extra={"fields": fields})
