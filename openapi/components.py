"""The parts that operations share: headers, the ways to say who is calling, and groups of operations."""

from __future__ import annotations

from typing import Any

from edge import LIMIT_HEADERS
from schemas.prefer import PATTERN, RESPOND_ASYNC

BEARER, BASIC, API_KEY = "accessToken", "clientCredentials", "apiKey"

SECURITY_SCHEMES: dict[str, Any] = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token of `POST /token`.",
    },
    BASIC: {
        "type": "http",
        "scheme": "basic",
        "description": "A client's `client_id` and `client_secret`, each percent-encoded (RFC 6749 §2.3.1).",
    },
    API_KEY: {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A client's API key: `<client_id>.<client_secret>`. Also taken from the header `Access-Token`.",
    },
}


def _header(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string", **schema}}


_WAIT: dict[str, Any] = {"type": "integer", "minimum": 1}

_OF = {"requests": "requests", "tokens": "tokens of the model on this UTC day"}


def _limit_headers(unit: str) -> dict[str, Any]:
    """The three headers of a limit, on the answers of requests that came far enough to be counted."""
    limit, remaining, reset = LIMIT_HEADERS[unit]
    number: dict[str, Any] = {"type": "integer", "minimum": 0}
    return {
        limit: _header(
            f"How many {_OF[unit]} there may be: the caller's limit or its client's, whichever is nearer.",
            required=False,
            **number,
        ),
        remaining: _header(f"How many {_OF[unit]} are left.", required=False, **number),
        reset: _header(
            "How long until all of them are there again.", required=False, pattern="^([0-9]+h)?([0-9]+m)?[0-9]+s$"
        ),
    }


# By the header's name. What stands behind a dot tells two uses of one header apart.
HEADERS: dict[str, Any] = {
    "X-Request-Id": _header(
        "The request's id, also in the service's log: the caller's own `X-Request-Id` where it is 1 to 128 of "
        "`A-Za-z0-9._-`, else a new one. Behind API Gateway it is always the gateway's."
    ),
    "Idempotent-Replayed": _header(
        "This is the answer that an earlier request with the same `Idempotency-Key` got.", required=False, const="true"
    ),
    "Retry-After": _header("How long to wait before the next try, in seconds.", **_WAIT),
    "Retry-After.pending": _header(
        "Of a refinement that is `pending`: when to ask again, in seconds.", required=False, **_WAIT
    ),
    "WWW-Authenticate": _header("The challenge (RFC 6750 §3, RFC 7617): how to authenticate, and what was wrong."),
    "Preference-Applied": _header("Which preference was followed (RFC 7240 §3).", const=RESPOND_ASYNC),
    "Location": _header("Where the new record is.", format="uri-reference"),
    "ETag": _header("Which version of the document this is."),
    **_limit_headers("requests"),
    **_limit_headers("tokens"),
}


def header_references(*keys: str) -> dict[str, Any]:
    """The headers of an answer: those named, and those of every answer."""
    named = sorted({"X-Request-Id", *keys})
    return {key.partition(".")[0]: {"$ref": f"#/components/headers/{key}"} for key in named}


IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes the request safe to repeat: for 24 hours the same key and body of the same caller get the "
    "first answer again. After 503 and 504 a repeated request is a new try.",
    "schema": {"type": "string", "maxLength": 255, "pattern": r"^[\u0021-\u007e]*$"},
}
PREFER: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async` (RFC 7240 §4.1): the answer is 202 at once, and the work is done in the "
    "background, for as long as `JOB_DEADLINE_SECONDS`. Other preferences are passed over.",
    "schema": {"type": "string", "pattern": PATTERN},
}
IF_NONE_MATCH: dict[str, Any] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The `ETag` of the version that the caller has.",
    "schema": {"type": "string"},
}

# By the blueprint of the operations: a group's name, and what it is for.
TAGS: dict[str, tuple[str, str]] = {
    "tokens": ("Tokens", "From a client's credentials to an access token."),
    "refine": ("Refinements", "From a draft to a better prompt."),
    "generate": ("Generation", "From a prompt to text."),
    "choices": ("Choices", "Which models and strategies there are."),
    "log_request": ("Audit log", "Every prompt and response, as its owner may read it."),
    "usage": ("Usage", "What the calls came to."),
    "health": ("Health", "For load balancers and people on call."),
    "openapi": ("Description", "This document."),
}
