"""The pool: whoever is alive does the jobs, at most so many at once, and a dead worker's are taken over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest

from calls.leases import LEASE_SECONDS, Leases
from calls.ledger import Ledger
from calls.pool import JobPool
from records import MAX_JOB_ATTEMPTS, Record, Selection, Status, utc_now
from storage import Storage, StorageUnavailable
from stores.outbox import open_outbox
from tests.stores import BOUND, Backend, completion, on, pending


@dataclass
class Work:
    """What a pool is given to do: keeps what it was asked, waits to be let go, completes the record."""

    storage: Storage
    begun: list[Record] = field(default_factory=list)
    most_at_once: int = 0
    go: Event = field(default_factory=Event)
    error: Exception | None = None
    _at_work: int = 0
    _lock: Lock = field(default_factory=Lock)
    _changed: Event = field(default_factory=Event)

    def __call__(self, job: Record) -> None:
        with self._lock:
            self.begun.append(job)
            self._at_work += 1
            self.most_at_once = max(self.most_at_once, self._at_work)
            self._changed.set()
        assert self.go.wait(BOUND)
        with self._lock:
            self._at_work -= 1
        if self.error is not None:
            raise self.error
        self.storage.finish(job.id, completion(utc_now()))

    def wait_for(self, count: int) -> None:
        """Block until so many jobs have been begun."""
        while len(self.begun) < count:
            assert self._changed.wait(BOUND), f"{len(self.begun)} of {count} jobs were begun"
            self._changed.clear()


def job(storage: Storage, *, waited: float = 0) -> Record:
    """A job that was recorded so many seconds ago, and 100 seconds before its deadline."""
    received = utc_now() - timedelta(seconds=waited)
    record = pending(received, lease_until=received, attempt=0, deadline_at=utc_now() + timedelta(seconds=100))
    storage.begin(record)
    return record


@pytest.fixture
def store(backend: Backend) -> Storage:
    """A store on the real clock."""
    return backend.open(clock=utc_now)


Start = Callable[..., JobPool]


@pytest.fixture
def start(store: Storage, tmp_path: Path) -> Iterator[Start]:
    """Starts pools, which are stopped at the end."""
    pools, works = [], []
    ledger = Ledger(store, open_outbox("sqlite:///x", tmp_path, None), None, 1.0)

    def begin(work: Work, **limits: Any) -> JobPool:
        leases = Leases(ledger, limits.pop("lease_seconds", LEASE_SECONDS))
        pool = JobPool(leases, work, look_seconds=0.05, **limits)
        pools.append(pool)
        works.append(work)
        pool.start()
        return pool

    yield begin
    for work in works:
        work.go.set()
    for pool in pools:
        pool.stop()


def states(storage: Storage) -> list[tuple[Status, int]]:
    return [(record.status, record.attempt) for record in storage.every(Selection())]


@on("sqlite", "postgresql", "nx")
def test_what_an_earlier_process_left_is_done(store: Storage, start: Start) -> None:
    """At its start a pool takes up every free job, without being told."""
    for _ in range(5):
        job(store)
    work = Work(store)
    work.go.set()
    start(work)
    work.wait_for(5)


@on("sqlite", "postgresql", "nx")
def test_each_job_is_done_once(store: Storage, start: Start) -> None:
    """Three pools on one store do forty jobs, each once, in whatever order."""
    recorded = {job(store).id for _ in range(40)}
    work = Work(store)
    work.go.set()
    for _ in range(3):
        start(work)
    work.wait_for(40)
    assert {record.id for record in work.begun} == recorded
    assert len(work.begun) == 40


@on("sqlite")
def test_at_most_so_many_at_once(store: Storage, start: Start) -> None:
    """A pool that is full leaves the rest where it is, free for others, and takes it up when there is room."""
    for _ in range(7):
        job(store)
    work = Work(store)
    start(work, size=3)
    work.wait_for(3)
    assert states(store).count((Status.PENDING, 0)) == 4
    work.go.set()
    work.wait_for(7)
    assert work.most_at_once == 3


@on("sqlite")
def test_one_that_is_full_leaves_jobs_to_another(store: Storage, start: Start) -> None:
    """The second pool does what the first has no room for."""
    job(store)
    first, second = Work(store), Work(store)
    start(first, size=1)
    first.wait_for(1)
    later = job(store)
    start(second)
    second.wait_for(1)
    assert [record.id for record in second.begun] == [later.id]


@on("sqlite", "postgresql", "nx")
def test_a_lease_is_kept_while_the_job_is_at_work(store: Storage, start: Start) -> None:
    """A job that takes many times its lease is done once: nobody else gets it meanwhile."""
    record = job(store)
    work = Work(store)
    start(work, lease_seconds=1.5)
    work.wait_for(1)
    seen = {work.begun[0].lease_until}
    while len(seen) < 5:
        found = store.read(record.id, Selection())
        assert found is not None
        assert found.attempt == 1
        assert store.lease(utc_now() + timedelta(seconds=60)) is None
        seen.add(found.lease_until)


@on("sqlite", "postgresql", "nx")
def test_a_dead_worker_s_job_is_taken_over(store: Storage, start: Start) -> None:
    """A lease that nobody renews ends, and another pool does the job as its second attempt."""
    record = job(store)
    assert store.lease(utc_now() + timedelta(seconds=0.5)) is not None
    work = Work(store)
    work.go.set()
    pool = start(work)
    work.wait_for(1)
    pool.stop()
    assert (work.begun[0].id, work.begun[0].attempt) == (record.id, 2)
    assert states(store) == [(Status.SUCCEEDED, 2)]


@on("sqlite")
def test_a_job_that_always_fails_is_given_up(store: Storage, start: Start) -> None:
    """After so many attempts nobody takes it; it stays pending until its deadline closes it."""
    job(store)
    work = Work(store, error=StorageUnavailable("down"))
    work.go.set()
    start(work, lease_seconds=0.05)
    work.wait_for(MAX_JOB_ATTEMPTS)
    other = job(store)
    work.error = None
    work.wait_for(MAX_JOB_ATTEMPTS + 1)
    assert [record.attempt for record in work.begun] == [1, 2, 3, 1]
    assert work.begun[-1].id == other.id


@on("sqlite")
def test_a_stopped_pool_finishes_what_it_is_at(store: Storage, start: Start) -> None:
    """To stop is to take no further job, to keep the leases of those at work, and to wait for them."""
    job(store)
    work = Work(store)
    pool = start(work, size=1)
    work.wait_for(1)
    waiting = job(store)
    work.go.set()
    pool.stop()
    assert states(store).count((Status.SUCCEEDED, 1)) >= 1
    found = store.read(waiting.id, Selection())
    assert found is not None
    assert (found.status is Status.SUCCEEDED) == (len(work.begun) == 2)


class Flaky(Ledger):
    """A ledger whose storage cannot be reached until it is healed."""

    down = True

    def catch_up(self) -> None:
        if self.down:
            raise StorageUnavailable("The audit log cannot be reached.")


@on("sqlite")
def test_a_pool_outlives_its_storage(store: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the storage cannot be reached no job is taken, and that is said; afterwards they are, unaided."""
    ledger = Flaky(store, open_outbox("sqlite:///x", tmp_path, None), None, 1.0)
    work = Work(store)
    work.go.set()
    job(store)
    pool = JobPool(Leases(ledger), work, look_seconds=0.05)
    pool.start()
    while not any(entry.message == "no jobs taken" for entry in caplog.records):
        pass
    assert not work.begun
    ledger.down = False
    work.wait_for(1)
    pool.stop()
