"""The ledger: the audit log as calls see it, with the outbox behind it for what the storage does not take."""

from __future__ import annotations

import logging
from contextlib import suppress

from records import Completion, Record
from refinery.deadline import Deadline
from settings import Settings
from storage import Storage, StorageError
from stores.courier import Courier, report
from stores.outbox import Outbox, OutboxError
from stores.within import within

# Kept from the model's time for completing the record; a tenth of the deadline where that is less.
STORAGE_RESERVE_SECONDS = 2.0

_log = logging.getLogger("klamala.outbox")


def storage_reserve(settings: Settings) -> float:
    """Seconds of a call that are kept for completing its record."""
    return min(STORAGE_RESERVE_SECONDS, settings.request_deadline_seconds / 10)


class Ledger:
    """Completes records, in the storage or in the outbox, within the time that the reserve leaves."""

    def __init__(self, storage: Storage, outbox: Outbox, courier: Courier | None, reserve: float) -> None:
        """Without a courier somebody else applies the outbox. `reserve` in seconds, half of it the outbox's."""
        self.storage = storage
        self._outbox = outbox
        self._courier = courier
        self._reserve = reserve

    def model_deadline(self, deadline: Deadline) -> Deadline:
        """When the model's part of a call, and what comes before it, must be over."""
        return deadline.minus(self._reserve)

    def catch_up(self) -> None:
        """Apply what waits on this machine, for as long as the reserve, before a retry is judged by its record.

        Else a retry would take over, and pay again, what is answered and was not brought in before its deadline.
        """
        with suppress(OutboxError), within(self._reserve):
            if self._outbox.is_at_hand():
                report(self._outbox.apply(self.storage))

    def finish(self, pending: Record, completion: Completion, deadline: Deadline) -> None:
        """Complete a record; where the storage does not take that, the outbox does.

        Raises: `StorageError`, the storage's, when the outbox fails too.
        """
        share = self._reserve / 2
        try:
            # Not less than its share: an answer that is late by that much is better than none.
            with within(deadline.remaining() - share, at_least=share):
                self.storage.finish(pending.id, completion)
        except StorageError as error:
            self._put(pending, completion, deadline, error)

    def _put(self, pending: Record, completion: Completion, deadline: Deadline, reason: StorageError) -> None:
        try:
            with within(deadline.remaining(), at_least=self._reserve / 2):
                self._outbox.put(pending.id, completion)
        except OutboxError as error:
            _log.error("completion lost", extra={"fields": {**_what(pending, error), "completions_lost": 1}})
            raise reason from error
        _log.warning("completion put into the outbox", extra={"fields": {**_what(pending, reason), "outbox_puts": 1}})
        if self._courier is not None:
            self._courier.wake()


def _what(pending: Record, reason: StorageError) -> dict[str, str]:
    return {"request_id": pending.request_id, "record_id": pending.id, "reason": str(reason)}
