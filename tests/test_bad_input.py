"""What a caller can get wrong in a request, and the answer that each mistake gets."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import uuid
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from records import Completion, Kind, Record, Status, new_id, utc_now
from tests.harness import FIRST_SECRET, Harness, build
from tests.stores import pending
from tests.upstream import Upstream

ROOT = Path(__file__).parents[1]
JSON = "application/json"
CANARY = "CANARY-input-7f3a"
MAX_PROMPT_CHARS = 60
SMALL_BODY = 2048
REFINE_PATHS = ("/refine", "/refine-prompt")
MODEL_PATHS = (*REFINE_PATHS, "/generate", "/secure-generate")
JSON_PATHS = (*MODEL_PATHS, "/log-request")
BODY_PATHS = (*JSON_PATHS, "/token")
TIMEOUT = 60.0

pathwise = pytest.mark.parametrize("path", REFINE_PATHS)
every_path = pytest.mark.parametrize("path", JSON_PATHS)


@dataclass
class Service:
    """A service that several tests share, with a caller's token and key."""

    harness: Harness
    token: str
    api_key: str

    def post(self, path: str, data: bytes, content_type: str | None = JSON, **headers: str) -> TestResponse:
        """Send a body; `/token` gets the key, the other routes the token, and both any further headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        credentials = {"X-API-Key": self.api_key} if path == "/token" else {"Authorization": f"Bearer {self.token}"}
        return self.harness.http.post(path, data=data, content_type=content_type, headers={**credentials, **named})

    def get(self, path: str) -> TestResponse:
        return self.harness.http.get(path, headers={"Authorization": f"Bearer {self.token}"})

    def effects(self) -> tuple[int, int]:
        """How often the engine was asked, and how many records there are."""
        file = self.harness.settings.database_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file)) as connection:
            (records,) = connection.execute("SELECT count(*) FROM requests").fetchone()
        return len(self.harness.engine.deadlines), int(records)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """What happens inside asks no engine and records nothing."""
        before = self.effects()
        yield
        assert self.effects() == before


def service_in(folder: Path, **environ: str) -> Service:
    harness = build(folder, None, **environ)
    credentials = harness.register()
    return Service(harness, harness.token(credentials, user_id="ann"), credentials.api_key)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a small limit on prompts; the tests that share it leave it as they found it."""
    shared = service_in(tmp_path_factory.mktemp("bad-input"), MAX_PROMPT_CHARS=str(MAX_PROMPT_CHARS))
    yield shared
    shared.harness.storage.close()


