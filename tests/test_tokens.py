"""`POST /token` as its clients see it, API keys in the place of tokens, and whose records a token opens."""

from __future__ import annotations

import base64
import hmac
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from threading import Thread
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from authlib.integrations.base_client import OAuthError as AuthlibError
from authlib.integrations.requests_client import OAuth2Session
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from app import create_app
from auth import SCOPES
from clients import Credentials, new_credentials
from records import Client
from storage import Storage, StorageUnavailable
from tests.harness import FIRST_SECRET, Harness, build

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
GRANT = "grant_type=client_credentials"
KEY_HEADERS = ("X-API-Key", "Access-Token", "access_token")
# RFC 6749 §5.2: what an error_description may hold.
DESCRIPTION = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]+")


@dataclass(frozen=True)
class Ask:
    """A token request."""

    body: str | bytes = GRANT
    content_type: str | None = FORM
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""

    def sent_to(self, harness: Harness) -> TestResponse:
        return harness.http.post(
            "/token",
            data=self.body,
            content_type=self.content_type,
            headers=list(self.headers),
            query_string=self.query,
        )


def basic(client_id: str, secret: str, scheme: str = "Basic") -> tuple[str, str]:
    return "Authorization", f"{scheme} {base64.b64encode(f'{client_id}:{secret}'.encode()).decode()}"


def escaped(text: str) -> str:
    """Each character percent-encoded, as a client may."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def form(credentials: Credentials, **parameters: str) -> Ask:
    return keyed(credentials, urlencode({"grant_type": "client_credentials", **parameters}), FORM)


def json_of(credentials: Credentials, **parameters: Any) -> Ask:
    return keyed(credentials, json.dumps(parameters))


def keyed(credentials: Credentials, body: str | bytes, content_type: str | None = JSON) -> Ask:
    """A request that authenticates with an API key and says this."""
    return Ask(body, content_type, (("X-API-Key", credentials.api_key),))


def in_body(credentials: Credentials) -> dict[str, str]:
    return {"client_id": credentials.client_id, "client_secret": credentials.client_secret}


def by_header(name: str, body: str, content_type: str) -> Callable[[Credentials], Ask]:
    return lambda c: Ask(body, content_type, ((name, c.api_key),))


WAYS: dict[str, Callable[[Credentials], Ask]] = {
    "Basic": lambda c: Ask(headers=(basic(c.client_id, c.client_secret),)),
    "Basic percent-encoded": lambda c: Ask(headers=(basic(escaped(c.client_id), escaped(c.client_secret)),)),
    "basic in lower case": lambda c: Ask(headers=(basic(c.client_id, c.client_secret, "basic"),)),
    "Basic with JSON": lambda c: Ask("{}", JSON, (basic(c.client_id, c.client_secret),)),
    "Basic and its own client_id": lambda c: replace(
        WAYS["Basic"](c), body=f"{GRANT}&{urlencode({'client_id': c.client_id})}"
    ),
    "form": lambda c: Ask(f"{GRANT}&{urlencode(in_body(c))}"),
    "form percent-encoded": lambda c: Ask(
        f"{GRANT}&client_id={escaped(c.client_id)}&client_secret={escaped(c.client_secret)}"
    ),
    "JSON": lambda c: Ask(json.dumps(in_body(c)), JSON),
    **{f"{name} with a form": by_header(name, GRANT, FORM) for name in KEY_HEADERS},
    **{f"{name} with JSON": by_header(name, "{}", JSON) for name in KEY_HEADERS},
}


class Watched:
    """A storage that counts the look-ups of clients, and fails them on demand."""

    def __init__(self, storage: Storage, failure: Exception | None = None) -> None:
        self._storage = storage
        self._failure = failure
        self.look_ups = 0

    def client(self, client_id: str) -> Client | None:
        self.look_ups += 1
        if self._failure:
            raise self._failure
        return self._storage.client(client_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def watched(harness: Harness, failure: Exception | None = None) -> tuple[Harness, Watched]:
    """The same service on a watched storage."""
    watch = Watched(harness.storage, failure)
    storage = cast("Storage", watch)
    app = create_app(harness.settings, storage=storage, engine=harness.engine)
    return replace(harness, app=app, storage=storage), watch


def granted(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.get_json()
    return body


def assert_error(answer: TestResponse, code: str, status: int = 400) -> None:
    """The answer is this error, in the form of RFC 6749 §5.2 to the letter."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == JSON
    body = answer.get_json()
    assert set(body) == {"error", "error_description"}
    assert body["error"] == code
    assert DESCRIPTION.fullmatch(body["error_description"])
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-Id"]
    assert ("WWW-Authenticate" in answer.headers) is (status == 401)
    assert answer.headers.get("WWW-Authenticate", "Basic ").startswith("Basic ")


def segment(token: str, index: int) -> dict[str, Any]:
    text = token.split(".")[index]
    members: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return members


def claims_of(answer: TestResponse) -> dict[str, Any]:
    return segment(granted(answer)["access_token"], 1)


