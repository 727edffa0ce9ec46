"""Leases of jobs by many at once: of threads, stores and processes on one database, one gets each job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import cycle, islice

import pytest
from sqlalchemy import make_url

from records import MAX_JOB_ATTEMPTS, Record, Status, utc_now
from storage import Storage
from stores.sql import SqlStorage
from stores.sqlite import SqliteDatabase
from tests.leasing import FAR, all_of
from tests.stores import Backend, bulk, on, race, race_of_processes, stored

MINUTE = timedelta(minutes=1)
JOBS = 20
WORKERS = 50
STORES = 4
PROCESSES = 4


@pytest.fixture
def stores(backend: Backend) -> list[Storage]:
    """Several on one database, as in a few processes; the workers share them, as threads do."""
    opened = [backend.open() for _ in range(STORES)]
    for each in opened:
        each.prepare()
    return opened


def free_jobs(backend: Backend, store: Storage, number: int = JOBS) -> list[Record]:
    """So many jobs that nobody has leased."""
    jobs = [backend.job(deadline_at=FAR) for _ in range(number)]
    store.prepare()
    bulk(store, jobs)
    return jobs


def leased(backend: Backend, stores: list[Storage], record_id: str | None = None) -> list[Record]:
    """What the workers get, who each lease once at the same moment, any job or that one."""
    until = backend.clock() + MINUTE
    got = race([partial(store.lease, until, record_id) for store in islice(cycle(stores), WORKERS)])
    return [job for job in got if job is not None]


def attempts(jobs: Sequence[Record]) -> list[tuple[str, int]]:
    return sorted((job.id, job.attempt) for job in jobs)


def test_each_job_is_leased_by_one_worker(backend: Backend, stores: list[Storage]) -> None:
    """Of more workers than jobs as many get one, each another one; the rest get none."""
    jobs = free_jobs(backend, stores[0])
    got = leased(backend, stores)
    assert attempts(got) == sorted((job.id, 1) for job in jobs)
    assert {job.id: stored(stores[0], job) for job in got} == {job.id: job for job in got}


def test_each_worker_gets_a_job_while_there_are_any(backend: Backend, stores: list[Storage]) -> None:
    """Of as many workers as jobs none goes away empty-handed, however often others were faster."""
    jobs = free_jobs(backend, stores[0], WORKERS)
    assert attempts(leased(backend, stores)) == sorted((job.id, 1) for job in jobs)


def test_one_worker_gets_the_job_that_all_want(backend: Backend, stores: list[Storage]) -> None:
    """Of workers that are sent the same job by its id one gets it, and none another job."""
    wanted = free_jobs(backend, stores[0])[-1].id
    assert attempts(leased(backend, stores, wanted)) == [(wanted, 1)]


def test_every_attempt_is_counted_once(backend: Backend, stores: list[Storage]) -> None:
    """Where leases end as soon as they begin, workers that take all they get never have the same attempt twice."""
    jobs = free_jobs(backend, stores[0])
    got = race([partial(all_of, store, backend.clock()) for store in (*stores, *stores)])
    every = [(job.id, attempt) for job in jobs for attempt in range(1, MAX_JOB_ATTEMPTS + 1)]
    assert attempts([job for each in got for job in each]) == sorted(every)


def test_either_the_holder_or_the_next_one_has_the_job(backend: Backend, stores: list[Storage]) -> None:
    """Where a lease has ended, and is renewed while others lease, one of them has the job."""
    until = backend.clock() + MINUTE
    for job in free_jobs(backend, stores[0], 10):
        former = stores[0].lease(backend.clock(), job.id)
        assert former is not None
        leasing: list[Callable[[], object]] = [partial(store.lease, until, job.id) for store in stores]
        renewed, *got = race([partial(stores[0].renew, former, until), *leasing])
        (present,) = (each for each in (renewed and former, *got) if each)
        assert stored(stores[0], job) == replace(present, lease_until=until)


def test_jobs_that_are_completed_meanwhile_stay_so(backend: Backend, stores: list[Storage]) -> None:
    """Where jobs are completed while others lease them, each is completed once, and a lease revives none."""
    jobs, completion, until = free_jobs(backend, stores[0]), backend.completion(), backend.clock() + MINUTE
    leasing: list[Callable[[], object]] = [partial(store.lease, until) for store in islice(cycle(stores), JOBS)]
    done = race([*(partial(stores[0].finish, job.id, completion) for job in jobs), *leasing])
    assert done[:JOBS] == [True] * JOBS
    assert {stored(stores[0], job).status for job in jobs} == {Status.SUCCEEDED}
    assert stores[0].lease(until + MINUTE) is None


@on("sqlite", "postgresql", "nx", "mongodb")
def test_processes_share_the_jobs(backend: Backend) -> None:
    """Processes that know nothing of one another lease each job once together."""
    store = backend.open(clock=utc_now)
    jobs = free_jobs(backend, store, 3 * JOBS)
    told = race_of_processes([["tests.leasing", backend.url, "3"]] * PROCESSES)
    got = [line.split() for each in told for line in each.splitlines()]
    assert sorted(got) == sorted([job.id, "1"] for job in jobs)


class Overtaken(SqlStorage):
    """A store that is overtaken: so often, somebody else leases the job that it has found free before it does."""

    def __init__(self, backend: Backend, times: int) -> None:
        super().__init__(SqliteDatabase(make_url(backend.url)), create=True, clock=backend.clock)
        self._other = backend.open()
        self.times = times

    def _free_job(self, now: datetime, record_id: str | None) -> Record | None:
        found = super()._free_job(now, record_id)
        if found and self.times:
            self.times -= 1
            assert self._other.lease(FAR, found.id) is not None
        return found


@pytest.mark.parametrize(("jobs", "times", "gets_one"), [(3, 2, True), (3, 3, False), (1, 0, True), (1, 1, False)])
@on("sqlite")
def test_who_is_overtaken_tries_the_next(backend: Backend, jobs: int, times: int, gets_one: bool) -> None:
    """A worker that finds a free job, and is overtaken, leases the next one; it stops when none is left."""
    with closing(Overtaken(backend, times)) as store:
        free_jobs(backend, store, jobs)
        assert bool(store.lease(FAR)) is gets_one
        assert len(all_of(store, FAR)) == jobs - times - gets_one


@on("sqlite")
def test_who_is_always_overtaken_gives_up(backend: Backend) -> None:
    """A worker that others overtake a hundred times goes away empty-handed, though jobs are left."""
    with closing(Overtaken(backend, 1000)) as store:
        free_jobs(backend, store, 103)
        assert store.lease(FAR) is None
        store.times = 0
        assert len(all_of(store, FAR)) == 3
