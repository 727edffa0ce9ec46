"""CloudWatch's embedded metric format, as its specification has it, and the metrics that a log line declares.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from jsonschema import Draft202012Validator

# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
_SIZES = (
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
)
_PLAIN = ("Seconds", "Microseconds", "Milliseconds", *_SIZES, "Percent", "Count")
UNITS = (*_PLAIN, *(f"{unit}/Second" for unit in (*_SIZES, "Count")), "None")

_NAME = {"type": "string", "minLength": 1, "maxLength": 1024}
_METRIC = {
    "type": "object",
    "properties": {"Name": _NAME, "Unit": {"enum": UNITS}, "StorageResolution": {"enum": [1, 60]}},
    "required": ["Name"],
    "additionalProperties": False,
}
_DIRECTIVE = {
    "type": "object",
    "properties": {
        "Namespace": _NAME,
        "Dimensions": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "maxItems": 30, "items": {"type": "string", "minLength": 1, "maxLength": 250}},
        },
        "Metrics": {"type": "array", "maxItems": 100, "items": _METRIC},
    },
    "required": ["Namespace", "Dimensions", "Metrics"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {
        "_aws": {
            "type": "object",
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 10**12},
                "CloudWatchMetrics": {"type": "array", "items": _DIRECTIVE},
            },
            "required": ["Timestamp", "CloudWatchMetrics"],
            "additionalProperties": False,
        }
    },
    "required": ["_aws"],
}
MAX_EVENT_BYTES = 256 * 1024
_VALIDATOR = Draft202012Validator(SCHEMA)


def metrics_in(line: str) -> dict[tuple[str, str], float]:
    """The metrics of a line, by the value of their one dimension and their name; none of a line that declares none.

    A line that declares some must be as the specification wants it, and what it refers to must be there.
    """
    document = json.loads(line)
    if "_aws" not in document:
        return {}
    _VALIDATOR.validate(document)
    assert len(line.encode()) <= MAX_EVENT_BYTES
    found = {}
    for directive in document["_aws"]["CloudWatchMetrics"]:
        ((dimension,),) = directive["Dimensions"]
        assert 1 <= len(_text(document[dimension])) <= 1024
        assert directive["Metrics"]
        for metric in directive["Metrics"]:
            found[document[dimension], metric["Name"]] = _number(document[metric["Name"]])
    return found


def metrics_of(lines: Iterable[str]) -> list[dict[tuple[str, str], float]]:
    """Those of each line that has some."""
    return [found for found in map(metrics_in, lines) if found]


def _text(value: Any) -> str:
    assert isinstance(value, str), value
    return value


def _number(value: Any) -> float:
    # To Python true is a number, to the format it is none.
    assert isinstance(value, int | float), value
    assert not isinstance(value, bool), value
    return value
