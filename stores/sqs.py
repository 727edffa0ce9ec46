"""A queue of Amazon SQS. The only importer of boto3, which AWS Lambda brings along."""

from __future__ import annotations

from importlib.util import find_spec
from threading import Lock
from typing import Any

from storage import StorageError

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_MESSAGE_BYTES = 1024 * 1024
CONNECT_SECONDS = 0.4


class QueueError(StorageError):
    """The queue cannot be used. The message is ours, without what was to be put into it."""


class SqsQueue:
    """One queue by its URL. Region, credentials and endpoint are the environment's; nothing is sent twice."""

    def __init__(self, url: str) -> None:
        """Raises: `ValueError` without boto3."""
        if find_spec("boto3") is None:
            raise ValueError("needs the package boto3")
        self._url = url
        self._making = Lock()
        self._clients: dict[float, Any] = {}

    @property
    def name(self) -> str:
        """As the last part of its ARN, too, has it."""
        return self._url.rpartition("/")[2]

    def ask(self, operation: str, seconds: float, **parameters: Any) -> Any:
        """What boto3's client has under this name, its answer waited for no longer than so. Raises: `QueueError`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client(seconds), operation)(QueueUrl=self._url, **parameters)
        except (BotoCoreError, ClientError) as error:
            raise QueueError("The queue cannot be used.") from error

    def _client(self, seconds: float) -> Any:
        """The client whose reads end after so many seconds; made when first needed, which takes a fifth of one."""
        import boto3
        from botocore.config import Config

        with self._making:
            if seconds not in self._clients:
                limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": seconds}
                self._clients[seconds] = boto3.client("sqs", config=Config(**limits, retries={"total_max_attempts": 1}))
            return self._clients[seconds]
