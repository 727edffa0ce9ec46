"""Every family of routes, once through AWS Lambda's door and behind both kinds of API."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.door import ORIGIN, Door
from tests.events import GATEWAYS, REQUEST_ID, Answer, Call, Event, http_api, rest_api
from tests.stores import new_database

MAX_BODY_BYTES = 1024 * 1024
JSON = ("Content-Type", "application/json")


def test_a_prompt_is_refined_and_read(door: Door) -> None:
    """From token to refinement to reading it again, as on any server."""
    made = door.post("/refine", {"prompt": "please sort {{ items }} by größe ✓"})
    assert made.status == 200
    assert made.json["engine"] == "offline"
    assert made.json["original_prompt"] == "please sort {{ items }} by größe ✓"
    read = door.call("GET", f"/refine/{made.json['id']}")
    assert (read.status, read.json) == (200, made.json)
    assert int(read.headers["Content-Length"]) == len(read.body)
    assert not made.base64


def test_a_replay_says_so(door: Door) -> None:
    """An idempotency key reaches the service, and its mark the caller."""
    key = ("Idempotency-Key", new_database())
    first, second = (door.post("/refine-prompt", {"prompt": "sort"}, key) for _ in range(2))
    assert (first.status, second.status) == (200, 200)
    assert first.json == second.json
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"


STAGES = {
    "default stage": (http_api, {}, ""),
    "named stage": (http_api, {"stage": "dev"}, "/dev"),
    "REST API": (rest_api, {}, "/prod"),
}


@pytest.mark.parametrize(("gateway", "event", "prefix"), STAGES.values(), ids=STAGES)
def test_a_report_is_found_where_its_location_says(
    door: Door, gateway: Callable[..., Event], event: dict[str, str], prefix: str
) -> None:
    """`Location` begins with the stage where the caller's address does, and the record is there."""
    there = replace(door, gateway=gateway)
    made = there.post("/log-request", {"prompt": "p", "response": "r", "metadata": {"größe": 1}}, **event)
    assert made.status == 201
    assert made.headers["Location"] == f"{prefix}/log-request/{made.json['id']}"
    read = there.call("GET", made.headers["Location"].removeprefix(prefix), **event)
    assert (read.status, read.json["metadata"]) == (200, {"größe": 1})


def test_the_log_is_read_in_pages(door: Door) -> None:
    """Query parameters arrive, the cursor's own characters too."""
    for number in range(3):
        door.post("/log-request", {"prompt": f"p{number}", "response": "r", "model": "a b+c&d=é"})
    first = door.call("GET", "/log-request", query="limit=2&kind=client&model=a+b%2Bc%26d%3D%C3%A9")
    assert [item["prompt"] for item in first.json["items"]] == ["p2", "p1"]
    rest = f"limit=1&kind=client&model=a+b%2Bc%26d%3D%C3%A9&cursor={first.json['next_cursor']}"
    assert [item["prompt"] for item in door.call("GET", "/log-request", query=rest).json["items"]] == ["p0"]


DAY = "from=2026-11-01T00:00:00%2B01:00&to=2026-11-02T00:00:00%2B01:00"
READS = ["/health", "/ready", "/models", "/strategies", f"/usage?{DAY}", "/openapi.json", "/docs"]
FILES = ("favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css", "init.js", "page.css")


@pytest.mark.parametrize("target", [*READS, *(f"/docs/{name}" for name in FILES)])
def test_what_is_read_is_what_any_server_answers(door: Door, target: str) -> None:
    """Status, headers and bytes are those of the app itself; HEAD has them without the body."""
    headers = {"Authorization": f"Bearer {door.token}", "Origin": ORIGIN}
    expected = door.module.app.test_client().get(target, headers=headers)
    path, _, query = target.partition("?")
    answer = door.call("GET", path, ("Origin", ORIGIN), query=query)
    assert expected.status_code == 200
    assert (answer.status, answer.body) == (expected.status_code, expected.data)
    assert answer.base64 == path.endswith(".png")
    head = door.call("HEAD", path, ("Origin", ORIGIN), query=query)
    assert (head.status, head.body) == (200, b"")
    for found in (answer, head):
        assert found.headers["X-Request-Id"] == REQUEST_ID
        varying = ("X-Request-Id", "Date")
        assert sorted(pair for pair in found.headers if pair[0] not in varying) == sorted(
            pair for pair in expected.headers if pair[0] not in varying
        )


def test_what_is_known_is_not_sent_again(door: Door) -> None:
    """304 goes through, with no body and no content type of the library's."""
    tag = door.call("GET", "/docs/init.js").headers["ETag"]
    answer = door.call("GET", "/docs/init.js", ("If-None-Match", tag))
    assert (answer.status, answer.body) == (304, b"")
    assert "Content-Type" not in answer.headers