def strict_json(data: bytes) -> Any:
    """Parse UTF-8 JSON that every parser takes: no NaN, nothing that UTF-8 cannot hold."""

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    value = json.loads(data.decode("utf-8"), parse_constant=no_constant)
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def assert_problem(answer: TestResponse, status: int, slug: str, *fields: str) -> None:
    """The answer is this problem, whole, about these fields, and without the caller's input."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    problem = strict_json(answer.data)
    assert set(problem) == {"type", "title", "status", "detail", "request_id"} | ({"errors"} if fields else set())
    assert problem["type"] == f"/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    errors = problem.get("errors", [])
    assert all(set(error) == {"field", "message"} and error["message"] for error in errors)
    assert sorted(error["field"] for error in errors) == sorted(fields)
    assert CANARY not in answer.text
    assert all(CANARY not in value for value in answer.headers.values())


def as_json(value: object) -> bytes:
    """JSON with escapes, so that unpaired surrogates can be sent."""
    return json.dumps(value).encode("ascii")


GOOD = as_json({"prompt": CANARY})

MALFORMED = {
    "empty": b"",
    "blank": b" \n ",
    "text": CANARY.encode(),
    "broken": b'{"prompt": "CANARY-input-7f3a", }',
    "single quotes": b"{'prompt': 'CANARY-input-7f3a'}",
    "comment": b'{"prompt": "CANARY-input-7f3a"} // CANARY-input-7f3a',
    "two values": GOOD + GOOD,
    "truncated in a string": GOOD[:-4],
    "truncated before the brace": GOOD[:-1],
    "raw newline in a string": b'{"prompt": "CANARY-input-7f3a\n"}',
    "list": b'["CANARY-input-7f3a"]',
    "string": b'"CANARY-input-7f3a"',
    "number": b"42",
    "null": b"null",
    "true": b"true",
    "invalid UTF-8": b'{"prompt": "CANARY-input-7f3a \xff"}',
    "Latin-1": b'{"prompt": "CANARY-input-7f3a caf\xe9"}',
    "encoded surrogate": b'{"prompt": "CANARY-input-7f3a \xed\xa0\x80"}',
    "overlong UTF-8": b'{"prompt": "CANARY-input-7f3a \xc0\x80"}',
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-16 without BOM": GOOD.decode().encode("utf-16-le"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "BOM": b"\xef\xbb\xbf" + GOOD,
    "NaN": b'{"prompt": NaN}',
    "Infinity": b'{"prompt": Infinity}',
    "-Infinity": b'{"prompt": -Infinity}',
    "nested NaN": b'{"prompt": "CANARY-input-7f3a", "extra": [{"a": NaN}]}',
    "duplicate name": b'{"prompt": "CANARY-input-7f3a", "prompt": "CANARY-input-7f3a"}',
    "duplicate name, escaped": b'{"prompt": "CANARY-input-7f3a", "\\u0070rompt": "CANARY-input-7f3a"}',
    "nested duplicate name": b'{"prompt": "CANARY-input-7f3a", "extra": [{"a": 1, "a": 2}]}',
    "endless lists": b"[" * 200_000,
    "endless objects": b'{"a":' * 200_000,
    "closed endless lists": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
@every_path
def test_a_body_that_is_no_json_object_is_400(service: Service, path: str, body: bytes) -> None:
    """What is not one JSON object in UTF-8 with each name once is refused whole."""
    with service.untouched():
        assert_problem(service.post(path, body), 400, "malformed-request")


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_an_oauth_error_at_the_token_endpoint(service: Service, body: bytes) -> None:
    """`/token` refuses the same bodies in the form of RFC 6749."""
    answer = service.post("/token", body)
    assert answer.status_code == 400, answer.text
    assert answer.mimetype == JSON
    document = strict_json(answer.data)
    assert set(document) == {"error", "error_description"}
    assert document["error"] == "invalid_request"
    assert CANARY not in answer.text


CONTENT_TYPES = {
    "none": None,
    "empty": "",
    "text": "text/plain",
    "form": "application/x-www-form-urlencoded",
    "multipart": "multipart/form-data; boundary=x",
    "problem": "application/problem+json",
    "JSON sequence": "application/json-seq",
    "text/json": "text/json",
    "prefix": "application/jsonx",
    "two": "text/plain, application/json",
    "nonsense": ";;;",
}


@pytest.mark.parametrize("content_type", CONTENT_TYPES.values(), ids=CONTENT_TYPES)
@pytest.mark.parametrize("body", [GOOD, b""], ids=["good body", "no body"])
@every_path
def test_a_body_of_another_type_is_415(service: Service, path: str, body: bytes, content_type: str | None) -> None:
    """Only `application/json` is read, whatever the body holds."""
    with service.untouched():
        assert_problem(service.post(path, body, content_type), 415, "unsupported-media-type")


@pytest.mark.parametrize("content_type", CONTENT_TYPES.values(), ids=CONTENT_TYPES)
def test_a_body_of_another_type_is_an_oauth_error_at_the_token_endpoint(
    service: Service, content_type: str | None
) -> None:
    """`/token` takes a form or JSON, and a JSON object is no form of credentials."""
    answer = service.post("/token", GOOD, content_type)
    assert answer.status_code == 400, answer.text
    assert strict_json(answer.data)["error"] == "invalid_request"
    assert CANARY not in answer.text


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", " application/json "])
@pathwise
def test_the_media_type_is_read_as_http_writes_it(service: Service, path: str, content_type: str) -> None:
    """Case, parameters and spaces of the content type do not matter."""
    assert service.post(path, GOOD, content_type).status_code == 200


NAMES = ("prompt", "instructions", "strategy", "parent_id", "model")
WRONG_TYPES: dict[str, object] = {
    "integer": 7,
    "float": 1.5,
    "true": True,
    "false": False,
    "empty list": [],
    "list": [CANARY],
    "empty object": {},
    "object": {CANARY: CANARY},
}
BLANKS = {"empty": "", "spaces": "   ", "newlines": "\r\n\t", "ideographic": "\u3000", "separators": "\u2028\u00a0"}
UNSTORABLE = {
    "NUL": f"{CANARY}\0",
    "high surrogate": f"{CANARY}\ud800",
    "low surrogate": f"\udfff{CANARY}",
    "reversed pair": f"{CANARY}\udc00\ud800",
}


def with_field(name: str, value: object) -> bytes:
    """A body that is good but for this field."""
    return as_json({**({} if name == "parent_id" else {"prompt": "a draft"}), name: value})


def _wrong_fields() -> Iterator[tuple[str, bytes, str]]:
    for name in NAMES:
        for values in (WRONG_TYPES, BLANKS, UNSTORABLE):
            for kind, value in values.items():
                yield f"{name}: {kind}", with_field(name, value), name
        too_large = with_field(name, "1e999").replace(b'"1e999"', b"1e999")
        yield f"{name}: too large a number", too_large, name
    yield "nothing", b"{}", "prompt"
    yield "prompt: null", b'{"prompt": null}', "prompt"
    yield "prompt: left out", as_json({"instructions": CANARY}), "prompt"
    yield "prompt: one too long", with_field("prompt", CANARY.ljust(MAX_PROMPT_CHARS + 1, "x")), "prompt"
    yield "prompt: far too long", with_field("prompt", CANARY * 10_000), "prompt"
    yield "instructions: one too long", with_field("instructions", CANARY.ljust(4001, "x")), "instructions"
    yield "strategy: unknown", with_field("strategy", CANARY), "strategy"
    yield "strategy: a path", with_field("strategy", "../general"), "strategy"
    yield "strategy: another case", with_field("strategy", "General"), "strategy"
    yield "model: unknown", with_field("model", CANARY), "model"
    yield "parent_id: unknown", with_field("parent_id", new_id()), "parent_id"
    yield "parent_id: malformed", with_field("parent_id", CANARY), "parent_id"
    yield "parent_id: upper case", with_field("parent_id", new_id().upper()), "parent_id"
    yield "parent_id: very long", with_field("parent_id", CANARY * 10_000), "parent_id"
    yield "parent_id: with a prompt", as_json({"prompt": CANARY, "parent_id": new_id()}), "prompt"
    for kind, value in {"text": CANARY, "null": None, "list": [CANARY], "object": {CANARY: CANARY}}.items():
        yield f"unknown field: {kind}", with_field("extra", value), "extra"
    yield "prompt: an endless number", b'{"prompt": ' + b"9" * 5000 + b"}", "prompt"
    yield "unknown field: too large a number", b'{"prompt": "a draft", "extra": 1e999}', "extra"
    yield "unknown field: another case", as_json({"prompt": "a draft", "Prompt": CANARY}), "Prompt"
    yield "unknown field: no name", as_json({"prompt": "a draft", "": CANARY}), ""
    yield "unknown field: NUL in the name", as_json({"prompt": "a draft", "a\0b": CANARY}), "a\0b"
    yield "unknown field: surrogate in the name", as_json({"prompt": "a draft", "a\ud800b": CANARY}), "a?b"
    yield "unknown field: 10 KB name", as_json({"prompt": "a draft", "n" * 10_240: CANARY}), "n" * 100


WRONG_FIELDS = [pytest.param(body, name, id=label) for label, body, name in _wrong_fields()]


@pytest.mark.parametrize(("body", "name"), WRONG_FIELDS)
@pathwise
def test_a_wrong_field_is_422_and_named(service: Service, path: str, body: bytes, name: str) -> None:
    """A field that cannot be taken is named, its value is not repeated, and nothing else happens."""
    with service.untouched():
        assert_problem(service.post(path, body), 422, "invalid-request", name)


@pytest.mark.parametrize(("body", "name"), WRONG_FIELDS)
def test_what_the_token_endpoint_does_not_know_is_ignored(service: Service, body: bytes, name: str) -> None:
    """Another route's fields, of whatever type, neither stop `/token` nor come back from it."""
    answer = service.post("/token", body)
    assert answer.status_code == 200, answer.text
    assert set(strict_json(answer.data)) == {"access_token", "token_type", "expires_in", "scope"}


