"""`/generate` and `/secure-generate`, from the caller's side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app import create_app
from records import Kind, Owner, Status
from refinery.engines import EngineError, Generation, ModelRefused, ModelTimeout, UpstreamUnavailable, Usage
from refinery.offline import OfflineEngine
from storage import open_storage
from tests.harness import Harness, build, settings_in

GOOD = Generation("An old silent pond", "stop", Usage(5, 6), 9)
PATHS = pytest.mark.parametrize("path", ["/generate", "/secure-generate"])


@PATHS
def test_a_prompt_becomes_text(harness: Harness, path: str) -> None:
    """Both names answer with every field of the contract, and no other."""
    harness.engine.outcomes = [GOOD]
    answer = harness.post(path, harness.token(user_id="ann"), {"prompt": "Write a haiku."})
    body = answer.get_json()
    assert answer.status_code == 200
    assert {name: body.pop(name) for name in ("id", "created_at", "latency_ms")}
    assert body == {
        "generated_text": "An old silent pond",
        "user_id": "ann",
        "model": "gpt-4.1",
        "engine": "scripted",
        "finish_reason": "stop",
        "usage": {"input_tokens": 5, "output_tokens": 6},
    }


def test_the_length_is_the_caller_s(tmp_path: Path) -> None:
    """`max_length` is passed on as it is; without it 150, or what the service allows."""
    harness = build(tmp_path, MAX_OUTPUT_TOKENS="200")
    token = harness.token()
    for body in ({"max_length": 1}, {}, {"max_length": 200}):
        assert harness.post("/generate", token, {"prompt": "x", **body}).status_code == 200
    assert [length for *_, length in harness.engine.prompts] == [1, 150, 200]
    (tmp_path / "small").mkdir()
    small = build(tmp_path / "small", MAX_OUTPUT_TOKENS="20")
    assert small.post("/generate", small.token(), {"prompt": "x"}).status_code == 200
    assert small.engine.prompts == [("x", "gpt-4.1", 20)]


def test_text_that_was_cut_off_says_so(harness: Harness) -> None:
    """The caller can tell a whole text from a cut one."""
    harness.engine.outcomes = [Generation("An old", "length", Usage(5, 2))]
    body = harness.post("/generate", harness.token(), {"prompt": "x", "max_length": 2}).get_json()
    assert (body["generated_text"], body["finish_reason"]) == ("An old", "length")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"),
    ({"prompt": " "}, "prompt"),
    ({"prompt": 1}, "prompt"),
    ({"prompt": "x" * 100_001}, "prompt"),
    ({"prompt": "x", "max_length": 0}, "max_length"),
    ({"prompt": "x", "max_length": 4097}, "max_length"),
    ({"prompt": "x", "max_length": "5"}, "max_length"),
    ({"prompt": "x", "max_length": 5.0}, "max_length"),
    ({"prompt": "x", "max_length": True}, "max_length"),
    ({"prompt": "x", "model": "other"}, "model"),
    ({"prompt": "x", "strategy": "general"}, "strategy"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
def test_a_wrong_field_is_named(harness: Harness, body: dict[str, Any], field: str) -> None:
    """Nothing is asked and nothing recorded for a body that is wrong."""
    token = harness.token(harness.register("generate", "log:read"))
    answer = harness.post("/generate", token, body)
    assert (answer.status_code, [error["field"] for error in answer.get_json()["errors"]]) == (422, [field])
    assert harness.engine.prompts == []
    assert harness.get("/log-request", token).get_json()["items"] == []


@PATHS
def test_it_needs_its_scope(harness: Harness, path: str) -> None:
    """A token without `generate` is 403, none at all 401; an API key is not enough."""
    credentials = harness.register("refine", "log:write", "log:read")
    assert harness.post(path, harness.token(credentials), {"prompt": "x"}).status_code == 403
    with_key = harness.http.post(path, json={"prompt": "x"}, headers={"X-API-Key": credentials.api_key})
    assert (with_key.status_code, harness.http.post(path, json={"prompt": "x"}).status_code) == (401, 401)


def test_the_record_is_whole(harness: Harness) -> None:
    """The audit record of a generation holds prompt, text, limit and cost."""
    harness.engine.outcomes = [GOOD]
    credentials = harness.register()
    token = harness.token(credentials, user_id="ann")
    body = harness.post("/generate", token, {"prompt": "Write a haiku."}, Idempotency_Key="k").get_json()
    record = harness.storage.read(body["id"], Owner(credentials.client_id, "ann"))
    assert record is not None
    assert (record.kind, record.source, record.status) == (Kind.GENERATE, "server", Status.SUCCEEDED)
    assert (record.prompt, record.response) == ("Write a haiku.", "An old silent pond")
    assert record.detail == {"max_length": 150, "finish_reason": "stop"}
    assert record.usage == {"input_tokens": 5, "output_tokens": 6}
    assert record.idempotency_key == "k"


def test_a_retry_gets_the_first_text(harness: Harness) -> None:
    """The model is paid once for one key, under either name; another body is refused."""
    token = harness.token()
    first = harness.post("/generate", token, {"prompt": "x"}, Idempotency_Key="k")
    again = harness.post("/secure-generate", token, {"prompt": "x", "max_length": 150}, Idempotency_Key="k")
    assert again.get_json() == first.get_json()
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    other = harness.post("/generate", token, {"prompt": "y"}, Idempotency_Key="k")
    assert (other.status_code, other.get_json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert len(harness.engine.prompts) == 1


def test_a_key_is_the_route_s(harness: Harness) -> None:
    """The key of a generation is free for a refinement."""
    token = harness.token()
    assert harness.post("/generate", token, {"prompt": "x"}, Idempotency_Key="k").status_code == 200
    assert harness.refine(token, {"prompt": "x"}, Idempotency_Key="k").headers.get("Idempotent-Replayed") is None


FAILURES = [
    (ModelRefused("no", usage=Usage(1, 2)), 502, "model-refused"),
    (UpstreamUnavailable("busy", retry_after=7.0), 503, "upstream-unavailable"),
    (ModelTimeout("late"), 504, "model-timeout"),
]


@pytest.mark.parametrize(("error", "status", "slug"), FAILURES, ids=[slug for *_, slug in FAILURES])
def test_a_failure_is_told_and_recorded(harness: Harness, error: EngineError, status: int, slug: str) -> None:
    """The caller gets a problem, and the record is `failed` with the same."""
    harness.engine.outcomes = [error]
    token = harness.token()
    body = harness.post("/generate", token, {"prompt": "x"}).get_json()
    assert (body["status"], body["type"]) == (status, f"/problems/{slug}")
    (item,) = harness.get("/log-request", token).get_json()["items"]
    assert (item["kind"], item["status"], item["error"]["type"]) == ("generate", "failed", body["type"])


def test_a_generation_is_no_refinement(harness: Harness) -> None:
    """It is neither found as one nor taken for a parent."""
    token = harness.token()
    identifier = harness.post("/generate", token, {"prompt": "x"}).get_json()["id"]
    assert harness.get(f"/refine/{identifier}", token).status_code == 404
    assert harness.refine(token, {"parent_id": identifier}).status_code == 422


def test_without_a_model_there_is_a_problem_of_its_own(tmp_path: Path) -> None:
    """The offline engine cannot generate: 503, recorded, the key left free."""
    settings = settings_in(tmp_path)
    storage = open_storage(settings.database_url)
    service = Harness(create_app(settings, storage=storage, engine=OfflineEngine()), settings, storage, None)  # type: ignore[arg-type]
    token = service.token()
    for _ in range(2):
        answer = service.post("/generate", token, {"prompt": "x"}, Idempotency_Key="k")
        assert (answer.status_code, answer.get_json()["type"]) == (503, "/problems/no-model")
        assert answer.headers["Retry-After"]
    items = service.get("/log-request", token).get_json()["items"]
    assert [(item["status"], item["engine"]) for item in items] == [("failed", "offline")] * 2
    storage.close()
