"""The artifact as AWS Lambda runs it: an x86_64 build under AWS's emulator, with nothing of the checkout beside it."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest

from records import Selection, Status, utc_now
from tests import upstream as fake
from tests.e2e.cloud import API, JOBS, OUTBOX, PROMPT, WORKER, Caller, Cloud, better, through
from tests.e2e.test_outbox import until
from tests.emf import metrics_of
from tests.emulator import Emulator, InvocationFailed, namespaces
from tests.events import REQUEST_ID, Answer, Call, http_api
from tests.stores import pending

pytestmark = pytest.mark.usefixtures("emulation")

ASYNC = ("Prefer", "respond-async")
# pymongo looks whether a connection is still there once that has been idle for a second.
POOL_IDLE_SECONDS = 1.5
HEALTH = http_api(Call(path="/health"))


def assert_refined(answer: Answer) -> None:
    assert answer.status == 200, answer.body
    assert (answer.json["status"], answer.json["refined_prompt"]) == ("succeeded", better(PROMPT))
    assert answer.json["integrity"]["placeholders"] == {"kept": ["{{name}}"], "lost": [], "added": []}


def test_a_job_is_done_by_the_worker(cloud: Cloud, caller: Caller, worker: Emulator) -> None:
    """The API answers at once and puts a message into the queue; the worker is handed it, and the record has it all."""
    before = len(cloud.upstream.requests)
    accepted = caller.refine(ASYNC)
    assert (accepted.status, accepted.json["status"]) == (202, "pending"), accepted.body
    assert caller.get(accepted.headers["Location"]).json["status"] == "pending"
    assert len(cloud.upstream.requests) == before
    assert cloud.work(worker, JOBS) == []
    assert_refined(caller.get(accepted.headers["Location"]))
    assert len(cloud.upstream.requests) == before + 1


def test_an_answer_outlives_the_database(cloud: Cloud, caller: Caller, worker: Emulator) -> None:
    """It goes while the model thinks: the caller has the answer, and the record too once the worker can write it."""
    with cloud.asking(caller) as asked:
        cloud.database.refuse()
    answer = asked.result()
    assert_refined(answer)
    assert cloud.work(worker, OUTBOX) != []
    cloud.database.heal()
    path = f"/refine/{answer.json['id']}"
    assert caller.get(path).json["status"] == "pending"
    assert cloud.work(worker, OUTBOX) == []
    assert caller.get(path).json == answer.json


def test_only_what_failed_comes_again(cloud: Cloud, caller: Caller, worker: Emulator) -> None:
    """Of a batch with a job and a message that is none, SQS is told of the second alone."""
    accepted = caller.refine(ASYNC)
    none = cloud.record(JOBS, {"MessageId": "none", "ReceiptHandle": "r", "Body": "no job"})
    assert cloud.work(worker, JOBS, none) == ["none"]
    assert_refined(caller.get(accepted.headers["Location"]))


def test_the_schedule_sweeps(cloud: Cloud, caller: Caller, worker: Emulator) -> None:
    """EventBridge's event closes what is past its deadline, and says how much that was."""
    late = cloud.storage.begin(pending(utc_now() - timedelta(hours=1), client_id=caller.credentials.client_id))
    event = {"source": "aws.events", "detail-type": "Scheduled Event", "resources": [], "detail": {}}
    assert worker.invoke(event) == {"abandoned": 1, "expired": 0, "put_again": 0}
    found = cloud.storage.read(late.id, Selection())
    assert found is not None
    assert found.status is Status.ABANDONED


@pytest.mark.parametrize(
    ("name", "value"), [("TOKEN_TTL_SECONDS", "CANARY"), ("SECRETS_ID", "klamala/CANARY")], ids=["setting", "secret"]
)
def test_a_bad_setting_ends_the_start(cloud: Cloud, name: str, value: str) -> None:
    """No call is answered; what is wrong stands in the log, in one line each time that Lambda tries."""
    with cloud.function(API, **{name: value}) as function:
        with pytest.raises(InvocationFailed):
            function.invoke(HEALTH)
        lines = [json.loads(line) for line in function.printed()]
    assert lines
    assert {(line["level"], line["message"].partition(":")[0]) for line in lines} == {("critical", name)}
    assert len({line["message"] for line in lines}) == 1