@pytest.fixture
def client(harness: Harness) -> Credentials:
    """A client that may do everything."""
    return harness.register()


# --- Who asks


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_client_authenticates_in_any_one_way(
    harness: Harness, client: Credentials, way: Callable[[Credentials], Ask]
) -> None:
    """Each way to authenticate gets a token for that client, and the token opens `/refine`."""
    answer = way(client).sent_to(harness)
    assert claims_of(answer)["client_id"] == client.client_id
    assert harness.refine(granted(answer)["access_token"], {"prompt": "a draft"}).status_code == 200


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_wrong_credentials_are_refused_in_every_way(
    harness: Harness, client: Credentials, way: Callable[[Credentials], Ask]
) -> None:
    """Each way to authenticate refuses another client's secret."""
    wrong = Credentials(client.client_id, harness.register().client_secret)
    assert_error(way(wrong).sent_to(harness), "invalid_client", 401)


EACH_WAY: dict[str, Callable[[Credentials], tuple[tuple[tuple[str, str], ...], dict[str, str]]]] = {
    "Basic": lambda c: ((basic(c.client_id, c.client_secret),), {}),
    "Bearer": lambda c: ((("Authorization", f"Bearer {c.api_key}"),), {}),
    "body": lambda c: ((), in_body(c)),
    "X-API-Key": lambda c: ((("X-API-Key", c.api_key),), {}),
    "Access-Token": lambda c: ((("Access-Token", c.api_key),), {}),
}
PAIRS = [pair for pair in combinations(EACH_WAY, 2) if pair != ("Basic", "Bearer")]


@pytest.mark.parametrize("content_type", [FORM, JSON], ids=["form", "json"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_ways_at_once_are_refused(
    harness: Harness, client: Credentials, first: str, second: str, content_type: str
) -> None:
    """A client that authenticates twice is refused, although each of the two is right."""
    headers, body = EACH_WAY[first](client)
    more_headers, more_body = EACH_WAY[second](client)
    fields = {"grant_type": "client_credentials", **body, **more_body}
    text = urlencode(fields) if content_type == FORM else json.dumps(fields)
    assert_error(Ask(text, content_type, headers + more_headers).sent_to(harness), "invalid_request")


@pytest.mark.parametrize("name", ["client_id", "client_secret"])
@pytest.mark.parametrize("way", ["Basic", "X-API-Key with a form"])
def test_a_parameter_without_a_value_counts_as_left_out(
    harness: Harness, client: Credentials, way: str, name: str
) -> None:
    """An empty `client_id` or `client_secret` beside a header is no second way (RFC 6749 §3.2)."""
    granted(replace(WAYS[way](client), body=f"{GRANT}&{name}=").sent_to(harness))


def test_an_empty_authorization_header_counts_as_none(harness: Harness, client: Credentials) -> None:
    """A header without a value is no second way to authenticate, at the token endpoint and at `/refine-prompt`."""
    headers = {"X-API-Key": client.api_key, "Authorization": ""}
    assert harness.http.post("/token", json={}, headers=headers).status_code == 200
    assert harness.http.post("/refine-prompt", json={"prompt": "x"}, headers=headers).status_code == 200


@pytest.mark.parametrize("way", ["Basic", "X-API-Key with a form"])
def test_a_client_id_of_somebody_else_is_refused(harness: Harness, client: Credentials, way: str) -> None:
    """The `client_id` in the body may not name another client than the credentials."""
    body = f"{GRANT}&{urlencode({'client_id': harness.register().client_id})}"
    assert_error(replace(WAYS[way](client), body=body).sent_to(harness), "invalid_request")


@pytest.mark.parametrize("name", ["client_id", "client_secret", "api_key", "access_token"])
@pytest.mark.parametrize("beside", [True, False], ids=["beside a header", "alone"])
def test_credentials_in_the_query_are_refused(harness: Harness, client: Credentials, name: str, beside: bool) -> None:
    """What is secret does not belong into a URL, also where the request is good without it."""
    value = {"client_id": client.client_id, "client_secret": client.client_secret}.get(name, client.api_key)
    ask = WAYS["Basic"](client) if beside else Ask()
    assert_error(replace(ask, query=urlencode({name: value})).sent_to(harness), "invalid_request")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic AAA",
        "Basic é",
        "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b":").decode(),
        "Basic " + base64.b64encode(b"klm_%zz:%ff%00").decode(),
        "Bearer a.b.c",
        "Digest username=x",
    ],
    ids=repr,
)
def test_a_header_that_holds_no_credentials_is_refused(harness: Harness, authorization: str) -> None:
    """An `Authorization` that cannot be read is a client that did not authenticate, not a crash."""
    assert_error(Ask(headers=(("Authorization", authorization),)).sent_to(harness), "invalid_client", 401)


