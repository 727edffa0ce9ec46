"""Which errors an operation can end in, each made by the table that makes the real one, with an example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from auth import Access, InsufficientScope, InvalidToken, MissingToken
from calls.limits import REQUESTS, TOKENS
from clients import AmbiguousCredentials, InvalidClient
from counters import BudgetExhausted, RateLimited
from problems import (
    MEDIA_TYPE,
    BodyTooLarge,
    CallInProgress,
    IdempotencyKeyReused,
    InvalidFields,
    MalformedRequest,
    NotFound,
    OAuthError,
    UnsupportedMediaType,
    as_document,
    as_oauth_document,
    known_errors,
    problem_for,
)
from refinery.engines import (
    EngineError,
    ModelRefused,
    ModelTimeout,
    NoModel,
    UnusableAnswer,
    UpstreamRejected,
    UpstreamUnavailable,
)
from schemas.service import OAuthProblem, ProblemDocument
from storage import StorageError, StorageUnavailable

from .components import header_references
from .examples import REQUEST_ID
from .operation import Operation
from .schemas import reference

# One of each kind, in the order in which a status lists them.
_ERRORS: Sequence[Exception] = (
    OAuthError("invalid_request", "grant_type is missing."),
    OAuthError("unsupported_grant_type", "grant_type must be client_credentials."),
    OAuthError("invalid_scope", "The scope is more than this client may have."),
    MalformedRequest("The body is not valid JSON in UTF-8, with each name once."),
    AmbiguousCredentials(),
    InvalidClient(),
    MissingToken("This needs an access token: Authorization: Bearer <token>."),
    InvalidToken("The access token is not valid, or no longer."),
    InsufficientScope("This needs the scope refine.", "refine"),
    NotFound("There is no such record of yours."),
    CallInProgress(12),
    BodyTooLarge("The body is larger than 1048576 bytes."),
    UnsupportedMediaType("The body must be JSON, sent with Content-Type: application/json."),
    InvalidFields(("prompt", "must not be blank"), ("colour", "unknown field")),
    IdempotencyKeyReused("This Idempotency-Key was used with another request."),
    RateLimited("The limit of 60 requests is reached.", 17),
    BudgetExhausted("The budget of 1000000 tokens a day is used up.", 43_200),
    RuntimeError(),
    UpstreamRejected("The model's server rejected the request."),
    UnusableAnswer("The model's answer was cut off at its length limit."),
    ModelRefused("The model refused to answer."),
    StorageUnavailable("The audit log cannot be reached."),
    UpstreamUnavailable("The model's server cannot be reached, or closed the connection."),
    NoModel("Generating text takes a language model, and none is configured."),
    ModelTimeout("The model did not answer in time."),
)
_OVER_LIMIT = {REQUESTS: RateLimited, TOKENS: BudgetExhausted}
ERROR_MODELS = (ProblemDocument, OAuthProblem)


def check_examples() -> None:
    """Raises: `LookupError` for an error that the service knows and the description does not."""
    for kind in known_errors():
        if not any(isinstance(error, kind) for error in _ERRORS):
            raise LookupError(f"{kind.__name__} has no example")


def error_responses(
    operation: Operation, access: Access | None, counted: Sequence[str], *, has_id: bool
) -> dict[str, Any]:
    """The responses of every error that the operation can end in, by status."""
    over = (_OVER_LIMIT[unit] for unit in counted)
    kinds = (*_kinds(operation, access, has_id=has_id), *over, *operation.raises, RuntimeError)
    raised = [_fitting(error, access) for error in _ERRORS if isinstance(error, kinds)]
    raised.sort(key=lambda error: problem_for(error).status)
    by_status = groupby(raised, lambda error: problem_for(error).status)
    return {str(status): _response(status, list(errors), operation) for status, errors in by_status}


def _kinds(operation: Operation, access: Access | None, *, has_id: bool) -> Iterable[type[Exception]]:
    if access:
        # Every guarded operation refuses a query parameter that it does not know.
        yield from (MissingToken, InvalidToken, StorageError, InvalidFields)
        if access.scope:
            yield InsufficientScope
        if access.api_key:
            yield AmbiguousCredentials
    if operation.oauth:
        yield from (OAuthError, InvalidClient, AmbiguousCredentials, MalformedRequest, BodyTooLarge, StorageError)
    elif operation.body:
        yield from (MalformedRequest, BodyTooLarge, UnsupportedMediaType)
    if operation.idempotent:
        yield from (MalformedRequest, IdempotencyKeyReused)
    if has_id:
        yield NotFound


def _fitting(error: Exception, access: Access | None) -> Exception:
    """The error with the scope that the operation asks for."""
    if isinstance(error, InsufficientScope) and access and access.scope:
        return InsufficientScope(f"This needs the scope {access.scope}.", access.scope)
    return error


def _response(status: int, errors: Sequence[Exception], operation: Operation) -> dict[str, Any]:
    problems = {error: problem_for(error) for error in errors}
    headers = {name for problem in problems.values() for name in problem.headers}
    # The key of a call that may succeed later is freed, so that such a failure is never given again.
    if operation.idempotent and status < 503 and any(isinstance(error, EngineError) for error in errors):
        headers.add("Idempotent-Replayed")
    model, media_type = (OAuthProblem, "application/json") if operation.oauth else (ProblemDocument, MEDIA_TYPE)
    documents: dict[str, dict[str, Any]] = {}
    titles: dict[str, list[str]] = {}
    for error, problem in problems.items():
        document = as_oauth_document(error, problem) if operation.oauth else as_document(problem, REQUEST_ID)
        code = document["error" if operation.oauth else "type"]
        if code not in documents:
            documents[code] = document
            titles.setdefault(problem.title, []).append(f"`{code}`")
    return {
        "description": ". ".join(f"{title}: {', '.join(codes)}" for title, codes in titles.items()) + ".",
        "headers": header_references(*headers),
        "content": {
            media_type: {
                "schema": reference(model.__name__),
                "examples": {code.rpartition("/")[2]: {"value": document} for code, document in documents.items()},
            }
        },
    }
