"""Each mend of `serverless_wsgi`: what our door makes of an event, and what the library alone makes of it still."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import serverless_wsgi
from flask import Flask, Response, request, url_for
from werkzeug.wsgi import ClosingIterator

import lambda_events
from tests.events import ABSENT, CUSTOM_DOMAIN, Call, Event, http_api, rest_api
from tests.test_docs import named, rows

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Handle = Callable[["WSGIApplication", Event, object], dict[str, Any]]
BASE = "API_GATEWAY_BASE_PATH"


def set_only(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    """Set these of the variables that the library reads for each request, and no other."""
    for name in (BASE, "STRIP_STAGE_PATH"):
        monkeypatch.setenv(name, variables.get(name, ""))


def seen(event: Event, *names: str) -> Callable[[Handle], object]:
    """What the app finds in its environment, `None` for what is not there."""

    def observe(handle: Handle) -> object:
        found: list[object] = []

        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            found.extend(environ["wsgi.input"].read() if name == "body" else environ.get(name) for name in names)
            start_response("204 No Content", [])
            return []

        handle(app, event, None)
        return found[0] if len(found) == 1 else tuple(found)

    return observe


def sent(event: Event, body: bytes, *headers: tuple[str, str]) -> Callable[[Handle], object]:
    """What API Gateway is handed of an answer, its length apart."""

    def observe(handle: Handle) -> object:
        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            start_response("200 OK", list(headers))
            return [body]

        answer = handle(app, event, None)
        return {name: value for name, value in answer.items() if name != "statusCode"}

    return observe


def place(event: Event) -> Callable[[Handle], object]:
    return seen(event, "SCRIPT_NAME", "PATH_INFO")


def closed(event: Event) -> Callable[[Handle], object]:
    """What has run when the answer is handed over."""

    def observe(handle: Handle) -> object:
        ran = []
        app = Flask(__name__)

        @app.get("/")
        def view() -> Response:
            response = Response("x")
            response.call_on_close(lambda: ran.append("call_on_close"))
            return response

        def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            return ClosingIterator(app(environ, start_response), [lambda: ran.append("close")])

        handle(outer, event, None)
        return sorted(ran)

    return observe


def location(event: Event) -> Callable[[Handle], object]:
    """What a view's `url_for` says, for this host and with it."""

    def observe(handle: Handle) -> object:
        app = Flask(__name__)

        @app.get("/there")
        def there() -> str:
            return f"{url_for('there')} {url_for('there', _external=True)} {request.path}"

        return handle(app, event, None)["body"]

    return observe


@dataclass(frozen=True)
class Mend:
    """What to look at, what is right, and what the library alone makes of it: a value, or an error."""

    observe: Callable[[Handle], object]
    right: object
    wrong: object
    variables: Mapping[str, str] = field(default_factory=dict)


THERE = Call(path="/there")
ELSEWHERE = Call(path="/there", domain=CUSTOM_DOMAIN)
OWN = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"
COOKIES = (("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2"))
PROBLEM = ("Content-Type", "application/problem+json")
TEXT = ("Content-Type", "text/plain")
TWICE = Call(headers=[("X-A", "1"), ("x-a", "2"), ("X-A", "3")])
TWO_COOKIES = Call(headers=[("Cookie", "a=1"), ("Cookie", "b=2")])
PLAIN = {"body": "{}", "isBase64Encoded": False}
LATIN_1 = {"body": "Y2Fm6Q==", "isBase64Encoded": True}

