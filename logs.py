"""Structured logs: one JSON object a line, on standard error."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from logging.config import dictConfig

from metrics import declaration

# Built once: `json.dumps` with these would build one for each line.
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


class JsonFormatter(logging.Formatter):
    """`timestamp`, `level`, `logger`, `message`, and what the caller put into `extra={"fields": {…}}`.

    With a function's name, a line whose fields are metrics declares them: Lambda hands what is printed to CloudWatch.
    """

    def __init__(self, function_name: str | None = None) -> None:
        super().__init__()
        self._function_name = function_name

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        if self._function_name is not None:
            line |= declaration(self._function_name, fields, int(record.created * 1000))
        return _encode(line)


def configure(function_name: str | None = None) -> None:
    """Send the loggers below `klamala` to standard error as JSON; others stay as they are.

    On AWS Lambda, by its function's name, with metrics.
    """
    dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonFormatter, "function_name": function_name}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            # Lambda's runtime has a handler at the root that would print each line again.
            "loggers": {"klamala": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
        }
    )