@pathwise
def test_every_wrong_field_is_named(service: Service, path: str) -> None:
    """A caller learns of all mistakes at once."""
    body = {"prompt": 7, "instructions": [CANARY], "strategy": CANARY, "model": CANARY, "parent_id": {}, "extra": 1}
    with service.untouched():
        assert_problem(service.post(path, as_json(body)), 422, "invalid-request", *body)


@pathwise
def test_many_wrong_fields_do_not_make_a_large_answer(service: Service, path: str) -> None:
    """The answer stays small however many fields are wrong: Lambda cannot return more than 6 MB."""
    with service.untouched():
        answer = service.post(path, as_json({f"{number:x}": 0 for number in range(80_000)}))
    assert answer.status_code == 422
    assert len(answer.data) < 64 * 1024


ACCEPTED: dict[str, dict[str, object]] = {
    "prompt at the limit": {"prompt": "x" * MAX_PROMPT_CHARS},
    "prompt at the limit, astral": {"prompt": "\U0001f600" * MAX_PROMPT_CHARS},
    "instructions at the limit": {"prompt": "a draft", "instructions": "x" * 4000},
    "instructions at the limit, astral": {"prompt": "a draft", "instructions": "\U0001f600" * 4000},
    "nulls": {"prompt": "a draft", "instructions": None, "strategy": None, "parent_id": None, "model": None},
    "blanks around": {"prompt": "\u3000 a draft \n"},
    "control characters": {"prompt": "a\x01\x1b\x7f\u2028draft"},
    "known strategy and model": {"prompt": "a draft", "strategy": "general", "model": "gpt-4.1"},
}


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
@pathwise
def test_what_is_just_within_the_rules_is_taken(service: Service, path: str, body: Mapping[str, object]) -> None:
    """A body exactly at a limit, counted in characters, is refined, and its prompt comes back unchanged."""
    answer = service.post(path, as_json(body))
    assert answer.status_code == 200, answer.text
    assert strict_json(answer.data)["original_prompt"] == body["prompt"]


