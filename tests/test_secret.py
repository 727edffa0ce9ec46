"""`python -m scripts.secret` as a process: JSON in, JSON out, and nothing on standard output when it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from settings import load_settings
from tests.shell import Terminal
from tests.stores import ROOT
from tests.test_settings import CANARY

PROGRAM = (sys.executable, "-m", "scripts.secret")
DATABASE = f"mongodb+srv://user:{CANARY}@host/klamala"
MODEL_KEY = f"sk-{CANARY}"
OLD, NEW = (f"{CANARY}-{name}:secret+/=" + name * 32 for name in "ab")
OTHERS = {"OPENAI_MODELS": "gpt-4.1, b", "JWT_ISSUER": 'Grüße 🦊 \\ " \t', "DATABASE_URL": DATABASE}


def run(folder: Path, action: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    """The filter in an empty folder, without a variable that it could read a setting from, and without a terminal."""
    return subprocess.run(
        [*PROGRAM, *action.split(" ")],
        start_new_session=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(autouse=True)
def nothing_is_made(tmp_path: Path) -> Iterator[None]:
    """Whatever it is given, it leaves no file behind."""
    yield
    assert list(tmp_path.iterdir()) == []


def changed(folder: Path, action: str, values: Mapping[str, str]) -> dict[str, str]:
    done = run(folder, action, json.dumps(values).encode())
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)
    result: dict[str, str] = json.loads(done.stdout.decode("ascii"))
    return result


def refused(folder: Path, action: str, given: bytes) -> str:
    done = run(folder, action, given)
    assert (done.returncode, done.stdout) == (1, b"")
    assert re.fullmatch(rb"klamala: [ -~]+\n", done.stderr)
    assert CANARY.encode() not in done.stderr
    return done.stderr.decode().removeprefix("klamala: ").rstrip()


def kids(text: str) -> list[str]:
    return [pair.partition(":")[0] for pair in text.split(",")]


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def test_a_new_secret_starts_on_lambda(tmp_path: Path) -> None:
    """From two lines comes all that a function needs beside its queues, signed with a key that is random and dated."""
    days = [today()]
    made = [run(tmp_path, "new", f"{DATABASE}\n{MODEL_KEY}\n".encode()) for _ in range(2)]
    days.append(today())
    assert [(done.returncode, done.stderr) for done in made] == [(0, b"")] * 2
    first, second = (json.loads(done.stdout) for done in made)
    assert list(first) == ["DATABASE_URL", "OPENAI_API_KEY", "JWT_SECRETS"]
    assert (first["DATABASE_URL"], first["OPENAI_API_KEY"]) == (DATABASE, MODEL_KEY)
    assert first["JWT_SECRETS"] != second["JWT_SECRETS"]
    queues = {"OUTBOX_QUEUE_URL": "https://sqs.example/1/a", "JOBS_QUEUE_URL": "https://sqs.example/1/b"}
    ((kid, secret),) = load_settings({**first, **queues, "AWS_LAMBDA_FUNCTION_NAME": "f"}).jwt_secrets.items()
    assert kid in days
    assert len(secret) == 64


def test_a_new_secret_is_asked_for_on_a_terminal(tmp_path: Path) -> None:
    """A person sees what is wanted, and not what is typed."""
    path = tmp_path / "result"
    with path.open("wb") as result, Terminal({}, "new", program=PROGRAM, stdout=result) as terminal:
        for name, value in {"DATABASE_URL": DATABASE, "OPENAI_API_KEY": MODEL_KEY}.items():
            terminal.read_until(f"{name}: ".encode())
            terminal.type(f"{value}\n".encode())
        assert terminal.end() == 0
    assert CANARY.encode() not in terminal.shown
    assert json.loads(path.read_text("ascii"))["DATABASE_URL"] == DATABASE
    path.unlink()


def typed(path: Path, name: str, value: str, given: bytes) -> tuple[int, bytes]:
    """How `set` ends with this secret before the pipe and a person at the terminal, and what that shows."""
    with (
        path.open("wb") as result,
        Terminal({}, "set", name, program=PROGRAM, stdin=subprocess.PIPE, stdout=result) as terminal,
    ):
        assert terminal.process.stdin is not None
        with terminal.process.stdin as pipe:
            pipe.write(given)
        terminal.read_until(f"{name}: ".encode())
        terminal.type(f"{value}\n".encode())
        return terminal.end(), terminal.shown


def test_a_setting_is_asked_for_and_replaced(tmp_path: Path) -> None:
    """`set` puts what a person types, who does not see it, into the place of the value, and leaves the others."""
    path = tmp_path / "result"
    values = {"OPENAI_API_KEY": "sk-old", "JWT_SECRETS": OLD, **OTHERS}
    end, shown = typed(path, "OPENAI_API_KEY", MODEL_KEY, json.dumps(values).encode())
    assert (end, CANARY.encode() in shown) == (0, False)
    result = json.loads(path.read_text("ascii"))
    assert (list(result), result) == (list(values), {**values, "OPENAI_API_KEY": MODEL_KEY})
    end, shown = typed(path, "DATABASE_URL", CANARY, json.dumps(values).encode())
    assert (end, CANARY.encode() in shown, path.read_bytes()) == (1, False, b"")
    assert b"klamala: DATABASE_URL: must begin with mongodb://" in shown
    path.unlink()


def test_the_three_steps(tmp_path: Path) -> None:
    """A new one is appended, then moved to the front, then stands alone; the others stay as they are, in order."""
    begun = {**OTHERS, "JWT_SECRETS": OLD, "OPENAI_API_KEY": MODEL_KEY}
    both = changed(tmp_path, "add", begun)
    old, new = both["JWT_SECRETS"].split(",")
    assert old == OLD
    assert re.fullmatch(r"\d{4}-\d\d-\d\d:[A-Za-z0-9_-]{64}", new)
    signing = changed(tmp_path, "sign", both)
    assert signing["JWT_SECRETS"] == f"{new},{OLD}"
    alone = changed(tmp_path, "drop", signing)
    assert alone["JWT_SECRETS"] == new
    for values in (both, signing, alone):
        assert list(values) == list(begun)
        assert {**values, "JWT_SECRETS": OLD} == begun


def test_a_step_is_taken_back(tmp_path: Path) -> None:
    """`sign` again gives the signing back to the old one; `drop` before it takes the new one away."""
    both = {"JWT_SECRETS": f"{OLD},{NEW}"}
    assert changed(tmp_path, "sign", changed(tmp_path, "sign", both)) == both
    assert changed(tmp_path, "drop", both) == {"JWT_SECRETS": OLD}


def test_a_kid_is_given_once(tmp_path: Path) -> None:
    """Several that are made on one day are told apart."""
    values = {"JWT_SECRETS": OLD}
    for _ in range(3):
        values = changed(tmp_path, "add", values)
    named = kids(values["JWT_SECRETS"])
    assert len(set(named)) == 4
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d(\.[23])?", kid) for kid in named[1:])


def test_any_layout_is_read(tmp_path: Path) -> None:
    """JSON over several lines, with a byte order mark, and characters as themselves, is the same secret."""
    values = {**OTHERS, "JWT_SECRETS": f" {OLD} ,\n{NEW}"}
    done = run(tmp_path, "drop", json.dumps(values, indent=1, ensure_ascii=False).encode("utf-8-sig"))
    assert json.loads(done.stdout) == {**OTHERS, "JWT_SECRETS": OLD}


REFUSED: dict[str, tuple[str, object, str]] = {
    "sign one": ("sign", {"JWT_SECRETS": OLD}, "JWT_SECRETS: holds one secret only"),
    "drop one": ("drop", {"JWT_SECRETS": OLD}, "JWT_SECRETS: holds one secret only"),
    "no JWT_SECRETS": ("add", {"OPENAI_API_KEY": MODEL_KEY}, "standard input holds a secret without JWT_SECRETS"),
    "blank JWT_SECRETS": ("add", {"JWT_SECRETS": " "}, "standard input holds a secret without JWT_SECRETS"),
    "bad JWT_SECRETS": ("add", {"JWT_SECRETS": f"a:{CANARY}"}, "JWT_SECRETS: each secret must have at least 32 bytes"),
    "bad DATABASE_URL": (
        "add",
        {"JWT_SECRETS": OLD, "DATABASE_URL": CANARY},
        "DATABASE_URL: must begin with mongodb://",
    ),
    "unknown key": ("add", {"JWT_SECRETS": OLD, "OPENAI_KEY": MODEL_KEY}, "standard input holds a secret with a key"),
    "own name": ("add", {"JWT_SECRETS": OLD, "SECRETS_ID": CANARY}, "standard input holds a secret with a key"),
    "no string": ("add", {"JWT_SECRETS": [OLD]}, "standard input holds a secret in which JWT_SECRETS is not a string"),
    "no terminal": ("set OPENAI_API_KEY", {"JWT_SECRETS": OLD}, "OPENAI_API_KEY: there is no terminal to ask on"),
    "no object": ("add", [OLD], "standard input holds a secret that is not a JSON object"),
}


@pytest.mark.parametrize(("action", "given", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused(tmp_path: Path, action: str, given: object, message: str) -> None:
    """One line says why, and the next program in a pipe gets nothing that it could store."""
    assert refused(tmp_path, action, json.dumps(given).encode()).startswith(message)


@pytest.mark.parametrize("action", ["add", "sign", "drop"])
@pytest.mark.parametrize("given", [b"", b"None\n", b"{", b"\xff", b"[" * 100_000], ids=repr)
def test_what_is_no_json_is_refused(tmp_path: Path, action: str, given: bytes) -> None:
    """So is nothing at all, which is what a failed command before the pipe leaves."""
    assert refused(tmp_path, action, given) == "standard input holds a secret that is not JSON"


NO_SECRET: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "DATABASE_URL: is not given"),
    "blank": (b" \n" + MODEL_KEY.encode(), "DATABASE_URL: is not given"),
    "one line": (f"{DATABASE}\n".encode(), "OPENAI_API_KEY: is not given"),
    "a file": (f"sqlite:///{CANARY}\n{MODEL_KEY}\n".encode(), "DATABASE_URL: must name a database server"),
    "mixed up": (f"{MODEL_KEY}\n{DATABASE}\n".encode(), "DATABASE_URL: must begin with mongodb://"),
    "key with a space": (f"{DATABASE}\nsk {CANARY}\n".encode(), "OPENAI_API_KEY: must be visible ASCII"),
    "no UTF-8": (DATABASE.encode() + b"\xff\n" + MODEL_KEY.encode(), "DATABASE_URL: is not text in UTF-8"),
}


@pytest.mark.parametrize(("given", "message"), NO_SECRET.values(), ids=NO_SECRET)
def test_what_would_not_start_is_not_made(tmp_path: Path, given: bytes, message: str) -> None:
    """A secret with which no function could start is found before it is stored."""
    assert refused(tmp_path, "new", given).startswith(message)


@pytest.mark.parametrize("action", ["", "rotate", "add more", "set", "set JWT_SECRETS", "set SECRETS_ID", "set PATH"])
def test_wrong_usage_ends_with_2(tmp_path: Path, action: str) -> None:
    """An action that there is not is wrong usage, and nothing is printed."""
    done = run(tmp_path, action, json.dumps({"JWT_SECRETS": OLD}).encode())
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"usage: python -m scripts.secret" in done.stderr
