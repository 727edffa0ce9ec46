"""What AWS Lambda hands to the worker: messages of the jobs' queue and of the outbox, and the schedule's calls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from storage import Storage, StorageError
from stores.jobs_sqs import SqsJobs
from stores.outbox_sqs import SqsOutbox

from .jobs import JobRunner

# Of an invocation's time, what is kept for answering which messages failed.
_HAND_OVER_SECONDS = 1.0

# EventBridge's rules, and its scheduler.
_SCHEDULES = ("aws.events", "aws.scheduler")

_log = logging.getLogger("klamala.worker")
Message = Mapping[str, Any]


class UnknownEvent(Exception):
    """An event that is neither the queues' nor the schedule's."""


class Worker:
    """Deals with one event at a time."""

    def __init__(self, storage: Storage, outbox: SqsOutbox, jobs: SqsJobs, runner: JobRunner) -> None:
        self._storage = storage
        self._outbox = outbox
        self._jobs = jobs
        self._runner = runner

    def handle(self, event: Mapping[str, Any], seconds_left: Callable[[], float]) -> dict[str, Any]:
        """Answer an event as its source wants it; `seconds_left` says how much time the invocation has.

        To SQS that is which messages are to come again
        (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html).

        Raises: `UnknownEvent`; `StorageError` where what the schedule wants fails.
        """
        if event.get("source") in _SCHEDULES:
            return self._tidy()
        failed = []
        for queue, messages in _by_queue(event).items():
            failed += self._handler_of(queue)(messages, seconds_left)
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}

    def _tidy(self) -> dict[str, int]:
        swept = self._storage.sweep()
        # The message of a worker that died comes again after its visibility timeout, which is long after the job's
        # deadline: six times the function's timeout is AWS's advice.
        lost = self._storage.lost_jobs()
        for record_id in lost:
            self._jobs.put(record_id)
        done = {"abandoned": swept.abandoned, "expired": swept.expired, "put_again": len(lost)}
        # Of a sweep that found nothing too: its silence is what an alarm waits for.
        _log.info("swept", extra={"fields": done})
        return done

    def _handler_of(self, queue: str) -> Callable[[Sequence[Message], Callable[[], float]], list[str]]:
        handlers = {self._jobs.name: self._do_jobs, self._outbox.name: self._apply}
        if queue not in handlers:
            raise UnknownEvent("a message of an unknown queue")
        return handlers[queue]

    def _apply(self, messages: Sequence[Message], _: Callable[[], float]) -> list[str]:
        return self._outbox.apply_records(self._storage, messages)

    def _do_jobs(self, messages: Sequence[Message], seconds_left: Callable[[], float]) -> list[str]:
        return [message["messageId"] for message in messages if not self._do(message, seconds_left())]

    def _do(self, message: Message, seconds: float) -> bool:
        left = seconds - _HAND_OVER_SECONDS
        try:
            # A job that is begun without time ends as one that the model did not answer, and does not come again.
            return left > 0 and self._runner.deliver(self._jobs.record_id(message["body"]), left)
        except StorageError as error:
            _log.warning("job not done", extra={"fields": {"message_id": message["messageId"], "reason": str(error)}})
            return False


def _by_queue(event: Mapping[str, Any]) -> dict[str, list[Message]]:
    """The messages of an SQS event, by their queue's name."""
    try:
        queues: dict[str, list[Message]] = {}
        for record in event["Records"]:
            queues.setdefault(record["eventSourceARN"].rpartition(":")[2], []).append(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise UnknownEvent("neither messages of a queue nor a call of the schedule") from error
    return queues
