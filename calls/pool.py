"""The pool: does jobs in the process itself. The pending records are its queue, so that a restart loses none."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from threading import Event, Lock, Thread
from time import monotonic

from problems import report
from records import Record, utc_now
from storage import StorageError

from .ledger import Ledger

# Each waits for the model nearly all of its time.
JOBS_AT_ONCE = 16
# Whoever dies has its job taken over after so long. A lease is renewed when a third of it is over.
LEASE_SECONDS = 30.0
# Another process may have taken on more than it can do, or have died.
LOOK_SECONDS = 5.0

_log = logging.getLogger("klamala.jobs")


class JobPool:
    """One daemon thread that leases jobs, and one for each job at work; started where they are first wanted."""

    def __init__(
        self,
        ledger: Ledger,
        run: Callable[[Record], None],
        *,
        size: int = JOBS_AT_ONCE,
        lease_seconds: float = LEASE_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._do = run
        self._size = size
        self._lease = timedelta(seconds=lease_seconds)
        self._renewal = lease_seconds / 3
        self._look = look_seconds
        self._held: dict[str, Record] = {}
        self._renewed_at = monotonic()
        self._woken = Event()
        self._stopping = False
        self._starting = Lock()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start leasing unless that runs. What an earlier process left is looked for at once."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="jobs", daemon=True)
                self._thread.start()

    def put(self, record_id: str) -> None:
        """A job was recorded: have it done now, if there is room, and else as soon as there is, here or elsewhere."""
        self._woken.set()
        self.start()

    def stop(self) -> None:
        """Lease no more, and wait for the jobs at work."""
        self._stopping = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                self._renew()
                self._take()
            except StorageError as error:
                _log.warning("no jobs taken", extra={"fields": {"reason": str(error)}})
            if self._stopping and not self._held:
                return
            # Not all processes at one moment.
            self._woken.wait(min(self._renewal, self._look * random.uniform(0.5, 1)))  # noqa: S311 - no secret

    def _renew(self) -> None:
        if monotonic() - self._renewed_at < self._renewal:
            return
        for job in list(self._held.values()):
            # One that somebody else took over meanwhile is still worked on: the first answer counts.
            self._ledger.storage.renew(job, utc_now() + self._lease)
        self._renewed_at = monotonic()

    def _take(self) -> None:
        if not self._stopping and len(self._held) < self._size:
            # What is done, and only waits to be recorded, must not be done again.
            self._ledger.catch_up()
        while not self._stopping and len(self._held) < self._size:
            job = self._ledger.storage.lease(utc_now() + self._lease)
            if job is None:
                return
            self._held[job.id] = job
            Thread(target=self._work, args=(job,), name="job", daemon=True).start()

    def _work(self, job: Record) -> None:
        try:
            # The ledger has said in the log what was lost.
            with suppress(StorageError):
                self._do(job)
        except Exception as error:  # noqa: BLE001 - the last door: what is left to do is to say where it came from
            report(error, job.request_id)
        finally:
            del self._held[job.id]
            self._woken.set()
