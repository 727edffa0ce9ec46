"""The AWS command, as far as the documentation uses it: `python -m tests.aws_command SERVICE OPERATION --name value …`.

The program itself is no package that a checkout installs; boto3, on which it is built, makes the same requests, and
checks the same lengths.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError, ParamValidationError


def main(service: str, operation: str, *options: str) -> None:
    given = dict(zip(options[::2], options[1::2], strict=True))
    query, output = given.pop("--query", None), given.pop("--output", "json")
    parameters = {_parameter(name): _value(value) for name, value in given.items()}
    try:
        answer = getattr(boto3.client(service), operation.replace("-", "_"))(**parameters)
    except (ClientError, ParamValidationError) as error:
        raise SystemExit(str(error)) from None
    del answer["ResponseMetadata"]
    found = answer[query] if query else answer
    if found:
        print(_as_text(found) if output == "text" else json.dumps(found, default=str))  # noqa: T201 - a command


def _parameter(option: str) -> str:
    return "".join(word.capitalize() for word in option.removeprefix("--").split("-"))


def _value(text: str) -> str:
    return Path(text.removeprefix("file://")).read_text("utf-8") if text.startswith("file://") else text


def _as_text(found: Any) -> str:
    return "\t".join(found) if isinstance(found, list) else str(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
