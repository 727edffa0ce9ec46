"""Leases of jobs: who gets which job, until when, and how often; one contract for every store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from records import MAX_JOB_ATTEMPTS, Owner, Record, Status
from storage import Storage
from tests.stores import OWNER, Backend, ids, on, stored

MINUTE = timedelta(minutes=1)
SOME = 6
# nx-27017 0.8.1 keeps the moments of a lease as text, and puts what is text before the moments of an insert.
TELLS_THE_ORDER = ("sqlite", "postgresql", "mongomock", "mongodb")


def begun(store: Storage, *jobs: Record) -> None:
    for job in jobs:
        assert store.begin(job) == job


def leased(store: Storage, backend: Backend, record_id: str | None = None) -> Record:
    """A job, leased for a minute; the test fails when there is none."""
    job = store.lease(backend.clock() + MINUTE, record_id)
    assert job is not None, "no job is free"
    return job


def none_is_free(store: Storage, backend: Backend, *named: Record) -> bool:
    """Whether nobody gets a job: neither any, nor one of these by its id."""
    return all(store.lease(backend.clock() + MINUTE, each) is None for each in (None, *(job.id for job in named)))


def test_a_job_is_told_by_its_lease(backend: Backend) -> None:
    """A record is a job if it was begun with a lease."""
    assert (backend.job().is_job, backend.record().is_job) == (True, False)


def test_a_free_job_is_leased(backend: Backend, store: Storage) -> None:
    """Whoever leases a job gets it whole, with the lease and the attempt that the store has now; nobody else does."""
    job = backend.job(idempotency_key="key-1", model=None)
    begun(store, job)
    found = leased(store, backend)
    assert found == replace(job, lease_until=backend.clock() + MINUTE, attempt=1)
    assert stored(store, job) == found
    assert none_is_free(backend.open(), backend, job)


def test_an_empty_log_has_no_job(backend: Backend, store: Storage) -> None:
    """Where nothing is there is nothing to lease."""
    assert none_is_free(store, backend, backend.job())


def test_the_job_that_is_free_for_the_longest_is_first(backend: Backend, store: Storage) -> None:
    """Jobs are leased in the order in which they became free; of those of one moment, by id."""
    jobs = []
    for _ in range(SOME):
        together = [backend.job() for _ in range(2)]
        begun(store, *together)
        jobs += sorted(together, key=lambda job: job.id)
        backend.clock.advance(seconds=1)
    assert [leased(store, backend).id for _ in jobs] == [job.id for job in jobs]


@on(*TELLS_THE_ORDER)
def test_a_job_whose_lease_ended_comes_in_its_turn(backend: Backend, store: Storage) -> None:
    """A lease that ended makes a job free from then on, not from its receipt on."""
    begun(store, first := backend.job())
    leased(store, backend)
    backend.clock.advance(seconds=30)
    begun(store, second := backend.job())
    backend.clock.advance(seconds=30)
    begun(store, third := replace(backend.job(), id="f" * 36))
    assert [leased(store, backend).id for _ in range(3)] == [second.id, first.id, third.id]


def test_one_job_is_leased_by_its_id(backend: Backend, store: Storage) -> None:
    """Asked for by its id a job is leased though others are free for longer; none of them is given in its place."""
    jobs = [backend.job() for _ in range(SOME)]
    begun(store, *jobs)
    last = max(jobs, key=lambda job: job.id)
    assert leased(store, backend, last.id).id == last.id
    assert store.lease(backend.clock() + MINUTE, last.id) is None
    assert store.lease(backend.clock() + MINUTE, backend.job().id) is None
    assert len({leased(store, backend).id for _ in jobs[1:]} - {last.id}) == SOME - 1


def test_anybodys_job_is_leased(backend: Backend, store: Storage) -> None:
    """A worker works for all users of all clients."""
    owners = [OWNER, Owner(OWNER.client_id, "user-2"), Owner("klm_other", OWNER.user_id)]
    begun(store, *(backend.job(client_id=owner.client_id, user_id=owner.user_id) for owner in owners))
    assert {leased(store, backend).owner for _ in owners} == set(owners)


def test_a_call_that_is_answered_at_once_is_no_job(backend: Backend, store: Storage) -> None:
    """A pending call without a lease is never leased, and cannot be given one by mistake."""
    call = backend.record(attempt=0)
    begun(store, call)
    backend.clock.advance(seconds=20)
    assert none_is_free(store, backend, call)
    assert store.renew(call, backend.clock() + MINUTE) is False
    assert stored(store, call) == call


def test_a_lease_ends_when_it_was_to(backend: Backend, store: Storage) -> None:
    """Until its lease ends a job is nobody else's, to the tick; then the next one leases it, and it is counted."""
    begun(store, job := backend.job())
    first = leased(store, backend)
    backend.clock.now += MINUTE - backend.tick
    assert none_is_free(store, backend, job)
    backend.clock.now += backend.tick
    second = leased(store, backend)
    assert (second.id, first.attempt, second.attempt) == (job.id, 1, 2)