def parent(service: Service, status: Status, **differences: Any) -> Record:
    """A refinement of the caller's own, recorded with this status; `differences` make it another's."""
    client_id = service.api_key.partition(".")[0]
    now = utc_now()
    detail = {"strategy": "general", "instructions": None, "parent_id": None}
    values = {"client_id": client_id, "user_id": "ann", "prompt": CANARY, "detail": detail, "deadline_at": None}
    record = pending(now, **{**values, **differences})
    service.harness.storage.begin(record)
    if status is not Status.PENDING:
        error = None if status is Status.SUCCEEDED else {"type": "t", "title": "t", "status": 502, "detail": "d"}
        completion = Completion(
            status=status, response="a parent", detail=record.detail, error=error, latency_ms=1, completed_at=now
        )
        service.harness.storage.finish(record.id, completion)
    return record


UNFIT_PARENTS: dict[str, tuple[Status, dict[str, Any]]] = {
    "failed": (Status.FAILED, {}),
    "pending": (Status.PENDING, {}),
    "abandoned": (Status.ABANDONED, {}),
    "overdue": (Status.PENDING, {"deadline_at": utc_now()}),
    "another user's": (Status.SUCCEEDED, {"user_id": "bob"}),
    "another client's": (Status.SUCCEEDED, {"client_id": "klm_0000000000000000"}),
    "another kind": (Status.SUCCEEDED, {"kind": Kind.GENERATE}),
}


