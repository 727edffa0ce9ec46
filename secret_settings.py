"""Settings from a secret of AWS Secrets Manager: a JSON object with the names of settings as keys, and strings."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from importlib.util import find_spec
from typing import Any

# Lambda ends a start after 10 seconds (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html):
# two tries must end before.
_CONNECT_SECONDS, _READ_SECONDS, _TRIES = 1, 2, 2

# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
_REFUSALS = {
    "ResourceNotFoundException": "names no secret that has a value in this account and region",
    "AccessDeniedException": "may not be read: secretsmanager:GetSecretValue, or kms:Decrypt for its key, is missing",
    "DecryptionFailure": "cannot be decrypted with its key",
    "InvalidRequestException": "names a secret that is marked for deletion",
    "ValidationException": "is not the name or ARN of a secret",
}


class SecretError(Exception):
    """A secret cannot be read, or does not hold settings. The message says why, without what is in the secret."""


def read_secret(secret_id: str, known: Collection[str]) -> dict[str, str]:
    """The settings in a secret, whose keys must be among those known.

    boto3 asks, which is imported here only and adds 0.2 s to a cold start. The AWS Parameters and Secrets extension
    would need neither, but does not answer before a function's start is over, which is when settings are read; off
    Lambda there is none.

    Raises: `SecretError`.
    """
    if find_spec("boto3") is None:
        raise SecretError("needs the package boto3")
    answer = _asked_for(secret_id)
    if "SecretBinary" in answer:
        raise SecretError("names a secret that is binary, and not text")
    if "SecretString" not in answer:
        # Something else than Secrets Manager, which boto3 takes for an answer without a field.
        raise SecretError("cannot be read: there is no secret in the answer")
    try:
        return settings_in(answer["SecretString"], known)
    except SecretError as error:
        raise SecretError(f"names a secret {error}") from None


def _asked_for(secret_id: str) -> dict[str, Any]:
    import boto3
    from botocore import exceptions as failures
    from botocore.config import Config

    limits = Config(
        connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS, retries={"total_max_attempts": _TRIES}
    )
    try:
        answer: dict[str, Any] = boto3.client("secretsmanager", config=limits).get_secret_value(SecretId=secret_id)
    except failures.ClientError as error:
        raise SecretError(_refusal(str(error.response.get("Error", {}).get("Code")))) from None
    except (failures.NoCredentialsError, failures.NoRegionError):
        raise SecretError("cannot be read without an AWS region and credentials") from None
    except (failures.ConnectionError, failures.HTTPClientError):
        raise SecretError("cannot be read: Secrets Manager does not answer") from None
    except (failures.BotoCoreError, ValueError) as error:
        # The message may quote what was answered. An endpoint that is no URL is a `ValueError`.
        raise SecretError(f"cannot be read: {type(error).__name__}") from None
    return answer


def _refusal(code: str) -> str:
    # What is no code is not shown: it came from something that is no Secrets Manager.
    named = code if re.fullmatch(r"[A-Za-z0-9]{1,64}", code) else "an error without a name"
    return _REFUSALS.get(code, f"cannot be read: Secrets Manager answers {named}")


def settings_in(text: str | bytes, known: Collection[str]) -> dict[str, str]:
    """What is in a secret: its keys, which must be among those known, and their values, in order.

    Raises: `SecretError`, whose message goes on where "a secret" ends.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise SecretError("that is not JSON") from None
    if not isinstance(values, dict):
        raise SecretError("that is not a JSON object")
    for key, value in values.items():
        if key not in known:
            raise SecretError(f"with {_shown(key)} that is no setting which a secret may hold")
        if not isinstance(value, str):
            raise SecretError(f"in which {key} is not a string")
    return values


def _shown(key: str) -> str:
    """Where key and value were mixed up, a key is a secret: one is shown if it looks like the name of a setting."""
    return f"a key {key}" if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", key) else "a key"