def test_lost_jobs_are_those_that_nobody_kept(backend: Backend, store: Storage) -> None:
    """A job is lost when its lease has ended: not before its first one, not once it is done or out of attempts."""
    jobs = [backend.job() for _ in range(4)]
    begun(store, *jobs)
    lost, kept, done = (leased(store, backend, job.id) for job in jobs[:3])
    assert store.lost_jobs() == []
    backend.clock.now += MINUTE
    assert store.renew(kept, backend.clock() + MINUTE)
    store.finish(done.id, backend.completion())
    assert store.lost_jobs() == [lost.id]
    for _ in range(MAX_JOB_ATTEMPTS - 1):
        leased(store, backend, lost.id)
        backend.clock.now += MINUTE
        assert store.renew(kept, backend.clock() + MINUTE)
    assert store.lost_jobs() == []


def taken_over(backend: Backend, store: Storage) -> tuple[Record, Record]:
    """A job as its former worker had leased it, and as its present one has."""
    begun(store, backend.job())
    former = leased(store, backend)
    backend.clock.now += MINUTE
    return former, leased(backend.open(), backend)


def test_who_lost_a_lease_cannot_get_it_back(backend: Backend, store: Storage) -> None:
    """After a takeover the former worker's renewal is refused, and changes nothing."""
    former, present = taken_over(backend, store)
    assert store.renew(former, backend.clock() + 2 * MINUTE) is False
    assert stored(store, present) == present
    assert store.renew(present, backend.clock() + 2 * MINUTE) is True


@pytest.mark.parametrize("first", [0, 1], ids=["the former worker", "the present worker"])
def test_the_first_completion_is_taken(backend: Backend, store: Storage, first: int) -> None:
    """Whichever of two workers completes a job first, the other one's completion changes nothing."""
    workers = taken_over(backend, store)
    completions = [backend.completion(response=f"of {worker.attempt}") for worker in workers]
    completed = completions[first].applied_to(workers[1])
    assert store.finish(workers[first].id, completions[first]) is True
    assert stored(store, completed) == completed
    assert store.finish(workers[1 - first].id, completions[1 - first]) is False
    assert [store.renew(worker, backend.clock() + MINUTE) for worker in workers] == [False, False]
    assert stored(store, completed) == completed


def test_a_renewed_lease_lasts(backend: Backend, store: Storage) -> None:
    """A worker that renews keeps its job from others for as long as it goes on; its attempt stays the same one."""
    begun(store, job := backend.job())
    worker = leased(store, backend)
    for _ in range(MAX_JOB_ATTEMPTS + 1):
        backend.clock.now += MINUTE / 2
        assert store.renew(worker, backend.clock() + MINUTE) is True
        assert none_is_free(backend.open(), backend, job)
    assert stored(store, job) == replace(worker, lease_until=backend.clock() + MINUTE)
    backend.clock.now += MINUTE
    assert leased(store, backend).attempt == worker.attempt + 1


def test_a_late_renewal_is_one_if_nobody_came(backend: Backend, store: Storage) -> None:
    """A worker whose lease has ended still has its job as long as nobody else has leased it."""
    begun(store, job := backend.job())
    worker = leased(store, backend)
    backend.clock.now += 2 * MINUTE
    assert store.renew(worker, backend.clock() + MINUTE) is True
    assert none_is_free(store, backend, job)


def test_a_job_that_is_renewed_until_now_is_free_at_once(backend: Backend, store: Storage) -> None:
    """What a worker gives back is leased by the next one, and the attempt is counted."""
    begun(store, job := backend.job())
    worker = leased(store, backend)
    backend.clock.advance(seconds=10)
    assert store.renew(worker, backend.clock()) is True
    assert stored(store, job) == replace(worker, lease_until=backend.clock())
    assert leased(store, backend) == replace(worker, lease_until=backend.clock() + MINUTE, attempt=2)


@on(*TELLS_THE_ORDER)
def test_such_a_job_is_behind_those_that_waited(backend: Backend, store: Storage) -> None:
    """What a worker gives back is free from then on: others are free for longer."""
    begun(store, job := backend.job())
    worker = leased(store, backend)
    begun(store, other := backend.job())
    backend.clock.advance(seconds=10)
    assert store.renew(worker, backend.clock()) is True
    assert [leased(store, backend).id for _ in range(2)] == [other.id, job.id]


