"""Text costs time in proportion to its length, whatever it is, on each of its ways through the code."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from app import create_app
from auth import AuthError, TokenPolicy, verify_token
from blueprints.cursor import position_in
from blueprints.parsing import json_object
from calls.tokens import is_user_id
from clients import parse_api_key
from problems import InvalidFields, MalformedRequest
from refinery.chat import parse_answer, parse_completion
from refinery.deadline import Deadline
from refinery.engines import NO_USAGE, EngineError, Generation, Task
from refinery.integrity import compare, protected_spans, take_inventory
from refinery.offline import OfflineEngine
from refinery.refiner import Refiner
from refinery.strategies import load_strategies
from schemas.log import LogEntry
from scripts.evaluation import judge as judging
from terminal import on_one_line, visible_json
from tests.attacks import OPENERS, PIECES, Attack, Growing, cpu_seconds, is_linear
from tests.harness import FIRST_SECRET, ScriptedEngine, build

LONGEST = 100_000
KILOBYTES = 100 * 1024
GROWING = [Growing("", piece, "\n") for piece in ("`", "~", "`~", "{", "{}", "([", "<>", "'\"")]
POLICY = TokenPolicy({"k1": FIRST_SECRET}, "klamala", "klamala", 3600)
REQUEST = "Write me a story about the cat and you. "


def task(draft: str) -> Task:
    return Task(draft, draft, "", (), "m")


def refined_by_rules(text: str) -> None:
    for draft in (text, REQUEST + text):
        OfflineEngine().rewrite(task(draft), Deadline.after(600))


def refined_by_a_model(text: str) -> None:
    refiner = Refiner(ScriptedEngine([text]), load_strategies())
    for draft in (text, "a\r\ndraft with {{x}}"):
        refiner.refine(draft, instructions=text, strategy="general", model="m", deadline=Deadline.after(600))


def answered_by_a_model(text: str) -> None:
    answer = json.dumps({"refined_prompt": text, "changes": [], "assumptions": [text]})
    for content in (text, f"```{text}", f"```json\n{text}\n```", f"```json\n{answer}\n```"):
        with suppress(EngineError):
            completion = parse_completion(json.dumps({"choices": [{"message": {"content": content}}]}).encode())
            parse_answer(completion)


def judged_by_a_model(text: str) -> None:
    for answer in (text, f"```{text}", f"```json\n{text}\n```"):
        judging.Judge(ScriptedEngine([Generation(answer, "stop", NO_USAGE)]), "m", seconds=600).judge("a", None, "b")


def sent_as_a_body(text: str) -> None:
    for body in (text, json.dumps({"prompt": text}), f'{{"n": {text}', f'{{"n": 0.{"1" * len(text)}1}}'):
        with suppress(MalformedRequest):
            json_object(body.encode(errors="replace"))


def sent_as_fields(text: str) -> None:
    with suppress(ValidationError):
        LogEntry.model_validate({"prompt": text, "response": text, "model": text, "timestamp": text})
    with suppress(ValidationError):
        LogEntry.model_validate({"prompt": "a", "response": "b", "timestamp": f"2026-11-20T12:00:00.{text}Z"})


def sent_as_credentials(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}"):
        with suppress(AuthError):
            verify_token(POLICY, token)
    with suppress(InvalidFields):
        position_in(text)
    is_user_id(text)
    parse_api_key(text)


def shown_on_a_terminal(text: str) -> None:
    on_one_line(text)
    visible_json(text)


WAYS: dict[str, Callable[[str], object]] = {
    "inventory": lambda text: take_inventory(text).must_keep(),
    "comparison": lambda text: compare(text, text, text),
    "comparison with a loss": lambda text: compare(text, text[: len(text) // 2]),
    "spans": protected_spans,
    "built-in rules": refined_by_rules,
    "refinement": refined_by_a_model,
    "model's answer": answered_by_a_model,
    "judge's answer": judged_by_a_model,
    "body": sent_as_a_body,
    "fields": sent_as_fields,
    "credentials": sent_as_credentials,
    "terminal": shown_on_a_terminal,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_linear(way: str) -> None:
    """What a request does with a text costs in proportion to its length, whatever the text repeats."""
    attacks = [*(Attack("", piece) for piece in PIECES), *GROWING]
    slow = [attack for attack in attacks if not is_linear(WAYS[way], attack, length=2_000)]
    assert slow == []


@pytest.mark.parametrize("piece", OPENERS)
def test_a_hundred_kilobytes_are_checked_in_fifty_milliseconds(piece: str) -> None:
    """The inventory of 100 KB of openers, and the comparison of two such texts, take at most 50 ms of CPU each."""
    text = (piece * (KILOBYTES // len(piece) + 1))[:KILOBYTES]
    # Some of many runs is one that nothing else on the machine disturbs.
    assert any(cpu_seconds(take_inventory, text) <= 0.05 for _ in range(50))
    assert any(cpu_seconds(lambda text: compare(text, text), text) <= 0.05 for _ in range(50))


LONG_DRAFTS = (
    *OPENERS,
    "{{a}}",
    "{{" + " " * 41,
    "%s",
    "```\n",
    "~~~\n```\n",
    "http://a ",
    "“",
    "? ",
    "1. ",
    "\n",
    "i'd ",
    "\ue0001\ue001",
)
# The square of the length would be ten billion steps. The slowest takes half a second, and five times that when traced.
REQUEST_CPU_SECONDS = 10.0


@pytest.mark.parametrize("piece", LONG_DRAFTS)
def test_the_longest_draft_is_refined_by_rules(tmp_path: Path, piece: str) -> None:
    """A draft of the greatest length is answered with 200, whatever it repeats, and within bounded CPU time."""
    scripted = build(tmp_path, REQUEST_DEADLINE_SECONDS="900")
    with closing(scripted.storage):
        harness = replace(scripted, app=create_app(scripted.settings, storage=scripted.storage))
        draft = (REQUEST + piece * (LONGEST // len(piece)))[:LONGEST]
        token = harness.token()
        started = time.thread_time()
        answer = harness.refine(token, {"prompt": draft})
        taken = time.thread_time() - started
    assert (answer.status_code, answer.get_json()["engine"]) == (200, "offline"), answer.text[:500]
    assert answer.get_json()["integrity"]["ok"]
    assert taken < REQUEST_CPU_SECONDS


@pytest.mark.parametrize("piece", LONG_DRAFTS)
def test_the_longest_answer_is_checked(tmp_path: Path, piece: str) -> None:
    """A model that answers such a text, twice, is held against the draft within bounded CPU time."""
    text = piece * (LONGEST // len(piece))
    harness = build(tmp_path, ScriptedEngine([text]), REQUEST_DEADLINE_SECONDS="900")
    with closing(harness.storage):
        token = harness.token()
        started = time.thread_time()
        answer = harness.refine(token, {"prompt": "Greet {{name}}."})
        taken = time.thread_time() - started
    body = answer.get_json()
    assert (answer.status_code, body["refined"], body["integrity"]["attempts"]) == (200, False, 2)
    assert body["integrity"]["placeholders"]["lost"] == ["{{name}}"]
    assert taken < REQUEST_CPU_SECONDS