def test_a_preflight_is_allowed(door: Door) -> None:
    """A page of a listed origin may ask; one of another may not."""
    asked = (("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization"))
    answer = replace(door, token="").call("OPTIONS", "/refine", ("Origin", ORIGIN), *asked)
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    other = door.call("OPTIONS", "/refine", ("Origin", "https://evil.example"), *asked)
    assert "Access-Control-Allow-Origin" not in other.headers


LARGE = b'{"prompt": "' + b"a" * MAX_BODY_BYTES + b'"}'
PROBLEMS = {
    "401": (Call("POST", "/refine").with_json({"prompt": "a"}), 401, "authentication-required"),
    "401, broken token": (
        Call("GET", "/models", headers=[("Authorization", "Bearer ✓")]),
        401,
        "invalid-token",
    ),
    "404": (Call(path="/nowhere"), 404, "not-found"),
    "404, encoded": (Call(path="/%E2%9C%93/%252F"), 404, "not-found"),
    "405": (Call("PUT", "/refine"), 405, "method-not-allowed"),
}
BODY_PROBLEMS = {
    "400": (b"{", (JSON,), 400, "malformed-request"),
    "400, no body": (b"", (JSON,), 400, "malformed-request"),
    "400, no UTF-8": (b'{"prompt": "caf\xe9"}', (JSON,), 400, "malformed-request"),
    "413": (LARGE, (JSON,), 413, "body-too-large"),
    "415": (b"{}", (("Content-Type", "text/plain"),), 415, "unsupported-media-type"),
    "415, compressed": (gzip.compress(b"{}"), (("Content-Type", "application/gzip"),), 415, "unsupported-media-type"),
    "422": (b"{}", (JSON,), 422, "invalid-request"),
}


def assert_problem(answer: Answer, status: int, slug: str) -> None:
    """The answer is this problem, as text."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert not answer.base64
    assert answer.json["type"] == f"/problems/{slug}"
    assert answer.json["request_id"] == answer.headers["X-Request-Id"] == REQUEST_ID


@pytest.mark.parametrize(("call", "status", "slug"), PROBLEMS.values(), ids=PROBLEMS)
def test_problems_are_told(door: Door, call: Call, status: int, slug: str) -> None:
    """What is wrong with a request is answered in the service's own form, with its headers."""
    answer = door.send(call)
    assert_problem(answer, status, slug)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert answer.headers.get("Allow") == ("OPTIONS, POST" if status == 405 else None)


@pytest.mark.parametrize(("body", "headers", "status", "slug"), BODY_PROBLEMS.values(), ids=BODY_PROBLEMS)
def test_a_bad_body_is_told(
    door: Door, body: bytes, headers: tuple[tuple[str, str], ...], status: int, slug: str
) -> None:
    """However API Gateway hands it over, a body that cannot be taken is refused as anywhere else."""
    bearer = ("Authorization", f"Bearer {door.token}")
    assert_problem(door.send(Call("POST", "/refine", "", (bearer, *headers), body)), status, slug)


def test_without_a_model_a_text_is_not_made(door: Door) -> None:
    """503 has its `Retry-After`, and the limit's headers go through."""
    answer = door.post("/generate", {"prompt": "p"})
    assert_problem(answer, 503, "no-model")
    assert answer.headers["Retry-After"]
    assert answer.headers["x-ratelimit-limit-requests"] == "1000000"


def test_bodies_come_in_base64_too(door: Door) -> None:
    """A REST API with `binaryMediaTypes` hands on every body so; form, JSON and large ones are read the same."""
    large = json.dumps({"prompt": "語" * 100_000}, ensure_ascii=False).encode()
    bearer = ("Authorization", f"Bearer {door.token}")
    answer = door.send(
        Call("POST", "/refine", "", (bearer, JSON), b"{}"), body=b64encode(large).decode(), isBase64Encoded=True
    )
    assert answer.status == 200
    assert answer.json["original_prompt"] == "語" * 100_000
    form = ("Content-Type", "application/x-www-form-urlencoded")
    basic = f"{door.credentials.client_id}:{door.credentials.client_secret}"
    authorized = ("Authorization", f"Basic {b64encode(basic.encode()).decode()}")
    encoded = b64encode(b"grant_type=client_credentials&user_id=%C3%A4nn").decode()
    token = door.send(Call("POST", "/token", "", (authorized, form), b"x"), body=encoded, isBase64Encoded=True)
    assert token.status == 200, token.body


@pytest.mark.parametrize("name", ["X-API-Key", "Access-Token", "access_token"])
def test_each_name_of_the_key_is_known(opened: Door, name: str) -> None:
    """The first design's name too, which only some servers hand on."""
    for gateway in GATEWAYS.values():
        answer = replace(opened, gateway=gateway).post("/token", {}, (name, opened.credentials.api_key))
        assert answer.status == 200


def test_two_values_of_one_header_are_not_one(door: Door) -> None:
    """A key that is sent twice is refused, and not taken by its last value."""
    answer = replace(door, token="").post("/token", {}, ("X-API-Key", "other"), ("X-API-Key", door.credentials.api_key))
    assert answer.status == 401
