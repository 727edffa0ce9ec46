"""`flask refine`: refinements from the command line."""

from __future__ import annotations

import json
import pwd
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from app import create_app
from calls.refinements import as_answer
from commands.refine import system_user
from problems import problem_for
from records import Kind, Owner, Record, Selection, Status
from refinery.engines import (
    NO_USAGE,
    Change,
    EngineError,
    ModelTimeout,
    Rewrite,
    UnusableAnswer,
    UpstreamRejected,
    UpstreamUnavailable,
)
from storage import open_storage
from tests.harness import Harness, ScriptedEngine, build

DRAFT = "hey write to {{name}} see https://example.com/x"
NO_ID = "00000000-0000-0000-0000-000000000000"


def run(harness: Harness, *arguments: str, given: bytes | str | None = None) -> Result:
    """The command, without a terminal."""
    return harness.app.test_cli_runner().invoke(args=["refine", *arguments], input=given)


def records(harness: Harness) -> Sequence[Record]:
    return list(harness.storage.every(Selection()))


def only_record(harness: Harness) -> Record:
    (record,) = records(harness)
    return record


def rewritten(text: str, **changes: Any) -> Rewrite:
    values = {"changes": (Change("clearer", "a", "b"),), "assumptions": (), "model": "gpt-test", "usage": NO_USAGE}
    return Rewrite(text, **{**values, **changes})


@pytest.fixture(autouse=True)
def _someone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "someone")


def test_the_refined_prompt_stands_alone(harness: Harness) -> None:
    """Without a terminal standard output is the refined prompt, and what people want to know besides is not there."""
    harness.engine.outcomes = [rewritten("Write to Bob.", assumptions=("Bob reads English.",))]
    result = run(harness, "hey write to bob")
    assert (result.exit_code, result.stdout) == (0, "Write to Bob.\n")
    assert "- clearer\n" in result.stderr
    assert "- Bob reads English.\n" in result.stderr


def test_it_is_recorded_as_the_local_client(harness: Harness) -> None:
    """The audit log has the call as the client `local` and the system's user, completed, with a request id."""
    assert run(harness, DRAFT, "--instructions", "shorter").exit_code == 0
    record = only_record(harness)
    assert (record.owner, record.kind, record.status) == (Owner("local", "someone"), Kind.REFINE, Status.SUCCEEDED)
    assert (record.prompt, record.detail["instructions"]) == (DRAFT, "shorter")
    assert re.fullmatch(r"[0-9a-f]{32}", record.request_id)
    assert record.idempotency_key is None


