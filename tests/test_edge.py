"""What every answer carries, whatever its route and status, and what the log says and never says about it."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from werkzeug.test import TestResponse

from app import create_app
from clients import Credentials
from logs import JsonFormatter
from refinery.engines import (
    Change,
    EngineError,
    ModelRefused,
    ModelTimeout,
    Rewrite,
    UnusableAnswer,
    UpstreamRejected,
    UpstreamUnavailable,
    Usage,
)
from refinery.openai_engine import OpenAIEngine
from tests.harness import FIRST_SECRET, SECOND_SECRET, Harness, ScriptedEngine, build
from tests.upstream import MARKER, Reply, Upstream, completion, html, malformed, refinement, status

ROOT = Path(__file__).parents[1]
TIMEOUT = 60.0
UNKNOWN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
GENERATED_ID = re.compile(r"[0-9a-f]{32}")


def crash() -> NoReturn:
    raise RuntimeError(f"it happened while refining {PROMPT}")


# The request id.

GOOD_IDS = ["a", "x" * 128, "0-9_A.z", "...", "6f1c2a9e-1c1d-4c5e-9f7a-2f4b7e0a9d11"]
BAD_IDS = {
    "empty": "",
    "too long": "x" * 129,
    "space": "a b",
    "only a space": " ",
    "slash": "a/b",
    "colon": "a:b",
    "quote": 'a"b',
    "control": "a\x01b",
    "tab": "a\tb",
    "Latin-1": "caf\xe9",
    "digits of another script": "\u0661".encode().decode("latin-1"),
    "markup": "<b>",
}


@pytest.mark.parametrize("given", GOOD_IDS)
def test_a_good_request_id_is_used(harness: Harness, given: str) -> None:
    """The caller's own id comes back in the header and in a problem document."""
    answer = harness.http.get("/nowhere", headers={"X-Request-Id": given})
    assert answer.headers.getlist("X-Request-Id") == [given]
    assert answer.get_json()["request_id"] == given


@pytest.mark.parametrize("given", BAD_IDS.values(), ids=BAD_IDS)
def test_a_bad_request_id_is_replaced(harness: Harness, given: str) -> None:
    """An id that could break a log or a header is not taken, nor is it a reason to refuse."""
    answer = harness.http.get("/health", headers={"X-Request-Id": given})
    assert answer.status_code == 200
    assert GENERATED_ID.fullmatch(answer.headers["X-Request-Id"])


def test_request_ids_differ(harness: Harness) -> None:
    """Without an id of the caller's, each request has one of its own."""
    ids = {harness.http.get("/health").headers["X-Request-Id"] for _ in range(20)}
    assert len(ids) == 20
    assert all(GENERATED_ID.fullmatch(each) for each in ids)


