"""What is around the artifact's functions on AWS: their settings, their queues, the database, the model, callers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from werkzeug.datastructures import Headers

from auth import SCOPES
from clients import Credentials, register
from storage import Storage, open_storage
from tests import upstream as fake
from tests.artifacts import Build
from tests.aws import CREDENTIALS
from tests.e2e.faults.scene import port_of
from tests.emf import metrics_in
from tests.emulator import BOUND, Emulator
from tests.events import Answer, Call, Event, answered, http_api
from tests.proxy import FaultProxy
from tests.stores import NxServer, new_database
from tests.upstream import Upstream

API, WORKER = "ApiLambdaFunction", "WorkerLambdaFunction"
JOBS, OUTBOX = "JobsQueue", "OutboxQueue"
MODEL_KEY = "sk-CANARY-lambda"
JWT_SECRET = "lambda-CANARY-" + "s" * 32
PROMPT = "CANARY: greet {{name}}"
Send = Callable[[Call], Answer]


@dataclass
class Caller:
    """A client of the service, behind one of the ways to it."""

    send: Send
    credentials: Credentials
    token: str = ""

    def get(self, path: str, query: str = "") -> Answer:
        return self.send(Call("GET", path, query, self._bearer()))

    def post(self, path: str, value: object, *headers: tuple[str, str]) -> Answer:
        return self.send(Call("POST", path, "", [*self._bearer(), *headers]).with_json(value))

    def refine(self, *headers: tuple[str, str]) -> Answer:
        return self.post("/refine", {"prompt": PROMPT}, *headers)

    def _bearer(self) -> list[tuple[str, str]]:
        return [("Authorization", f"Bearer {self.token}")] if self.token else []


def through(function: Emulator, gateway: Callable[..., Event] = http_api) -> Send:
    """The way through one of API Gateway's kinds of API."""
    return lambda call: answered(function.invoke(gateway(call)))


def over_http(address: str) -> Send:
    """The way to a server."""

    def send(call: Call) -> Answer:
        url = f"{address}{call.path}" + (f"?{call.query}" if call.query else "")
        answer = requests.request(call.method, url, headers=dict(call.headers), data=call.body, timeout=BOUND)
        return Answer(answer.status_code, Headers(list(answer.headers.items())), answer.content, False)

    return send