def test_json_is_the_apis_answer(harness: Harness) -> None:
    """With `--json` standard output is exactly what the API answers for this record, on one line."""
    result = run(harness, DRAFT, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == as_answer(only_record(harness)).model_dump_json() + "\n"


@pytest.mark.parametrize("arguments", [[], ["-"]], ids=["none", "dash"])
@pytest.mark.parametrize("text", ["one line\n", "no end", "Windows\r\nlines\r\n", " \t日本\x1b[31m é\n\n"], ids=repr)
def test_standard_input_is_taken_as_it_is(harness: Harness, arguments: Sequence[str], text: str) -> None:
    """A piped draft reaches the model and the log unchanged, white space, line ends and escape sequences included."""
    result = run(harness, *arguments, given=text.encode())
    assert result.exit_code == 0
    assert only_record(harness).prompt == text
    assert result.stdout_bytes == (text if text.endswith("\n") else f"{text}\n").encode()


def test_a_refinement_of_a_refinement(harness: Harness) -> None:
    """`--parent` takes an earlier outcome as the draft, without looking at standard input."""
    harness.engine.outcomes = ["First.", "Second."]
    parent = json.loads(run(harness, "x", "--json").stdout)
    result = run(harness, "--parent", parent["id"], "--instructions", "longer", "--json", given=b"not this")
    child = json.loads(result.stdout)
    assert (child["original_prompt"], child["refined_prompt"], child["parent_id"]) == (
        "First.",
        "Second.",
        parent["id"],
    )


def test_nobody_elses_refinement_is_a_parent(harness: Harness) -> None:
    """A client's refinement is none of the command line's, and neither is one that failed."""
    theirs = harness.refine(harness.token(), {"prompt": "x"}).get_json()["id"]
    harness.engine.outcomes = [UnusableAnswer("no")]
    run(harness, "x")
    failed = next(record.id for record in records(harness) if record.status is Status.FAILED)
    for parent in (theirs, failed, NO_ID, "x"):
        result = run(harness, "--parent", parent)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--parent: is not the id of a " in result.stderr
    assert len(records(harness)) == 2


WRONG_USAGE: dict[str, tuple[Sequence[str], bytes, str]] = {
    "empty": ([""], b"", "TEXT"),
    "blank": (["  \n"], b"", "TEXT"),
    "empty input": ([], b"", "TEXT"),
    "blank input": (["-"], b" \n", "TEXT"),
    "no UTF-8": ([], b"caf\xe9", "TEXT: must be UTF-8"),
    "half a character": (["-"], b"\xf0\x9f\x99", "TEXT: must be UTF-8"),
    "an argument of no UTF-8": (["caf\udce9"], b"", "TEXT: must be UTF-8"),
    "a NUL": ([], b"a\0b", "TEXT"),
    "too long": (["x" * 101], b"", "TEXT"),
    "an input too long": ([], b"x" * 101, "TEXT"),
    "an input without end": ([], b"x" * 10_000, "TEXT: must be at most 100 characters"),
    "two texts": (["a", "b"], b"", "unexpected extra argument"),
    "blank instructions": (["a", "--instructions", " "], b"", "--instructions"),
    "long instructions": (["a", "--instructions", "x" * 4001], b"", "--instructions"),
    "an unknown strategy": (["a", "--strategy", "x"], b"", "--strategy"),
    "an unknown model": (["a", "--model", "x"], b"", "--model"),
    "text and parent": (["a", "--parent", NO_ID], b"", "--parent"),
    "input and parent": (["-", "--parent", NO_ID], b"a", "--parent"),
    "a blank parent": (["--parent", ""], b"a", "--parent"),
    "an unknown option": (["a", "--color"], b"", "--color"),
}


@pytest.mark.parametrize(("arguments", "given", "named"), WRONG_USAGE.values(), ids=WRONG_USAGE)
def test_wrong_usage_ends_with_2(tmp_path: Path, arguments: Sequence[str], given: bytes, named: str) -> None:
    """What cannot be refined is named on standard error; nothing is printed, recorded or sent to a model."""
    harness = build(tmp_path, MAX_PROMPT_CHARS="100")
    result = run(harness, *arguments, given=given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert (records(harness), harness.engine.tasks) == ([], [])
    harness.storage.close()


ERRORS = (
    UpstreamUnavailable("The model's server is overloaded."),
    UpstreamRejected("The model's server does not take our credentials."),
    UnusableAnswer("The model's answer is no refinement."),
    ModelTimeout("No answer before the deadline."),
)


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_failure_of_the_model_is_one_line(tmp_path: Path, error: EngineError, flags: Sequence[str]) -> None:
    """It says the problem's title and detail, ends with 1, and the record says failed."""
    harness = build(tmp_path, ScriptedEngine([error]))
    result = run(harness, "x", *flags)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {problem_for(error).title}: {error}\n"
    assert only_record(harness).status is Status.FAILED
    harness.storage.close()


def test_a_draft_comes_back_where_something_was_lost(harness: Harness) -> None:
    """`refined: false` ends with 1: the draft is the result, and what was lost or made up is said beside it."""
    harness.engine.outcomes = [rewritten("Write to {{nobody}}.")]
    result = run(harness, DRAFT)
    assert (result.exit_code, result.stdout) == (1, f"{DRAFT}\n")
    assert "\nLost\n- {{name}}\n- https://example.com/x\n" in result.stderr
    assert "\nAdded\n- {{nobody}}\n" in result.stderr
    shown = run(harness, DRAFT, "--json")
    answer = json.loads(shown.stdout)
    assert (shown.exit_code, answer["refined"], answer["refined_prompt"]) == (1, False, DRAFT)


def test_a_lost_code_block_is_said(harness: Harness) -> None:
    """A fenced block is counted, not repeated."""
    harness.engine.outcomes = [rewritten("Explain.")]
    result = run(harness, "explain\n\n```py\nx\n```\n")
    assert result.exit_code == 1
    assert "- 1 fenced code block(s)\n" in result.stderr


def test_without_storage_no_model_is_asked(harness: Harness, tmp_path: Path) -> None:
    """A storage that is out of reach is one line and exit code 1, before any money is spent."""
    down = open_storage(f"sqlite:///{tmp_path / 'no-such-folder' / 'x.sqlite3'}")
    app = create_app(harness.settings, storage=down, engine=harness.engine)
    result = run(replace(harness, app=app), "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"Error: Storage unavailable: [^\n]+\n", result.stderr)
    assert harness.engine.tasks == []


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "\udcff"], ids=repr)
def test_a_user_without_a_usable_name_is_a_number(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where the system has no entry for the user, or the environment says nonsense, the record has `uid-N`."""

    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    for variable in ("USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LOGNAME", name)
    assert re.fullmatch(r"uid-\d+", system_user())


def test_what_the_model_says_beside_is_harmless(harness: Harness) -> None:
    """Escape sequences in reasons, assumptions and lost placeholders are shown, not sent."""
    change = Change("\x1b[2Jwhy\u202e", "a", "b")
    harness.engine.outcomes = [rewritten("B", changes=(change,), assumptions=("\x9b2J",)), rewritten("{{\x1b[2J}}")]
    first, second = run(harness, "a"), run(harness, "a")
    assert "- \\x1b[2Jwhy\\u202e\n" in first.stderr
    assert "- \\x9b2J\n" in first.stderr
    assert not set("\x1b\x9b\u202e") & set(first.stderr + second.stderr)
