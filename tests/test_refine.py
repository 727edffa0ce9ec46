"""`/refine`, `/refine-prompt` and `GET /refine/<id>`, from the caller's side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import select

from records import Owner, Record, Status
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
from stores.sql import SqlStorage
from stores.tables import requests
from tests.harness import Harness, ScriptedEngine, build

GOOD = Rewrite(
    "Greet {{name}}.", (Change("clearer", "say hi", "Greet"),), ("It is a mail.",), "gpt-4.1", Usage(3, 4), 9
)


def test_a_draft_becomes_a_refinement(harness: Harness) -> None:
    """The answer has every field of the contract, and no other."""
    harness.engine.outcomes = [GOOD]
    answer = harness.refine(harness.token(), {"prompt": "say hi to {{name}}"})
    body = answer.get_json()
    assert answer.status_code == 200
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", body.pop("id"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body.pop("created_at"))
    assert body.pop("latency_ms") >= 0
    assert body == {
        "status": "succeeded",
        "refined": True,
        "original_prompt": "say hi to {{name}}",
        "refined_prompt": "Greet {{name}}.",
        "changes": [{"reason": "clearer", "before": "say hi", "after": "Greet"}],
        "assumptions": ["It is a mail."],
        "integrity": {
            "ok": True,
            "attempts": 1,
            "placeholders": {"kept": ["{{name}}"], "lost": [], "added": []},
            "code_blocks": {"kept": 0, "lost": 0},
            "urls": {"kept": 0, "lost": []},
            "script_changed": False,
        },
        "model": "gpt-4.1",
        "engine": "scripted",
        "strategy": "general",
        "parent_id": None,
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }


def test_text_comes_back_as_it_was_sent(harness: Harness) -> None:
    """Answers are UTF-8, not escapes."""
    answer = harness.refine(harness.token(), {"prompt": "写一首诗 🚲 über {名前}"})
    assert "写一首诗 🚲 über {名前}" in answer.get_data().decode("utf-8")


def test_the_record_is_whole(harness: Harness) -> None:
    """Every field of the audit record holds what happened."""
    harness.engine.outcomes = [GOOD]
    credentials = harness.register()
    token = harness.token(credentials, user_id="ann")
    answer = harness.refine(
        token, {"prompt": "say hi to {{name}}", "instructions": "warmer"}, X_Request_Id="req-1", Idempotency_Key="key-1"
    )
    body = answer.get_json()
    record = harness.storage.read(body["id"], Owner(credentials.client_id, "ann"))
    assert record is not None
    assert (record.v, record.kind, record.source, record.status) == (1, "refine", "server", "succeeded")
    assert (record.client_id, record.user_id, record.request_id) == (credentials.client_id, "ann", "req-1")
    assert (record.prompt, record.response) == ("say hi to {{name}}", "Greet {{name}}.")
    assert (record.model, record.engine) == ("gpt-4.1", "scripted")
    assert (record.usage, record.error, record.metadata) == ({"input_tokens": 3, "output_tokens": 4}, None, None)
    assert record.detail["instructions"] == "warmer"
    assert record.detail["strategy"] == "general"
    assert record.detail["changes"] == body["changes"]
    assert record.detail["integrity"] == body["integrity"]
    assert record.detail["rejected"] is None
    assert record.idempotency_key == "key-1"
    assert record.body_hash is not None
    assert record.completed_at is not None
    assert record.deadline_at is not None
    assert (record.deadline_at - record.timestamp).total_seconds() == 25
    assert record.timestamp <= record.completed_at <= record.deadline_at


def test_a_rejected_text_is_only_in_the_record(harness: Harness) -> None:
    """When nothing kept the promise, the caller gets the draft and the audit the text."""
    harness.engine.outcomes = ["BROKEN"]
    credentials = harness.register()
    answer = harness.refine(harness.token(credentials), {"prompt": "say hi to {{name}}"})
    body = answer.get_json()
    assert (answer.status_code, body["status"], body["refined"]) == (200, "succeeded", False)
    assert body["refined_prompt"] == "say hi to {{name}}"
    assert (body["integrity"]["ok"], body["integrity"]["attempts"]) == (False, 2)
    assert body["integrity"]["placeholders"]["lost"] == ["{{name}}"]
    assert "BROKEN" not in answer.text
    record = harness.storage.read(body["id"], Owner(credentials.client_id, credentials.client_id))
    assert record is not None
    assert (record.detail["rejected"], record.response) == ("BROKEN", "say hi to {{name}}")


def test_a_refinement_can_be_read_again(harness: Harness) -> None:
    """`GET /refine/<id>` answers what the first answer said."""
    token = harness.token()
    body = harness.refine(token, {"prompt": "x"}).get_json()
    again = harness.http.get(f"/refine/{body['id']}", headers={"Authorization": f"Bearer {token}"})
    assert (again.status_code, again.get_json()) == (200, body)


def test_the_chain_by_parent(harness: Harness) -> None:
    """With `parent_id` the parent's refined prompt is the draft, also of one that came back unrefined."""
    harness.engine.outcomes = ["one", "two {{x}}"]
    token = harness.token()
    first = harness.refine(token, {"prompt": "zero"}).get_json()
    second = harness.refine(token, {"parent_id": first["id"], "instructions": "more"}).get_json()
    assert (second["original_prompt"], second["parent_id"], second["refined"]) == ("one", first["id"], False)
    third = harness.refine(token, {"parent_id": second["id"]}).get_json()
    assert third["original_prompt"] == "one"


