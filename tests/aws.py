"""AWS as moto plays it on loopback, and the events in which Lambda hands over what is in a queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stores.sqs import MAX_MESSAGE_BYTES
from tests.stores import new_database

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1"}


@contextmanager
def moto_server() -> Iterator[str]:
    """The address of moto's server."""
    # A second's import that most test files do not need.
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_queue(sqs: Any) -> str:
    """The URL of a new queue for messages as large as they may be."""
    # What a try leaves is hidden for a second, and not for AWS's thirty.
    attributes = {"MaximumMessageSize": str(MAX_MESSAGE_BYTES), "VisibilityTimeout": "1"}
    url: str = sqs.create_queue(QueueName=new_database(), Attributes=attributes)["QueueUrl"]
    return url


def delivered(sqs: Any, queue: str) -> list[dict[str, Any]]:
    """The `Records` of an event that hands over what is in the queue."""
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    records: list[dict[str, Any]] = []
    # As long as it takes, what is handed over is at work, as behind a queue of the template.
    hidden = {"VisibilityTimeout": 1980, "MessageSystemAttributeNames": ["ApproximateReceiveCount"]}
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, **hidden).get("Messages", []):
        records += [
            {
                "messageId": each["MessageId"],
                "receiptHandle": each["ReceiptHandle"],
                "body": each["Body"],
                "attributes": each["Attributes"],
                "eventSourceARN": arn,
                "eventSource": "aws:sqs",
            }
            for each in messages
        ]
    return records
