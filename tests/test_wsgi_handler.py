"""AWS Lambda's door: what it refuses, how it starts, and several requests at once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from calls.worker import UnknownEvent as UnknownWork
from lambda_events import UnknownEvent
from tests.aws import delivered, new_queue
from tests.door import Door, opened_door
from tests.events import Call, Event, answered, http_api, rest_api
from tests.stores import NxServer, new_database
from tests.test_edge import logged
from tests.test_lambda_events import UNKNOWN, WARM_UPS
from tests.test_settings import CANARY, NO_FALLBACK, ON_LAMBDA, TIMEOUT, python

THREADS, ROUNDS = 16, 8

# What is no request.


@pytest.mark.parametrize("event", WARM_UPS.values(), ids=WARM_UPS)
def test_a_warm_up_is_answered_without_the_app(opened: Door, event: Event, capfd: pytest.CaptureFixture[str]) -> None:
    """At once, with nothing, and with nothing in the log."""
    with logged() as log:
        assert opened.module.handler(event, None) == {}
    assert not log.lines
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("event", UNKNOWN.values(), ids=UNKNOWN)
def test_another_event_is_refused(opened: Door, event: Any) -> None:
    """Lambda reports the error to whoever may invoke the function; the app is not asked."""
    with logged() as log, pytest.raises(UnknownEvent):
        opened.module.handler(event, None)
    assert not log.lines


# Several requests at once.


def test_requests_at_once_do_not_meet(door: Door) -> None:
    """Lambda Managed Instances run several in one environment: each thread gets its own answers, ids and log lines.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances.html
    """
    barrier = Barrier(THREADS)

    def caller(thread: int) -> list[tuple[str, str]]:
        own = replace(door, gateway=(http_api, rest_api)[thread % 2])
        barrier.wait(TIMEOUT)
        found = []
        for number in range(ROUNDS):
            name = f"request-{thread}-{number}"
            answer = own.post("/refine", {"prompt": f"sort {name}"}, requestId=name)
            assert answer.status == 200, answer.body
            assert answer.json["original_prompt"] == f"sort {name}"
            assert answer.headers["X-Request-Id"] == name
            found.append((name, answer.json["id"]))
        return found

    with logged() as log, ThreadPoolExecutor(THREADS) as pool:
        made = [pair for found in pool.map(caller, range(THREADS)) for pair in found]
    assert len({record_id for _, record_id in made}) == THREADS * ROUNDS
    assert sorted(line["request_id"] for line in log.access()) == sorted(name for name, _ in made)
    for name, record_id in made:
        assert door.call("GET", f"/refine/{record_id}").json["original_prompt"] == f"sort {name}"


# What Lambda hands to the worker.


@dataclass(frozen=True)
class Context:
    """Lambda's, as far as it is read."""

    seconds: float

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@dataclass(frozen=True)
class Function:
    """The module, with a job in its queue."""

    door: Door
    event: Event
    path: str

    def work(self, seconds: float) -> object:
        return self.door.module.work(self.event, Context(seconds))

    def status(self) -> object:
        return self.door.call("GET", self.path).json["status"]


@pytest.fixture
def function(tmp_path: Path, sqs: Any) -> Iterator[Function]:
    jobs = new_queue(sqs)
    with opened_door(tmp_path, JOBS_QUEUE_URL=jobs, OUTBOX_QUEUE_URL=new_queue(sqs)) as opened:
        door = opened.behind(http_api)
        accepted = door.post("/refine", {"prompt": "a draft"}, ("Prefer", "respond-async"))
        assert accepted.status == 202, accepted.body
        yield Function(door, {"Records": delivered(sqs, jobs)}, accepted.headers["Location"])


def test_work_is_done(function: Function) -> None:
    """A message of the jobs' queue is dealt with, within what the context says is left, and SQS is told so."""
    assert function.work(seconds=60) == {"batchItemFailures": []}
    assert function.status() == "succeeded"


def test_work_without_time_comes_again(function: Function) -> None:
    """Where the invocation has no time left the job is not begun, and SQS keeps the message for the next."""
    (message,) = function.event["Records"]
    assert function.work(seconds=1) == {"batchItemFailures": [{"itemIdentifier": message["messageId"]}]}
    assert function.status() == "pending"
    assert function.work(seconds=60) == {"batchItemFailures": []}
    assert function.status() == "succeeded"


def test_other_work_is_refused(function: Function) -> None:
    """An HTTP request is none of the worker's: a wrong trigger is seen."""
    with pytest.raises(UnknownWork):
        function.door.module.work(http_api(Call()), Context(60))


# How it starts.


def started(folder: Path, program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program as Lambda would: with these variables alone, in a folder that nobody may write to."""
    folder.chmod(0o555)
    try:
        return python(folder, program, **environ)
    finally:
        folder.chmod(0o755)


BAD_STARTS = {
    **NO_FALLBACK,
    "short secret": ({"JWT_SECRETS": f"k:{CANARY}"}, "JWT_SECRETS"),
    "no number": ({"TOKEN_TTL_SECONDS": CANARY}, "TOKEN_TTL_SECONDS"),
    "an address that only the driver refuses": ({"DATABASE_URL": f"mongodb://u:{CANARY}@["}, "DATABASE_URL"),
    "no secret": ({"SECRETS_ID": f"{CANARY} {CANARY}"}, "SECRETS_ID"),
}


@pytest.mark.parametrize(("changed", "name"), BAD_STARTS.values(), ids=BAD_STARTS)
def test_a_bad_setting_ends_the_start_with_one_line(tmp_path: Path, changed: dict[str, str], name: str) -> None:
    """The log has one JSON line that names the setting, without its value; the process ends, and wrote nothing."""
    done = started(tmp_path, "import wsgi_handler", **{**ON_LAMBDA, **changed})
    assert (done.returncode, done.stdout) == (1, "")
    line = json.loads(done.stderr)
    assert (line["level"], line["logger"]) == ("critical", "klamala")
    assert line["message"].startswith(f"{name}: ")
    assert CANARY not in done.stderr
    assert not list(tmp_path.iterdir())


ON_LAMBDA_PROGRAM = """
import json, os, sys
import wsgi_handler
assert not {"boto3", "sqlalchemy"} & set(sys.modules), "a start that needs neither pays for them"
for event in json.loads(os.environ["EVENTS"]):
    print(json.dumps(wsgi_handler.handler(event, None)))
"""


def test_on_lambda_it_starts_and_answers(tmp_path: Path, nx: NxServer) -> None:
    """With all that Lambda needs, in a folder that nobody may write to: requests are answered, nothing is written."""
    settings = {**ON_LAMBDA, "DATABASE_URL": nx.url(new_database())}
    calls = [http_api(Call(path="/health")), rest_api(Call(path="/ready")), http_api(Call(path="/openapi.json"))]
    done = started(tmp_path, ON_LAMBDA_PROGRAM, **settings, EVENTS=json.dumps(calls))
    assert done.returncode == 0, done.stderr
    assert [answered(json.loads(line)).status for line in done.stdout.splitlines()] == [200, 200, 200]
    assert [json.loads(line)["status"] for line in done.stderr.splitlines()] == [200, 200, 200]
    assert not list(tmp_path.iterdir())
