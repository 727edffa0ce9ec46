"""`flask logs`: the audit log of all clients, for the operator."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from app import create_app
from commands.listing import listing
from records import Kind, Owner, Record, Selection, Status, new_id, utc_now
from storage import open_storage
from stores.sql import SqlStorage
from stores.statements import row
from stores.tables import requests
from terminal import visible, width
from tests.harness import Harness
from tests.stores import NxServer, completion, new_database, pending

LOCAL = Owner("local", "someone")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PARENT = "00000000-0000-0000-0000-000000000001"
MORE_THAN_A_BATCH = 450


def run(harness: Harness, *arguments: str) -> Result:
    """The command, without a terminal."""
    return harness.app.test_cli_runner().invoke(args=["logs", *arguments])


def done(harness: Harness, *arguments: str) -> str:
    """What a command that succeeds prints."""
    result = run(harness, *arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def listed(harness: Harness, *arguments: str) -> list[dict[str, Any]]:
    text = done(harness, "list", "--json", *arguments)
    assert text.count("\n") == 1
    items: list[dict[str, Any]] = json.loads(text)
    return items


def exported(harness: Harness, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done(harness, "export", *arguments).splitlines()]


def keep(harness: Harness, moment: datetime = NOON, status: Status = Status.SUCCEEDED, **changes: Any) -> Record:
    """Put a record of that moment into the store, completed unless told otherwise."""
    record = harness.storage.begin(pending(moment, **changes))
    if status in (Status.SUCCEEDED, Status.FAILED):
        harness.storage.finish(record.id, completion(moment, status=status, detail=record.detail))
    return record


def keep_many(harness: Harness, count: int, prompt: str = "a prompt") -> list[str]:
    """Put that many completed records of many clients into the SQLite file at once; returns their ids, oldest first."""
    assert isinstance(harness.storage, SqlStorage)
    harness.storage.prepare()
    rows = [
        row(pending(NOON + timedelta(seconds=number // 7), status=Status.SUCCEEDED, client_id=f"klm_{number % 3}"))
        | {"prompt": prompt}
        for number in range(count)
    ]
    with harness.storage._database.engine.begin() as connection:
        connection.execute(insert(requests), rows)
    return [row["id"] for row in sorted(rows, key=lambda row: (row["timestamp"], row["id"]))]


@pytest.fixture
def several(harness: Harness) -> dict[str, Record]:
    """Records that differ in what the filters look at, an hour apart, the oldest first."""
    hours = iter(NOON + timedelta(hours=hour) for hour in range(10))
    return {
        "plain": keep(harness, next(hours)),
        "client": keep(harness, next(hours), client_id="klm_other"),
        "user": keep(harness, next(hours), user_id="user-2"),
        "kind": keep(harness, next(hours), kind=Kind.GENERATE),
        "failed": keep(harness, next(hours), Status.FAILED),
        "abandoned": keep(harness, next(hours), Status.PENDING),
        "child": keep(harness, next(hours), detail={"strategy": "general", "parent_id": PARENT}),
        "model": keep(harness, next(hours), model="another"),
        "local": keep(harness, next(hours), client_id="local", user_id="someone"),
    }


FILTERS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "none": ([], ["local", "model", "child", "abandoned", "failed", "kind", "user", "client", "plain"]),
    "client": (["--client", "klm_other"], ["client"]),
    "local": (["--client", "local"], ["local"]),
    "user": (["--user-id", "user-2"], ["user"]),
    "kind": (["--kind", "generate"], ["kind"]),
    "status": (["--status", "failed"], ["failed"]),
    "abandoned": (["--status", "abandoned"], ["abandoned"]),
    "parent": (["--parent", PARENT], ["child"]),
    "model": (["--model", "another"], ["model"]),
    "from": (["--from", "2026-01-02T19:00:00Z"], ["local", "model"]),
    "to": (["--to", "2026-01-02T14:00:00Z"], ["client", "plain"]),
    "another zone": (["--to", "2026-01-02T16:00:00+02:00"], ["client", "plain"]),
    "a day": (["--from", "2026-01-02", "--to", "2026-01-03", "--kind", "generate"], ["kind"]),
    "the day before": (["--to", "2026-01-02"], []),
    "two": (["--client", "klm_client", "--status", "failed", "--kind", "generate"], []),
}


@pytest.mark.parametrize(("arguments", "names"), FILTERS.values(), ids=FILTERS)
def test_filters_narrow_both(
    harness: Harness, several: dict[str, Record], arguments: Sequence[str], names: Sequence[str]
) -> None:
    """`list` and `export` show the same records of all clients, newest first, narrowed by each filter."""
    expected = [several[name].id for name in names]
    assert [item["id"] for item in listed(harness, *arguments)] == expected
    assert [item["id"] for item in exported(harness, *arguments)] == expected


def test_an_item_is_the_apis(harness: Harness) -> None:
    """What is shown of a record is what `GET /log-request` shows its owner."""
    token = harness.token()
    harness.refine(token, {"prompt": "日本 {{x}} \x1b[2J\x7f"})
    items = harness.http.get("/log-request", headers={"Authorization": f"Bearer {token}"}).get_json()["items"]
    assert listed(harness) == exported(harness) == exported(harness, "--json") == items


def test_the_table_has_a_line_a_record(harness: Harness) -> None:
    """Without a terminal: id, time, kind, status, client, user, model and the beginning of the prompt, on one line."""
    record = keep(harness, prompt="two\nlines\tand \x1b[2J an\u202e escape " + "x" * 200, user_id="someone else")
    keep(harness, NOON - timedelta(days=1), model=None)
    first, second = done(harness, "list").splitlines()
    assert first.startswith(
        f"{record.id}  2026-01-02 12:00:00Z  refine  succeeded  klm_client  someone else  gpt-test  "
    )
    assert r"  two lines and \x1b[2J an\u202e escape xxx" in first
    assert first.endswith("x…")
    assert second.split()[-2:] == ["-", "CANARY-prompt"]


@given(st.integers(40, 250), st.text(max_size=200), st.text("a日\x1b\u0301 ", min_size=1, max_size=40))
def test_the_table_fits_every_terminal(cells: int, prompt: str, user_id: str) -> None:
    """No line takes more cells than the terminal has, ids stand whole, and no control character is left."""
    records = [pending(NOON, prompt=prompt, user_id=user_id), pending(NOON, model=None)]
    lines = list(listing(records, cells))
    assert len(lines) in (3, 6)
    height = len(lines) // 3
    for record, first in zip(records, lines[height::height], strict=True):
        assert first.startswith(record.id)
    for line in lines:
        assert width(line) <= cells
        assert visible(line) == line


def test_the_limit_is_the_newest(harness: Harness) -> None:
    """`--limit` takes 1 to 100, and is 20 unless said."""
    ids = keep_many(harness, 30)[::-1]
    assert [item["id"] for item in listed(harness)] == ids[:20]
    assert [item["id"] for item in listed(harness, "--limit", "3")] == ids[:3]
    assert done(harness, "list", "--limit", "30").count("\n") == 30


def test_nothing_is_no_failure(harness: Harness) -> None:
    """An empty log is an empty array, no line, or a word on standard error."""
    assert listed(harness) == []
    assert done(harness, "export") == ""
    result = run(harness, "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "There are no such records.\n")


WRONG_FILTERS: dict[str, Sequence[str]] = {
    "an unknown kind": ["--kind", "chat"],
    "an unknown status": ["--status", "done"],
    "a parent that is no id": ["--parent", "1"],
    "a time that is none": ["--from", "yesterday"],
    "a day that is none": ["--from", "2026-02-30"],
    "a time without a zone": ["--to", "2026-01-02T12:00:00"],
    "an end before the beginning": ["--from", "2026-01-02", "--to", "2026-01-01"],
    "a blank client": ["--client", " "],
    "a blank user": ["--user-id", ""],
    "a long user": ["--user-id", "x" * 129],
    "half a character": ["--model", "\udcff"],
    "an argument": ["x"],
    "an unknown option": ["--cursor", "x"],
}


@pytest.mark.parametrize("arguments", WRONG_FILTERS.values(), ids=WRONG_FILTERS)
@pytest.mark.parametrize("command", ["list", "export"])
def test_wrong_filters_end_with_2(harness: Harness, tmp_path: Path, command: str, arguments: Sequence[str]) -> None:
    """What cannot be looked for is named on standard error, and no file is written."""
    out = tmp_path / "out"
    result = run(harness, command, *arguments, *(["--out", str(out)] if command == "export" else []))
    assert (result.exit_code, result.stdout, out.exists()) == (2, "", False)
    assert arguments[0] in result.stderr if arguments[0].startswith("--") else "unexpected" in result.stderr


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "x", "", "٣"])
def test_wrong_limits_end_with_2(harness: Harness, limit: str) -> None:
    """A limit is a whole number from 1 to 100."""
    result = run(harness, "list", "--limit", limit)
    assert (result.exit_code, result.stdout, "--limit" in result.stderr) == (2, "", True)


# --- Export


def test_an_export_is_whole(harness: Harness) -> None:
    """Every record once, newest first, one JSON object a line, also beyond one page and where many share a moment."""
    ids = keep_many(harness, MORE_THAN_A_BATCH)
    assert [item["id"] for item in exported(harness)] == ids[::-1]


def test_an_export_into_a_file(harness: Harness, tmp_path: Path) -> None:
    """`--out` replaces what is there; a new file is its owner's alone, standard output stays empty."""
    keep_many(harness, 3)
    out = tmp_path / "out.ndjson"
    for _ in range(2):
        result = run(harness, "export", "--out", str(out))
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == f"Exported 3 records to {out}.\n"
    assert out.read_text("utf-8") == done(harness, "export")
    assert out.stat().st_mode & 0o777 == 0o600