def test_a_cold_restart_forgets_nothing(cloud: Cloud, caller: Caller) -> None:
    """In a new environment the token of before is valid, and the records of before are there."""
    answer = caller.refine()
    with cloud.function(API) as new:
        again = Caller(through(new), caller.credentials, caller.token)
        assert again.get(f"/refine/{answer.json['id']}").json == answer.json
        assert [item["id"] for item in again.get("/log-request").json["items"]] == [answer.json["id"]]
        assert_refined(again.refine())


def test_a_frozen_process_goes_on(cloud: Cloud, caller: Caller, api: Emulator) -> None:
    """It stands still while database and model close every connection: the next call has new ones, and succeeds."""
    first = caller.refine()
    proxies = (cloud.database, cloud.line)
    before = [proxy.connections for proxy in proxies]
    with api.frozen():
        for proxy in proxies:
            proxy.cut()
        time.sleep(POOL_IDLE_SECONDS)
    assert_refined(caller.refine())
    assert all(proxy.connections > count for proxy, count in zip(proxies, before, strict=True))
    assert caller.get(f"/refine/{first.json['id']}").json == first.json


def test_the_functions_time_is_the_deadline(cloud: Cloud, caller: Caller) -> None:
    """A model that is silent for longer than the function may run is answered for with 504, before Lambda ends it."""
    with cloud.function(API, AWS_LAMBDA_FUNCTION_TIMEOUT="6", REQUEST_DEADLINE_SECONDS="25") as hurried:
        until(lambda: starts(hurried))
        cloud.upstream.script(fake.silent())
        answer = Caller(through(hurried), caller.credentials, caller.token).refine()
    assert (answer.status, answer.json["type"]) == (504, "/problems/model-timeout"), answer.body
    (item,) = caller.get("/log-request").json["items"]
    assert (item["status"], item["error"]["status"]) == ("failed", 504)


def starts(function: Emulator) -> bool:
    """Whether it starts within its own time, as a busy machine may not do at once."""
    try:
        return bool(function.invoke(HEALTH)["statusCode"] == 200)
    except InvocationFailed:
        return False


def test_what_a_call_prints(cloud: Cloud, caller: Caller) -> None:
    """A request has one line of JSON, whatever comes of it, with API Gateway's id, and nothing else is printed."""
    with cloud.function(API) as function:
        own = Caller(through(function), caller.credentials, caller.token)
        statuses = [own.refine().status, own.get("/nowhere").status, own.post("/refine", {}).status]
        lines = [json.loads(line) for line in function.printed()]
    assert [line["status"] for line in lines] == statuses == [200, 404, 422]
    assert {line["request_id"] for line in lines} == {REQUEST_ID}


def test_what_is_counted(cloud: Cloud, caller: Caller) -> None:
    """A refinement and a sweep each print one line that CloudWatch makes metrics of; what fails before has none."""
    with cloud.function(API) as api, cloud.function(WORKER) as worker:
        own = Caller(through(api), caller.credentials, caller.token)
        assert [own.refine().status, own.get("/nowhere").status] == [200, 404]
        worker.invoke({"source": "aws.events", "detail-type": "Scheduled Event", "resources": [], "detail": {}})
        (called,), (swept,) = metrics_of(api.printed()), metrics_of(worker.printed())
    assert {name for _, name in called} == {"upstream_ms", "input_tokens", "output_tokens", "failed", "unrefined"}
    assert called["klamala-dev-api", "failed"] == 0
    assert swept.keys() == {("klamala-dev-worker", name) for name in ("abandoned", "expired", "put_again")}


def test_nothing_is_written(cloud: Cloud, caller: Caller, api: Emulator) -> None:
    """After all these calls the code folder holds what the archive does, and nothing more; nor can it be written to."""
    assert_refined(caller.refine())
    if namespaces():
        with pytest.raises(OSError, match="Read-only"):
            (api.seen(cloud.code) / "written").touch()
    found = {path.relative_to(cloud.code).as_posix() for path in cloud.code.rglob("*") if path.is_file()}
    assert found == cloud.build.names()
