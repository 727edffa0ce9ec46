"""The sweeper: keeps the audit log tidy while the service runs, as `flask logs sweep` does by hand."""

from __future__ import annotations

import logging
from threading import Event, Lock, Thread

from storage import Storage, StorageError

SWEEP_SECONDS = 60.0

_log = logging.getLogger("klamala.sweep")


class Sweeper:
    """One daemon thread of this process, started where it is wanted: a fork does not take it along.

    Several processes may sweep at once: each write is conditional, so that a record is closed or deleted once.
    """

    def __init__(self, storage: Storage, seconds: float = SWEEP_SECONDS) -> None:
        self._storage = storage
        self._seconds = seconds
        self._stopped = Event()
        self._starting = Lock()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the thread unless it runs. It first waits: what is in the outbox is to be brought in before."""
        with self._starting:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="sweeper", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for what it is at."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._sweep()

    def _sweep(self) -> None:
        try:
            swept = self._storage.sweep()
        except StorageError as error:
            _log.warning("not swept", extra={"fields": {"reason": str(error)}})
            return
        if swept.abandoned or swept.expired:
            _log.info("swept", extra={"fields": {"abandoned": swept.abandoned, "expired": swept.expired}})
