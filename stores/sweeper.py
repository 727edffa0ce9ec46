"""The sweeper: keeps the audit log tidy while the service runs, as `flask logs sweep` does by hand."""

from __future__ import annotations

import logging

from storage import Storage, StorageError

from .daemon import Daemon

SWEEP_SECONDS = 60.0

_log = logging.getLogger("klamala.sweep")


class Sweeper(Daemon):
    """Sweeps every so many seconds. It first waits: what is in the outbox is to be brought in before.

    Several processes may sweep at once: each write is conditional, so that a record is closed or deleted once.
    """

    def __init__(self, storage: Storage, seconds: float = SWEEP_SECONDS) -> None:
        super().__init__("sweeper")
        self._storage = storage
        self._seconds = seconds

    def _run(self) -> None:
        while not self._woken.wait(self._seconds):
            self._sweep()

    def _sweep(self) -> None:
        try:
            swept = self._storage.sweep()
        except StorageError as error:
            _log.warning("not swept", extra={"fields": {"reason": str(error)}})
            return
        if swept.abandoned or swept.expired:
            _log.info("swept", extra={"fields": {"abandoned": swept.abandoned, "expired": swept.expired}})
