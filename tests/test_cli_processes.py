"""The commands as processes: pipes, signals, terminals, and a model that is slow or failing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from records import Owner, Record, Selection, Status, utc_now
from storage import Storage, open_storage
from tests import upstream as fake
from tests.shell import BOUND, ROOT, Terminal, command, environment, flask
from tests.stores import completion, pending
from tests.upstream import Upstream

LOCAL = Owner("local", "someone")
EVIL = "hey write to \x1b[2J\x1b]0;title\x07 bob \x9b2J \x7f\u202e now"
# What click and this program send themselves: colours, and the end of a line.
OURS = re.compile(rb"\x1b\[[0-9]*m|\x1b\[K")
# A pipe holds 64 KiB: an export beyond that meets its closed end.
BIG = "x" * 4000


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The built-in rules on a SQLite file."""
    return environment(tmp_path)


@pytest.fixture
def with_model(tmp_path: Path, upstream: Upstream) -> dict[str, str]:
    """A model's server beside the SQLite file."""
    model = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-test", "OPENAI_MODEL": "gpt-test"}
    return environment(tmp_path, **model)


@contextmanager
def opened(environ: dict[str, str]) -> Iterator[Storage]:
    with closing(open_storage(environ["DATABASE_URL"])) as storage:
        yield storage


def kept(environ: dict[str, str]) -> list[Record]:
    with opened(environ) as storage:
        return list(storage.every(Selection()))


def keep(environ: dict[str, str], count: int, prompt: str) -> None:
    with opened(environ) as storage:
        for _ in range(count):
            record = storage.begin(pending(utc_now(), client_id="local", user_id="someone", prompt=prompt))
            storage.finish(record.id, completion(utc_now(), response=prompt))


def without_ours(shown: bytes) -> str:
    return OURS.sub(b"", shown).decode()


def assert_harmless(text: str) -> None:
    """Nothing in it moves a cursor or turns the direction of writing."""
    assert not [
        character
        for character in text
        if character not in "\r\n\t" and re.match(r"[\x00-\x1f\x7f-\x9f\u202e]", character)
    ]


# --- Pipes


def test_a_pipe_gets_the_exact_bytes(with_model: dict[str, str], upstream: Upstream) -> None:
    """From pipe to pipe a prompt keeps its bytes, escape sequences included; notes go elsewhere; no spinner shows."""
    upstream.script(fake.echo(lambda draft: f"{draft} – verbatim\r\n"))
    done = flask(with_model, "refine", given=EVIL.encode())
    assert (done.returncode, done.stdout) == (0, f"{EVIL} – verbatim\r\n".encode())
    assert done.stderr == b""


def test_a_result_is_utf8_whatever_the_locale(with_model: dict[str, str], upstream: Upstream) -> None:
    """A pipe in a Latin-1 locale gets UTF-8 all the same: that is what it can be read back as."""
    upstream.script(fake.echo(lambda draft: f"{draft} 日本"))
    environ = {**with_model, "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    assert flask(environ, "refine", "a").stdout.decode() == "a 日本\n"
    assert json.loads(flask(environ, "logs", "list", "--json").stdout)[0]["response"] == "a 日本"
    assert "日" not in flask(environ, "logs", "list").stdout.decode()


@pytest.mark.parametrize("arguments", [(b"caf\xe9",), ("-",)], ids=["argument", "input"])
def test_bytes_that_are_no_text_are_wrong_usage(environ: dict[str, str], arguments: tuple[str | bytes, ...]) -> None:
    """A draft that is not UTF-8 ends with 2 and a clear line, and is not recorded."""
    done = flask(environ, "refine", *arguments, given=b"caf\xe9")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.endswith(b"Error: Invalid value for TEXT: must be UTF-8\n")
    assert kept(environ) == []


def test_a_reader_that_has_seen_enough_is_told_nothing(environ: dict[str, str]) -> None:
    """`logs export | head -1` gets its line, and standard error stays empty."""
    keep(environ, 60, BIG)
    exporting = subprocess.Popen(
        command("logs", "export"), cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert exporting.stdout is not None
    assert json.loads(exporting.stdout.readline())["client_id"] == "local"
    exporting.stdout.close()
    assert exporting.stderr is not None
    assert exporting.stderr.read() == b""
    assert exporting.wait(BOUND) == 1
    exporting.stderr.close()


@pytest.mark.parametrize("arguments", [("refine", "x"), ("logs", "list"), ("logs", "export")], ids=" ".join)
def test_a_full_disk_is_one_line(environ: dict[str, str], arguments: tuple[str, ...]) -> None:
    """A result that cannot be written ends with 1 and one line, now and when Python ends."""
    keep(environ, 1, "a prompt")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(*arguments), cwd=ROOT, env=environ, stdout=full, stderr=subprocess.PIPE, timeout=BOUND, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"Error: Input or output failed: No space left on device.\n")


def test_nothing_is_done_without_an_output(environ: dict[str, str]) -> None:
    """Where standard output is closed the result would be lost: one line, exit code 1, and nothing was done."""
    keep(environ, 1, "a prompt")
    erasing = command("logs", "erase", "--client", "local", "--user-id", "someone", "--yes")
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *erasing]
    done = subprocess.run(closed, cwd=ROOT, env=environ, stderr=subprocess.PIPE, timeout=BOUND, check=False)
    assert (done.returncode, done.stderr.count(b"\n"), done.stderr[:32]) == (1, 1, b"Error: Standard output is closed")
    assert len(kept(environ)) == 1