def test_an_export_that_cannot_be_written(harness: Harness, tmp_path: Path) -> None:
    """A path that cannot be opened is wrong usage; a disk that is full is a failure; each is said in a line."""
    keep_many(harness, 3)
    result = run(harness, "export", "--out", str(tmp_path / "no" / "out"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--out: cannot be written: No such file or directory\n" in result.stderr
    result = run(harness, "export", "--out", "/dev/full")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: Input or output failed: No space left on device.\n"


def test_an_export_takes_constant_memory(harness: Harness) -> None:
    """Ten times as many records take about the same memory at the peak."""
    keep_many(harness, 1_000, "x" * 1_000)
    _peak(harness, 1_000)  # what is loaded once
    few = _peak(harness, 1_000)
    keep_many(harness, 9_000, "x" * 1_000)
    assert _peak(harness, 10_000) < 1.2 * few


def _peak(harness: Harness, count: int) -> int:
    """The most bytes that Python held during an export of so many records."""
    tracemalloc.start()
    result = run(harness, "export", "--out", "/dev/null")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (result.exit_code, result.stderr) == (0, f"Exported {count} records to /dev/null.\n")
    return peak


# --- Erase and sweep


@pytest.mark.parametrize("owner", [Owner("klm_client", "user-1"), LOCAL], ids=["client", "local"])
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_erase_is_one_users(harness: Harness, owner: Owner, flags: Sequence[str]) -> None:
    """Every record of this user of this client goes, whatever its state, and nobody else's."""
    for status in (Status.SUCCEEDED, Status.FAILED, Status.PENDING):
        keep(harness, status=status, client_id=owner.client_id, user_id=owner.user_id)
    others = {
        keep(harness, client_id=owner.client_id, user_id="another").id,
        keep(harness, client_id="klm_other", user_id=owner.user_id).id,
    }
    arguments = ["--client", owner.client_id, "--user-id", owner.user_id, "--yes", *flags]
    for count in (3, 0):
        text = done(harness, "erase", *arguments)
        expected = {"client_id": owner.client_id, "user_id": owner.user_id, "erased": count}
        assert text == (
            json.dumps(expected) + "\n"
            if flags
            else f"client_id: {owner.client_id}\nuser_id: {owner.user_id}\nerased: {count}\n"
        )
    assert {record.id for record in harness.storage.every(Selection())} == others


WRONG_ERASURES: dict[str, Sequence[str]] = {
    "nobody": ["--yes"],
    "no user": ["--client", "local", "--yes"],
    "no client": ["--user-id", "someone", "--yes"],
    "a blank user": ["--client", "local", "--user-id", " ", "--yes"],
    "a blank client": ["--client", "", "--user-id", "someone", "--yes"],
    "without --yes": ["--client", "local", "--user-id", "someone"],
}


@pytest.mark.parametrize("arguments", WRONG_ERASURES.values(), ids=WRONG_ERASURES)
def test_wrong_erasures_end_with_2(harness: Harness, arguments: Sequence[str]) -> None:
    """Without both names, or without a yes where nobody can be asked, nothing is erased."""
    record = keep(harness, client_id="local", user_id="someone")
    result = run(harness, "erase", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert harness.storage.read(record.id, LOCAL) is not None


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_sweep_closes_and_deletes(harness: Harness, flags: Sequence[str]) -> None:
    """Calls past their deadline are closed as abandoned, records past their retention go, and both are counted."""
    now = utc_now()
    overdue = [keep(harness, now - timedelta(hours=1), Status.PENDING) for _ in range(3)]
    keep(harness, now - timedelta(days=2), expires_at=now - timedelta(days=1))
    kept = keep(harness, now, Status.PENDING, deadline_at=now + timedelta(hours=1), expires_at=now + timedelta(hours=1))
    text = done(harness, "sweep", *flags)
    assert text == ('{"abandoned": 3, "expired": 1}\n' if flags else "abandoned: 3\nexpired: 1\n")
    states = {record.id: record.status for record in harness.storage.every(Selection())}
    assert states == {**{record.id: Status.ABANDONED for record in overdue}, kept.id: Status.PENDING}
    assert done(harness, "sweep", "--json") == '{"abandoned": 0, "expired": 0}\n'


# --- Storages


COMMANDS = (
    ["list"],
    ["list", "--json"],
    ["export"],
    ["erase", "--client", "local", "--user-id", "someone", "--yes"],
    ["sweep"],
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_without_storage_a_command_ends_with_1(harness: Harness, tmp_path: Path, arguments: Sequence[str]) -> None:
    """A storage that is out of reach is one line on standard error."""
    down = open_storage(f"sqlite:///{tmp_path / 'no-such-folder' / 'x.sqlite3'}")
    app = create_app(harness.settings, storage=down, engine=harness.engine)
    result = run(replace(harness, app=app), *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"Error: Storage unavailable: [^\n]+\n", result.stderr)


def test_the_same_behind_mongodbs_protocol(harness: Harness, tmp_path: Path) -> None:
    """List, export, erase and sweep do on another store what they do on SQLite."""
    with NxServer(tmp_path / "nx") as server:
        storage = open_storage(server.url(new_database()))
        app = create_app(harness.settings, storage=storage, engine=harness.engine)
        there = replace(harness, app=app, storage=storage)
        kept = [keep(there, NOON + timedelta(minutes=minute)).id for minute in range(3)]
        overdue = keep(there, NOON - timedelta(days=1), Status.PENDING, id=new_id())
        assert done(there, "sweep", "--json") == '{"abandoned": 1, "expired": 0}\n'
        assert [item["id"] for item in listed(there)] == [*reversed(kept), overdue.id]
        assert [item["id"] for item in exported(there, "--status", "succeeded")] == kept[::-1]
        erased = done(there, "erase", "--client", "klm_client", "--user-id", "user-1", "--yes", "--json")
        assert json.loads(erased)["erased"] == 4
        assert listed(there) == []
        storage.close()


@pytest.mark.parametrize("arguments", [[], ["list"], ["export"], ["erase"], ["sweep"]], ids=lambda a: " ".join(a))
def test_help_is_there(harness: Harness, arguments: Sequence[str]) -> None:
    """Each command explains itself, and no summary is cut off."""
    text = done(harness, *arguments, "--help")
    assert "Usage: " in text
    assert "..." not in text.replace("[ARGS]...", "")