@pytest.mark.parametrize(("status", "differences"), UNFIT_PARENTS.values(), ids=UNFIT_PARENTS)
@pathwise
def test_only_a_succeeded_refinement_of_ones_own_can_be_a_parent(
    service: Service, path: str, status: Status, differences: dict[str, Any]
) -> None:
    """Any other record as `parent_id` is answered like one that does not exist."""
    record = parent(service, status, **differences)
    with service.untouched():
        answer = service.post(path, as_json({"parent_id": record.id}))
        assert_problem(answer, 422, "invalid-request", "parent_id")
        unknown = service.post(path, as_json({"parent_id": new_id()}))
    assert strict_json(answer.data)["errors"] == strict_json(unknown.data)["errors"]


@pathwise
def test_a_succeeded_refinement_of_ones_own_is_a_parent(service: Service, path: str) -> None:
    """Its refined prompt is the draft, and so the refusals above are not for want of a good one."""
    record = parent(service, Status.SUCCEEDED)
    answer = service.post(path, as_json({"prompt": None, "parent_id": record.id}))
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["original_prompt"] == "a parent"
    with service.untouched():
        both = service.post(path, as_json({"prompt": CANARY, "parent_id": record.id}))
        assert_problem(both, 422, "invalid-request", "prompt")


QUERIES = {
    "unknown": ("q=CANARY-input-7f3a", ("q",)),
    "a field's name": ("prompt=CANARY-input-7f3a", ("prompt",)),
    "without a value": ("q", ("q",)),
    "two": ("a=CANARY-input-7f3a&b=1", ("a", "b")),
    "twice": ("a=CANARY-input-7f3a&a=2", ("a",)),
    "NUL": ("a%00b=1", ("a\0b",)),
    "invalid UTF-8": ("a%ffb=1", ("a%FFb",)),
    "very long": ("n" * 5000 + "=1", ("n" * 100,)),
}


@pytest.mark.parametrize(("query", "names"), QUERIES.values(), ids=QUERIES)
@every_path
def test_an_unknown_query_parameter_is_422(service: Service, path: str, query: str, names: tuple[str, ...]) -> None:
    """A parameter that no route knows is named, not passed over."""
    with service.untouched():
        assert_problem(service.post(f"{path}?{query}", GOOD), 422, "invalid-request", *names)
        assert_problem(service.get(f"/refine/{new_id()}?{query}"), 422, "invalid-request", *names)


