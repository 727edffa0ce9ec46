"""The worker on AWS Lambda: jobs and the outbox from their queues, and the schedule's sweep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from calls.worker import UnknownEvent, Worker
from records import Record, Selection, Status, utc_now
from refinery.engines import ModelRefused
from storage import StorageError
from tests.aws import delivered, new_queue
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.stores import pending, stored
from tests.test_outbox import DOWN, Faulty

ASYNC = {"Prefer": "respond-async"}
PLENTY = 60.0


class Store(Faulty):
    """A store that also cannot be reached for leases, if a test says so."""

    cannot_lease: StorageError | None = None

    def lease(self, until: datetime, record_id: str | None = None) -> Record | None:
        if self.cannot_lease is not None:
            raise self.cannot_lease
        return super().lease(until, record_id)


@dataclass
class Function:
    """A function on Lambda, as far as it is ours: the API's part, the worker's, and their queues."""

    service: Harness
    store: Store
    sqs: Any
    jobs: str
    outbox: str

    @property
    def worker(self) -> Worker:
        worker: Worker = self.service.app.extensions["worker"]
        return worker

    def work(self, *records: dict[str, Any], seconds: float = PLENTY) -> list[str]:
        """The ids of the messages that are to come again, of all in the jobs' queue unless some are given."""
        event = {"Records": list(records) or delivered(self.sqs, self.jobs)}
        answer = self.worker.handle(event, lambda: seconds)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def refine(self, **headers: str) -> Any:
        return self.service.refine(self.service.token(), {"prompt": "a draft"}, **ASYNC, **headers)

    def newest(self) -> Record:
        return self.store.page(Selection(), 1)[0]


@pytest.fixture
def function(tmp_path: Path, sqs: Any) -> Iterator[Function]:
    jobs, outbox = new_queue(sqs), new_queue(sqs)
    on_lambda = {"AWS_LAMBDA_FUNCTION_NAME": "f", "DATABASE_URL": "mongodb://host/db", "OPENAI_API_KEY": "sk-x"}
    settings = settings_in(tmp_path, OUTBOX_QUEUE_URL=outbox, JOBS_QUEUE_URL=jobs, **on_lambda)
    engine = ScriptedEngine(["better"])
    with closing(Store(tmp_path / "store.sqlite3")) as store:
        app = create_app(settings, storage=store, engine=engine)
        yield Function(Harness(app, settings, store, engine), store, sqs, jobs, outbox)


def test_a_job_waits_in_the_queue(function: Function) -> None:
    """When the 202 is there, the record is pending and the message is in the queue, with the record's id alone."""
    answer = function.refine()
    assert answer.status_code == 202
    assert (function.newest().status, function.service.engine.tasks) == (Status.PENDING, [])
    (message,) = delivered(function.sqs, function.jobs)
    assert json.loads(message["body"])["record_id"] == answer.get_json()["id"]
    assert "a draft" not in message["body"]


def test_the_worker_does_a_job(function: Function) -> None:
    """The message is dealt with, and the record has what the model said, within the function's time."""
    function.refine()
    assert function.work(seconds=20) == []
    record = function.newest()
    assert (record.status, record.response, record.attempt) == (Status.SUCCEEDED, "better", 1)
    assert function.service.engine.deadlines[0].remaining() < 20


def test_a_message_that_comes_twice_is_one_job(function: Function) -> None:
    """Delivered again, in one batch or after it, a job is not done again."""
    function.refine()
    (message,) = delivered(function.sqs, function.jobs)
    assert function.work(message, message) == []
    before = function.newest()
    assert function.work(message) == []
    assert function.newest() == before
    assert len(function.service.engine.tasks) == 1


def test_a_job_that_another_has_comes_again(function: Function) -> None:
    """While another worker's lease lasts, its message must not go: that worker may die."""
    function.refine()
    (message,) = delivered(function.sqs, function.jobs)
    assert function.store.lease(utc_now() + timedelta(seconds=60)) is not None
    assert function.work(message) == [message["messageId"]]
    assert not function.service.engine.tasks


def test_a_dead_worker_s_job_is_done_by_the_next(function: Function) -> None:
    """When the lease is over, the message that comes again is a second attempt."""
    function.refine()
    assert function.store.lease(utc_now()) is not None
    assert function.work() == []
    assert (function.newest().status, function.newest().attempt) == (Status.SUCCEEDED, 2)


def test_a_failed_job_is_dealt_with(function: Function) -> None:
    """What the model refuses is recorded, and does not come again."""
    function.service.engine.outcomes = [ModelRefused("The model refused to answer.")]
    function.refine()
    assert function.work() == []
    assert function.newest().status is Status.FAILED