@pytest.mark.parametrize("scheme", ["Bearer", "Digest", "Token", "Basicx"])
def test_right_credentials_under_another_scheme_are_refused(harness: Harness, client: Credentials, scheme: str) -> None:
    """Id and secret count under the scheme `Basic` alone."""
    header = basic(client.client_id, client.client_secret, scheme)
    assert_error(Ask(headers=(header,)).sent_to(harness), "invalid_client", 401)


@pytest.mark.parametrize("key", ["no-dot", ".", "a.b.c", "é.é", "x" * 10_000], ids=lambda key: key[:10])
def test_a_key_that_is_none_is_refused(harness: Harness, key: str) -> None:
    """An API key of another form is refused like a wrong one."""
    assert_error(Ask(headers=(("X-API-Key", key),)).sent_to(harness), "invalid_client", 401)


@pytest.mark.parametrize("secret", ["", "\x00", "\ud800", "é", "🙂" * 1000], ids=["empty", "NUL", "half", "é", "long"])
@pytest.mark.parametrize("field", ["client_id", "client_secret"])
def test_credentials_of_any_characters_are_refused(
    harness: Harness, client: Credentials, field: str, secret: str
) -> None:
    """Credentials that no store could hold are refused like wrong ones."""
    body = json.dumps({**in_body(client), field: secret})
    assert_error(Ask(body, JSON).sent_to(harness), "invalid_client", 401)


def test_a_request_without_credentials_is_refused(harness: Harness) -> None:
    """Who does not authenticate at all gets the same 401."""
    assert_error(Ask().sent_to(harness), "invalid_client", 401)


@pytest.mark.parametrize("way", ["Basic", "form", "JSON", "X-API-Key with JSON", "Access-Token with a form"])
def test_refusals_cannot_be_told_apart(harness: Harness, client: Credentials, way: str) -> None:
    """Unknown, wrong and disabled answer alike, byte for byte, after the same number of look-ups."""
    disabled = harness.register()
    harness.storage.set_client_disabled(disabled.client_id, True)
    wrong = new_credentials().client_secret
    cases = {
        "unknown": new_credentials(),
        "unknown, other form": Credentials("nobody", wrong),
        "wrong": Credentials(client.client_id, wrong),
        "empty": Credentials(client.client_id, ""),
        "disabled": disabled,
        "disabled and wrong": Credentials(disabled.client_id, wrong),
    }
    service, watch = watched(harness)

    def seen(credentials: Credentials) -> tuple[object, ...]:
        before = watch.look_ups
        answer = WAYS[way](credentials).sent_to(service)
        assert_error(answer, "invalid_client", 401)
        headers = sorted((name, value) for name, value in answer.headers if name != "X-Request-Id")
        return watch.look_ups - before, headers, answer.data

    looks = {name: seen(credentials) for name, credentials in cases.items()}
    assert [name for name, look in looks.items() if look != looks["unknown"]] == []
    assert looks["unknown"][0] == 1


# --- What is asked


@pytest.mark.parametrize("content_type", [FORM, JSON, None])
@pytest.mark.parametrize("way", ["Basic", "X-API-Key with a form"])
def test_an_absent_body_is_refused(harness: Harness, client: Credentials, way: str, content_type: str | None) -> None:
    """A request without a body says nothing, whoever sends it."""
    assert_error(replace(WAYS[way](client), body="", content_type=content_type).sent_to(harness), "invalid_request")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("x=1", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("grant_type", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=authorization_code", "unsupported_grant_type"),
        ("grant_type=refresh_token", "unsupported_grant_type"),
        ("grant_type=CLIENT_CREDENTIALS", "unsupported_grant_type"),
        ("grant_type=client_credentials%20", "unsupported_grant_type"),
        ("GRANT_TYPE=client_credentials", "invalid_request"),
    ],
)
def test_a_form_must_name_the_grant(harness: Harness, client: Credentials, body: str, code: str) -> None:
    """A form needs `grant_type=client_credentials`, as in every OAuth client."""
    assert_error(keyed(client, body, FORM).sent_to(harness), code)


@pytest.mark.parametrize(
    ("grant_type", "code"),
    [("password", "unsupported_grant_type"), ("\ud800", "unsupported_grant_type")],
    ids=["password", "half a character"],
)
def test_json_may_not_name_another_grant(harness: Harness, client: Credentials, grant_type: str, code: str) -> None:
    """In JSON `grant_type` may be left out, and not be another."""
    granted(json_of(client).sent_to(harness))
    granted(json_of(client, grant_type="").sent_to(harness))
    granted(json_of(client, grant_type="client_credentials").sent_to(harness))
    assert_error(json_of(client, grant_type=grant_type).sent_to(harness), code)