EVENTS: dict[str, dict[str, Any]] = {
    "HTTP API": {"version": "2.0", "requestContext": {"requestId": "JKJaXmPLvHcESHA=", "stage": "$default"}},
    "REST": {"resource": "/health", "requestContext": {"requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"}},
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_the_api_gateways_id_wins(harness: Harness, event: dict[str, Any]) -> None:
    """On Lambda the id is the one in API Gateway's own logs, whatever the caller sent."""
    with logged() as log:
        answer = harness.http.get(
            "/health", headers={"X-Request-Id": "the-callers"}, environ_overrides={"serverless.event": event}
        )
    expected = event["requestContext"]["requestId"]
    assert answer.headers["X-Request-Id"] == expected
    assert [line["request_id"] for line in log.access()] == [expected]


def test_the_record_keeps_the_request_id(harness: Harness) -> None:
    """The audit record can be found from the id that the caller saw."""
    answer = harness.refine(harness.token(), {"prompt": "a"}, X_Request_Id="the-callers")
    assert answer.headers["X-Request-Id"] == "the-callers"
    with harness.storage._database.engine.connect() as connection:  # type: ignore[attr-defined]
        assert connection.exec_driver_sql("SELECT request_id FROM requests").scalar_one() == "the-callers"


# The headers of every answer.


@dataclass
class Call:
    """One request, and the status that it is answered with."""

    method: str
    path: str
    status: int
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    authenticated: bool = True

    def send(self, harness: Harness, token: str, **headers: str) -> TestResponse:
        bearer = {"Authorization": f"Bearer {token}"} if self.authenticated else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {**bearer, **self.headers, **named}
        answer = harness.http.open(self.path, method=self.method, json=self.json, headers=sent)
        assert answer.status_code == self.status, answer.text
        return answer


CALLS = {
    "200": Call("GET", "/health", 200),
    "200 to HEAD": Call("HEAD", "/health", 200),
    "200, ready": Call("GET", "/ready", 200),
    "200, refined": Call("POST", "/refine", 200, {"prompt": "a"}),
    "400": Call("POST", "/refine", 400, []),
    "401": Call("POST", "/refine", 401, {"prompt": "a"}, authenticated=False),
    "401 of the token endpoint": Call("POST", "/token", 401, {}, authenticated=False),
    "400 of the token endpoint": Call("POST", "/token", 400, [], authenticated=False),
    "404": Call("GET", "/nowhere", 404),
    "404, record": Call("GET", f"/refine/{UNKNOWN_ID}", 404),
    "405": Call("GET", "/refine", 405),
    "413": Call("POST", "/refine", 413, {"prompt": "a" * 2000}),
    "415": Call("POST", "/refine", 415),
    "422": Call("POST", "/refine", 422, {}),
    "500": Call("GET", "/crash", 500),
    "OPTIONS": Call("OPTIONS", "/refine", 200),
    "OPTIONS of the token endpoint": Call("OPTIONS", "/token", 200, authenticated=False),
    "OPTIONS of nothing": Call("OPTIONS", "/nowhere", 404),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
FIRST_ORIGIN = "https://app.example.com"
SECOND_ORIGIN = "http://localhost:5173"


def with_crash(harness: Harness) -> Harness:
    harness.app.add_url_rule("/crash", view_func=crash)
    return harness


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Harness]:
    """A service with a small limit on bodies and a route that crashes."""
    built = with_crash(build(tmp_path, MAX_BODY_BYTES="1024"))
    yield built
    built.storage.close()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Harness]:
    """The same, open to two origins."""
    built = with_crash(build(tmp_path, MAX_BODY_BYTES="1024", CORS_ORIGINS=f"{FIRST_ORIGIN}, {SECOND_ORIGIN}"))
    yield built
    built.storage.close()


@calls
def test_every_answer_carries_the_security_headers(plain: Harness, call: Call) -> None:
    """Id, no sniffing, no referrer and no storing, exactly once each, on every kind of answer."""
    answer = call.send(plain, plain.token())
    assert GENERATED_ID.fullmatch(answer.headers["X-Request-Id"])
    assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert answer.headers.getlist("Referrer-Policy") == ["no-referrer"]
    assert answer.headers.getlist("Cache-Control") == ["no-store"]
    assert len(answer.headers.getlist("X-Request-Id")) == 1


def test_a_token_is_not_cached(harness: Harness) -> None:
    """The answer that holds a token keeps to RFC 6749 §5.1."""
    answer = harness.http.post("/token", json={}, headers={"X-API-Key": harness.register().api_key})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"


# CORS.

PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}


def cors_headers(answer: TestResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items() if name.lower().startswith("access-control")}


def items(header: str) -> set[str]:
    return {item.strip().lower() for item in header.split(",")}


@calls
def test_cors_is_off_unless_asked_for(plain: Harness, call: Call) -> None:
    """Without CORS_ORIGINS no answer opens anything to a page."""
    assert not cors_headers(call.send(plain, plain.token(), Origin=FIRST_ORIGIN))


def test_a_preflight_is_not_answered_unless_asked_for(plain: Harness) -> None:
    """Without CORS_ORIGINS a preflight request is told nothing."""
    answer = plain.http.options("/refine", headers={"Origin": FIRST_ORIGIN, **PREFLIGHT})
    assert not cors_headers(answer)


@pytest.mark.parametrize("origin", [FIRST_ORIGIN, SECOND_ORIGIN])
@calls
def test_a_listed_origin_reads_every_answer(shared: Harness, call: Call, origin: str) -> None:
    """The page of a listed origin reads each answer, errors included, with the headers that it needs."""
    answer = call.send(shared, shared.token(), Origin=origin)
    assert answer.headers.getlist("Access-Control-Allow-Origin") == [origin]
    exposed = items(answer.headers["Access-Control-Expose-Headers"])
    assert {"x-request-id", "location", "retry-after", "idempotent-replayed"} <= exposed
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "origin" in items(answer.headers["Vary"])


