"""What every request passes, whatever its route: id, deadline, security headers, CORS, and its line in the log."""

from __future__ import annotations

import logging
import re
import uuid
from typing import Any

from flask import Flask, Response, g, request
from flask_cors import CORS

from auth import current_identity
from calls.audit import Arrival
from settings import Settings

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_EXPOSED_HEADERS = ("X-Request-Id", "Location", "Retry-After", "Idempotent-Replayed")

_log = logging.getLogger("klamala.access")


def install(app: Flask, settings: Settings) -> None:
    """Add the hooks to an app."""

    @app.before_request
    def receive() -> None:
        g.request_id = _request_id()
        g.arrival = Arrival.now(g.request_id, settings.request_deadline_seconds)

    @app.after_request
    def dispatch(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        # A static file says that it is one: it alone may be kept by everybody.
        if not response.cache_control.public:
            response.headers["Cache-Control"] = "no-store"
        _log.info("request", extra={"fields": _access_fields(response)})
        return response

    if settings.cors_origins:
        CORS(
            app,
            origins=list(settings.cors_origins),
            methods=["GET", "POST", "OPTIONS"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Prefer", "X-API-Key", "X-Request-Id"],
            expose_headers=list(_EXPOSED_HEADERS),
            max_age=600,
            always_send=False,
        )


def _request_id() -> str:
    """API Gateway's id on Lambda, else the caller's where it is well-formed, else a new one."""
    context = request.environ.get("serverless.event", {}).get("requestContext", {})
    if context.get("requestId"):
        return str(context["requestId"])
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _access_fields(response: Response) -> dict[str, Any]:
    caller = current_identity()
    return {
        "request_id": g.request_id,
        "method": request.method,
        "route": request.url_rule.rule if request.url_rule else None,
        "status": response.status_code,
        "client": caller.client_id if caller else None,
        "user": caller.sub if caller else None,
        "latency_ms": arrival().elapsed_ms(),
        **arrival().notes,
    }


def arrival() -> Arrival:
    """The coming in of the request at hand."""
    current: Arrival = g.arrival
    return current
