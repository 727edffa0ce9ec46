"""Leases of jobs: whatever workers do in whatever order, every store does as the few lines of a model do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from records import MAX_JOB_ATTEMPTS, OPEN_STATES, Completion, Record, Status, abandonment
from storage import Storage
from tests.stores import OWNER, Backend, Clock, stored


@dataclass
class Model:
    """The jobs by id, and what becomes of them.

    nx-27017 0.8.1 keeps the moments of a lease as text, and puts what is text before the moments of an insert: to it a
    job that was leased before is always free for longer than one that never was.
    """

    clock: Clock
    leased_before_first: bool
    jobs: dict[str, Record] = field(default_factory=dict)

    def lease(self, seconds: int, record_id: str | None = None) -> Record | None:
        free = [job for job in self.jobs.values() if self._is_free(job) and record_id in (None, job.id)]
        if not free:
            return None
        first = min(free, key=lambda job: (self.leased_before_first and not job.attempt, job.lease_until, job.id))
        return self._put(first, lease_until=self.clock() + timedelta(seconds=seconds), attempt=first.attempt + 1)

    def _is_free(self, job: Record) -> bool:
        assert job.lease_until
        assert job.deadline_at
        leasable = job.status is Status.PENDING and job.attempt < MAX_JOB_ATTEMPTS
        return leasable and job.lease_until <= self.clock() < job.deadline_at

    def renew(self, worker: Record, seconds: int) -> bool:
        job = self.jobs[worker.id]
        if job.status is not Status.PENDING or job.attempt != worker.attempt:
            return False
        self._put(job, lease_until=self.clock() + timedelta(seconds=seconds))
        return True

    def finish(self, worker: Record, completion: Completion) -> bool:
        job = self.jobs[worker.id]
        if job.status not in OPEN_STATES:
            return False
        self.jobs[job.id] = completion.applied_to(job)
        return True

    def sweep(self) -> int:
        overdue = [job for job in self.jobs.values() if job.is_overdue(self.clock())]
        for job in overdue:
            self._put(job, **abandonment(self.clock()))
        return len(overdue)

    def _put(self, job: Record, **changes: object) -> Record:
        self.jobs[job.id] = replace(job, **changes)  # type: ignore[arg-type]
        return self.jobs[job.id]


@dataclass
class Both:
    """The store and the model, asked the same; `workers` are those that have ever leased, each with what it got."""

    store: Storage
    backend: Backend
    model: Model
    workers: list[Record] = field(default_factory=list)

    def begin(self, _which: int, seconds: int) -> None:
        job = self.backend.job(deadline_at=self.backend.clock() + timedelta(seconds=4 * seconds))
        assert self.store.begin(job) == job
        self.model.jobs[job.id] = job

    def lease(self, _which: int, seconds: int) -> None:
        self._leased(self.store.lease(self._until(seconds)), self.model.lease(seconds))

    def lease_by_id(self, which: int, seconds: int) -> None:
        named = sorted(self.model.jobs)
        if named:
            record_id = named[which % len(named)]
            self._leased(self.store.lease(self._until(seconds), record_id), self.model.lease(seconds, record_id))

    def _leased(self, found: Record | None, expected: Record | None) -> None:
        assert found == expected
        self.workers += [found] if found else []

    def renew(self, which: int, seconds: int) -> None:
        if self.workers:
            worker = self.workers[which % len(self.workers)]
            assert self.store.renew(worker, self._until(seconds)) == self.model.renew(worker, seconds)

    def finish(self, which: int, seconds: int) -> None:
        if self.workers:
            worker = self.workers[which % len(self.workers)]
            completion = self.backend.completion(latency_ms=seconds)
            assert self.store.finish(worker.id, completion) == self.model.finish(worker, completion)

    def wait(self, _which: int, seconds: int) -> None:
        self.backend.clock.advance(seconds=seconds)

    def sweep(self, _which: int, _seconds: int) -> None:
        assert self.store.sweep().abandoned == self.model.sweep()

    def _until(self, seconds: int) -> datetime:
        return self.backend.clock() + timedelta(seconds=seconds)


Use = Callable[[Both, int, int], None]
# Some more often than others: a job goes through several hands before it is completed.
uses: st.SearchStrategy[Use] = st.sampled_from(
    [Both.begin, *2 * [Both.lease, Both.wait], Both.lease_by_id, Both.renew, Both.finish, Both.sweep]
)
# Whole seconds: the smallest step that every store tells apart.
steps = st.lists(st.tuples(uses, st.integers(0, 9), st.integers(0, 9)), min_size=5, max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_a_store_does_as_the_model(backend: Backend, store: Storage, steps: list[tuple[Use, int, int]]) -> None:
    """Who leases, renews and completes what, and when, comes out in the store as in the model."""
    store.erase(OWNER)
    both = Both(store, backend, Model(backend.clock, backend.name == "nx"))
    for use, which, seconds in steps:
        use(both, which, seconds)
    both.sweep(0, 0)
    assert {job_id: stored(store, job) for job_id, job in both.model.jobs.items()} == both.model.jobs