OTHER_ORIGINS = {
    "another": "https://evil.example",
    "null": "null",
    "another scheme": "http://app.example.com",
    "another port": f"{FIRST_ORIGIN}:8443",
    "listed one as a prefix": f"{FIRST_ORIGIN}.evil.example",
    "listed one as a suffix": "https://evil-app.example.com",
    "dot as a wildcard": "https://appXexample.com",
    "a path": f"{FIRST_ORIGIN}/",
    "both": f"{FIRST_ORIGIN},{SECOND_ORIGIN}",
    "star": "*",
    "empty": "",
}


@pytest.mark.parametrize("origin", OTHER_ORIGINS.values(), ids=OTHER_ORIGINS)
def test_another_origin_reads_nothing(shared: Harness, origin: str) -> None:
    """An origin that is not listed to the letter is allowed nothing, neither before nor with the request."""
    for answer in (
        shared.refine(shared.token(), {"prompt": "a"}, Origin=origin),
        shared.http.get("/nowhere", headers={"Origin": origin}),
        shared.http.options("/refine", headers={"Origin": origin, **PREFLIGHT}),
    ):
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("path", ["/refine", "/refine-prompt", "/token", f"/refine/{UNKNOWN_ID}"])
def test_a_preflight_of_a_listed_origin_is_allowed(shared: Harness, path: str) -> None:
    """The page may send what the contract names, without a token on the preflight request itself."""
    headers = "authorization, content-type, idempotency-key, prefer, x-api-key, x-request-id"
    preflight = {**PREFLIGHT, "Origin": SECOND_ORIGIN, "Access-Control-Request-Headers": headers}
    answer = shared.http.options(path, headers=preflight)
    assert answer.status_code in (200, 204)
    assert answer.headers.getlist("Access-Control-Allow-Origin") == [SECOND_ORIGIN]
    assert items(answer.headers["Access-Control-Allow-Headers"]) == items(headers)
    assert {"get", "post"} <= items(answer.headers["Access-Control-Allow-Methods"])
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_preflight_allows_no_other_header(shared: Harness) -> None:
    """What a page may send is listed, not echoed."""
    preflight = {**PREFLIGHT, "Origin": FIRST_ORIGIN, "Access-Control-Request-Headers": "x-forwarded-for"}
    answer = shared.http.options("/refine", headers=preflight)
    assert "x-forwarded-for" not in answer.headers.get("Access-Control-Allow-Headers", "").lower()


def test_a_star_opens_the_api_to_every_page(tmp_path: Path) -> None:
    """With `*` any origin reads the answers, and still without credentials of the browser's."""
    harness = build(tmp_path, CORS_ORIGINS="*")
    answer = harness.http.get("/health", headers={"Origin": "https://any.example"})
    assert answer.headers["Access-Control-Allow-Origin"] in ("*", "https://any.example")
    assert "Access-Control-Allow-Credentials" not in answer.headers
    harness.storage.close()


# The log.


