"""An empty AWS account, as moto plays it, in a process of its own: `python -m tests.e2e.account`.

moto knows CloudFormation, S3, Lambda, SQS, IAM, Secrets Manager and more. Of an HTTP API in a stack it makes nothing,
and it forgets a function's architecture.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from tests.artifacts import ROOT
from tests.aws import CREDENTIALS

REGION = CREDENTIALS["AWS_DEFAULT_REGION"]


@dataclass(frozen=True)
class Account:
    """An account at moto's `address`."""

    address: str

    @property
    def environ(self) -> dict[str, str]:
        """What brings every program of AWS's here: its commands, its SDKs, and the serverless framework."""
        return {**CREDENTIALS, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": self.address, "NODE_NO_WARNINGS": "1"}

    def client(self, service: str) -> Any:
        """boto3's client of a service."""
        import boto3

        session = boto3.Session("test", "test", region_name=REGION)
        return session.client(service, endpoint_url=self.address)

    def resources(self, stack: str) -> dict[str, str]:
        """The physical ids of what a stack has, by their logical ones, where moto made something."""
        listed = self.client("cloudformation").list_stack_resources(StackName=stack)["StackResourceSummaries"]
        return {each["LogicalResourceId"]: each.get("PhysicalResourceId", "") for each in listed}

    def stacks(self) -> dict[str, str]:
        """The states of all stacks, by their names."""
        listed = self.client("cloudformation").list_stacks()["StackSummaries"]
        return {each["StackName"]: each["StackStatus"] for each in listed}

    def function(self, name: str) -> Mapping[str, Any]:
        """A function's configuration."""
        configuration: Mapping[str, Any] = self.client("lambda").get_function_configuration(FunctionName=name)
        return configuration

    def uploaded(self, bucket: str) -> dict[str, bytes]:
        """What is in a bucket, by its key."""
        listed = self.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
        return {
            each["Key"]: self.client("s3").get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in listed
        }


@contextmanager
def account() -> Iterator[Account]:
    """A new account, which is empty."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.e2e.account"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "moto did not start"
        try:
            yield Account(address)
        finally:
            process.communicate()


def unpacked(archive: bytes, folder: Path) -> Path:
    with ZipFile(io.BytesIO(archive)) as found:
        found.extractall(folder)
    return folder


def templates(uploaded: Mapping[str, bytes]) -> list[Any]:
    """The CloudFormation template of each deployment that the framework keeps, the oldest first."""
    return [
        json.loads(uploaded[key]) for key in sorted(uploaded) if key.endswith("/compiled-cloudformation-template.json")
    ]


def main() -> None:
    """Serve until standard input ends; the first line on standard output is the address."""
    from moto.cloudformation import models
    from moto.server import ThreadedMotoServer

    lint = vars(models)["validate_template_cfn_lint"]

    def errors(template: str) -> list[Any]:
        return [match for match in lint(template) if match.rule.severity == "error"]

    # moto refuses a template that cfn-lint only warns of, as no AWS does.
    vars(models)["validate_template_cfn_lint"] = errors
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)  # noqa: T201 - who started it reads the address
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
