"""What is compared: each case is a handler of AWS Lambda in a process of its own, in front of constant servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auth import SCOPES, TokenPolicy, issue_token
from bench.texts import SIZES, draft, refined
from clients import Credentials
from tests.aws import CREDENTIALS
from tests.events import Call, http_api

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
RUNTIME_FOLDER = ROOT / ".venv" / "lambda" / "runtime"
JWT_SECRET = "bench-" + "s" * 32
CLIENT = Credentials("klm_0123456789ABCDEF", "bench-secret")
# Nothing is imported that is not in the case's folder, and no bytecode is written: Lambda's file system is read-only.
_PYTHON = ("-P", "-S", "-B")


@dataclass(frozen=True)
class Servers:
    """The ports of the model's server and of MongoDB, in a process of their own."""

    model: int
    mongo: int
    process: int

    @property
    def database_url(self) -> str:
        return f"mongodb://127.0.0.1:{self.mongo}/klamala"

    def base_url(self, size: str, delay_ms: int = 0) -> str:
        """Where the model is that answers a prompt of this size after so many milliseconds."""
        return f"http://127.0.0.1:{self.model}/{delay_ms}/{size}/v1"


@contextmanager
def constant_servers() -> Iterator[Servers]:
    """The model's server and MongoDB, ready."""
    client: dict[str, Any] = {
        "_id": CLIENT.client_id,
        "name": "bench",
        "scopes": list(SCOPES),
        "key_hash": CLIENT.key_hash,
    }
    client |= {"previous_key": None, "disabled": False, "created_at": None}
    command = [sys.executable, "-m", "bench.constant", json.dumps(client)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield Servers(**json.loads(process.stdout.readline()), process=process.pid)
        process.stdin.close()


@dataclass(frozen=True)
class Case:
    """A handler, `module.handler` in `folder`, and the variables that it alone reads."""

    name: str
    folder: Path
    module: str
    environ: Mapping[str, str] = field(default_factory=dict)

    def command(self, python: str, events: Path) -> list[str]:
        return [python, *_PYTHON, str(BENCH / "start.py"), self.module, str(events)]

    def environment(self, servers: Servers, size: str) -> dict[str, str]:
        """All that the process has in its environment."""
        return {
            # boto3 is the runtime's.
            "PYTHONPATH": f"{self.folder}{os.pathsep}{RUNTIME_FOLDER}",
            "PYTHONHASHSEED": "0",
            "DATABASE_URL": servers.database_url,
            "OPENAI_API_KEY": "sk-bench",
            "OPENAI_BASE_URL": servers.base_url(size),
            "JWT_SECRETS": f"k1:{JWT_SECRET}",
            "JWT_SECRET": JWT_SECRET,
            **self.environ,
        }

    @contextmanager
    def started(self, python: str, servers: Servers, events: Path, size: str = "1k") -> Iterator[Running]:
        """The process, which ends with the context."""
        with subprocess.Popen(
            self.command(python, events),
            env=self.environment(servers, size),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            running = Running(self.name, process)
            yield running
            running.close()


def size_of(event: str) -> str:
    """What the model answers to an event: a text of the size in its name."""
    return event.partition("-")[2] if event.startswith("refine-") else "1k"


@dataclass
class Running:
    """The process of a case."""

    name: str
    process: subprocess.Popen[str]

    def call(self, event: str, count: int = 1) -> dict[str, Any]:
        """Call so often. Raises: `RuntimeError` when a call is not answered as it should be."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{event} {count}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} did not answer {event}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def write_events(folder: Path) -> Path:
    """The events by name: `/refine` with a draft of each size, `/token`, `/log-request`; as JSON each."""
    policy = TokenPolicy({"k1": JWT_SECRET}, "klamala", "klamala", 86_000)
    bearer = ("Authorization", f"Bearer {issue_token(policy, CLIENT.client_id, 'user-1', ('refine', 'log:write'))}")
    calls = {
        f"refine-{size}": Call("POST", "/refine", "", (bearer,)).with_json({"prompt": draft(size)}) for size in SIZES
    }
    logged = {"prompt": draft("1k"), "response": refined("1k")}
    calls["log-request"] = Call("POST", "/log-request", "", (bearer,)).with_json(logged)
    calls["token"] = Call("POST", "/token", "", (("X-API-Key", CLIENT.api_key),)).with_json({})
    path = folder / "events.json"
    path.write_text(json.dumps({name: json.dumps(http_api(call)) for name, call in calls.items()}), "utf-8")
    return path


LAMBDA = {
    **CREDENTIALS,
    "AWS_REGION": CREDENTIALS["AWS_DEFAULT_REGION"],
    "AWS_LAMBDA_FUNCTION_NAME": "klamala-bench-api",
    "JOBS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs",
    "OUTBOX_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/outbox",
}


def cases(ours: Path, peers: Path) -> dict[str, Case]:
    """The handlers: ours in the unpacked artifact, the others in the folder with what they import."""
    found: Sequence[Case] = (
        Case("klamala", ours, "wsgi_handler", LAMBDA),
        Case("flask", peers, "flask_peer"),
        Case("fastapi", peers, "fastapi_peer"),
        Case("stdlib", peers, "stdlib_peer"),
    )
    return {case.name: case for case in found}


def first_answer_ms(case: Case, python: str, servers: Servers, events: Path, event: str) -> float:
    """The milliseconds from the start of the process to its first answer."""
    started = time.perf_counter()
    with case.started(python, servers, events) as running:
        running.call(event)
        return (time.perf_counter() - started) * 1000
