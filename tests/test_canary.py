"""The run's own look through what was printed: it finds what leaks, and is content with what was asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness import FIRST_SECRET
from tests.shell import SECRET
from tests.stores import PASSWORD
from tests.upstream import MARKER

ROOT = Path(__file__).parents[1]
SECONDS = 120
VALUES = (FIRST_SECRET, SECRET, PASSWORD, MARKER, "CANARY", "kls_", "eyJ")

# Each test passes, and leaks one thing in one place.
LEAKING = """
import logging, subprocess, sys
from tests.harness import FIRST_SECRET
from tests.shell import SECRET
from tests.stores import PASSWORD
from tests.upstream import MARKER

KEY = "kls_" + "a" * 49
TOKEN = ".".join(["eyJ" + "a" * 20] * 2 + ["b" * 43])

def program(text, *words, stream="stdout", **named):
    command = [sys.executable, "-c", f"import sys; sys.{stream}.write({text!r})", *words]
    return subprocess.run(command, check=True, **named)

def test_log():
    logging.getLogger("klamala").warning("started with %s", FIRST_SECRET)

def test_log_fields():
    logging.getLogger("klamala.access").warning("request", extra={"fields": {"prompt": "CANARY-prompt"}})

def test_stdout():
    print(MARKER)

def test_stderr():
    print(PASSWORD, file=sys.stderr)

def test_inherited():
    program(TOKEN)

def test_process_output():
    program(KEY, capture_output=True)

def test_process_errors_beside_a_result():
    program(TOKEN, "flask", "token", stream="stderr", capture_output=True)

def test_process_file(tmp_path):
    with (tmp_path / "service.log").open("wb") as file:
        program(SECRET, stdout=file)
"""
CLEAN = """
import logging, subprocess, sys

TOKEN = ".".join(["eyJ" + "a" * 20] * 2 + ["b" * 43])

def test_result():
    subprocess.run([sys.executable, "-c", f"print({TOKEN!r})", "flask", "token"], check=True, capture_output=True)

def test_plain_words():
    logging.getLogger("klamala").warning("request")
    print("a prompt's length, a token's lifetime")
"""


def run(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest with the plugin and these tests."""
    (folder / "test_it.py").write_text(tests, "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "tests.canary", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_what_passing_tests_print_fails_the_run(tmp_path: Path) -> None:
    """A canary in a log, on a standard stream or in a process's output is told by test and kind, never by its value."""
    done = run(tmp_path, LEAKING)
    assert "8 passed" in done.stdout, done.stdout
    assert done.returncode == 1
    told = [line.partition("::")[2] for line in done.stdout.splitlines() if " holds " in line]
    assert sorted(told) == [
        "test_inherited: standard output holds an access token",
        "test_log: the log 'klamala' holds a JWT secret",
        "test_log_fields: the log 'klamala.access' holds a prompt or response",
        "test_process_errors_beside_a_result: a process's errors holds an access token",
        "test_process_file: a process's file service.log holds a JWT secret",
        "test_process_output: a process's output holds a client secret",
        "test_stderr: standard error holds a database password",
        "test_stdout: standard output holds the upstream's words",
    ]
    assert not [value for value in VALUES if value in done.stdout]


def test_a_run_that_prints_results_and_plain_words_passes(tmp_path: Path) -> None:
    """What a command was asked for is no leak on its standard output."""
    done = run(tmp_path, CLEAN)
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout
