"""API Gateway's events, mended before and after `serverless_wsgi` turns them into WSGI requests and back.

Where the library is wrong, or takes the event for more exact than it is, the reason stands beside the mend, with its
source. `docs/lambda.md` lists them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import serverless_wsgi

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Event = Mapping[str, Any]

# What keeps an environment warm is no request: schedules of EventBridge, and the plugins and packages for it.
# https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html
# https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-templated.html
# https://github.com/juanjoDiaz/serverless-plugin-warmup#on-the-function-side
# https://github.com/robhowley/lambda-warmer-py#using-lambda-warmer
_WARM_UP_SOURCES = ("aws.events", "aws.scheduler", "serverless-plugin-warmup")
_WARM_UP_KEYS = ("warmer", "warmup")


class UnknownEvent(Exception):
    """An event is no HTTP request of API Gateway."""


def is_warm_up(event: Any) -> bool:
    """Whether an event only keeps the environment warm."""
    if not isinstance(event, Mapping) or "requestContext" in event:
        return False
    return event.get("source") in _WARM_UP_SOURCES or any(event.get(key) for key in _WARM_UP_KEYS)


def answer(app: WSGIApplication, event: Any, context: object) -> dict[str, Any]:
    """Have an app answer an event of an HTTP API (payload 2.0) or a REST API (proxy integration).

    Raises: `UnknownEvent`.
    """
    # `_serverless-wsgi`, by which the library's plugin runs code and shell commands in the function, is unknown too.
    if not (_is_v1(event) or _is_v2(event)):
        raise UnknownEvent("Neither an HTTP API's event, payload 2.0, nor a REST API's.")
    door = _Door(app, event)
    response: dict[str, Any] = serverless_wsgi.handle_request(door, _mended(event), context)
    response.pop("multiValueHeaders", None)
    response["headers"] = {}
    return {**response, **(_headers_v2(door.headers) if _is_v2(event) else _headers_v1(door.headers))}


def _context(event: Any) -> Event:
    context = event.get("requestContext") if isinstance(event, Mapping) else None
    return context if isinstance(context, Mapping) else {}


def _is_v1(event: Any) -> bool:
    # A load balancer's event looks like it, and encodes its query otherwise.
    return "elb" not in _context(event) and {"requestContext", "httpMethod", "path"} <= set(event)


def _is_v2(event: Any) -> bool:
    return "http" in _context(event) and event.get("version") == "2.0" and "rawPath" in event


def _mended(event: Event) -> dict[str, Any]:
    """The event as the library can read it."""
    headers = _request_headers(event)
    cookie = headers.pop("cookie", "")
    if cookie and not event.get("cookies"):
        event = {**event, "cookies": [cookie]}
    # `authorizer`, `body` and others are null in events of the console and of `sam local`; the library looks into them.
    # https://github.com/logandk/serverless-wsgi/blob/3.1.0/serverless_wsgi.py
    context = {name: value for name, value in _context(event).items() if value is not None}
    given = {name: value for name, value in event.items() if value is not None}
    if _is_v1(event) and cookie:
        headers["cookie"] = cookie
    return {**given, "requestContext": context, "headers": headers, "multiValueHeaders": None}


def _request_headers(event: Event) -> dict[str, str]:
    """Each header once, by its name in lower case."""
    lists = event.get("multiValueHeaders") or {name: [value] for name, value in (event.get("headers") or {}).items()}
    headers: dict[str, str] = {}
    for given, values in lists.items():
        name = given.lower()
        # The library keeps the last of several. They are one list (RFC 9110 §5.3); cookies have a separator of their
        # own (RFC 9113 §8.2.3).
        parts = ([headers[name]] if name in headers else []) + [_as_latin1(value) for value in values]
        headers[name] = ("; " if name == "cookie" else ", ").join(parts)
    return headers


def _as_latin1(value: str) -> str:
    """Text as WSGI has it: bytes, each as a character (PEP 3333)."""
    return value if all(character <= "\xff" for character in value) else value.encode("utf-8").decode("latin-1")


class _Door:
    """The app as the library sees it, for one request: mends the environment, and keeps the headers of the answer."""

    def __init__(self, app: WSGIApplication, event: Event) -> None:
        self._app = app
        self._event = event
        self.headers: list[tuple[str, str]] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["serverless.event"] = self._event
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = _mount(self._event)
        if not environ.get("HTTP_COOKIE", "x"):
            del environ["HTTP_COOKIE"]
        status = ""

        def start(given: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal status
            status, self.headers = given, headers
            return body.append

        body: list[bytes] = []
        chunks = self._app(environ, start)
        # The library never closes what an app returns, so that `call_on_close` would never run (PEP 3333).
        try:
            body.extend(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close:
                close()
        whole = b"".join(body)
        start_response(status, [("Content-Type", "text/plain" if _is_text(whole) else "application/octet-stream")])
        return [whole]


def _is_text(body: bytes) -> bool:
    """Whether the answer's JSON can hold the body as it is.

    The library goes by the media type: it encodes `application/problem+json` in Base64, which a REST API hands on as it
    is, and fails at text of another encoding.
    """
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _mount(event: Event) -> tuple[str, str]:
    """Where the caller sees the API (`SCRIPT_NAME`), and the path below it (`PATH_INFO`)."""
    context = _context(event)
    stage = f"/{context.get('stage', '')}"
    if _is_v2(event):
        # `rawPath` begins with the stage unless that is `$default`, on a custom domain too.
        # https://github.com/logandk/serverless-wsgi/issues/191
        # It is decoded already, other than a REST API's `path`: https://github.com/hotsock/voker/pull/8
        path = _below(stage, event["rawPath"]).encode("utf-8").decode("latin-1")
    else:
        path = unquote_to_bytes(event["path"]).decode("latin-1")
    if _is_default_endpoint(context) and os.environ.get("STRIP_STAGE_PATH", "").lower() not in ("true", "1", "yes"):
        return "" if stage in ("/$default", "/") else stage, path
    base = os.environ.get("API_GATEWAY_BASE_PATH", "").strip("/")
    return (f"/{base}", _below(f"/{base}", path)) if base else ("", path)


def _is_default_endpoint(context: Event) -> bool:
    return ".execute-api." in context.get("domainName", "")


def _below(prefix: str, path: str) -> str:
    return path[len(prefix) :] or "/" if f"{path}/".startswith(f"{prefix}/") else path


def _headers_v1(headers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    grouped: dict[str, list[str]] = {}
    for name, value in headers:
        grouped.setdefault(name, []).append(value)
    return {"multiValueHeaders": grouped}


def _headers_v2(headers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Payload 2.0 has one value a header, and a list for cookies.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """
    single: dict[str, str] = {}
    cookies = []
    for name, value in headers:
        if name.lower() == "set-cookie":
            cookies.append(value)
        else:
            single[name] = f"{single[name]}, {value}" if name in single else value
    return {"headers": single, "cookies": cookies}
