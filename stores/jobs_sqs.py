"""The queue of jobs in SQS: a message has a record's id alone, whatever its draft is."""

from __future__ import annotations

import json
from typing import Any

from .sqs import QueueError, SqsQueue

# Seconds to wait for an answer to a put.
_PUT_SECONDS = 2.0


class SqsJobs:
    """A message a job: JSON with its record's id and its database."""

    def __init__(self, queue_url: str, store: str) -> None:
        """`store` is the `database_id` of the store that has the records. Raises: `ValueError`."""
        self._queue = SqsQueue(queue_url)
        self._store = store
        self.name = self._queue.name

    def put(self, record_id: str) -> None:
        """Have a job done. Raises: `QueueError`: it may be delivered all the same."""
        body = json.dumps({"record_id": record_id, "store": self._store})
        self._queue.ask("send_message", _PUT_SECONDS, MessageBody=body)

    def record_id(self, body: str) -> str:
        """Whose job a message is. Raises: `QueueError` for one that is none of ours."""
        try:
            message: Any = json.loads(body)
            record_id, store = message["record_id"], message["store"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise QueueError("The message is no job.") from error
        if store != self._store or not isinstance(record_id, str):
            raise QueueError("The message is of another database.")
        return record_id