@pytest.mark.parametrize(
    "body",
    [
        f"{GRANT}&{GRANT}",
        f"{GRANT}&scope=refine&scope=generate",
        f"{GRANT}&user_id=ada&user_id=ada",
        f"{GRANT}&user_id=ada&user%5Fid=bob",
        f"{GRANT}&x=1&x=2",
        f"{GRANT}&x=&x=",
        '{"scope": "refine", "scope": "generate"}',
        '{"user_id": "ada", "user_\\u0069d": "bob"}',
        '{"x": {"y": 1, "y": 2}}',
    ],
)
def test_a_repeated_parameter_is_refused(harness: Harness, client: Credentials, body: str) -> None:
    """Nobody has to guess which of two values counts."""
    content_type = JSON if body.startswith("{") else FORM
    assert_error(keyed(client, body, content_type).sent_to(harness), "invalid_request")


def test_repeated_credentials_are_refused(harness: Harness, client: Credentials) -> None:
    """Credentials given twice in the body are refused, although they are right."""
    assert_error(
        Ask(f"{GRANT}&{urlencode(in_body(client))}&{urlencode(in_body(client))}").sent_to(harness), "invalid_request"
    )


def test_unknown_parameters_are_ignored(harness: Harness, client: Credentials) -> None:
    """Parameters that other servers know do no harm here, whatever they hold."""
    granted(form(client, audience="x", resource="https://example.com", empty="").sent_to(harness))
    granted(json_of(client, audience=["x"], resource=None, api_key="x", deep={"a": [1, {"b": None}]}).sent_to(harness))


@pytest.mark.parametrize("value", [None, 1, 1.5, True, ["refine"], {"a": "b"}, []], ids=str)
@pytest.mark.parametrize("name", ["grant_type", "client_id", "client_secret", "scope", "user_id"])
def test_every_parameter_is_a_string(harness: Harness, client: Credentials, name: str, value: object) -> None:
    """A JSON value of another type is refused, not turned into text."""
    assert_error(json_of(client, **{name: value}).sent_to(harness), "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"{}{}",
        b'{"x": NaN}',
        b'{"x": Infinity}',
        b'{"scope": "\xff"}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"[" * 200_000,
        b'{"x":' * 100_000,
        b"[]",
        b'[["user_id", "ada"]]',
        b'"text"',
        b"null",
        b"1",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_json_object_is_refused(harness: Harness, client: Credentials, body: bytes) -> None:
    """Broken JSON, JSON of another kind and endless nesting are refused, not a crash."""
    assert_error(keyed(client, body).sent_to(harness), "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b"user_id=%ff",
        b"user_id=%C3",
        b"user_id=%ED%A0%80",
        b"user_id=%00",
        b"%ff=1",
        b"user_id=\xff",
        "user_id=é".encode(),
        "&".join(f"x{number}=" for number in range(1000)).encode(),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_form_that_is_no_form_is_refused(harness: Harness, client: Credentials, body: bytes) -> None:
    """A form is percent-encoded UTF-8, of a hundred fields at most."""
    assert_error(keyed(client, GRANT.encode() + b"&" + body, FORM).sent_to(harness), "invalid_request")


@pytest.mark.parametrize("text", ["%zz", "%", "100%", "%4"])
def test_a_percent_sign_that_escapes_nothing_stands_for_itself(
    harness: Harness, client: Credentials, text: str
) -> None:
    """A lone percent sign is taken literally, as the URL standard has it for forms."""
    assert claims_of(keyed(client, f"{GRANT}&user_id={text}", FORM).sent_to(harness))["sub"] == text


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "multipart/form-data; boundary=x", "application/xml", "application/jsonp", "json", ""],
)
@pytest.mark.parametrize("body", [GRANT, "{}"])
def test_other_content_types_are_refused(
    harness: Harness, client: Credentials, body: str, content_type: str | None
) -> None:
    """A body counts as what its `Content-Type` says, and that must be one of the two."""
    assert_error(keyed(client, body, content_type).sent_to(harness), "invalid_request")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (GRANT, f"{FORM};charset=UTF-8"),
        (GRANT, FORM.upper()),
        ("{}", f"{JSON}; charset=utf-8"),
        ("{}", "Application/JSON"),
    ],
)
def test_parameters_and_case_of_the_content_type_do_not_matter(
    harness: Harness, client: Credentials, body: str, content_type: str
) -> None:
    """What HTTP libraries add to the `Content-Type` does no harm."""
    granted(keyed(client, body, content_type).sent_to(harness))


def test_json_in_a_form_and_a_form_in_json_are_refused(harness: Harness, client: Credentials) -> None:
    """The content is not sniffed."""
    assert_error(keyed(client, "{}", FORM).sent_to(harness), "invalid_request")
    assert_error(keyed(client, GRANT, JSON).sent_to(harness), "invalid_request")


LIMIT = 1024