class Captured(logging.Handler):
    """Keeps each record, as the service writes it and with all that a handler of another kind could show of it."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []
        self.everything: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        self.lines.append(self.format(record))
        self.everything.append(f"{self.lines[-1]} {record.getMessage()} {vars(record)!r} {trace}")

    def access(self) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.lines) if line["logger"] == "klamala.access"]


@contextmanager
def logged() -> Iterator[Captured]:
    """What the service logs inside, once it is built: building replaces handlers."""
    captured, logger = Captured(), logging.getLogger("klamala")
    logger.addHandler(captured)
    try:
        yield captured
    finally:
        logger.removeHandler(captured)


@contextmanager
def all_logged() -> Iterator[Captured]:
    """What the service and every library below it log inside, told to log all that they can."""
    root = logging.getLogger()
    level = root.level
    with logged() as captured:
        root.addHandler(captured)
        root.setLevel(logging.DEBUG)
        try:
            yield captured
        finally:
            root.setLevel(level)
            root.removeHandler(captured)


ROUTES = {
    "200": "/health",
    "200 to HEAD": "/health",
    "200, ready": "/ready",
    "401 of the token endpoint": "/token",
    "400 of the token endpoint": "/token",
    "404": None,
    "404, record": "/refine/<record_id>",
    "405": None,
    "500": "/crash",
    "OPTIONS of the token endpoint": "/token",
    "OPTIONS of nothing": None,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_request_is_one_line_in_the_log(plain: Harness, name: str) -> None:
    """One JSON object a request, with its id, its rule in place of its path, its outcome and its caller."""
    call, credentials = CALLS[name], plain.register()
    token = plain.token(credentials, user_id="ann")
    with logged() as log:
        answer = call.send(plain, token, X_Request_Id="the-callers")
    (line,) = log.access()
    assert all("\n" not in each for each in log.lines)
    assert line["request_id"] == answer.headers["X-Request-Id"] == "the-callers"
    assert line["method"] == call.method
    assert line["route"] == ROUTES.get(name, "/refine")
    assert line["status"] == call.status
    assert line["level"] == "info"
    assert isinstance(line["latency_ms"], int)
    assert line["latency_ms"] >= 0
    guarded = line["route"] in ("/refine", "/refine/<record_id>") and call.authenticated and call.method != "OPTIONS"
    assert (line["client"], line["user"]) == ((credentials.client_id, "ann") if guarded else (None, None))
    assert line["timestamp"].endswith("+00:00")


def test_the_line_of_an_issued_token_names_its_client_and_user(harness: Harness) -> None:
    """Who was given a token is in the log."""
    credentials = harness.register()
    with logged() as log:
        harness.token(credentials, user_id="ann")
    (line,) = log.access()
    assert (line["route"], line["status"]) == ("/token", 200)
    assert (line["client"], line["user"]) == (credentials.client_id, "ann")


def test_the_line_of_a_refused_scope_names_the_caller(harness: Harness) -> None:
    """Who tried is known when the token is good, though it is not for this."""
    credentials = harness.register("log:read")
    token = harness.token(credentials)
    with logged() as log:
        assert harness.refine(token, {"prompt": "a"}).status_code == 403
    (line,) = log.access()
    assert (line["client"], line["user"]) == (credentials.client_id, credentials.client_id)


def test_the_line_of_a_refinement_says_what_it_cost(harness: Harness) -> None:
    """A refinement's line has engine, attempts, time and tokens of the model, of both attempts together."""
    lost = Rewrite("lost", (), (), "gpt-4.1", Usage(11, 7), upstream_ms=30)
    kept = Rewrite("kept {{x}}", (), (), "gpt-4.1", Usage(13, 9), upstream_ms=40)
    harness.engine.outcomes = [lost, kept]
    token = harness.token()
    with logged() as log:
        assert harness.refine(token, {"prompt": "a {{x}}"}).status_code == 200
    (line,) = log.access()
    costs = {"engine": "scripted", "attempts": 2, "upstream_ms": 70, "input_tokens": 24, "output_tokens": 16}
    assert {name: line[name] for name in costs} == costs


def test_the_line_of_a_failed_refinement_says_why(harness: Harness) -> None:
    """A failed call's line has the engine, the attempt, the kind of failure, the upstream's status and time."""
    harness.engine.outcomes = [UpstreamUnavailable("Overloaded.", upstream_status=529)]
    token = harness.token()
    with logged() as log:
        assert harness.refine(token, {"prompt": "a"}).status_code == 503
    (line,) = log.access()
    why = {"status": 503, "engine": "scripted", "attempts": 1, "failure": "UpstreamUnavailable", "upstream_status": 529}
    assert {name: line[name] for name in why} == why
    assert 0 <= line["upstream_ms"] <= line["latency_ms"]


def test_a_lines_fields_are_of_its_own_request(harness: Harness) -> None:
    """What one request put into its line is not in the next one's."""
    token = harness.token()
    with logged() as log:
        harness.refine(token, {"prompt": "a"})
        harness.http.get("/health")
    refined, health = log.access()
    assert "engine" in refined
    assert not {"engine", "attempts", "upstream_ms"} & set(health)
    assert (health["client"], health["user"]) == (None, None)


PROGRAM = """
import logging, pathlib, sys
if sys.argv[2] == "lambda":
    logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))  # as awslambdaric does before our code runs
from tests.harness import build
harness = build(pathlib.Path(sys.argv[1]))
for _ in range(3):
    harness.http.get("/nowhere")
harness.storage.close()
"""


