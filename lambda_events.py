"""API Gateway's events: mended before and after `serverless_wsgi` makes WSGI requests of them.

The library is wrong in places, and API Gateway is not always what its documentation says. Each mend has its reason and
its source beside it; `docs/lambda.md` lists them with their tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import serverless_wsgi
from werkzeug.test import run_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Event = Mapping[str, Any]

# Schedules of EventBridge, and the plugins and packages that keep functions warm:
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html
# https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-templated.html
# https://github.com/juanjoDiaz/serverless-plugin-warmup
# https://github.com/robhowley/lambda-warmer-py
_WARM_UP_SOURCES = ("aws.events", "aws.scheduler", "serverless-plugin-warmup", "serverless-plugin-lambda-warmup")
_WARM_UP_KEYS = ("warmer", "warmup")


class UnknownEvent(Exception):
    """An event is no HTTP request of API Gateway."""


def is_warm_up(event: Any) -> bool:
    """Whether an event only keeps the environment warm. No caller of the API can send one: a request is inside one."""
    if not isinstance(event, Mapping) or "requestContext" in event:
        return False
    return event.get("source") in _WARM_UP_SOURCES or any(event.get(key) is True for key in _WARM_UP_KEYS)


def answer(app: WSGIApplication, event: Any, context: object) -> dict[str, Any]:
    """Have an app answer an event of an HTTP API (payload 2.0) or of a REST API (proxy integration).

    Raises: `UnknownEvent`.
    """
    # So `_serverless-wsgi` is refused, by which the library's plugin runs code and shell commands in a function:
    # https://github.com/logandk/serverless-wsgi/blob/3.1.0/wsgi_handler.py
    if not (_is_v1(event) or _is_v2(event)):
        raise UnknownEvent("neither an HTTP API's request (payload 2.0) nor a REST API's")
    sent: list[tuple[str, str]] = []

    def door(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Buffered, because the library does not call `close()`, as PEP 3333 wants it: no `call_on_close` would run.
        chunks, status, headers = run_wsgi_app(app, _mended_environ(environ, event), buffered=True)
        sent.extend(headers)
        body = b"".join(chunks)
        start_response(status, [("Content-Type", _media_type(body))])
        return [body]

    made: dict[str, Any] = serverless_wsgi.handle_request(door, _mended_event(event), context)
    response = {"statusCode": made["statusCode"], "body": "", "isBase64Encoded": False}
    response |= {name: made[name] for name in ("body", "isBase64Encoded") if name in made}
    return response | (_headers_v2(sent) if _is_v2(event) else _headers_v1(sent))


def _context(event: Any) -> Event:
    context = event.get("requestContext") if isinstance(event, Mapping) else None
    return context if isinstance(context, Mapping) else {}


def _is_v1(event: Any) -> bool:
    # A load balancer's event has the same names, and another encoding:
    # https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
    context = _context(event)
    return bool(context) and "elb" not in context and "httpMethod" in event and "path" in event


def _is_v2(event: Any) -> bool:
    return "http" in _context(event) and event.get("version") == "2.0" and "rawPath" in event


def _mended_event(event: Event) -> dict[str, Any]:
    headers = _request_headers(event)
    # The library looks into what is null without an authorizer, a body or cookies:
    # https://github.com/logandk/serverless-wsgi/blob/3.1.0/serverless_wsgi.py
    given = {name: value for name, value in event.items() if value is not None}
    context = {name: value for name, value in _context(event).items() if value is not None}
    cookies = [headers["cookie"]] if "cookie" in headers else []
    return given | {"requestContext": context, "headers": headers, "multiValueHeaders": None, "cookies": cookies}


def _request_headers(event: Event) -> dict[str, str]:
    """Each header once, by its name in lower case."""
    lists = event.get("multiValueHeaders") or {name: [value] for name, value in (event.get("headers") or {}).items()}
    if event.get("cookies"):
        lists = {**lists, "cookie": event["cookies"]}
    joined: dict[str, str] = {}
    for given, values in lists.items():
        name = given.lower()
        # In WSGI `x_api_key` is `X-API-Key`. As in gunicorn.conf.py, one name is let through, and no other header can
        # be set past a rule that stands in front and looks for its real name.
        if "_" in name and name != "access_token":
            continue
        name = name.replace("_", "-")
        # The library keeps the last of several values. Together they are one list (RFC 9110 §5.3), and cookies have a
        # separator of their own (RFC 9113 §8.2.3).
        separator = "; " if name == "cookie" else ", "
        joined[name] = separator.join([*([joined[name]] if name in joined else []), *map(_as_latin1, values)])
    return joined


def _as_latin1(value: str) -> str:
    """Text as WSGI has it, each byte a character (PEP 3333). The library hands on what Latin-1 cannot hold."""
    return (
        value
        if value.isascii() or all(character <= "\xff" for character in value)
        else value.encode().decode("latin-1")
    )


def _mended_environ(environ: WSGIEnvironment, event: Event) -> WSGIEnvironment:
    script_name, path_info = _mount(event)
    mended = environ | {"serverless.event": event, "SCRIPT_NAME": script_name, "PATH_INFO": path_info}
    if not mended.get("HTTP_COOKIE"):
        # From an event of an HTTP API without cookies, the library makes an empty header.
        mended.pop("HTTP_COOKIE", None)
    return mended


def _mount(event: Event) -> tuple[str, str]:
    """Where the caller sees the API (`SCRIPT_NAME`), and the path below it (`PATH_INFO`), as bytes in Latin-1."""
    context = _context(event)
    stage = context.get("stage") or "$default"
    if _is_v2(event):
        # It begins with a named stage, on a custom domain too: https://github.com/logandk/serverless-wsgi/issues/191
        # And it is decoded already: https://github.com/honojs/hono/issues/2156
        path = _below(f"/{stage}", event["rawPath"]).encode().decode("latin-1")
    else:
        # The library would put replacement characters in the place of what is no UTF-8.
        path = unquote_to_bytes(event["path"]).decode("latin-1")
    if _shows_stage(context):
        # `$default` is never part of an address:
        # https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-stages.html
        return ("" if stage == "$default" else f"/{stage}"), path
    # A custom domain's base path; a REST API hands it on (https://github.com/localstack/localstack/issues/12295), an
    # HTTP API does not, which is why the library has this variable.
    base = os.environ.get("API_GATEWAY_BASE_PATH", "").strip("/")
    return (f"/{base}", _below(f"/{base}", path)) if base else ("", path)


def _shows_stage(context: Event) -> bool:
    """Whether the caller's address is API Gateway's own. Behind a CDN it is not, which `STRIP_STAGE_PATH` says."""
    own = ".execute-api." in (context.get("domainName") or "")
    return own and os.environ.get("STRIP_STAGE_PATH", "").strip().lower() not in ("yes", "y", "true", "t", "1")


def _below(prefix: str, path: str) -> str:
    # Nothing is left of an address without the last slash, which the app redirects to the one that has it.
    return path[len(prefix) :] if f"{path}/".startswith(f"{prefix}/") else path


def _media_type(body: bytes) -> str:
    """What to tell the library, so that it keeps UTF-8 as text and has Base64 for the rest.

    By the real media type it has Base64 for `application/problem+json`, and fails at text of other encodings.
    """
    try:
        body.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"


def _headers_v1(headers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """All values, by name. In `headers` there would be the last only.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
    """
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return {"multiValueHeaders": values}


def _headers_v2(headers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """One value a name, as payload 2.0 has it, and a list of cookies, which cannot be joined (RFC 6265 §3).

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """
    joined: dict[str, str] = {}
    cookies = []
    for name, value in headers:
        if name.lower() == "set-cookie":
            cookies.append(value)
        else:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return {"headers": joined, "cookies": cookies}