MENDS = {
    "problem documents are text, v2": Mend(
        sent(http_api(THERE), b"{}", PROBLEM),
        {**PLAIN, "headers": dict([PROBLEM]), "cookies": []},
        {"body": "e30=", "isBase64Encoded": True, "headers": dict([PROBLEM])},
    ),
    "problem documents are text, v1": Mend(
        sent(rest_api(THERE), b"{}", PROBLEM),
        {**PLAIN, "multiValueHeaders": {PROBLEM[0]: [PROBLEM[1]]}},
        {"body": "e30=", "isBase64Encoded": True, "multiValueHeaders": {PROBLEM[0]: [PROBLEM[1]]}},
    ),
    "text that is no UTF-8": Mend(
        sent(http_api(THERE), b"caf\xe9", TEXT),
        {**LATIN_1, "headers": dict([TEXT]), "cookies": []},
        UnicodeDecodeError,
    ),
    "no media type of its own": Mend(
        sent(http_api(THERE), b""),
        {"body": "", "isBase64Encoded": False, "headers": {}, "cookies": []},
        {"headers": {"Content-Type": "text/plain; charset=utf-8"}},
    ),
    "cookies that are set, v2": Mend(
        sent(http_api(THERE), b"{}", TEXT, *COOKIES),
        {**PLAIN, "headers": dict([TEXT]), "cookies": ["a=1; Path=/", "b=2"]},
        {**PLAIN, "headers": dict([TEXT]) | {"set-cookie": "a=1; Path=/", "Set-cookie": "b=2"}},
    ),
    "headers that are sent twice, v2": Mend(
        sent(http_api(THERE), b"{}", TEXT, ("Vary", "A"), ("Vary", "B")),
        {**PLAIN, "headers": {**dict([TEXT]), "Vary": "A, B"}, "cookies": []},
        {**PLAIN, "headers": {**dict([TEXT]), "vary": "A", "Vary": "B"}},
    ),
    "headers that are sent twice, v1 from the console": Mend(
        sent(rest_api(THERE, multiValueHeaders=None, headers={}), b"{}", TEXT, ("Vary", "A"), ("Vary", "B")),
        {**PLAIN, "multiValueHeaders": {TEXT[0]: [TEXT[1]], "Vary": ["A", "B"]}},
        {**PLAIN, "headers": {**dict([TEXT]), "vary": "A", "Vary": "B"}},
    ),
    "an answer is closed, v2": Mend(closed(http_api(Call())), ["call_on_close", "close"], []),
    "an answer is closed, v1": Mend(closed(rest_api(Call())), ["call_on_close", "close"], []),
    "url_for at $default": Mend(
        location(http_api(THERE)),
        f"/there {OWN}/there /there",
        f"/$default/there {OWN}/$default/there /there",
    ),
    "a named stage, v2": Mend(place(http_api(THERE, "dev")), ("/dev", "/there"), ("/dev", "/dev/there")),
    "a named stage's root, v2": Mend(place(http_api(Call(path="/"), "dev")), ("/dev", "/"), ("/dev", "/dev/")),
    "a named stage without a slash, v2": Mend(place(http_api(Call(path=""), "dev")), ("/dev", ""), ("/dev", "/dev")),
    "a named stage on a custom domain, v2": Mend(place(http_api(ELSEWHERE, "dev")), ("", "/there"), ("", "/dev/there")),
    "a base path, with its slashes": Mend(
        place(rest_api(ELSEWHERE, base_path="api")), ("/api", "/there"), ("//api/", "/api/there"), {BASE: "/api/"}
    ),
    "a base path at API Gateway's own domain, v1": Mend(
        place(rest_api(THERE)), ("/prod", "/there"), ("/api", "/there"), {BASE: "api"}
    ),
    "a base path that begins like a route, v1": Mend(
        place(rest_api(THERE)), ("/prod", "/there"), ("/the", "re"), {BASE: "the"}
    ),
    "a base path that begins like a route, v2": Mend(
        place(http_api(ELSEWHERE)), ("/the", "/there"), ("/the", "re"), {BASE: "the"}
    ),
    "a base path at a named stage, v2": Mend(
        place(http_api(ELSEWHERE, "dev")), ("/api", "/there"), ("/api", "/dev/there"), {BASE: "api"}
    ),
    "a path that is no UTF-8, v1": Mend(
        place(rest_api(Call(path="/%FF"))), ("/prod", "/\xff"), ("/prod", "/\xef\xbf\xbd")
    ),
    "a path is decoded once, v2": Mend(
        place(http_api(Call(path="/%2541", domain=CUSTOM_DOMAIN))), ("", "/%41"), ("", "/A")
    ),
    "a header that came several times, v1": Mend(seen(rest_api(TWICE), "HTTP_X_A"), "1, 3, 2", "2"),
    "cookies that came in two headers, v1": Mend(seen(rest_api(TWO_COOKIES), "HTTP_COOKIE"), "a=1; b=2", "b=2"),
    "cookies in a header, v2": Mend(seen(http_api(THERE, headers={"cookie": "a=1"}), "HTTP_COOKIE"), "a=1", ""),
    "no cookies, v2": Mend(seen(http_api(THERE), "HTTP_COOKIE"), None, ""),
    "null cookies, v2": Mend(seen(http_api(THERE, cookies=None), "HTTP_COOKIE"), None, TypeError),
    "a header with an underscore": Mend(
        seen(http_api(Call(headers=[("X_API_Key", "1")])), "HTTP_X_API_KEY"), None, "1"
    ),
    "both names of the key": Mend(
        seen(http_api(Call(headers=[("Access-Token", "1"), ("access_token", "2")])), "HTTP_ACCESS_TOKEN"), "1, 2", "2"
    ),
    "a header that is not Latin-1": Mend(
        seen(http_api(Call(headers=[("X-A", "✓ é")])), "HTTP_X_A"), "\xe2\x9c\x93 \xc3\xa9", "✓ é"
    ),
    "no headers, v2": Mend(seen(http_api(THERE, headers=ABSENT), "REQUEST_METHOD"), "GET", KeyError),
    "no headers, v1": Mend(
        seen(rest_api(THERE, headers=ABSENT, multiValueHeaders=ABSENT), "REQUEST_METHOD"), "GET", KeyError
    ),
    "null body in Base64, v2": Mend(
        seen(http_api(THERE, body=None, isBase64Encoded=True), "body", "CONTENT_LENGTH"), (b"", "0"), TypeError
    ),
    "null authorizer, v2": Mend(seen(http_api(THERE, authorizer=None), "REMOTE_USER"), "", AttributeError),
    "null identity, v1": Mend(seen(rest_api(THERE, identity=None), "REMOTE_ADDR"), "", AttributeError),
}


mends = pytest.mark.parametrize("mend", MENDS.values(), ids=MENDS)


@mends
def test_our_door_is_right(mend: Mend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the app sees, and what API Gateway is handed, is what a server on a socket would make of the request."""
    set_only(monkeypatch, mend.variables)
    assert mend.observe(lambda_events.answer) == mend.right


@mends
def test_the_library_alone_is_still_wrong(mend: Mend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this fails, `serverless_wsgi` has mended it itself, and our mend can go."""
    set_only(monkeypatch, mend.variables)
    if isinstance(mend.wrong, type) and issubclass(mend.wrong, Exception):
        with pytest.raises(mend.wrong):
            mend.observe(serverless_wsgi.handle_request)
    else:
        assert mend.observe(serverless_wsgi.handle_request) == mend.wrong


def test_every_mend_is_documented_with_its_source() -> None:
    """`docs/lambda.md` names each case, by its beginning, and no other, and each row has a link."""
    documented = [row for row in rows("docs/lambda.md", "## The handler's mends") if named(row[-1])]
    cases = [name for row in documented for name in named(row[-1])]
    assert [name for name in MENDS if not any(name.startswith(case) for case in cases)] == []
    assert [case for case in cases if not any(name.startswith(case) for name in MENDS)] == []
    assert all("](" in row[1] for row in documented)
