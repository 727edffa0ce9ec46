"""What holds for any request and any answer: API Gateway and our door change nothing that gunicorn would not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import lambda_events
from tests.events import CUSTOM_DOMAIN, Call, answered, http_api, rest_api

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

TOKEN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+.^`|~-"
# What API Gateway or a server sets itself, and what both read otherwise: each has tests of its own.
OWN = {"host", "cookie", "content-length", "content-type", "transfer-encoding", "connection", "expect", "upgrade"}
COMPARED = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "SERVER_PROTOCOL", "CONTENT_TYPE")

bounded = hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
names = st.text(TOKEN, min_size=1, max_size=12).filter(lambda name: name.lower() not in OWN)
underscored = st.tuples(names, names).map("_".join)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
cookies = st.lists(st.from_regex(r"[a-z]{1,5}=[!#-+\--:<-\[\]-~]{0,8}", fullmatch=True), max_size=3)
bodies = st.one_of(st.binary(max_size=100), texts.map(str.encode))
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
pairs = st.lists(st.tuples(texts, texts), max_size=5).map(lambda each: each + each[:1])
# Unicode; what an address needs encoded; what it does not, with dots, and with `%25` before digits.
utf8_paths = st.one_of(
    texts.map(quote),
    texts.map(lambda text: quote(text, safe="")),
    st.text("/.%41~-:@!$&'()*+,;=", max_size=12).map(lambda text: text.replace("%", "%25")),
).map("/x{}".format)
paths = utf8_paths | st.binary(max_size=10).map(quote).map("/x{}".format)
# An HTTP API decodes the path as UTF-8, and ends it at a decoded question mark.
paths_of_http_apis = utf8_paths.filter(lambda path: "%3F" not in path)


@st.composite
def calls(draw: st.DrawFn, paths: st.SearchStrategy[str]) -> Call:
    """Any request to a custom domain, with what is sent repeated at times."""
    headers = draw(st.lists(st.tuples(st.one_of(names, underscored), values), max_size=5))
    headers += [(name.swapcase(), draw(values)) for name, _ in headers[:2]]
    headers += [("Cookie", "; ".join(sent))] if (sent := draw(cookies)) else []
    headers += [("Content-Type", draw(values.filter(bool)))] if draw(st.booleans()) else []
    query = urlencode(draw(pairs))
    return Call(draw(methods), draw(paths), query, headers, draw(bodies), CUSTOM_DOMAIN)


def through_gunicorn(call: Call) -> tuple[WSGIEnvironment, bytes]:
    """What gunicorn, as gunicorn.conf.py sets it, makes of the bytes that this request is."""
    settings = Config()
    settings.set("forwarder_headers", "ACCESS_TOKEN")
    settings.set("forwarded_allow_ips", "*")
    headers = [("Host", call.domain), *call.headers, *([("Content-Length", str(len(call.body)))] if call.body else [])]
    target = call.path + (f"?{call.query}" if call.query else "")
    lines = [f"{call.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    raw = "\r\n".join([*lines, "", ""]).encode("ascii") + call.body
    parsed = next(RequestParser(settings, iter([raw]), ("203.0.113.7", 1)))
    _, environ = create(parsed, None, ("203.0.113.7", 1), ("127.0.0.1", 443), settings)
    return environ, environ["wsgi.input"].read()


def through_our_door(event: dict[str, Any]) -> tuple[WSGIEnvironment, bytes]:
    found: list[tuple[WSGIEnvironment, bytes]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found.append((environ, environ["wsgi.input"].read()))
        start_response("204 No Content", [])
        return []

    lambda_events.answer(app, event, None)
    return found[0]


def shown(environ: WSGIEnvironment) -> dict[str, Any]:
    """What both must agree on. Servers differ in the white space between joined values."""
    ours = [name for name in environ if name.startswith("HTTP_") and not name.startswith("HTTP_X_FORWARDED_")]
    headers = {name: sorted(re.split(r",\s*", environ[name])) for name in ours}
    return {name: environ.get(name) or "" for name in COMPARED} | headers


def grouped(query: str) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        lists.setdefault(name, []).append(value)
    return lists


@bounded
@given(calls(paths_of_http_apis))
def test_an_http_api_s_request_is_what_a_server_would_make_of_it(call: Call) -> None:
    """Method, path, query, headers, cookies, type and body reach the app as through gunicorn."""
    expected, body = through_gunicorn(call)
    environ, read = through_our_door(http_api(call))
    assert (shown(environ), read) == (shown(expected), body)
    assert environ["QUERY_STRING"] == expected["QUERY_STRING"]
    assert environ["CONTENT_LENGTH"] == str(len(body))


@bounded
@given(calls(paths))
def test_a_rest_api_s_request_is_what_a_server_would_make_of_it(call: Call) -> None:
    """The same, but for the query, of which a REST API tells the values of each name, and no order of the names."""
    expected, body = through_gunicorn(call)
    environ, read = through_our_door(rest_api(call))
    assert (shown(environ), read) == (shown(expected), body)
    assert grouped(environ["QUERY_STRING"]) == grouped(expected["QUERY_STRING"])
    assert environ["CONTENT_LENGTH"] == str(len(body))


@bounded
@given(st.sampled_from(["+", "%20", "a", "a=", "=b", "&", "&&a=b", "a=%zz", "%C3%A9=%ff", ";", "a=b=c&a", "?", "/"]))
def test_an_http_api_s_query_is_not_touched(query: str) -> None:
    """Not parsed and written again, as a REST API's has to be."""
    environ, _ = through_our_door(http_api(Call(query=query)))
    assert environ["QUERY_STRING"] == query


answers = st.tuples(
    st.integers(200, 599),
    st.lists(
        st.tuples(names, st.lists(values, min_size=1, max_size=3)), max_size=5, unique_by=lambda each: each[0].lower()
    ),
    cookies,
    bodies,
)


@bounded
@given(answers, st.sampled_from([http_api, rest_api]), st.booleans())
def test_an_answer_comes_back_as_it_was_sent(
    sent: tuple[int, list[tuple[str, list[str]]], list[str], bytes], gateway: Any, in_parts: bool
) -> None:
    """Status, each header with all its values, each cookie, and the body's bytes; in Base64 only what is no text."""
    status, lists, cookies_sent, body = sent
    headers = [(name, value) for name, values in lists for value in values]
    headers += [("Set-Cookie", cookie) for cookie in cookies_sent]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(f"{status} Some Words", headers)
        return [bytes([byte]) for byte in body] if in_parts else [body]

    answer = answered(lambda_events.answer(app, gateway(Call()), None))
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers.getlist("Set-Cookie") == cookies_sent
    for name, values in lists:
        assert ", ".join(answer.headers.getlist(name)) == ", ".join(values)
    assert {name.lower() for name, _ in answer.headers} == {name.lower() for name, _ in headers}
    assert answer.base64 == (body != body.decode("utf-8", "replace").encode("utf-8"))