@pytest.mark.parametrize("place", ["server", "lambda"])
def test_standard_error_gets_one_json_line_a_request(tmp_path: Path, place: str) -> None:
    """A process writes each request once, as JSON, also where the root logger has a handler before it, as on Lambda."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), place],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    assert [json.loads(line)["status"] for line in lines] == [404, 404, 404]


# What is never in the log. Each canary is another, so that a failure says which one got out.

PROMPT = "CANARY-prompt {{name}}"
INSTRUCTIONS = "CANARY-instructions"
REFINED = "CANARY-refined {{name}}"
REJECTED = "CANARY-rejected"
CHANGE = Change("CANARY-reason", "CANARY-before", "CANARY-after")
KEY = "CANARY-idempotency-key"
OPENAI_KEY = "sk-CANARY-openai"
CANARIES = ("CANARY", MARKER, FIRST_SECRET, SECOND_SECRET)


def rewrite(text: str) -> Rewrite:
    return Rewrite(text, (CHANGE,), ("CANARY-assumption",), "gpt-4.1", Usage(1, 1))


OUTCOMES: dict[str, tuple[list[str | Rewrite | EngineError], int]] = {
    "refined": ([rewrite(REFINED)], 200),
    "corrected": ([rewrite(REJECTED), rewrite(REFINED)], 200),
    "not refined": ([rewrite(REJECTED)], 200),
    "correction failed": ([rewrite(REJECTED), UnusableAnswer("CANARY-message")], 200),
    "rejected": ([UpstreamRejected("CANARY-message", upstream_status=401)], 502),
    "unusable": ([UnusableAnswer("CANARY-message", usage=Usage(1, 1))], 502),
    "refused": ([ModelRefused("CANARY-message")], 502),
    "unavailable": ([UpstreamUnavailable("CANARY-message", retry_after=1, upstream_status=503)], 503),
    "timeout": ([ModelTimeout("CANARY-message")], 504),
}


def assert_silent(log: Captured, *secrets: str) -> None:
    """None of the canaries, and none of these secrets, is in anything that was logged."""
    assert log.access(), "nothing was logged at all"
    for text in log.everything:
        assert not [canary for canary in (*CANARIES, *secrets) if canary in text], text


def signature(token: str) -> str:
    return token.rpartition(".")[2]


@pytest.mark.parametrize(("outcomes", "expected"), OUTCOMES.values(), ids=OUTCOMES)
def test_a_refinement_leaves_no_text_in_the_log(
    tmp_path: Path, outcomes: list[str | Rewrite | EngineError], expected: int
) -> None:
    """Whatever becomes of a call, neither its texts, nor its key, nor its token are logged, when retried or read."""
    harness = build(tmp_path, ScriptedEngine(outcomes))
    credentials = harness.register()
    with all_logged() as log:
        token = harness.token(credentials)
        body = {"prompt": PROMPT, "instructions": INSTRUCTIONS}
        answer = harness.refine(token, body, Idempotency_Key=KEY)
        assert answer.status_code == expected
        harness.refine(token, body, Idempotency_Key=KEY)
        harness.refine(token, {"prompt": "CANARY-other"}, Idempotency_Key=KEY)
        record = answer.get_json().get("id", UNKNOWN_ID)
        harness.http.get(f"/refine/{record}", headers={"Authorization": f"Bearer {token}"})
        by_key = {"X-API-Key": credentials.api_key}
        harness.http.post("/refine-prompt", json=body, headers=by_key)
    assert_silent(log, token, signature(token), credentials.api_key, credentials.client_secret, "Bearer ")
    harness.storage.close()


Send = Callable[[Harness, Credentials, str], TestResponse]


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


REFUSED: dict[str, tuple[Send, int]] = {
    "broken JSON": (
        lambda service, _, token: service.http.post(
            "/refine", data=f'{{"prompt": "{PROMPT}', content_type="application/json", headers=_bearer(token)
        ),
        400,
    ),
    "malformed key": (
        lambda service, _, token: service.refine(token, {"prompt": PROMPT}, Idempotency_Key=f"{KEY} "),
        400,
    ),
    "another type": (
        lambda service, _, token: service.http.post("/refine", data=PROMPT, headers=_bearer(token)),
        415,
    ),
    "too large": (lambda service, _, token: service.refine(token, {"prompt": PROMPT * 1000}), 413),
    "wrong field": (
        lambda service, _, token: service.refine(token, {"prompt": [PROMPT], "CANARY-name": "CANARY"}),
        422,
    ),
    "query": (
        lambda service, _, token: service.http.post(
            "/refine?prompt=CANARY-query", json={"prompt": PROMPT}, headers=_bearer(token)
        ),
        422,
    ),
    "path": (lambda service, _, token: service.http.get("/refine/CANARY-id", headers=_bearer(token)), 404),
    "unknown route": (lambda service, _, token: service.http.get("/CANARY?a=CANARY", headers=_bearer(token)), 404),
    "wrong method": (lambda service, _, token: service.http.get("/refine?a=CANARY", headers=_bearer(token)), 405),
    "bad request id": (
        lambda service, _, token: service.http.get("/nowhere", headers={"X-Request-Id": "CANARY id"}),
        404,
    ),
    "bad token": (lambda service, _, token: service.refine("CANARY.token.x", {"prompt": PROMPT}), 401),
    "tampered token": (lambda service, _, token: service.refine(token + "x", {"prompt": PROMPT}), 401),
    "two credentials": (
        lambda service, credentials, token: service.http.post(
            "/refine-prompt", json={"prompt": PROMPT}, headers={**_bearer(token), "X-API-Key": credentials.api_key}
        ),
        400,
    ),
    "bad API key": (
        lambda service, credentials, _: service.http.post(
            "/refine-prompt", json={"prompt": PROMPT}, headers={"X-API-Key": f"{credentials.client_id}.CANARY"}
        ),
        401,
    ),
    "bad secret": (
        lambda service, credentials, _: service.http.post(
            "/token", json={}, headers=_basic(credentials.client_id, "CANARY-secret")
        ),
        401,
    ),
    "bad secret in the body": (
        lambda service, credentials, _: service.http.post(
            "/token", json={"client_id": credentials.client_id, "client_secret": "CANARY-secret"}
        ),
        401,
    ),
    "secret in the query": (
        lambda service, credentials, _: service.http.post(
            f"/token?client_secret={credentials.client_secret}", json={"grant_type": "client_credentials"}
        ),
        400,
    ),
    "bad scope": (
        lambda service, credentials, _: service.http.post(
            "/token", json={"scope": "CANARY-scope"}, headers={"X-API-Key": credentials.api_key}
        ),
        400,
    ),
    "crash": (
        lambda service, _, token: service.http.post("/crash", json={"prompt": PROMPT}, headers=_bearer(token)),
        500,
    ),
}


@pytest.mark.parametrize(("send", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_leaves_no_input_in_the_log(tmp_path: Path, send: Send, expected: int) -> None:
    """What was wrong with a request is not logged with the request's own words, and its credentials are not at all."""
    harness = build(tmp_path, MAX_BODY_BYTES="2048")
    harness.app.add_url_rule("/crash", view_func=crash, methods=["POST"])
    credentials = harness.register()
    with all_logged() as log:
        token = harness.token(credentials)
        answer = send(harness, credentials, token)
        assert answer.status_code == expected, answer.text
    assert_silent(log, token, signature(token), credentials.api_key, credentials.client_secret)
    harness.storage.close()


