"""`kill -9` in the middle of writing: what the store acknowledged is there afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from threading import Timer

import pytest

from records import Status
from storage import Storage, open_storage
from tests.e2e.writer import BEGUN, FINISHED, response_to
from tests.stores import BOUND, NO_POSTGRESQL, OWNER, POSTGRESQL_BINARIES, ROOT, NxServer, PgServer, sqlite_url

ROUNDS = 3
LINES = 300


@contextmanager
def _writer(url: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.e2e.writer", url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        # A writer that hangs is ended, so that the test fails for want of lines instead of waiting for ever.
        watchdog = Timer(3 * BOUND, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def _acknowledged(url: str, kill: Callable[[subprocess.Popen[str]], None]) -> dict[str, list[str]]:
    """What a writer on `url` had acknowledged, by kind, when `kill` struck in its midst."""
    with _writer(url) as process:
        assert process.stdout is not None
        lines = list(islice(process.stdout, LINES))
        assert len(lines) == LINES, "the writer ended early"
        assert process.poll() is None, "the writer was not writing any more"
        kill(process)
        process.kill()
        lines += process.stdout
    acknowledged: dict[str, list[str]] = {BEGUN: [], FINISHED: []}
    for line in lines:
        what, record_id = line.split()
        acknowledged[what].append(record_id)
    return acknowledged


def _assert_kept(storage: Storage, acknowledged: dict[str, list[str]]) -> None:
    assert len(acknowledged[FINISHED]) > LINES // 3
    lost = [record_id for record_id in acknowledged[BEGUN] if storage.read(record_id, OWNER) is None]
    assert lost == []
    records = [storage.read(record_id, OWNER) for record_id in acknowledged[FINISHED]]
    incomplete = [
        record
        for record in records
        if record is None or record.status is not Status.SUCCEEDED or record.response != response_to(record.id)
    ]
    assert incomplete == []


def test_a_killed_process_loses_nothing_acknowledged_on_sqlite(tmp_path: Path) -> None:
    """Whatever SQLite acknowledged to a process that was then killed is in the file, whole, kill after kill."""
    url = sqlite_url(tmp_path / "killed.sqlite3")
    rounds = [_acknowledged(url, subprocess.Popen.kill) for _ in range(ROUNDS)]
    with closing(open_storage(url)) as storage:
        for acknowledged in rounds:
            _assert_kept(storage, acknowledged)


@pytest.mark.skipif(not POSTGRESQL_BINARIES, reason=NO_POSTGRESQL)
def test_a_killed_postgresql_loses_nothing_acknowledged() -> None:
    """Whatever PostgreSQL acknowledged is there after every process of it was killed, kill after kill."""
    with PgServer(durable=True) as server:
        url = server.url(server.create(), query="?options=-csynchronous_commit%3Doff")
        rounds = []
        for _ in range(ROUNDS):
            rounds.append(_acknowledged(url, lambda _: server.kill()))
            server.start()
        with closing(open_storage(url)) as storage:
            for acknowledged in rounds:
                _assert_kept(storage, acknowledged)


def test_a_killed_server_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Whatever a server acknowledged before it was killed is there after it is started again on the same files."""
    with NxServer(tmp_path) as server:
        acknowledged = _acknowledged(server.url("killed"), lambda _: server.kill())
        server.start()
        with closing(open_storage(server.url("killed"))) as storage:
            _assert_kept(storage, acknowledged)
