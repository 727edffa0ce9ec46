"""A pytest plugin: nothing that a whole run printed may hold a secret, a key, a token, a prompt or a response.

It reads what pytest captured of every test, every log record that was made, and what the Python processes that tests
start write to files, and to pipes as far as `communicate` reads them. A find fails the run, and names the test and the
kind, never the value. What the tests send and get where it matters carries the word `CANARY`.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.harness import FIRST_SECRET, SECOND_SECRET
from tests.shell import SECRET
from tests.stores import PASSWORD, PgServer
from tests.upstream import MARKER

WORD, CLIENT_SECRET, TOKEN = "a prompt or response", "a client secret", "an access token"
JWT_SECRET, MODEL_KEY, DATABASE_PASSWORD = "a JWT secret", "a model's key", "a database password"
_FORMS: Mapping[str, re.Pattern[str]] = {
    WORD: re.compile("CANARY"),
    CLIENT_SECRET: re.compile(r"kls_[0-9A-Za-z]{49}"),
    TOKEN: re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    JWT_SECRET: re.compile("|".join([FIRST_SECRET, SECOND_SECRET, SECRET, "e2e-secret-x"])),
    MODEL_KEY: re.compile(r"(?<!UPSTREAM-WORDS-)sk-(?:canary|CANARY|test)"),
    "the upstream's words": re.compile(MARKER),
    DATABASE_PASSWORD: re.compile(
        "|".join(map(re.escape, [PASSWORD, PgServer.PASSWORD, quote(PgServer.PASSWORD, safe="")]))
    ),
}
# What a command was asked for: it may stand on its standard output, and nowhere else.
_RESULTS: Sequence[tuple[Sequence[str], str]] = (
    (("clients", "create"), CLIENT_SECRET),  # shown this once: only its hash is kept
    (("clients", "rotate"), CLIENT_SECRET),  # the same
    (("flask", "token"), TOKEN),  # the operator asked for one
    (("flask", "refine"), WORD),  # the refined prompt
    (("logs", "list"), WORD),  # the operator reads the records
    (("logs", "export"), WORD),  # the same
    (("scripts.demo",), WORD),  # it shows a record
    (("scripts.evaluate",), WORD),  # it shows what became of each draft
    *((("scripts.secret",), kind) for kind in (WORD, JWT_SECRET, MODEL_KEY, DATABASE_PASSWORD)),  # a filter of them
)


class Watch:
    """What was printed and what was found in it."""

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        self.files: dict[Path, tuple[str, frozenset[str]]] = {}
        self.found: dict[str, None] = {}

    def read(self, text: str, source: str, test: str, allowed: frozenset[str] = frozenset()) -> None:
        """Look for canaries in what a test's `source` printed."""
        for kind, form in _FORMS.items():
            if kind not in allowed and form.search(text):
                self.found[f"{test}: {source} holds {kind}"] = None

    def read_files(self) -> None:
        """Look at the output of processes that wrote to files."""
        for path, (test, allowed) in self.files.items():
            if path.is_file():
                self.read(path.read_text("utf-8", "replace"), f"a process's file {path.name}", test, allowed)


_watch = Watch()


def _made(factory: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    def make(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = factory(*arguments, **named)
        _watch.records.append(record)
        return record

    return make


class _Process(subprocess.Popen[Any]):
    """A process whose output is read along. Servers that are not ours say what they like: only Python's are."""

    def __init__(self, args: Any, *rest: Any, **named: Any) -> None:
        words = [os.fsdecode(word) for word in ([args] if isinstance(args, str | bytes | os.PathLike) else args)]
        self._test = _running_test()
        self._ours = Path(words[0]).name.startswith("python")
        self._allowed = _allowed_to(words)
        for name, allowed in (("stdout", self._allowed), ("stderr", frozenset[str]())):
            path = getattr(named.get(name), "name", None)
            if self._ours and isinstance(path, str):
                _watch.files.setdefault(Path(path), (self._test, allowed))
        super().__init__(args, *rest, **named)

    def communicate(self, *arguments: Any, **named: Any) -> tuple[Any, Any]:
        output, errors = super().communicate(*arguments, **named)
        if self._ours:
            _watch.read(_text(output), "a process's output", self._test, self._allowed)
            _watch.read(_text(errors), "a process's errors", self._test)
        return output, errors


def _allowed_to(words: Sequence[str]) -> frozenset[str]:
    line = f" {' '.join(words[:8])} "
    return frozenset(kind for command, kind in _RESULTS if f" {' '.join(command)} " in line)


def _text(output: object) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else str(output or "")


def _running_test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "a fixture").rpartition(" (")[0] or "a fixture"


def pytest_configure() -> None:
    logging.setLogRecordFactory(_made(logging.getLogRecordFactory()))
    subprocess.Popen = _Process  # type: ignore[misc]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for source, text in (("standard output", report.capstdout), ("standard error", report.capstderr)):
        _watch.read(text, source, report.nodeid)
    records, _watch.records = _watch.records, []
    for record in records:
        # What it says, and all that it carries to where it is written.
        _watch.read(f"{record.getMessage()} {vars(record)}", f"the log {record.name!r}", report.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    _watch.read_files()
    if _watch.found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _watch.found:
        terminalreporter.section("printed, and must not be", red=True, bold=True)
        for line in _watch.found:
            terminalreporter.line(line)
