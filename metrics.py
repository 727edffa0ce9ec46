"""Metrics: fields of a log line which the line itself declares in CloudWatch's embedded metric format.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections.abc import Mapping

NAMESPACE = "klamala"
# As in AWS/Lambda. Each value of a dimension makes a metric of its own, which is paid for.
DIMENSION = "FunctionName"

# A number under one of these names is a metric, whichever line has it. docs/operations.md says what each is for.
UNITS = {
    "upstream_ms": "Milliseconds",
    "input_tokens": "Count",
    "output_tokens": "Count",
    "failed": "Count",
    "unrefined": "Count",
    "outbox_puts": "Count",
    "completions_lost": "Count",
    "abandoned": "Count",
    "expired": "Count",
    "put_again": "Count",
}


def declaration(function_name: str, fields: Mapping[str, object], timestamp_ms: int) -> dict[str, object]:
    """What a line with these fields needs beside them, so that CloudWatch counts them. Empty where there is no metric.

    `timestamp_ms` is in milliseconds since 1970. A metric whose value is `None` is not known, and not declared.
    """
    found = [{"Name": name, "Unit": unit} for name, unit in UNITS.items() if fields.get(name) is not None]
    if not found:
        return {}
    directive = {"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": found}
    return {DIMENSION: function_name, "_aws": {"Timestamp": timestamp_ms, "CloudWatchMetrics": [directive]}}
