"""AWS Lambda's door: `handler` answers the requests that API Gateway hands over."""

from __future__ import annotations

import logging
from typing import Any

import lambda_events
from app import create_app

try:
    # Once, while the environment is made: a start that fails is reported by Lambda, and no request gets here.
    app = create_app()
except SystemExit as error:
    # The line that a terminal is told, as a line of the log.
    logging.getLogger("klamala").critical(str(error).removeprefix("klamala: "))
    raise SystemExit(1) from None


def handler(event: Any, context: object) -> dict[str, Any]:
    """Answer an event of an HTTP API (payload 2.0) or of a REST API; one that only warms up gets nothing.

    Raises: `lambda_events.UnknownEvent` for any other.
    """
    return {} if lambda_events.is_warm_up(event) else lambda_events.answer(app.wsgi_app, event, context)