@dataclass
class Cloud:
    """One stage as `serverless.yml` describes it.

    Between its functions and database or model there is a proxy; `direct` is the database's own address, `line` the
    proxy before the model. `secrets` grows with what must not be printed.
    """

    code: Path
    logs: Path
    build: Build
    storage: Storage
    direct: str
    database: FaultProxy
    line: FaultProxy
    upstream: Upstream
    sqs: Any
    queues: Mapping[str, str]
    aws: Mapping[str, str]
    settings: Mapping[str, str]
    secrets: list[str] = field(default_factory=lambda: ["CANARY", "mongodb://"])

    @contextmanager
    def function(self, name: str, **changes: str) -> Iterator[Emulator]:
        """An execution environment of a function of the template, with other variables on top.

        What it printed is JSON, holds no secret and no text, and declares its metrics as CloudWatch wants it.
        """
        log = self.logs / f"{new_database()}.log"
        with Emulator(self.code, self._function(name)["Handler"], self._environ(name) | changes, log) as running:
            yield running
        for line in running.printed():
            assert json.loads(line)["logger"].startswith("klamala"), line
            assert {function for function, _ in metrics_in(line)} <= {self._function(name)["FunctionName"]}
        assert not [secret for secret in self.secrets if secret in log.read_text("utf-8")]

    def _function(self, name: str) -> Mapping[str, Any]:
        function: Mapping[str, Any] = self.build.template["Resources"][name]["Properties"]
        return function

    def _environ(self, name: str) -> dict[str, str]:
        function = self._function(name)
        variables = function["Environment"]["Variables"].items()
        return {
            **self.aws,
            "AWS_LAMBDA_FUNCTION_NAME": function["FunctionName"],
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function["MemorySize"]),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(function["Timeout"]),
            **{key: self.queues[value["Ref"]] if isinstance(value, dict) else value for key, value in variables},
        }

    def environ_here(self) -> dict[str, str]:
        """The same settings for a process that has them from its environment."""
        return {
            **self.aws,
            **self.settings,
            "JOBS_QUEUE_URL": self.queues[JOBS],
            "OUTBOX_QUEUE_URL": self.queues[OUTBOX],
        }

    def caller(self, send: Send) -> Caller:
        """A new client, with a token that it got this way."""
        caller = Caller(send, register(self.storage, "lambda", SCOPES))
        self.secrets.append(caller.credentials.client_secret)
        answer = caller.post("/token", {}, ("X-API-Key", caller.credentials.api_key))
        assert answer.status == 200, answer.body
        caller.token = answer.json["access_token"]
        self.secrets.append(caller.token)
        return caller

    @contextmanager
    def asking(self, caller: Caller) -> Iterator[Future[Answer]]:
        """While the model has the caller's prompt; the answer is there afterwards."""
        before = len(self.upstream.requests)
        self.upstream.hold()
        with ThreadPoolExecutor(1) as pool:
            try:
                asked = pool.submit(caller.refine)
                self.upstream.wait_for(before + 1)
                yield asked
            finally:
                self.upstream.release()

    def work(self, worker: Emulator, queue: str, *others: Event) -> list[str]:
        """Hand what is in a queue to the worker, other records behind it, as an event source mapping does.

        What failed, whose ids are the result, can be received again at once.
        """
        url = self.queues[queue]
        messages = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        answer = worker.invoke({"Records": [*(self.record(queue, message) for message in messages), *others]})
        assert set(answer) == {"batchItemFailures"}, answer
        failed = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
        for message in messages:
            handle = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
            if message["MessageId"] in failed:
                self.sqs.change_message_visibility(**handle, VisibilityTimeout=0)
            else:
                self.sqs.delete_message(**handle)
        return failed

    def record(self, queue: str, message: Mapping[str, str]) -> Event:
        """A message as Lambda hands it over (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html)."""
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": {"ApproximateReceiveCount": "1", "SenderId": "AROAEXAMPLE:klamala-dev-api"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:eu-central-1:123456789012:{self.queues[queue].rpartition('/')[2]}",
            "awsRegion": "eu-central-1",
        }

    def in_order(self) -> None:
        """Nothing is wrong with the database and the line to the model, which makes each draft better."""
        self.database.heal()
        self.line.heal()
        self.upstream.script(fake.echo(better))


def better(draft: str) -> str:
    return f"better: {draft}"


@contextmanager
def cloud_of(build: Build, code: Path, logs: Path, nx: NxServer, moto: str) -> Iterator[Cloud]:
    """A stage with queues and a secret of its own, and a new database that `storage init` has prepared."""
    import boto3

    aws = {**CREDENTIALS, "AWS_REGION": CREDENTIALS["AWS_DEFAULT_REGION"], "AWS_ENDPOINT_URL": moto}
    session = boto3.Session("test", "test", region_name=aws["AWS_REGION"])
    sqs = session.client("sqs", endpoint_url=moto)
    queues = {name: sqs.create_queue(QueueName=new_database())["QueueUrl"] for name in (JOBS, OUTBOX)}
    database = new_database()
    with ExitStack() as stack:
        storage = stack.enter_context(closing(open_storage(nx.url(database))))
        upstream = stack.enter_context(Upstream())
        proxy = stack.enter_context(FaultProxy("127.0.0.1", port_of(nx.url(database))))
        line = stack.enter_context(FaultProxy("127.0.0.1", port_of(upstream.url)))
        storage.initialize()
        settings = {
            "DATABASE_URL": f"mongodb://127.0.0.1:{proxy.port}/{database}",
            "OPENAI_API_KEY": MODEL_KEY,
            "OPENAI_BASE_URL": f"http://127.0.0.1:{line.port}{urlsplit(upstream.url).path}",
            "OPENAI_MODEL": "gpt-test",
            "JWT_SECRETS": f"k1:{JWT_SECRET}",
        }
        name = build.template["Resources"][API]["Properties"]["Environment"]["Variables"]["SECRETS_ID"]
        secrets = session.client("secretsmanager", endpoint_url=moto)
        secrets.create_secret(Name=name, SecretString=json.dumps(settings))
        stack.callback(secrets.delete_secret, SecretId=name, ForceDeleteWithoutRecovery=True)
        yield Cloud(code, logs, build, storage, nx.url(database), proxy, line, upstream, sqs, queues, aws, settings)
