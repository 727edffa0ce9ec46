"""Leases of jobs: who gets which job, until when, and how often; one contract for every store."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from records import Record
from storage import Storage
from tests.stores import Backend, stored

MINUTE = timedelta(minutes=1)


def begun(store: Storage, job: Record) -> Record:
    assert store.begin(job) == job
    return job


def until(backend: Backend, time: timedelta = MINUTE) -> datetime:
    return backend.clock() + time


def test_a_free_job_is_leased(backend: Backend, store: Storage) -> None:
    """Whoever leases a job gets it whole, with the lease and the attempt that the store has now."""
    job = begun(store, backend.job())
    leased = store.lease(until(backend))
    assert leased == replace(job, lease_until=until(backend), attempt=1)
    assert stored(store, job) == leased
    assert store.lease(until(backend)) is None
