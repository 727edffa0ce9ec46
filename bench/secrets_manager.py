"""AWS Secrets Manager as moto plays it, in a process of its own: `python -m bench.secrets_manager NAME VALUE`.

It prints its address, and ends with its standard input.
"""

from __future__ import annotations

import logging
import sys

import boto3

from tests.aws import CREDENTIALS, moto_server


def main(name: str, value: str) -> None:
    """Serve a secret of this name and value."""
    logging.disable(logging.INFO)
    session = boto3.Session(
        CREDENTIALS["AWS_ACCESS_KEY_ID"],
        CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
    )
    with moto_server() as address:
        session.client("secretsmanager", endpoint_url=address).create_secret(Name=name, SecretString=value)
        print(address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