@pytest.mark.parametrize("chunked", [False, True], ids=["with Content-Length", "chunked"])
@pytest.mark.parametrize("content_type", [FORM, JSON], ids=["form", "json"])
@pytest.mark.parametrize(("size", "good"), [(LIMIT, True), (LIMIT + 1, False), (100 * LIMIT, False)])
def test_a_body_over_the_limit_is_refused(
    tmp_path: Path, size: int, good: bool, content_type: str, chunked: bool
) -> None:
    """The last byte allowed is taken, one more is 413, and nothing is cut and accepted."""
    harness = build(tmp_path, MAX_BODY_BYTES=str(LIMIT))
    start, end = (f"{GRANT}&x=", "") if content_type == FORM else ('{"x": "', '"}')
    body = f"{start}{'x' * (size - len(start) - len(end))}{end}".encode()
    answer = harness.http.post(
        "/token",
        input_stream=io.BytesIO(body),
        content_type=content_type,
        headers={"X-API-Key": harness.register().api_key},
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""} if chunked else {},
    )
    if good:
        granted(answer)
    else:
        assert_error(answer, "invalid_request", 413)
    harness.storage.close()


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_method_is_refused(harness: Harness, client: Credentials, method: str) -> None:
    """Only `POST` issues tokens; the refusal has the form of the others and says what is allowed."""
    answer = harness.http.open("/token", method=method, headers={"X-API-Key": client.api_key})
    assert_error(answer, "invalid_request", 405)
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


# --- Scopes and users


@pytest.mark.parametrize("encode", [form, json_of], ids=["form", "json"])
@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("refine", {"refine"}),
        ("refine log:read", {"refine", "log:read"}),
        ("log:read refine", {"refine", "log:read"}),
        ("refine refine", {"refine"}),
        (" refine  log:read ", {"refine", "log:read"}),
        ("", {"refine", "generate", "log:read"}),
        ("  ", {"refine", "generate", "log:read"}),
        (None, {"refine", "generate", "log:read"}),
    ],
)
def test_a_token_has_the_scopes_that_were_asked_for(
    harness: Harness, encode: Callable[..., Ask], asked: str | None, given: set[str]
) -> None:
    """A subset in any order is granted as asked, nothing asked is all the client has, and the answer says which."""
    client = harness.register("refine", "generate", "log:read")
    answer = encode(client, **({} if asked is None else {"scope": asked})).sent_to(harness)
    scope = granted(answer)["scope"]
    assert sorted(scope.split(" ")) == sorted(given)
    assert claims_of(answer)["scope"] == scope


@pytest.mark.parametrize("encode", [form, json_of], ids=["form", "json"])
@pytest.mark.parametrize(
    "asked",
    [
        "admin",
        "generate",
        "refine generate",
        "refine admin",
        "REFINE",
        "refine,log:read",
        "refine\tlog:read",
        "refine\u00a0log:read",
        "log",
        "*",
        "refine\x00",
        "é",
    ],
)
def test_more_than_the_client_has_is_refused(harness: Harness, encode: Callable[..., Ask], asked: str) -> None:
    """One scope that the client does not have, or nobody, is enough for `invalid_scope`."""
    client = harness.register("refine", "log:read")
    assert_error(encode(client, scope=asked).sent_to(harness), "invalid_scope")


USERS = {
    "one character": "a",
    "128 characters": "x" * 128,
    "mail address": "ada+1@example.com",
    "blanks around": " ada ",
    "CJK": "山田太郎",
    "emoji": "🙂👩‍👩‍👧",
    "128 emoji": "🙂" * 128,
    "right to left": "משתמש",
    "quotes": 'O\'Brien "x" \\ {{y}} $z',
    "almost a client's id": "klm_0000000000000000x",
    "a client's id in upper case": "KLM_0000000000000000",
}


@pytest.mark.parametrize("encode", [form, json_of], ids=["form", "json"])
@pytest.mark.parametrize("user_id", USERS.values(), ids=USERS)
def test_the_subject_is_the_user_exactly(
    harness: Harness, client: Credentials, encode: Callable[..., Ask], user_id: str
) -> None:
    """A token for a user has that user as its subject, character for character, and the client as its client."""
    claims = claims_of(encode(client, user_id=user_id).sent_to(harness))
    assert (claims["sub"], claims["client_id"]) == (user_id, client.client_id)


def test_without_a_user_the_subject_is_the_client(harness: Harness, client: Credentials) -> None:
    """A client that asks for nobody asks for itself."""
    claims = claims_of(form(client).sent_to(harness))
    assert claims["sub"] == claims["client_id"] == client.client_id


BAD_USERS = {
    "empty": "",
    "blank": "   ",
    "129 characters": "x" * 129,
    "129 emoji": "🙂" * 129,
    "NUL": "a\x00b",
    "line feed": "a\nb",
    "line feed at the end": "ada\n",
    "tab": "a\tb",
    "escape": "\x1b[31m",
    "delete": "a\x7f",
    "C1 control": "a\x85b",
    "a client's id": "klm_0000000000000000",
}


@pytest.mark.parametrize("encode", [form, json_of], ids=["form", "json"])
@pytest.mark.parametrize("user_id", BAD_USERS.values(), ids=BAD_USERS)
def test_a_user_that_cannot_be_is_refused(
    harness: Harness, client: Credentials, encode: Callable[..., Ask], user_id: str
) -> None:
    """A user's id has 1 to 128 characters that can be shown, and is no client's."""
    assert_error(encode(client, user_id=user_id).sent_to(harness), "invalid_request")