def test_a_job_is_leased_so_often_and_no_more(backend: Backend, store: Storage) -> None:
    """A job that no worker completes is left alone after its last attempt, and abandoned at its deadline."""
    begun(store, job := backend.job())
    for attempt in range(1, MAX_JOB_ATTEMPTS + 1):
        worker = leased(store, backend)
        assert worker.attempt == attempt
        backend.clock.now += MINUTE
    assert none_is_free(store, backend, job)
    assert store.renew(worker, backend.clock()) is True
    assert none_is_free(store, backend, job)
    backend.clock.advance(minutes=5)
    assert store.sweep().abandoned == 1
    assert stored(store, job).status is Status.ABANDONED


def test_no_job_is_leased_past_its_deadline(backend: Backend, store: Storage) -> None:
    """Up to its deadline a job is leased, to the tick; from then on it is abandoned, and completed late at most."""
    deadline = backend.clock() + 3 * MINUTE
    begun(store, job := backend.job(deadline_at=deadline), early := backend.job(deadline_at=deadline))
    backend.clock.now = deadline - backend.tick
    worker = leased(store, backend, early.id)
    backend.clock.now = deadline
    assert none_is_free(store, backend, job, early)
    assert {stored(store, each).status for each in (job, early)} == {Status.ABANDONED}
    assert store.renew(worker, deadline + MINUTE) is False
    backend.clock.now += MINUTE
    assert none_is_free(store, backend, job, early)
    assert store.finish(worker.id, backend.completion()) is True
    assert stored(store, worker).status is Status.SUCCEEDED


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
def test_a_completed_job_is_done(backend: Backend, store: Storage, status: Status) -> None:
    """A job that was completed is never leased again, also when that came before any lease."""
    begun(store, worked_on := backend.job(), untouched := backend.job())
    worker = leased(store, backend, worked_on.id)
    for job in (worked_on, untouched):
        assert store.finish(job.id, backend.completion(status)) is True
    backend.clock.now += 2 * MINUTE
    assert none_is_free(store, backend, worked_on, untouched)
    assert store.renew(worker, backend.clock() + MINUTE) is False


def test_an_erased_job_is_gone(backend: Backend, store: Storage) -> None:
    """What was erased is not leased, and neither a renewal nor a completion brings it back."""
    begun(store, erased := backend.job(), backend.job())
    worker = leased(store, backend, erased.id)
    assert store.erase(OWNER) == 2
    backend.clock.now += MINUTE
    assert none_is_free(store, backend, erased)
    assert store.renew(worker, backend.clock() + MINUTE) is False
    assert store.finish(worker.id, backend.completion()) is False
    assert ids(store) == []


def test_a_job_holds_its_idempotency_key(backend: Backend, store: Storage) -> None:
    """A retry of a job gets that one, however it stands, and no second one to lease; an abandoned job frees its key."""
    begun(store, job := backend.job(idempotency_key="key-1"))
    assert store.begin(backend.job(idempotency_key="key-1")) == job
    worker = leased(store, backend)
    again = store.begin(backend.job(idempotency_key="key-1"))
    assert (again.id, again.status, again.attempt) == (job.id, Status.PENDING, 1)
    assert store.begin(job).id == job.id
    assert none_is_free(store, backend, job)
    backend.clock.advance(minutes=5)
    begun(store, anew := backend.job(idempotency_key="key-1"))
    assert stored(store, worker).status is Status.ABANDONED
    assert leased(store, backend).id == anew.id


def test_a_lease_that_is_sent_again_is_refused(backend: Backend, store: Storage) -> None:
    """A lease whose reply was lost has cost an attempt: the same write once more changes nothing."""
    begun(store, job := backend.job())
    now = backend.clock()
    free = store._free_job(now, None)
    assert free is not None
    assert store._lease(free, now + MINUTE, now) is True
    assert store._lease(free, now + 2 * MINUTE, now) is False
    assert stored(store, job) == replace(job, lease_until=now + MINUTE, attempt=1)
    # Nor where the lease has ended by then.
    late = now + 2 * MINUTE
    assert store._lease(free, late + MINUTE, late) is False


def test_who_renews_just_in_time_keeps_the_job(backend: Backend, store: Storage) -> None:
    """A job that was seen free, and renewed by its worker before the lease was written, stays the worker's."""
    begun(store, job := backend.job())
    worker = leased(store, backend)
    backend.clock.now += MINUTE
    now = backend.clock()
    free = store._free_job(now, job.id)
    assert free is not None
    assert store.renew(worker, now + MINUTE) is True
    assert store._lease(free, now + 2 * MINUTE, now) is False
    assert stored(store, job) == replace(worker, lease_until=now + MINUTE)