def test_a_limit_is_told_in_characters(harness: Harness) -> None:
    """The message of a text that is too long says what is counted."""
    answer = harness.refine(harness.token(), {"prompt": "x", "instructions": "y" * 4001})
    assert answer.get_json()["errors"] == [
        {"field": "instructions", "message": "String should have at most 4000 characters"}
    ]


def test_model_and_strategy_can_be_chosen(tmp_path: Path) -> None:
    """A request may name one of the offered models; others are refused."""
    harness = build(tmp_path, OPENAI_MODEL="small", OPENAI_MODELS="small,large")
    token = harness.token()
    assert harness.refine(token, {"prompt": "x", "strategy": "general"}).get_json()["model"] == "small"
    assert harness.refine(token, {"prompt": "x", "model": "large"}).get_json()["model"] == "large"
    refused = harness.refine(token, {"prompt": "x", "model": "huge"})
    assert (refused.status_code, refused.get_json()["errors"][0]["field"]) == (422, "model")
    assert [task.model for task in harness.engine.tasks] == ["small", "large"]
    harness.storage.close()


def test_the_first_name_and_guard_still_work(harness: Harness) -> None:
    """`/refine-prompt` takes an API key, or a token."""
    credentials = harness.register("refine")
    with_key = harness.http.post("/refine-prompt", json={"prompt": "x"}, headers={"X-API-Key": credentials.api_key})
    assert with_key.status_code == 200
    bearer = {"Authorization": f"Bearer {harness.token(credentials)}"}
    assert harness.http.post("/refine-prompt", json={"prompt": "x"}, headers=bearer).status_code == 200
    read = harness.http.get(f"/refine/{with_key.get_json()['id']}", headers=bearer)
    assert read.get_json() == with_key.get_json()


FAILURES = [
    (UpstreamRejected("no", upstream_status=401), 502, "upstream-rejected"),
    (UnusableAnswer("html", usage=Usage(1, 2)), 502, "unusable-answer"),
    (ModelRefused("no", usage=Usage(1, 2)), 502, "model-refused"),
    (UpstreamUnavailable("busy", retry_after=7.2, upstream_status=429), 503, "upstream-unavailable"),
    (ModelTimeout("late"), 504, "model-timeout"),
]


@pytest.mark.parametrize(("error", "status", "slug"), FAILURES, ids=[slug for *_, slug in FAILURES])
def test_a_failure_of_the_model_is_told_and_recorded(
    harness: Harness, error: EngineError, status: int, slug: str
) -> None:
    """The caller gets a problem, the record is `failed` with the same problem, cost and cause."""
    harness.engine.outcomes = [error]
    credentials = harness.register()
    token = harness.token(credentials)
    answer = harness.refine(token, {"prompt": "x"}, Idempotency_Key="k")
    body = answer.get_json()
    assert (answer.status_code, body["type"]) == (status, f"/problems/{slug}")
    assert answer.headers.get("Retry-After") == ("8" if status == 503 else None)
    (record,) = _records(harness)
    assert record.status is Status.FAILED
    assert record.error == {name: body[name] for name in ("type", "title", "status", "detail")}
    assert record.usage == ({"input_tokens": 1, "output_tokens": 2} if error.usage else None)
    assert record.detail["failure"] == type(error).__name__
    assert record.detail["upstream_status"] == error.upstream_status
    read = harness.http.get(f"/refine/{record.id}", headers={"Authorization": f"Bearer {token}"}).get_json()
    assert (read["status"], read["error"], read["refined_prompt"]) == ("failed", record.error, None)


def _records(harness: Harness) -> list[Record]:
    assert isinstance(harness.storage, SqlStorage)
    with harness.storage._transaction() as connection:
        return [Record.from_dict({**row}) for row in connection.execute(select(requests)).mappings()]


def test_the_model_gets_less_than_the_whole_deadline(tmp_path: Path) -> None:
    """Time is kept for completing the record after the model."""
    engine = ScriptedEngine()
    harness = build(tmp_path, engine, REQUEST_DEADLINE_SECONDS="10")
    harness.refine(harness.token(), {"prompt": "x"})
    assert 7 < engine.deadlines[0].remaining() <= 9
    harness.storage.close()