BAD_KEYS = {
    "space inside": f"{CANARY} b",
    "256 characters": CANARY.ljust(256, "k"),
    "tab": f"{CANARY}\tb",
    "control": f"{CANARY}\x01",
    "delete": f"{CANARY}\x7f",
    "Latin-1": f"{CANARY}\xe9",
    "no-break space": f"{CANARY}\xa0",
    "UTF-8": f"{CANARY}\u6f22".encode().decode("latin-1"),
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
@pytest.mark.parametrize("path", MODEL_PATHS)
def test_a_malformed_idempotency_key_is_400(service: Service, path: str, key: str) -> None:
    """A key is 1 to 255 visible ASCII characters."""
    with service.untouched():
        assert_problem(service.post(path, GOOD, Idempotency_Key=key), 400, "malformed-request")


@pathwise
def test_an_empty_idempotency_key_counts_as_none(service: Service, path: str) -> None:
    """Two requests with an empty key are two calls."""
    first, second = (service.post(path, GOOD, Idempotency_Key="") for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.get_json()["id"] != second.get_json()["id"]
    assert "Idempotent-Replayed" not in second.headers


@pytest.mark.parametrize("key", ["k" * 255, "!", "~", '"quoted"', "a,b;c=d"])
@pathwise
def test_a_key_of_visible_ascii_is_taken(service: Service, path: str, key: str) -> None:
    """The longest key and each visible character work, and bring the same answer back."""
    first, second = (service.post(path, GOOD, Idempotency_Key=f"{key}{path}"[-255:]) for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert second.headers["Idempotent-Replayed"] == "true"


KNOWN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
BAD_IDS = {
    "unknown": KNOWN_ID,
    "upper case": KNOWN_ID.upper(),
    "without hyphens": KNOWN_ID.replace("-", ""),
    "braces": f"%7B{KNOWN_ID}%7D",
    "URN": f"urn:uuid:{KNOWN_ID}",
    "newline": f"{KNOWN_ID}%0A",
    "leading space": f"%20{KNOWN_ID}",
    "NUL": f"{KNOWN_ID}%00",
    "only NUL": "%00",
    "empty": "",
    "slash": f"{KNOWN_ID}/{KNOWN_ID}",
    "trailing slash": f"{KNOWN_ID}/",
    "two slashes": f"/{KNOWN_ID}",
    "encoded slash": f"..%2F{KNOWN_ID}",
    "dots": "%2e%2e",
    "very long": "0" * 60_000,
    "unicode": "%E6%BC%A2%E5%AD%97",
    "full-width digits": "%EF%BC%90" + KNOWN_ID[1:],
    "invalid UTF-8": "%FF%FE",
    "surrogate": "%ED%A0%80",
    "quote": "'%20OR%201=1--",
    "percent": "%25s",
}


@pytest.mark.parametrize("record_id", BAD_IDS.values(), ids=BAD_IDS)
def test_a_malformed_id_is_404(service: Service, record_id: str) -> None:
    """An id that cannot be one is answered like one that is not known."""
    with service.untouched():
        assert_problem(service.get(f"/refine/{record_id}"), 404, "not-found")


def test_an_id_in_another_spelling_is_not_the_record(service: Service) -> None:
    """The id of a record that exists finds it as it was given, and in no other spelling."""
    record = parent(service, Status.SUCCEEDED)
    assert service.get(f"/refine/{record.id}").status_code == 200
    for spelling in (record.id.upper(), uuid.UUID(record.id).hex, f"{record.id}%0A", f"%7B{record.id}%7D"):
        assert_problem(service.get(f"/refine/{spelling}"), 404, "not-found")


# Sizes, over real sockets: how a body's end is marked is the server's business, and servers differ.


@pytest.fixture(scope="module")
def werkzeug_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Service]]:
    """The development server, in a thread."""
    small = service_in(tmp_path_factory.mktemp("werkzeug"), MAX_BODY_BYTES=str(SMALL_BODY))
    server = make_server("127.0.0.1", 0, small.harness.app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, small
    server.shutdown()
    thread.join(TIMEOUT)
    server.server_close()
    small.harness.storage.close()


@pytest.fixture(scope="module")
def gunicorn_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Service]]:
    """gunicorn as a process, on the same database as the service at hand and a model on loopback."""
    small = service_in(tmp_path_factory.mktemp("gunicorn"), MAX_BODY_BYTES=str(SMALL_BODY))
    with Upstream() as upstream:
        environ = {
            "PATH": os.environ["PATH"],
            "PORT": "0",
            "WEB_CONCURRENCY": "1",
            "WEB_THREADS": "4",
            "DATA_DIR": str(small.harness.settings.data_dir),
            "RATE_LIMIT": "none",
            "DATABASE_URL": small.harness.settings.database_url,
            "JWT_SECRETS": f"k1:{FIRST_SECRET}",
            "MAX_BODY_BYTES": str(SMALL_BODY),
            "OPENAI_BASE_URL": upstream.url,
        }
        command = [sys.executable, "-m", "gunicorn", "app:create_app()"]
        with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield _announced_port(process), small
            finally:
                process.terminate()
                process.communicate(timeout=TIMEOUT)
    small.harness.storage.close()


