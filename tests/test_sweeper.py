"""The audit log is tidied while the service runs."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from sqlalchemy import make_url

from records import Selection, Status, Swept, utc_now
from storage import StorageUnavailable
from stores.sql import SqlStorage
from stores.sqlite import SqliteDatabase
from stores.sweeper import Sweeper
from tests.harness import Harness
from tests.stores import BOUND, ROOT, pending, sqlite_url


class Watched(SqlStorage):
    """A store that says when it was swept, and fails as often as it is told to."""

    failures = 0

    def __init__(self, path: Path) -> None:
        super().__init__(SqliteDatabase(make_url(sqlite_url(path))), create=True, clock=utc_now)
        self.swept = Event()

    def sweep(self) -> Swept:
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("down")
        result = super().sweep()
        self.swept.set()
        return result


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Watched]:
    with closing(Watched(tmp_path / "swept.sqlite3")) as opened:
        yield opened


def sweep_once(store: Watched) -> None:
    sweeper = Sweeper(store, seconds=0.001)
    sweeper.start()
    try:
        assert store.swept.wait(BOUND)
    finally:
        sweeper.stop()


def test_what_is_overdue_is_closed_and_what_has_expired_deleted(store: Watched) -> None:
    """Nobody has to read a record for it to be closed, nor to call a command for it to go."""
    now = utc_now()
    overdue = pending(now, deadline_at=now - timedelta(seconds=1))
    expired = pending(now, expires_at=now - timedelta(seconds=1))
    alive = pending(now, deadline_at=now + timedelta(hours=1), expires_at=now + timedelta(hours=1))
    for record in (overdue, expired, alive):
        store.begin(record)
    sweep_once(store)
    statuses = {record.id: record.status for record in store.every(Selection())}
    assert statuses == {overdue.id: Status.ABANDONED, alive.id: Status.PENDING}


def test_a_storage_that_is_down_does_not_end_it(store: Watched) -> None:
    """It goes on at the next turn."""
    store.failures = 3
    sweep_once(store)
    assert store.failures == 0


def test_it_ends_when_it_is_told_to(store: Watched) -> None:
    """A thread that waits for its turn does not hold up the end, and is started once."""
    sweeper = Sweeper(store)
    sweeper.start()
    thread = sweeper._thread
    sweeper.start()
    assert sweeper._thread is thread
    sweeper.stop()
    assert thread is not None
    assert not thread.is_alive()
    assert not store.swept.is_set()


def test_each_worker_of_gunicorn_has_one(harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service sweeps by itself; a process that only runs a command does not."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    sweeper: Sweeper = harness.app.extensions["sweeper"]
    assert sweeper._thread is None
    configuration = runpy.run_path(str(ROOT / "gunicorn.conf.py"))
    configuration["post_worker_init"](SimpleNamespace(wsgi=harness.app))
    try:
        assert sweeper._thread is not None
        assert sweeper._thread.is_alive()
    finally:
        sweeper.stop()
        harness.app.extensions["courier"].stop()
