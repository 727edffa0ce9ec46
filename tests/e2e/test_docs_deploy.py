"""`docs/deploy.md`: the way from an empty account to a first refined prompt and back, as a reader goes it.

moto plays the account; what is deployed there is fetched back and run under AWS's emulator, behind an HTTP API of ours.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from records import Selection
from storage import open_storage
from tests import upstream as fake
from tests.artifacts import ROOT, copy_checkout, environment
from tests.e2e.account import REGION, Account, account, templates, unpacked
from tests.e2e.gateway import gateway
from tests.emulator import Emulator
from tests.examples import Example, Printed, Shell, answered, documented, examples_in
from tests.stores import NxServer, new_database
from tests.test_docs import rows
from tests.test_docs_api import replies_for
from tests.upstream import Upstream

PAGE = (ROOT / "docs" / "deploy.md").read_text("utf-8")
EXAMPLES = examples_in(PAGE)
STACK, API, WORKER = "klamala-dev", "klamala-dev-api", "klamala-dev-worker"
MODEL_KEY = "sk-CANARY-deploy"
AWS_CLI = ROOT / ".venv" / "lambda" / "awscli"


class Reader:
    """Who goes through the page: a shell in a checkout, an account, a database and a model."""

    def __init__(self, folder: Path, account: Account, database: str, upstream: Upstream, stack: ExitStack) -> None:
        self.account = account
        self._folder = folder
        self._database = database
        self._upstream = upstream
        self._stack = stack
        self._worker: Emulator | None = None
        programs = folder / "programs"
        programs.mkdir()
        wrapper = f'PYTHONPATH={shlex.quote(str(AWS_CLI))} exec {shlex.quote(sys.executable)} -m awscli "$@"'
        (programs / "aws").write_text(f"#!/bin/sh\n{wrapper}\n", "utf-8")
        (programs / "aws").chmod(0o755)
        environ = environment(**account.environ, ARCHITECTURE="x86_64", HOME=os.environ["HOME"])
        environ["PATH"] = os.pathsep.join((str(programs), environ["PATH"]))
        self._shell = stack.enter_context(Shell(folder, environ))

    def run(self, example: Example) -> Printed:
        """Run an example, and have the worker do what it put into a queue."""
        if example.elsewhere:
            return self._set(example)
        self._upstream.script(*(replies_for(example) if example.upstream else (fake.echo(lambda draft: draft),)))
        given = f"{self._database}\n{MODEL_KEY}\n" if "scripts.secret new" in example.script else ""
        printed = self._shell.run(example, "", given=given)
        self._work()
        return printed

    def _set(self, example: Example) -> Printed:
        """Give the variable that the example sets what AWS would."""
        name = example.script.partition("=")[0]
        value = {"API": self._serve, "API_ID": self._api_id}[name]()
        return self._shell.run(Example(example.line, "sh", f"{name}={value}\n", None), "")

    def _serve(self) -> str:
        """Run both functions from the archive that is in the account."""
        bucket = self.account.resources(STACK)["ServerlessDeploymentBucket"]
        (archive,) = [content for key, content in self.account.uploaded(bucket).items() if key.endswith(".zip")]
        code = unpacked(archive, self._folder / "task")
        self._worker = self._stack.enter_context(self._function(WORKER, code))
        return self._stack.enter_context(gateway(self._stack.enter_context(self._function(API, code))))

    def _function(self, name: str, code: Path) -> Emulator:
        found = self.account.function(name)
        environ = {
            **self.account.environ,
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(found["MemorySize"]),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(found["Timeout"]),
            **found["Environment"]["Variables"],
            "OPENAI_BASE_URL": self._upstream.url,
        }
        return Emulator(code, found["Handler"], environ, self._folder / f"{name}.log")

    def _work(self) -> None:
        """Hand each message to the worker as its event source mapping would, and take away what did not fail."""
        if not self._worker or not self.is_deployed:
            return
        sqs, made = self.account.client("sqs"), self.account.resources(STACK)
        for queue in ("JobsQueue", "OutboxQueue"):
            url = made[queue]
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                arn = f"arn:aws:sqs:{REGION}:123456789012:{url.rpartition('/')[2]}"
                record = {"messageId": message["MessageId"], "body": message["Body"], "eventSourceARN": arn}
                assert self._worker.invoke({"Records": [record]}) == {"batchItemFailures": []}
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    @property
    def is_deployed(self) -> bool:
        return self.account.stacks().get(STACK, "DELETE_COMPLETE") != "DELETE_COMPLETE"

    def _api_id(self) -> str:
        made = self.account.client("apigatewayv2").create_api(Name="klamala-dev", ProtocolType="HTTP")
        return str(made["ApiId"])


class Way:
    """What each example printed, and how the API's function was set up after it; and what was left in the end."""

    def __init__(self) -> None:
        self.printed: dict[int, Printed] = {}
        self.functions: dict[int, Mapping[str, Any]] = {}
        self.templates: dict[int, list[Any]] = {}
        self.prompts: list[str] = []
        self.left: dict[str, Any] = {}

    def after(self, text: str) -> int:
        """The line of the example that has this in its script."""
        (line,) = [example.line for example in EXAMPLES if text in example.script]
        return line