def test_a_user_is_no_client_nor_half_a_character(harness: Harness, client: Credentials) -> None:
    """The asking client's own id, another's, and an unpaired surrogate are refused as a user's id."""
    for user_id in (client.client_id, harness.register().client_id, "\ud800", "a\udfffb"):
        assert_error(json_of(client, user_id=user_id).sent_to(harness), "invalid_request")


@pytest.mark.parametrize("encode", [form, json_of], ids=["form", "json"])
def test_a_users_token_never_reads_all_records(
    harness: Harness, client: Credentials, encode: Callable[..., Ask]
) -> None:
    """`log:read:all` is in no token for a user: left out by default, refused when asked for."""
    assert set(granted(form(client).sent_to(harness))["scope"].split()) == set(SCOPES)
    answer = encode(client, user_id="ada").sent_to(harness)
    assert set(granted(answer)["scope"].split()) == set(SCOPES) - {"log:read:all"}
    assert "log:read:all" not in claims_of(answer)["scope"]
    for scope in ("log:read:all", "log:read log:read:all"):
        granted(encode(client, scope=scope).sent_to(harness))
        assert_error(encode(client, scope=scope, user_id="ada").sent_to(harness), "invalid_scope")


def test_a_user_gets_no_token_without_a_scope(harness: Harness) -> None:
    """Where the client has nothing that a user may have, there is no empty token."""
    client = harness.register("log:read:all")
    granted(form(client).sent_to(harness))
    assert_error(form(client, user_id="ada").sent_to(harness), "invalid_scope")


# --- The answer


def test_the_answer_is_what_oauth_clients_read(harness: Harness, client: Credentials) -> None:
    """The answer has the four fields of RFC 6749 §5.1, and no cache keeps it."""
    answer = form(client).sent_to(harness)
    body = granted(answer)
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 3600
    assert answer.content_type == JSON
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_token_says_what_the_contract_says(tmp_path: Path) -> None:
    """Header and claims are those of RFC 9068, no more and no fewer, from the settings and the clock."""
    harness = build(tmp_path, JWT_ISSUER="the-issuer", JWT_AUDIENCE="the-audience", TOKEN_TTL_SECONDS="90")
    client = harness.register("refine")
    before = int(time.time())
    answer = form(client, user_id="ada").sent_to(harness)
    after = int(time.time())
    body = granted(answer)
    token, claims = body["access_token"], claims_of(answer)

    assert segment(token, 0) == {"alg": "HS256", "typ": "at+jwt", "kid": "k1"}
    text, _, signature = token.rpartition(".")
    expected = base64.urlsafe_b64encode(hmac.digest(FIRST_SECRET.encode(), text.encode(), "sha256"))
    assert signature == expected.rstrip(b"=").decode()

    issued, jti = claims["iat"], claims["jti"]
    assert claims == {
        "iss": "the-issuer",
        "aud": "the-audience",
        "sub": "ada",
        "client_id": client.client_id,
        "scope": "refine",
        "iat": issued,
        "nbf": issued,
        "exp": issued + 90,
        "jti": jti,
    }
    assert type(issued) is int
    assert before <= issued <= after
    assert body["expires_in"] == 90
    assert isinstance(jti, str)
    assert jti
    assert claims_of(form(client).sent_to(harness))["jti"] != jti
    harness.storage.close()


def test_no_answer_repeats_a_secret(harness: Harness, client: Credentials) -> None:
    """Neither a token's answer nor an error holds what the client authenticated with."""
    wrong = new_credentials().client_secret
    asks = [way(who) for way in WAYS.values() for who in (client, Credentials(client.client_id, wrong))]
    for ask in [*asks, json_of(client, client_secret=client.client_secret), form(client, grant_type=wrong)]:
        answer = ask.sent_to(harness)
        told = answer.text + str(answer.headers)
        assert client.client_secret not in told
        assert wrong not in told


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_without_storage_the_client_is_told_to_come_back(
    harness: Harness, client: Credentials, way: Callable[[Credentials], Ask]
) -> None:
    """While the storage is down nobody is refused for good: 503, in the form of the other errors."""
    service, _ = watched(harness, StorageUnavailable("The audit log cannot be reached."))
    answer = way(client).sent_to(service)
    assert_error(answer, "temporarily_unavailable", 503)
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_crash_answers_in_the_same_form(harness: Harness, client: Credentials) -> None:
    """An error that nobody expected is `server_error`, without a word of its own."""
    service, _ = watched(harness, RuntimeError("mongodb://user:password@host"))
    answer = form(client).sent_to(service)
    assert_error(answer, "server_error", 500)
    assert "password" not in answer.text


# --- API keys in the place of a token


def refine_prompt(harness: Harness, *headers: tuple[str, str], prompt: str = "a draft") -> TestResponse:
    return harness.http.post("/refine-prompt", json={"prompt": prompt}, headers=list(headers))


