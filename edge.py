"""What every request passes, whatever its route: id, deadline, security headers, CORS, and its line in the log.

And what the limited ones pass beside it: the count of requests.
"""

from __future__ import annotations

import logging
import math
import re
import uuid
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request
from flask_cors import CORS

from auth import Identity, current_identity
from calls.arrival import Arrival
from calls.limits import REQUESTS, TOKENS, Limits
from counters import Count
from settings import Settings

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# By what they count. Named and written as OpenAI's, which client libraries know
# (https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers).
LIMIT_HEADERS = {
    unit: (f"x-ratelimit-limit-{unit}", f"x-ratelimit-remaining-{unit}", f"x-ratelimit-reset-{unit}")
    for unit in (REQUESTS, TOKENS)
}
_EXPOSED_HEADERS = (
    "X-Request-Id",
    "Location",
    "Retry-After",
    "Idempotent-Replayed",
    *(name for names in LIMIT_HEADERS.values() for name in names),
)
_COUNTED = "counted"
_ARRIVAL = "klamala.arrival"
# Of an invocation's time on Lambda, what it takes to give the answer back.
HAND_OVER_SECONDS = 1.0

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LimitedView = Callable[[Identity], Response]

_log = logging.getLogger("klamala.access")


def install(app: Flask, settings: Settings) -> None:
    """Add the hooks to an app."""

    serve = app.wsgi_app

    def bounded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        arrival = environ[_ARRIVAL] = Arrival.now(_request_id(environ), _seconds(environ, settings))
        with arrival.bounded():
            return serve(environ, start_response)

    # The documented way to put something around an app.
    app.wsgi_app = bounded  # type: ignore[method-assign]

    @app.before_request
    def receive() -> None:
        g.arrival = request.environ[_ARRIVAL]
        g.request_id = g.arrival.request_id

    @app.after_request
    def dispatch(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        # A static file says that it is one: it alone may be kept by everybody.
        if not response.cache_control.public:
            response.headers["Cache-Control"] = "no-store"
        for unit, count in arrival().counts.items():
            response.headers.update(zip(LIMIT_HEADERS[unit], _shown(count), strict=True))
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


def _request_id(environ: WSGIEnvironment) -> str:
    """API Gateway's id on Lambda, else the caller's where it is well-formed, else a new one."""
    context = environ.get("serverless.event", {}).get("requestContext", {})
    if context.get("requestId"):
        return str(context["requestId"])
    given = environ.get("HTTP_X_REQUEST_ID", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _seconds(environ: WSGIEnvironment, settings: Settings) -> float:
    """The deadline of a request, or on Lambda what the invocation has left, if that is less."""
    context = environ.get("serverless.context")
    if context is None:
        return settings.request_deadline_seconds
    left: float = context.get_remaining_time_in_millis() / 1000 - HAND_OVER_SECONDS
    return max(0.0, min(settings.request_deadline_seconds, left))


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


def limited(limits: Limits, *, with_tokens: bool = False) -> Callable[[LimitedView], LimitedView]:
    """Count each request that the guard let in, whatever becomes of it, before its body is read.

    `with_tokens` says that the work behind the view keeps to the token budget. Without a limit the view stays as it is.
    """
    counted = limits.counted(with_tokens=with_tokens)

    def decorate(view: LimitedView) -> LimitedView:
        @wraps(view)
        def counting(caller: Identity) -> Response:
            limits.count_request(caller.owner, arrival())
            return view(caller)

        vars(counting)[_COUNTED] = counted
        return counting if counted else view

    return decorate


def counted_by(view: Callable[..., Any]) -> tuple[str, ...]:
    """What is counted of a request to this view: some of `requests` and `tokens`."""
    counted: tuple[str, ...] = vars(view).get(_COUNTED, ())
    return counted


def _shown(count: Count) -> tuple[str, str, str]:
    return str(count.quota.limit), str(count.remaining), _duration(math.ceil(count.seconds_left))


def _duration(seconds: int) -> str:
    """As Go writes it: `1s`, `6m0s`, `23h59m59s` (https://pkg.go.dev/time#Duration.String)."""
    minutes, hours = seconds // 60, seconds // 3600
    return (f"{hours}h" if hours else "") + (f"{minutes % 60}m" if minutes else "") + f"{seconds % 60}s"