REPLIES: dict[str, tuple[Reply, int]] = {
    "refined": (refinement(REFINED), 200),
    "lost": (refinement(REJECTED), 200),
    "bad credentials": (status(401), 502),
    "broken": (malformed(), 502),
    "page": (html(), 502),
    "refused": (completion(None, refusal="CANARY-refusal"), 502),
    "cut": (completion("CANARY-half", finish_reason="length"), 502),
    "failing": (status(503, headers={"Retry-After": "0"}), 503),
}


@pytest.mark.parametrize(("reply", "expected"), REPLIES.values(), ids=REPLIES)
def test_a_real_engine_leaves_no_text_in_the_log(
    tmp_path: Path, upstream: Upstream, reply: Reply, expected: int
) -> None:
    """Nor do the libraries below it, told to log all they can: not the key, not the texts, not the upstream's words."""
    upstream.script(reply)
    harness, engine = build(tmp_path), OpenAIEngine(OPENAI_KEY, upstream.url)
    harness.app = create_app(harness.settings, storage=harness.storage, engine=engine)
    with all_logged() as log:
        token = harness.token()
        answer = harness.refine(token, {"prompt": PROMPT, "instructions": INSTRUCTIONS})
        assert answer.status_code == expected, answer.text
    assert MARKER not in answer.text
    assert OPENAI_KEY not in answer.text
    assert upstream.requests[0].headers["authorization"] == f"Bearer {OPENAI_KEY}"
    assert_silent(log, token, signature(token))
    engine.close()
    harness.storage.close()
