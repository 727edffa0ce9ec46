"""The outbox in an SQS queue, for where no disk is kept."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from records import Completion
from storage import Storage, StorageError

from .outbox import Applied, Held, Outbox, OutboxError, Settled, encode, settle
from .sqs import MAX_MESSAGE_BYTES, QueueError, SqsQueue

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_BATCH = 10
# Seconds to wait for an answer to a put, whose caller's time is nearly over.
PUT_SECONDS = 0.6
# A short poll asks some of the queue's servers only; a long one all of them.
_POLL_SECONDS, _READ_SECONDS = 1, 5.0
# Seconds until a message comes again that a worker could not apply, the first time and later; the queue's own timeout
# is made for the longest job. Three deliveries, and SQS leaves a message out of its age, on which an alarm waits:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
FIRST_PAUSE, LONGEST_PAUSE = 300, 600
_COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")

_log = logging.getLogger("klamala.outbox")


class SqsOutbox(Outbox):
    """A message an entry: JSON with the record's id, its database, and the completion as compressed UTF-8 in Base64.

    What cannot be applied stays in the queue, whose redrive policy moves it to the dead-letter queue in the end.
    """

    def __init__(self, queue_url: str, store: str) -> None:
        """`store` is the `database_id` of the store that entries are put and applied for. Raises: `ValueError`."""
        self._queue = SqsQueue(queue_url)
        self._store = store
        self.name = self._queue.name

    def put(self, record_id: str, completion: Completion) -> None:
        packed = base64.b64encode(encode(completion)).decode("ascii")
        body = json.dumps({"record_id": record_id, "store": self._store, "completion": packed})
        if len(body) > MAX_MESSAGE_BYTES:
            raise OutboxError("The completion does not fit into a message of the outbox.")
        self._ask("send_message", PUT_SECONDS, MessageBody=body)

    def apply(self, storage: Storage, *, again: bool = False) -> Applied:
        """What is refused comes back by itself once its visibility timeout is over, `again` or not."""
        tally, seen = Applied(), set[str]()
        try:
            # Each delivery counts: an outage must not bring what waits into the dead-letter queue.
            storage.ping()
        except StorageError:
            return tally
        while messages := self._receive():
            outcomes = self._settle({message["MessageId"]: message["Body"] for message in messages}, storage)
            done = [message for message in messages if not _is_left(outcomes[message["MessageId"]])]
            self._delete(done)
            for settled in outcomes.values():
                tally.count(settled)
            # A message that comes back so soon would come for ever.
            if Settled.WAITING in outcomes.values() or seen & outcomes.keys():
                break
            seen |= outcomes.keys()
        return tally

    def apply_records(self, storage: Storage, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """Offer the `Records` of an SQS event to the store. Returns the ids of the messages that failed.

        They are the `batchItemFailures` of the answer; SQS delivers them again, after a pause
        (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html).
        """
        offered = {record["messageId"]: record for record in records}
        outcomes = self._settle({message_id: record["body"] for message_id, record in offered.items()}, storage)
        failed = [message_id for message_id, settled in outcomes.items() if _is_left(settled)]
        self._put_off([offered[message_id] for message_id in failed])
        return failed

    def held(self) -> Held:
        """How many messages the queue has, approximately; which of them are refused or of another database is open."""
        counts = self._ask("get_queue_attributes", AttributeNames=list(_COUNTS))["Attributes"]
        return Held(waiting=sum(int(counts[name]) for name in _COUNTS))

    def _settle(self, bodies: Mapping[str, str], storage: Storage) -> dict[str, Settled]:
        outcomes: dict[str, Settled] = {}
        for message_id, body in bodies.items():
            # A store that cannot be reached is not asked again for each of them.
            reached = Settled.WAITING not in outcomes.values()
            outcomes[message_id] = self._settle_one(storage, body) if reached else Settled.WAITING
            if outcomes[message_id] is Settled.REFUSED:
                _log.warning("outbox message refused", extra={"fields": {"message_id": message_id}})
        return outcomes

    def _settle_one(self, storage: Storage, body: str) -> Settled:
        try:
            entry = json.loads(body)
            packed = base64.b64decode(entry["completion"], validate=True)
            if entry["store"] != self._store:
                return Settled.REFUSED
            record_id = str(entry["record_id"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return Settled.REFUSED
        return settle(storage, record_id, packed)

    def _receive(self) -> list[Mapping[str, str]]:
        answer = self._ask("receive_message", MaxNumberOfMessages=MAX_BATCH, WaitTimeSeconds=_POLL_SECONDS)
        messages: list[Mapping[str, str]] = answer.get("Messages", [])
        return messages

    def _delete(self, messages: Iterable[Mapping[str, str]]) -> None:
        entries = [{"Id": str(place), "ReceiptHandle": each["ReceiptHandle"]} for place, each in enumerate(messages)]
        if entries:
            # One that is not deleted comes back, and is obsolete then.
            self._ask("delete_message_batch", Entries=entries)

    def _put_off(self, records: Iterable[Mapping[str, Any]]) -> None:
        entries = [
            {"Id": str(place), "ReceiptHandle": each["receiptHandle"], "VisibilityTimeout": _pause(each)}
            for place, each in enumerate(records)
        ]
        if entries:
            # One that is not put off comes again all the same, after the queue's own timeout.
            with suppress(OutboxError):
                self._ask("change_message_visibility_batch", Entries=entries)

    def _ask(self, operation: str, seconds: float = _READ_SECONDS, **parameters: Any) -> Any:
        try:
            return self._queue.ask(operation, seconds, **parameters)
        except QueueError as error:
            raise OutboxError("The outbox's queue cannot be used.") from error


def _pause(record: Mapping[str, Any]) -> int:
    return min(FIRST_PAUSE * int(record["attributes"]["ApproximateReceiveCount"]), LONGEST_PAUSE)


def _is_left(settled: Settled) -> bool:
    return settled in (Settled.REFUSED, Settled.WAITING)
