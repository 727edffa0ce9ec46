"""The pool: does jobs in the process itself. The pending records are its queue, so that a restart loses none."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread

from problems import report
from records import Record
from storage import StorageError

from .leases import Leases

# Each waits for the model nearly all of its time.
JOBS_AT_ONCE = 16
# Another process may have taken on more than it can do, or have died.
LOOK_SECONDS = 5.0

_log = logging.getLogger("klamala.jobs")


class JobPool:
    """One daemon thread that takes jobs, and one for each job at work; started where they are first wanted."""

    def __init__(
        self,
        leases: Leases,
        run: Callable[[Record], None],
        *,
        size: int = JOBS_AT_ONCE,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._leases = leases
        self._do = run
        self._size = size
        self._look = look_seconds
        self._at_work: set[str] = set()
        self._woken = Event()
        self._stopping = False
        self._starting = Lock()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start taking jobs unless that runs. What an earlier process left is looked for at once."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="jobs", daemon=True)
                self._thread.start()

    def put(self, record_id: str) -> None:
        """A job was recorded: have it done now, if there is room, and else as soon as there is, here or elsewhere."""
        self._woken.set()
        self.start()

    def stop(self) -> None:
        """Take no more, and wait for the jobs at work."""
        self._stopping = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping or self._at_work:
            self._woken.clear()
            try:
                self._take()
            except StorageError as error:
                _log.warning("no jobs taken", extra={"fields": {"reason": str(error)}})
            if self._stopping and not self._at_work:
                return
            # Not all processes at one moment.
            self._woken.wait(self._look * random.uniform(0.5, 1))  # noqa: S311 - no secret

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