def assert_problem(answer: TestResponse, status: int, slug: str, challenge: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["type"] == f"/problems/{slug}"
    assert answer.headers.get("WWW-Authenticate") == challenge


INVALID = 'Bearer realm="klamala", error="invalid_token"'
UNSCOPED = 'Bearer realm="klamala", error="insufficient_scope", scope="refine"'


@pytest.mark.parametrize("name", KEY_HEADERS)
def test_a_key_refines_for_the_client_itself(harness: Harness, client: Credentials, name: str) -> None:
    """An API key opens `/refine-prompt`, and the record is the client's own, which its token reads."""
    answer = refine_prompt(harness, (name, client.api_key))
    assert answer.status_code == 200, answer.text
    assert read(harness, harness.token(client), answer.get_json()["id"]).status_code == 200


def test_a_token_refines_under_the_first_name_too(harness: Harness, client: Credentials) -> None:
    """`/refine-prompt` takes a token as `/refine` does, and does the same."""
    token = harness.token(client, user_id="ada")
    answer = refine_prompt(harness, ("Authorization", f"Bearer {token}"))
    assert answer.status_code == 200, answer.text
    assert set(answer.get_json()) == set(harness.refine(token, {"prompt": "a draft"}).get_json())
    assert read(harness, token, answer.get_json()["id"]).status_code == 200


@pytest.mark.parametrize("authorization", ["Bearer {token}", "Basic {basic}", "Bearer nonsense"])
def test_a_key_and_an_authorization_are_ambiguous(harness: Harness, client: Credentials, authorization: str) -> None:
    """Who authenticates in two ways is refused, although both are right."""
    value = authorization.format(token=harness.token(client), basic=basic(*in_body(client).values())[1])
    answer = refine_prompt(harness, ("X-API-Key", client.api_key), ("Authorization", value))
    assert_problem(answer, 400, "ambiguous-credentials")
    assert harness.engine.tasks == []


def test_two_keys_are_ambiguous(harness: Harness, client: Credentials) -> None:
    """A key under each of its two names is two ways as well."""
    answer = refine_prompt(harness, ("X-API-Key", client.api_key), ("Access-Token", client.api_key))
    assert_problem(answer, 400, "ambiguous-credentials")
    assert harness.engine.tasks == []


def test_a_wrong_key_refines_nothing(harness: Harness, client: Credentials) -> None:
    """Wrong, unknown, disabled and malformed keys get the same 401."""
    disabled = harness.register()
    harness.storage.set_client_disabled(disabled.client_id, True)
    wrong = Credentials(client.client_id, disabled.client_secret).api_key
    token = harness.token(client)
    answers = [
        refine_prompt(harness, ("X-API-Key", key))
        for key in (wrong, new_credentials().api_key, disabled.api_key, client.client_id, token, "é", ".")
    ]
    for answer in answers:
        assert_problem(answer, 401, "invalid-token", INVALID)
    assert len({json.dumps({**answer.get_json(), "request_id": ""}) for answer in answers}) == 1
    assert harness.engine.tasks == []


def test_a_key_without_the_scope_refines_nothing(harness: Harness) -> None:
    """A good key of a client that lacks the scope gets 403 and the name of the scope."""
    answer = refine_prompt(harness, ("X-API-Key", harness.register("generate", "log:read:all").api_key))
    assert_problem(answer, 403, "insufficient-scope", UNSCOPED)
    assert harness.engine.tasks == []


def test_a_key_in_the_query_is_not_seen(harness: Harness, client: Credentials) -> None:
    """A key in the URL lets nobody in, here neither."""
    query = {"api_key": client.api_key, "access_token": client.api_key}
    answer = harness.http.post("/refine-prompt", json={"prompt": "a draft"}, query_string=query)
    assert_problem(answer, 401, "authentication-required", 'Bearer realm="klamala"')


# --- Whose records


def read(harness: Harness, token: str, record_id: str) -> TestResponse:
    return harness.http.get(f"/refine/{record_id}", headers={"Authorization": f"Bearer {token}"})


@dataclass(frozen=True)
class Callers:
    """Tokens of somebody and of those who are nearly the same."""

    somebody: str
    strangers: Mapping[str, str]


@pytest.fixture
def callers(harness: Harness, client: Credentials) -> Callers:
    """Ada of one client; Ada of another, another user, and the clients themselves."""
    other = harness.register()
    return Callers(
        harness.token(client, user_id="ada"),
        {
            "her name at another client": harness.token(other, user_id="ada"),
            "another user": harness.token(client, user_id="bob"),
            "her name in another case": harness.token(client, user_id="Ada"),
            "her name and a blank": harness.token(client, user_id="ada "),
            "the client itself": harness.token(client),
            "another client": harness.token(other),
        },
    )


STRANGERS = (
    "her name at another client",
    "another user",
    "her name in another case",
    "her name and a blank",
    "the client itself",
    "another client",
)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_nobody_sees_somebody_elses_refinement(harness: Harness, callers: Callers, stranger: str) -> None:
    """A refinement answers 404 to all but its own caller, as if it did not exist."""
    record_id = harness.refine(callers.somebody, {"prompt": "a secret"}).get_json()["id"]
    answer = read(harness, callers.strangers[stranger], record_id)
    assert_problem(answer, 404, "not-found")
    assert "secret" not in answer.text
    missing = read(harness, callers.somebody, "00000000-0000-7000-8000-000000000000").get_json()
    assert {**answer.get_json(), "request_id": ""} == {**missing, "request_id": ""}
    assert read(harness, callers.somebody, record_id).get_json()["original_prompt"] == "a secret"


@pytest.mark.parametrize("stranger", STRANGERS)
def test_nobody_goes_on_from_somebody_elses_refinement(harness: Harness, callers: Callers, stranger: str) -> None:
    """A `parent_id` of another caller is 422, and the model is not asked."""
    record_id = harness.refine(callers.somebody, {"prompt": "a secret"}).get_json()["id"]
    asked = len(harness.engine.tasks)
    answer = harness.refine(callers.strangers[stranger], {"parent_id": record_id})
    assert_problem(answer, 422, "invalid-request")
    assert [error["field"] for error in answer.get_json()["errors"]] == ["parent_id"]
    assert "secret" not in answer.text
    assert len(harness.engine.tasks) == asked
    assert harness.refine(callers.somebody, {"parent_id": record_id}).status_code == 200


@pytest.mark.parametrize("stranger", STRANGERS)
def test_idempotency_keys_are_each_callers_own(harness: Harness, callers: Callers, stranger: str) -> None:
    """The same key of another caller is another key: no replay, no conflict."""

    def refine(token: str, prompt: str) -> TestResponse:
        return harness.refine(token, {"prompt": prompt}, Idempotency_Key="the-key")

    first = refine(callers.somebody, "a secret")
    other = refine(callers.strangers[stranger], "a secret")
    assert other.status_code == 200, other.text
    assert "Idempotent-Replayed" not in other.headers
    assert other.get_json()["id"] != first.get_json()["id"]
    again = refine(callers.somebody, "a secret")
    assert again.get_json() == first.get_json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert refine(callers.somebody, "another").status_code == 422
    assert refine(callers.strangers[stranger], "another").status_code == 422
    assert len(harness.engine.tasks) == 2


def test_a_key_and_a_users_token_are_two_callers(harness: Harness, client: Credentials) -> None:
    """What came in with the API key is the client's own, not its users'."""
    record_id = refine_prompt(harness, ("X-API-Key", client.api_key)).get_json()["id"]
    assert read(harness, harness.token(client, user_id="ada"), record_id).status_code == 404
    assert read(harness, harness.token(harness.register()), record_id).status_code == 404


# --- A client library that is not ours, over real sockets


@contextmanager
def served(harness: Harness) -> Iterator[str]:
    """The service's address on loopback."""
    server = make_server("127.0.0.1", 0, harness.app)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
        assert not thread.is_alive()


@contextmanager
def authlib_session(credentials: Credentials, method: str) -> Iterator[OAuth2Session]:
    session = OAuth2Session(
        credentials.client_id,
        credentials.client_secret,
        token_endpoint_auth_method=method,
        scope="refine log:read",
        default_timeout=10,
    )
    session.trust_env = False  # a proxy of this machine's has no part in it
    with closing(session):
        yield session


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_gets_a_token_and_uses_it(harness: Harness, client: Credentials, method: str) -> None:
    """Authlib's OAuth client gets a token by client credentials and refines with it, over real sockets."""
    with served(harness) as url, authlib_session(client, method) as session:
        token = session.fetch_token(f"{url}/token", grant_type="client_credentials", user_id="ada")
        answer = session.post(f"{url}/refine", json={"prompt": "a draft"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["original_prompt"] == "a draft"
        assert session.get(f"{url}/refine/{answer.json()['id']}").json() == answer.json()
    assert token["token_type"] == "Bearer"
    assert sorted(token["scope"].split()) == ["log:read", "refine"]
    assert token["expires_at"] > time.time()
    assert segment(token["access_token"], 1)["sub"] == "ada"


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_understands_a_refusal(harness: Harness, client: Credentials, method: str) -> None:
    """Authlib reads our errors as OAuth errors."""
    wrong = Credentials(client.client_id, new_credentials().client_secret)
    with served(harness) as url:
        with authlib_session(wrong, method) as session, pytest.raises(AuthlibError) as refusal:
            session.fetch_token(f"{url}/token", grant_type="client_credentials")
        assert refusal.value.error == "invalid_client"
        with authlib_session(client, method) as session, pytest.raises(AuthlibError) as refusal:
            session.fetch_token(f"{url}/token", grant_type="client_credentials", scope="admin")
        assert refusal.value.error == "invalid_scope"