@pytest.mark.parametrize("state", ["erased", "abandoned", "done"])
def test_a_message_without_a_job_goes(function: Function, state: str) -> None:
    """What was erased, abandoned or completed meanwhile is left alone, and the model is not asked."""
    function.refine()
    record = function.newest()
    if state == "erased":
        function.store.erase(record.owner)
    elif state == "abandoned":
        late = pending(utc_now() - timedelta(hours=1), lease_until=utc_now() - timedelta(hours=1), attempt=0)
        record = function.store.begin(late)
        function.worker._jobs.put(record.id)
        function.store.abandon_overdue()
        function.store.erase(function.newest().owner)
    else:
        assert function.work() == []
        function.worker._jobs.put(record.id)
    asked = len(function.service.engine.tasks)
    assert function.work() == []
    assert len(function.service.engine.tasks) == asked


def test_only_what_failed_comes_again(function: Function) -> None:
    """Of a batch with a job, a job of another database and something else, the two that cannot be done come again."""
    function.refine()
    (good,) = delivered(function.sqs, function.jobs)
    other = {**good, "messageId": "other", "body": json.dumps({"record_id": "x", "store": "another"})}
    broken = {**good, "messageId": "broken", "body": "[" * 100_000}
    assert function.work(broken, good, other) == ["broken", "other"]
    assert function.newest().status is Status.SUCCEEDED


def test_a_job_comes_again_when_the_storage_is_back(function: Function) -> None:
    """A storage that cannot be reached fails the message, and the model is not asked."""
    function.refine()
    (message,) = delivered(function.sqs, function.jobs)
    function.store.cannot_lease = DOWN
    assert function.work(message) == [message["messageId"]]
    function.store.cannot_lease = None
    assert function.work(message) == []
    assert function.newest().status is Status.SUCCEEDED


def test_a_job_s_completion_waits_in_the_outbox(function: Function) -> None:
    """A storage that fails after the model has the completion put into the outbox, which the worker applies later."""
    function.refine()

    def fail() -> None:
        function.store.failure = DOWN

    function.service.engine.before_answer = fail
    assert function.work() == []
    function.store.failure = None
    assert function.newest().status is Status.PENDING
    assert function.work(*delivered(function.sqs, function.outbox)) == []
    assert (function.newest().status, function.newest().response) == (Status.SUCCEEDED, "better")


def test_a_job_that_cannot_be_handed_over_is_refused(function: Function) -> None:
    """Without its queue the caller gets 503, the record says so, its key is free, and nobody does it."""
    function.sqs.delete_queue(QueueUrl=function.jobs)
    answer = function.refine(Idempotency_Key="k")
    assert (answer.status_code, answer.get_json()["type"]) == (503, "/problems/storage-unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    record = stored(function.store, function.newest())
    assert (record.status, record.idempotency_key) == (Status.FAILED, None)
    assert function.store.lease(utc_now()) is None


def test_the_schedule_sweeps(function: Function) -> None:
    """The schedule's event closes what is overdue, and says how much that was."""
    function.store.begin(pending(utc_now() - timedelta(hours=1)))
    event = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
    assert function.worker.handle(event, lambda: PLENTY) == {"abandoned": 1, "expired": 0, "put_again": 0}


def test_the_schedule_puts_lost_jobs_again(function: Function) -> None:
    """A job whose worker died is put into the queue again; one that waits for its first worker is there already."""
    function.refine()
    lost = function.newest()
    function.refine()
    delivered(function.sqs, function.jobs)
    assert function.store.lease(utc_now(), lost.id) is not None
    answer = function.worker.handle({"source": "aws.events"}, lambda: PLENTY)
    assert answer == {"abandoned": 0, "expired": 0, "put_again": 1}
    (message,) = [each for each in delivered(function.sqs, function.jobs) if lost.id in each["body"]]
    assert function.work(message) == []
    assert stored(function.store, lost).status is Status.SUCCEEDED


UNKNOWN: list[Any] = [
    {},
    {"Records": "x"},
    {"Records": [{}]},
    {"Records": [{"eventSourceARN": "arn:aws:sqs:eu-central-1:1:another", "messageId": "m", "body": "{}"}]},
    {"Records": [{"eventSource": "aws:s3"}]},
    {"source": "aws.s3"},
]


@pytest.mark.parametrize("event", UNKNOWN, ids=str)
def test_another_event_is_an_error(function: Function, event: Any) -> None:
    """What comes from elsewhere fails, so that a wrong trigger is seen."""
    with pytest.raises(UnknownEvent):
        function.worker.handle(event, lambda: PLENTY)