def test_a_failing_model_is_one_line(with_model: dict[str, str], upstream: Upstream) -> None:
    """The problem is named on standard error without the upstream's words, and the record says failed."""
    upstream.script(fake.status(401))
    done = flask(with_model, "refine", "x", "--json")
    assert (done.returncode, done.stdout) == (1, b"")
    assert re.fullmatch(rb"Error: Upstream rejected the request: [^\n]+\n", done.stderr)
    assert fake.MARKER.encode() not in done.stderr
    assert [record.status for record in kept(with_model)] == [Status.FAILED]


def test_a_broken_refinement_ends_with_1(with_model: dict[str, str], upstream: Upstream) -> None:
    """The draft comes back unchanged on standard output, and what was lost is said beside it."""
    upstream.script(fake.refinement("Write."))
    done = flask(with_model, "refine", "write {{this}}")
    assert (done.returncode, done.stdout) == (1, b"write {{this}}\n")
    assert b"\nLost\n- {{this}}\n" in done.stderr


# --- Ctrl-C


def test_ctrl_c_ends_with_130(with_model: dict[str, str], upstream: Upstream) -> None:
    """Nothing is printed, the record stays pending, and it counts as abandoned once its deadline has passed."""
    upstream.hold()
    refining = subprocess.Popen(
        command("refine", "x"), cwd=ROOT, env=with_model, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    upstream.wait_for(1)
    refining.send_signal(signal.SIGINT)
    printed, said = refining.communicate(timeout=BOUND)
    assert (refining.returncode, printed, said.strip()) == (130, b"", b"")
    (record,) = kept(with_model)
    assert (record.status, record.owner) == (Status.PENDING, LOCAL)
    assert record.deadline_at is not None
    later = record.deadline_at
    with closing(open_storage(with_model["DATABASE_URL"], clock=lambda: later)) as storage:
        found = storage.read(record.id, LOCAL)
        assert found is not None
        assert found.status is Status.ABANDONED


def test_ctrl_c_on_a_terminal_leaves_it_clean(with_model: dict[str, str], upstream: Upstream) -> None:
    """The typed Ctrl-C ends the spinner too, and its line is gone."""
    upstream.hold()
    with Terminal(with_model, "refine", "x") as terminal:
        terminal.read_until(b"refining")
        upstream.wait_for(1)
        terminal.type(b"\x03")
        assert terminal.end() == 130
    assert terminal.shown.endswith(b"\r\x1b[K\r\n")


# --- Terminals


def test_a_terminal_shows_the_diff_in_colour(with_model: dict[str, str], upstream: Upstream) -> None:
    """Red is gone, green is new, then why, and what was assumed."""
    changes = [{"reason": "politer", "before": "", "after": "Please"}]
    upstream.script(fake.refinement("Please write a mail to Bob.", changes, ["Bob is a friend."]))
    with Terminal(with_model, "refine", "write a mail to bob") as terminal:
        assert terminal.end() == 0
    assert b"\x1b[32m\x1b[1mPlease\x1b[0m write a mail to \x1b[31m\x1b[9mbob\x1b[0m" in terminal.shown
    notes = without_ours(terminal.shown)
    assert "\r\n\r\nWhy\r\n- politer\r\n\r\nAssumptions\r\n- Bob is a friend.\r\n" in notes


@pytest.mark.parametrize("settings", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_without_colours_a_terminal_shows_the_refined_prompt(
    with_model: dict[str, str], upstream: Upstream, settings: dict[str, str]
) -> None:
    """`NO_COLOR` gets the refined prompt alone, and no colours in the notes either."""
    changes = [{"reason": "politer", "before": "", "after": "Please"}]
    upstream.script(fake.refinement("Please write.", changes))
    with Terminal({**with_model, **settings}, "refine", "write") as terminal:
        assert terminal.end() == 0
    assert re.sub(rb"\r[^\r]*\r\x1b\[K", b"", terminal.shown) == b"Please write.\r\n\r\nWhy\r\n- politer\r\n"


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (("refine", EVIL), {}),
        (("refine", EVIL), {"NO_COLOR": "1"}),
        (("refine", EVIL, "--json"), {}),
        (("logs", "list"), {}),
        (("logs", "list", "--json"), {}),
        (("logs", "export"), {}),
    ],
    ids=lambda value: " ".join(value).replace(EVIL, "EVIL"),
)
def test_no_record_commands_a_terminal(
    environ: dict[str, str], arguments: tuple[str, ...], settings: dict[str, str]
) -> None:
    """Escape sequences in prompts are shown, not sent: the only ones on a terminal are this program's colours."""
    keep(environ, 1, EVIL)
    with Terminal({**environ, **settings}, *arguments, columns=200) as terminal:
        assert terminal.end() == 0
    shown = without_ours(terminal.shown)
    assert_harmless(shown)
    assert r"\u001b[2J" in shown if {"--json", "export"} & set(arguments) else r"\x1b[2J" in shown