def _announced_port(process: subprocess.Popen[str]) -> int:
    lines = []
    assert process.stderr
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError(f"gunicorn did not start: {lines}")


@pytest.fixture(params=["werkzeug", "gunicorn"])
def server(request: pytest.FixtureRequest) -> tuple[int, Service]:
    """A server's port, and the service behind it."""
    port: tuple[int, Service] = request.getfixturevalue(f"{request.param}_port")
    return port


def with_length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def chunked(body: bytes, size: int = 700) -> bytes:
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def talk(server: tuple[int, Service], path: str, framed: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """Send the rest of a request, from its length on, say that no more will come, and read the answer."""
    port, service = server
    credentials = f"X-API-Key: {service.api_key}" if path == "/token" else f"Authorization: Bearer {service.token}"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {JSON}\r\n{credentials}\r\n"
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        with suppress(OSError):  # a server may answer, and close, before it has read it all
            connection.sendall(head.encode() + framed)
            connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, dict(response.getheaders()), response.read()


def padded(size: int) -> bytes:
    """A good body of exactly that size, for each route that takes one."""
    return b"{" + GOOD.strip(b"{}").replace(CANARY.encode(), b"a draft") + b"}" + b" " * (size - 21)


framings = pytest.mark.parametrize("frame", [with_length, chunked], ids=["with length", "chunked"])
Frame = Callable[[bytes], bytes]


@framings
@pytest.mark.parametrize("path", [*REFINE_PATHS, "/token"])
def test_a_body_exactly_at_the_limit_is_taken(server: tuple[int, Service], path: str, frame: Frame) -> None:
    """The last byte that is allowed is allowed, however the body's length is told."""
    body = padded(SMALL_BODY)
    assert len(body) == SMALL_BODY
    status, _, answer = talk(server, path, frame(body))
    assert status == 200, answer


@framings
@pytest.mark.parametrize("excess", [1, 700, 100 * SMALL_BODY])
@pytest.mark.parametrize("path", BODY_PATHS)
def test_a_body_over_the_limit_is_413(server: tuple[int, Service], path: str, frame: Frame, excess: int) -> None:
    """A body over the limit is never cut and accepted, though what is within the limit would be a good one."""
    with server[1].untouched():
        status, headers, answer = talk(server, path, frame(padded(SMALL_BODY + excess)))
    assert status == 413, answer
    document = strict_json(answer)
    if path == "/token":
        assert headers["Content-Type"] == JSON
        assert document["error"] == "invalid_request"
    else:
        assert headers["Content-Type"] == "application/problem+json"
        assert document["type"] == "/problems/body-too-large"
        assert document["request_id"] == headers["X-Request-Id"]


BROKEN_CHUNKS = {
    "no size": b"CANARY-input-7f3a\r\n",
    "negative size": b"-5\r\nabcde\r\n0\r\n\r\n",
    "cut in a chunk": b'ff\r\n{"prompt": "CANARY-input-7f3a',
    "cut between chunks": b'9\r\n{"prompt"\r\n',
    "no line end after a chunk": b"2\r\n{}CANARY-input-7f3a\r\n0\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
@pytest.mark.parametrize("path", BODY_PATHS)
def test_broken_chunks_are_the_callers_mistake(server: tuple[int, Service], path: str, chunks: bytes) -> None:
    """A chunked body that breaks off or makes no sense is 400, not a crash."""
    with server[1].untouched():
        status, _, answer = talk(server, path, b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert status == 400, answer
    assert CANARY.encode() not in answer


@pytest.mark.parametrize("path", BODY_PATHS)
def test_a_body_shorter_than_its_length_is_400(server: tuple[int, Service], path: str) -> None:
    """A caller that goes away in the middle of its body is not answered with a crash."""
    with server[1].untouched():
        status, _, answer = talk(server, path, b"Content-Length: 500\r\n\r\n" + GOOD[:-5])
    assert status == 400, answer


# What nobody thought of.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)
field_names = st.sampled_from([*NAMES, "grant_type", "client_id", "client_secret", "scope", "user_id"])
bodies = st.dictionaries(field_names | st.text(st.characters(), max_size=8), json_values, max_size=6)
header_text = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=300)
base64url = st.binary(max_size=60).map(lambda data: urlsafe_b64encode(data).rstrip(b"=").decode())
token_like = st.lists(base64url | header_text, min_size=2, max_size=4).map(".".join)
header_json = json_values.map(lambda value: urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode())
signed_like = st.tuples(header_json, header_json, base64url).map(".".join)
basic_like = st.binary(max_size=60).map(lambda data: "Basic " + b64encode(data).decode())
authorizations = st.one_of(
    header_text,
    basic_like,
    st.builds("{}{}".format, st.sampled_from(["Bearer ", "bearer\t"]), token_like | signed_like),
)
bounded = hypothesis_settings(max_examples=150, deadline=None, derandomize=True)


def assert_no_crash(answer: TestResponse) -> None:
    assert answer.status_code < 500, answer.text
    strict_json(answer.data)


@pytest.mark.parametrize("path", BODY_PATHS)
@bounded
@given(body=bodies)
def test_no_json_object_crashes(service: Service, path: str, body: dict[str, Any]) -> None:
    """Any values under any names are answered in JSON, and never with a 500."""
    assert_no_crash(service.post(path, as_json(body)))


@pytest.mark.parametrize("path", BODY_PATHS)
@bounded
@given(data=st.binary(max_size=400), content_type=st.sampled_from([JSON, "application/x-www-form-urlencoded"]))
def test_no_bytes_crash(service: Service, path: str, data: bytes, content_type: str) -> None:
    """Any bytes as a body are answered in JSON, and never with a 500."""
    assert_no_crash(service.post(path, data, content_type))


@pytest.mark.parametrize("path", [*BODY_PATHS, f"/refine/{KNOWN_ID}"])
@bounded
@given(
    headers=st.fixed_dictionaries(
        {},
        optional={
            "Authorization": authorizations,
            "X-API-Key": header_text,
            "Access-Token": header_text,
            "Idempotency-Key": header_text,
            "X-Request-Id": header_text,
        },
    ),
    authenticated=st.booleans(),
)
def test_no_header_crashes(service: Service, path: str, headers: dict[str, str], authenticated: bool) -> None:
    """Any values of the headers that are read are answered in JSON, and never with a 500."""
    sent = {**headers, "Authorization": f"Bearer {service.token}"} if authenticated else headers
    method = "POST" if path in BODY_PATHS else "GET"
    assert_no_crash(service.harness.http.open(path, method=method, headers=sent, data=GOOD, content_type=JSON))


NESTED_HEADER = urlsafe_b64encode(b"[" * 3000).decode()


@pytest.mark.parametrize(
    "token",
    [
        f"{NESTED_HEADER}.e30.AAAA",
        f"{urlsafe_b64encode(b'9' * 3000).decode()}.e30.AAAA",
        "....",
        "e30.e30.e30",
        "-.-.-",
    ],
    ids=["endless nesting", "long number", "dots", "empty objects", "hyphens"],
)
@pathwise
def test_no_token_crashes(service: Service, path: str, token: str) -> None:
    """A token made to break its parser is 401 like any other that does not verify."""
    with service.untouched():
        answer = service.post(path, GOOD, Authorization=f"Bearer {token}")
        assert_problem(answer, 401, "invalid-token")


def test_what_is_taken_is_kept_as_it_was_sent(service: Service) -> None:
    """A prompt of odd but allowed characters is recorded to the last one."""
    prompt = "\ufeff a\x01\u2028\U0001f600\u202e\r\n\ufffe"
    made = service.post("/refine", as_json({"prompt": prompt}))
    kept = service.get(f"/refine/{made.get_json()['id']}")
    assert strict_json(kept.data)["original_prompt"] == prompt
