"""Leases of jobs: whoever works on one renews its lease, so that whoever dies loses it soon."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Event, Thread

from records import Record, utc_now
from storage import StorageError

from .ledger import Ledger

# Renewed when a third of it is over. A storage that is away for longer may cost a job its worker, and a second call.
LEASE_SECONDS = 30.0

_log = logging.getLogger("klamala.jobs")


class Leases:
    """Takes jobs, and keeps them while they are worked on."""

    def __init__(self, ledger: Ledger, seconds: float = LEASE_SECONDS) -> None:
        self._ledger = ledger
        self._seconds = seconds

    def take(self, record_id: str | None = None) -> Record | None:
        """Lease the job with this id, or any; `None` when it is not free. Raises: `StorageError`."""
        # What is done, and only waits to be recorded, must not be done again.
        self._ledger.catch_up()
        return self._ledger.storage.lease(self._end(), record_id)

    @contextmanager
    def kept(self, job: Record) -> Iterator[None]:
        """Inside, nobody else gets the job."""
        done = Event()
        Thread(target=self._keep, args=(job, done), name="lease", daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _keep(self, job: Record, done: Event) -> None:
        while not done.wait(self._seconds / 3):
            try:
                # One that somebody else took over meanwhile is worked on all the same: the first answer counts.
                self._ledger.storage.renew(job, self._end())
            except StorageError as error:
                _log.warning("lease not renewed", extra={"fields": {"record_id": job.id, "reason": str(error)}})

    def _end(self) -> datetime:
        return utc_now() + timedelta(seconds=self._seconds)
