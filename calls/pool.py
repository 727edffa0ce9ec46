"""The pool: does jobs in the process itself. The pending records are its queue, so that a restart loses none."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

from problems import report
from records import Record
from storage import StorageError
from stores.daemon import Daemon

from .leases import Leases

# Each waits for the model nearly all of its time.
JOBS_AT_ONCE = 16
# Another process may have taken on more than it can do, or have died.
LOOK_SECONDS = 5.0

_log = logging.getLogger("klamala.jobs")


class JobPool(Daemon):
    """Takes jobs, at its start too what an earlier process left, and has a thread for each that is at work.

    To stop is to take no more, and to wait for those at work.
    """

    def __init__(
        self,
        leases: Leases,
        run: Callable[[Record], None],
        *,
        size: int = JOBS_AT_ONCE,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        super().__init__("jobs")
        self._leases = leases
        self._do = run
        self._size = size
        self._look = look_seconds
        self._at_work: set[str] = set()
        self._is_away = False

    def put(self, record_id: str) -> None:
        """A job was recorded: have it done now, if there is room, and else as soon as there is, here or elsewhere."""
        self.wake()

    def _run(self) -> None:
        while True:
            self._woken.clear()
            self._try_to_take()
            if self._stopping and not self._at_work:
                return
            # Not all processes at one moment.
            self._woken.wait(self._look * random.uniform(0.5, 1))  # noqa: S311 - no secret

    def _try_to_take(self) -> None:
        try:
            self._take()
        except StorageError as error:
            if not self._is_away:
                _log.warning("no jobs taken", extra={"fields": {"reason": str(error)}})
            self._is_away = True
        else:
            self._is_away = False

    def _take(self) -> None:
        while not self._stopping and len(self._at_work) < self._size:
            job = self._leases.take()
            if job is None:
                return
            self._at_work.add(job.id)
            Thread(target=self._work, args=(job,), name="job", daemon=True).start()

    def _work(self, job: Record) -> None:
        try:
            # The ledger has said in the log what was lost.
            with suppress(StorageError), self._leases.kept(job):
                self._do(job)
        except Exception as error:  # noqa: BLE001 - the last door: what is left to do is to say where it came from
            report(error, job.request_id)
        finally:
            self._at_work.discard(job.id)
            self._woken.set()
