"""Refinements in the background (`Prefer: respond-async`): the pending record is the job, whoever does it."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from records import MAX_JOB_ATTEMPTS, Owner, Record, Selection, Status
from refinery.engines import EngineError
from schemas.refine import RefineRequest
from settings import Settings
from storage import StorageError
from stores.within import within

from .arrival import Arrival
from .audit import carried_out, failed, opened
from .leases import Leases
from .ledger import Ledger
from .refinements import Refinements

# How often a caller should look after a job.
POLL_SECONDS = 2

_log = logging.getLogger("klamala.jobs")


class JobQueue(Protocol):
    """Who has jobs done."""

    def put(self, record_id: str) -> None:
        """Have the job with this id done. Raises: `StorageError` when that cannot be promised."""
        ...


class Submissions:
    """Takes refinements on as jobs."""

    def __init__(self, settings: Settings, ledger: Ledger, refinements: Refinements, queue: JobQueue) -> None:
        self._seconds = settings.job_deadline_seconds
        self._ledger = ledger
        self._refinements = refinements
        self._queue = queue

    def submit(self, body: RefineRequest, owner: Owner, arrival: Arrival, key: str | None) -> tuple[Record, bool]:
        """Record the job and have it done. Returns its record, and whether it is an earlier one with the same key.

        The earlier one is no job where that request was to be answered at once, and has been.

        Raises: as `Refinements.create`, but for what only the model raises; `StorageError` also where the job cannot
        be handed over.
        """
        call = self._refinements.pending(body, owner, arrival, key)
        due_at = call.timestamp + timedelta(seconds=self._seconds)
        job = replace(call, deadline_at=due_at, lease_until=call.timestamp, attempt=0)
        return self._refinements.within_budget(job, arrival, lambda: self._submit(job, arrival))

    def _submit(self, job: Record, arrival: Arrival) -> tuple[Record, bool]:
        record, replayed = opened(self._ledger, job, arrival)
        if not replayed:
            self._hand_over(job, arrival)
        return record, replayed

    def _hand_over(self, job: Record, arrival: Arrival) -> None:
        try:
            self._queue.put(job.id)
        except StorageError as error:
            # Nobody may do it any more: the caller is told that it was not taken on.
            self._ledger.finish(job, failed(job, error, arrival), arrival.deadline)
            raise


class JobRunner:
    """Does jobs. Whatever becomes of one is in its record, in the outbox, or at least in the log."""

    def __init__(self, ledger: Ledger, refinements: Refinements, leases: Leases) -> None:
        self._ledger = ledger
        self._refinements = refinements
        self._leases = leases

    def run(self, job: Record, seconds: float = math.inf) -> None:
        """Do a leased job by its deadline, or within so many seconds, if that is less.

        Raises: `StorageError` when neither the storage nor the outbox takes what came out.
        """
        arrival = Arrival.of(job, seconds)
        with suppress(EngineError), arrival.bounded():
            self._refinements.settled(job, arrival, lambda: self._carry_out(job, arrival))
        fields = {"request_id": job.request_id, "record_id": job.id, "attempt": job.attempt}
        _log.info("job", extra={"fields": {**fields, "latency_ms": arrival.elapsed_ms(), **arrival.notes}})

    def _carry_out(self, job: Record, arrival: Arrival) -> Record:
        return carried_out(self._ledger, job, arrival, lambda: self._refinements.refine(job, arrival))

    def deliver(self, record_id: str, seconds: float) -> bool:
        """Do the job with this id within so many seconds, if nobody else has it. False when it is to come again.

        Raises: `StorageError`.
        """
        with within(seconds):
            job = self._leases.take(record_id)
            if job is None:
                return not self._is_left(record_id)
        with self._leases.kept(job):
            self.run(job, seconds)
        return True

    def _is_left(self, record_id: str) -> bool:
        found = self._ledger.storage.read(record_id, Selection())
        return found is not None and found.status is Status.PENDING and found.attempt < MAX_JOB_ATTEMPTS
