"""AWS Lambda's doors: `handler` for the requests of API Gateway, `work` for the queues and the schedule."""

from __future__ import annotations

import gc

# What is imported stays: looking for garbage in it takes a tenth of the start, and finds none.
gc.disable()

import logging  # noqa: E402
from typing import Any  # noqa: E402

import lambda_events  # noqa: E402
from app import create_app  # noqa: E402
from calls.worker import Worker  # noqa: E402

try:
    # Once, while the environment is made: a start that fails is reported by Lambda, and no request gets here.
    app = create_app()
except SystemExit as error:
    # The line that a terminal is told, as a line of the log.
    logging.getLogger("klamala").critical(str(error).removeprefix("klamala: "))
    raise SystemExit(1) from None

gc.freeze()
gc.enable()


def handler(event: Any, context: object) -> dict[str, Any]:
    """Answer an event of an HTTP API (payload 2.0) or of a REST API; one that only warms up gets nothing.

    Raises: `lambda_events.UnknownEvent` for any other.
    """
    return {} if lambda_events.is_warm_up(event) else lambda_events.answer(app.wsgi_app, event, context)


def work(event: Any, context: Any) -> dict[str, Any]:
    """Deal with messages of the jobs' queue and of the outbox, or with a call of the schedule.

    To SQS the answer says which messages are to come again. Raises: `calls.worker.UnknownEvent` for any other event;
    `storage.StorageError` where the schedule's part fails.
    """
    worker: Worker = app.extensions["worker"]
    return worker.handle(event, lambda: context.get_remaining_time_in_millis() / 1000)