@pytest.fixture(scope="module")
def way(packager: None, emulation: None, nx: NxServer, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """The whole page, from top to bottom."""
    gone = Way()
    database = nx.url(new_database())
    with ExitStack() as stack:
        checkout = copy_checkout(tmp_path_factory.mktemp("reader") / "checkout")
        empty, upstream = stack.enter_context(account()), stack.enter_context(Upstream())
        reader = Reader(checkout, empty, database, upstream, stack)
        for example in EXAMPLES:
            gone.printed[example.line] = reader.run(example)
            if reader.is_deployed:
                gone.functions[example.line] = empty.function(API)
                bucket = empty.resources(STACK)["ServerlessDeploymentBucket"]
                gone.templates[example.line] = templates(empty.uploaded(bucket))
        gone.left = {
            "stacks": empty.stacks(),
            "functions": empty.client("lambda").list_functions()["Functions"],
            "secrets": empty.client("secretsmanager").list_secrets()["SecretList"],
        }
        with closing(open_storage(database)) as storage:
            gone.prompts = [record.prompt for record in storage.page(Selection(), 10)]
    return gone


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line {example.line}")
def test_a_command_does_what_the_page_says(example: Example, way: Way) -> None:
    """It ends well, and prints what stands below it, but for what varies from run to run."""
    printed = way.printed[example.line]
    assert printed.exit_status == 0, printed.error + printed.output
    if example.kind:
        assert answered(example, printed) == documented(example)


def test_all_but_the_addresses_of_the_http_api_is_run() -> None:
    """moto has no HTTP API in a stack; nothing else is passed over."""
    passed_over = [example.script.partition("=")[0] for example in EXAMPLES if example.elsewhere]
    assert passed_over == ["API", "API_ID"]


def test_what_was_asked_is_in_the_log(way: Way) -> None:
    """The record of the job and of the call before it, in the database that the secret names."""
    assert way.prompts == ["summarise {{text}}", "write a mail to {{name}} that there order {{order_id}} is late"]


def test_another_version_of_the_secret_starts_the_functions_anew(way: Way) -> None:
    """AWS replaces every environment of a function whose variables change; nothing else is changed by it."""
    deployed, changed = (
        way.functions[way.after("make deploy STAGE=dev\n")],
        way.functions[way.after("SECRET_VERSION=2")],
    )
    before, after = (dict(each["Environment"]["Variables"]) for each in (deployed, changed))
    assert before.pop("SECRETS_VERSION") != after.pop("SECRETS_VERSION") == "2"
    assert before == after


def test_a_rollback_brings_back_the_deployment_before(way: Way) -> None:
    """With its settings and its archive; it is no deployment itself."""
    earlier, later = way.functions[way.after("SUBNETS=")], way.functions[way.after("SECRET_VERSION=2")]
    rolled_back = way.functions[way.after("rollback")]
    for name in ("Environment", "CodeSha256", "VpcConfig", "Role", "Timeout", "MemorySize"):
        assert rolled_back.get(name) == earlier.get(name), name
    assert earlier["Environment"] != later["Environment"]
    assert len(way.templates[way.after("rollback")]) == len(way.templates[way.after("SECRET_VERSION=2")]) == 3


def test_functions_go_into_a_vpc_and_leave_it(way: Way) -> None:
    """The subnets and the security group are the function's while they are named at its deployment."""
    inside = way.functions[way.after("SUBNETS=")]["VpcConfig"]
    # moto takes the default of a list for a list of characters.
    assert "".join(inside["SubnetIds"]) == "subnet-0a1,subnet-0b2"
    assert "".join(inside["SecurityGroupIds"]) == "sg-0c3"
    # Nor does it take away what a later template does not have.
    named = [template["Parameters"]["Subnets"]["Default"] for template in way.templates[way.after("SECRET_VERSION=2")]]
    assert named == ["", "subnet-0a1,subnet-0b2", ""]


def test_the_stage_is_taken_away(way: Way) -> None:
    """No function is left; the secret is marked for deletion."""
    assert way.left["stacks"] == {STACK: "DELETE_COMPLETE"}
    assert way.left["functions"] == []
    assert way.left["secrets"] == []


@pytest.mark.parametrize("heading", ["Answered at once", "In the background", "Each month, whatever is asked"])
def test_costs_are_their_quantities_times_their_prices(heading: str) -> None:
    """Each row of a table adds up, to the cent."""
    table = list(rows("docs/deploy.md", f"### {heading}"))[1:]
    assert table
    for what, quantity, price, cost in table:
        amount = Decimal(re.sub(r"[^0-9.]", "", quantity)) * Decimal(price)
        assert amount.quantize(Decimal("0.01")) == Decimal(cost), what
