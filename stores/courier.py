"""The courier: brings what waits in the outbox to the storage, unaided, while the service runs."""

from __future__ import annotations

import logging

from storage import Storage, StorageError

from .daemon import Daemon
from .outbox import Applied, Held, Outbox

# After a put at once; then, while the storage does not answer, after pauses that double up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
# Another process may have put something and died.
LOOK_SECONDS = 30.0

_log = logging.getLogger("klamala.outbox")


class Courier(Daemon):
    """Looks into the outbox at its start, whenever something was put, and now and then."""

    def __init__(self, outbox: Outbox, storage: Storage) -> None:
        super().__init__("outbox")
        self._outbox = outbox
        self._storage = storage
        self._pause = FIRST_PAUSE

    def _run(self) -> None:
        while True:
            self._woken.clear()
            if self._stopping:
                return
            self._woken.wait(self._next_pause(self._bring()))

    def _bring(self) -> Held | None:
        """What is left; `None` when that cannot be said."""
        try:
            report(self._outbox.apply(self._storage))
            return self._outbox.held()
        except StorageError as error:
            if self._pause == FIRST_PAUSE:
                _log.warning("outbox not applied", extra={"fields": {"reason": str(error)}})
            return None

    def _next_pause(self, left: Held | None) -> float:
        if left is not None and not left.waiting:
            self._pause = FIRST_PAUSE
            return LOOK_SECONDS
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause


def report(applied: Applied) -> None:
    """Say in the log what became of entries, if there were any."""
    if applied:
        fields = {"applied": applied.applied, "obsolete": applied.obsolete, "refused": applied.refused}
        _log.warning("outbox applied", extra={"fields": fields})