def test_json_on_a_terminal_is_the_same_json(environ: dict[str, str]) -> None:
    """What a terminal would obey is escaped as JSON may, so that a copy of it reads the same."""
    keep(environ, 1, EVIL)
    with Terminal(environ, "logs", "list", "--json") as terminal:
        assert terminal.end() == 0
    assert json.loads(terminal.shown) == json.loads(flask(environ, "logs", "list", "--json").stdout)
    assert json.loads(terminal.shown)[0]["prompt"] == EVIL


def test_a_spinner_shows_that_it_goes_on(with_model: dict[str, str], upstream: Upstream, tmp_path: Path) -> None:
    """While the model thinks the terminal shows seconds, then nothing of that is left; standard output is clean."""
    upstream.script(fake.refinement("Write."))
    upstream.hold()
    with (tmp_path / "out").open("wb") as out, Terminal(with_model, "refine", "x", stdout=out) as terminal:
        terminal.read_until(b"/ refining 0 s")
        terminal.read_until(b"- refining 0 s")
        upstream.release()
        assert terminal.end() == 0
    assert (tmp_path / "out").read_bytes() == b"Write.\n"
    assert re.fullmatch(rb"(\r[|/\\-] refining \d+ s\x1b\[K)+\r\x1b\[K", terminal.shown)


@pytest.mark.parametrize(("columns", "lines"), [(80, 6), (160, 3)])
def test_the_table_fits_the_terminal(environ: dict[str, str], columns: int, lines: int) -> None:
    """With a heading, and as wide as the terminal at most."""
    keep(environ, 2, "a long prompt " * 30)
    with Terminal(environ, "logs", "list", columns=columns) as terminal:
        assert terminal.end() == 0
    shown = terminal.shown.decode().splitlines()
    assert shown[0].split()[:4] == ["ID", "TIME", "KIND", "STATUS"]
    assert (max(map(len, shown)), len(shown)) == (columns, lines)


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 1), (b"\n", 1, 1), (b"\x04", 1, 1)])
def test_erase_asks_on_a_terminal(environ: dict[str, str], tmp_path: Path, answer: bytes, code: int, left: int) -> None:
    """Only a yes erases; the question is no part of the result."""
    keep(environ, 1, "a prompt")
    arguments = ("logs", "erase", "--client", "local", "--user-id", "someone", "--json")
    with (tmp_path / "out").open("wb") as out, Terminal(environ, *arguments, stdout=out) as terminal:
        terminal.read_until(b"Erase all records of the user someone of the client local, for ever? [y/N]:")
        terminal.type(answer)
        assert terminal.end() == code
    assert len(kept(environ)) == left
    erased = b'{"client_id": "local", "user_id": "someone", "erased": 1}\n'
    assert (tmp_path / "out").read_bytes() == (erased if code == 0 else b"")


def test_a_terminal_without_a_draft_is_not_waited_for(environ: dict[str, str]) -> None:
    """Without TEXT and pipe there is nothing to read: wrong usage, said at once; `-` reads until Ctrl-D."""
    with Terminal(environ, "refine") as terminal:
        assert terminal.end() == 2
    assert b"TEXT is missing" in terminal.shown
    with Terminal({**environ, "NO_COLOR": "1"}, "refine", "-") as terminal:
        terminal.type(b"write a mail\n\x04")
        assert terminal.end() == 0
    assert [record.prompt for record in kept(environ)] == ["write a mail\n"]
