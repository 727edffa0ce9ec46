"""The outbox in an SQS queue, on moto's server: real requests over loopback, as boto3 makes them."""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from moto.sqs.models import sqs_backends

from app import create_app
from records import Record, Status, utc_now
from storage import Storage, open_storage
from stores.outbox import Applied, OutboxError, database_id, encode
from stores.outbox_sqs import SqsOutbox
from stores.within import within
from tests.aws import CREDENTIALS, delivered
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.stores import BOUND, ROOT, completion, free_port, ids, pending, sqlite_url, stored
from tests.test_outbox import DOWN, UNKEEPABLE, Faulty


@pytest.fixture
def outbox(queue: str) -> SqsOutbox:
    return SqsOutbox(queue, "this store")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Faulty]:
    with closing(Faulty(tmp_path / "store.sqlite3")) as opened:
        yield opened


def waiting(store: Storage, outbox: SqsOutbox, count: int, **changes: Any) -> list[Record]:
    """So many pending records whose completions wait."""
    records = [store.begin(pending(utc_now())) for _ in range(count)]
    for record in records:
        outbox.put(record.id, completion(utc_now(), **changes))
    return records


def statuses(store: Storage, records: list[Record]) -> list[Status]:
    return [stored(store, record).status for record in records]


def test_a_worker_completes_records(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty) -> None:
    """What was put is applied from the event that delivers it, and no message failed."""
    records = waiting(store, outbox, 3)
    assert outbox.apply_records(store, delivered(sqs, queue)) == []
    assert statuses(store, records) == [Status.SUCCEEDED] * 3


def test_messages_come_twice_and_in_disorder(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty) -> None:
    """Delivered in any order, and again, messages change nothing that they have not changed, and none fails."""
    records = waiting(store, outbox, 4, response="first")
    outbox.put(records[0].id, completion(utc_now(), response="first"))
    event = delivered(sqs, queue)
    random.Random(5).shuffle(event)  # noqa: S311 - no secret
    assert outbox.apply_records(store, event) == []
    before = [stored(store, record) for record in records]
    assert outbox.apply_records(store, event[::-1]) == []
    assert [stored(store, record) for record in records] == before
    assert {record.response for record in before} == {"first"}


BODIES = {
    "no JSON": "nonsense",
    "no object": "[]",
    "another object": "{}",
    "no Base64": '{"record_id": "r", "store": "this store", "completion": "%"}',
    "no completion": '{"record_id": "r", "store": "this store", "completion": "bm9uc2Vuc2U="}',
    "endless nesting": "[" * 100_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_poison_message_fails_alone(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty, body: str) -> None:
    """A message that nobody can read is reported as failed, and those before and behind it are applied."""
    records = waiting(store, outbox, 2)
    first, last = delivered(sqs, queue)
    event = [first, {**first, "messageId": "poison", "body": body}, last]
    assert outbox.apply_records(store, event) == ["poison"]
    assert statuses(store, records) == [Status.SUCCEEDED] * 2


def test_what_the_store_rejects_fails_alone(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty) -> None:
    """A completion that the store does not take ends in the dead-letter queue, and blocks no other."""
    waiting(store, outbox, 1, response=UNKEEPABLE)
    (rejected,) = delivered(sqs, queue)
    records = waiting(store, outbox, 1)
    assert outbox.apply_records(store, [rejected, *delivered(sqs, queue)]) == [rejected["messageId"]]
    assert statuses(store, records) == [Status.SUCCEEDED]


def test_a_store_that_is_down_is_asked_once(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty) -> None:
    """While the store cannot be reached, every message of the event comes again."""
    waiting(store, outbox, 3)
    event = delivered(sqs, queue)
    store.failure = DOWN
    assert outbox.apply_records(store, event) == [record["messageId"] for record in event]
    assert len(store.offered) == 1


def seconds_hidden(message_id: str) -> float:
    """How long moto's queue has been told to hide a message, counted from now on."""
    queues = [
        queue for backend in sqs_backends.values() for region in backend.values() for queue in region.queues.values()
    ]
    (hidden,) = [message for queue in queues for message in queue._messages if message.id == message_id]
    left: float = hidden.visible_at / 1000 - time.time()
    return left


def test_what_failed_comes_again_before_long(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty) -> None:
    """A message waits five minutes, from the second time on ten, however long the queue would hide it."""
    waiting(store, outbox, 1)
    (first,) = delivered(sqs, queue)
    store.failure = DOWN
    for count, pause in (("1", 300), ("2", 600), ("3", 600), ("999", 600)):
        outbox.apply_records(store, [{**first, "attributes": {"ApproximateReceiveCount": count}}])
        assert pause - BOUND < seconds_hidden(first["messageId"]) <= pause


def test_a_worker_that_may_not_put_off_still_says_what_failed(
    sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty
) -> None:
    """The queue is gone meanwhile: the answer is the same."""
    waiting(store, outbox, 1)
    (message,) = delivered(sqs, queue)
    store.failure = DOWN
    sqs.delete_queue(QueueUrl=queue)
    assert outbox.apply_records(store, [message]) == [message["messageId"]]


def test_another_database_s_message_fails(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty) -> None:
    """What was put for another database is not offered to this one."""
    waiting(store, SqsOutbox(queue, "another store"), 1)
    (message,) = delivered(sqs, queue)
    assert outbox.apply_records(store, [message]) == [message["messageId"]]
    assert store.offered == []


def test_what_was_erased_stays_erased(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty) -> None:
    """A completion whose record is gone is done with."""
    (record,) = waiting(store, outbox, 1)
    store.erase(record.owner)
    assert outbox.apply_records(store, delivered(sqs, queue)) == []
    assert ids(store) == []


def text_of(size: int) -> str:
    """Text that compresses to a little more than so many bytes: letters and digits have six bits each."""
    letters = random.Random(7).choices(string.ascii_letters + string.digits + "+/", k=size * 8 // 6)  # noqa: S311
    return "".join(letters)


@pytest.mark.parametrize("size", [300_000, 750_000])
def test_a_large_completion_fits(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty, size: int) -> None:
    """A completion of more than 256 KB compressed, up to three quarters of a MiB, is put, and comes back exactly."""
    large = completion(utc_now(), response=text_of(size))
    assert len(encode(large)) > size
    record = store.begin(pending(utc_now()))
    outbox.put(record.id, large)
    assert outbox.apply_records(store, delivered(sqs, queue)) == []
    assert stored(store, record).response == large.response


def test_the_longest_prompt_fits_in_any_script(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty) -> None:
    """100,000 characters of Chinese, refined and rejected once, are less than a message."""
    source = random.Random(3)  # noqa: S311 - no secret
    refined, rejected = ("".join(chr(source.randint(0x4E00, 0x9FFF)) for _ in range(100_000)) for _ in range(2))
    record = store.begin(pending(utc_now()))
    outbox.put(record.id, completion(utc_now(), response=refined, detail={"rejected": rejected}))
    assert outbox.apply_records(store, delivered(sqs, queue)) == []
    assert (stored(store, record).response, stored(store, record).detail) == (refined, {"rejected": rejected})


def test_what_does_not_fit_is_told(outbox: SqsOutbox) -> None:
    """A completion over the size of a message is refused where it is put, and nothing is sent."""
    with pytest.raises(OutboxError, match="does not fit"):
        outbox.put("id", completion(utc_now(), response=text_of(800_000)))
    assert outbox.held().waiting == 0


def test_draining_empties_the_queue(outbox: SqsOutbox, store: Faulty) -> None:
    """More than a batch is applied and deleted; a second time there is nothing."""
    records = waiting(store, outbox, 12)
    assert outbox.held().waiting == 12
    assert outbox.apply(store) == Applied(applied=12)
    assert statuses(store, records) == [Status.SUCCEEDED] * 12
    assert outbox.held().waiting == 0
    assert outbox.apply(store) == Applied()


def test_draining_leaves_what_cannot_be_applied(sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty) -> None:
    """A poison message stays in the queue for its redrive policy, and does not keep the rest."""
    sqs.send_message(QueueUrl=queue, MessageBody="nonsense")
    waiting(store, outbox, 2)
    assert outbox.apply(store) == Applied(applied=2, refused=1)
    assert outbox.held().waiting == 1


def test_draining_ends_with_messages_that_come_back_at_once(
    sqs: Any, queue: str, outbox: SqsOutbox, store: Faulty
) -> None:
    """Also with a queue that hides nothing, a poison message does not keep a drain for ever."""
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "0"})
    sqs.send_message(QueueUrl=queue, MessageBody="nonsense")
    assert outbox.apply(store).refused >= 1


def test_draining_a_store_that_is_down_loses_nothing(outbox: SqsOutbox, store: Faulty) -> None:
    """What cannot be applied stays."""
    waiting(store, outbox, 3)
    store.failure = DOWN
    assert outbox.apply(store) == Applied()
    assert outbox.held().waiting == 3


def test_a_store_that_does_not_answer_is_not_drained_to(outbox: SqsOutbox, store: Faulty, tmp_path: Path) -> None:
    """A long outage uses up none of the deliveries after which a message goes to the dead-letter queue."""
    waiting(store, outbox, 1)
    with closing(open_storage(sqlite_url(tmp_path / "missing" / "store.sqlite3"))) as down:
        assert outbox.apply(down) == Applied()
    assert outbox.apply(store) == Applied(applied=1)


@pytest.fixture
def service(tmp_path: Path, store: Faulty, queue: str) -> Iterator[Harness]:
    settings = settings_in(tmp_path, OUTBOX_QUEUE_URL=queue)
    engine = ScriptedEngine(["better"])
    app = create_app(settings, storage=store, engine=engine)
    yield Harness(app, settings, store, engine)
    app.extensions["courier"].stop()


def test_the_service_keeps_answers_in_the_queue(service: Harness, store: Faulty, tmp_path: Path) -> None:
    """With a queue configured, the paid answer waits there, no file is made, and the command drains it."""
    token = service.token()
    store.failure = DOWN
    service.app.extensions["courier"].stop()
    answer = service.refine(token, {"prompt": "p"})
    assert (answer.status_code, answer.get_json()["refined_prompt"]) == (200, "better")
    assert not (tmp_path / "outbox.sqlite3").exists()
    store.failure = None
    result = service.app.test_cli_runner().invoke(args=["outbox", "drain", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["applied"]) == (0, 1)
    assert service.get(f"/refine/{answer.get_json()['id']}", token).data == answer.data


def test_the_courier_empties_the_queue(service: Harness, store: Faulty) -> None:
    """Off Lambda what waits in the queue is applied unaided."""
    token = service.token()
    store.failure = DOWN
    assert service.refine(token, {"prompt": "p"}).status_code == 200
    store.failure = None
    assert store.completed.wait(BOUND)


def test_on_lambda_the_queue_s_worker_applies(tmp_path: Path, sqs: Any, queue: str, store: Faulty) -> None:
    """There the completion is sent, no thread is there to bring it, and the event completes the record."""
    on_lambda = {"AWS_LAMBDA_FUNCTION_NAME": "f", "DATABASE_URL": "mongodb://host/db", "OPENAI_API_KEY": "sk-x"}
    settings = settings_in(tmp_path, OUTBOX_QUEUE_URL=queue, JOBS_QUEUE_URL=queue, **on_lambda)
    engine = ScriptedEngine(["better"])
    app = create_app(settings, storage=store, engine=engine)
    service = Harness(app, settings, store, engine)
    token = service.token()
    store.failure = DOWN
    answer = service.refine(token, {"prompt": "p"}, Idempotency_Key="k")
    assert answer.status_code == 200
    assert "courier" not in app.extensions
    store.failure = None
    worker = SqsOutbox(queue, database_id("mongodb://host/db"))
    assert worker.apply_records(store, delivered(sqs, queue)) == []
    assert service.get(f"/refine/{answer.get_json()['id']}", token).data == answer.data


def test_a_queue_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing listens, where there is no such queue and where no region is set, a put ends with our own error."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(OutboxError):
        SqsOutbox("http://127.0.0.1/1/outbox", "s").put("id", completion(utc_now()))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(OutboxError):
        SqsOutbox("http://127.0.0.1/1/outbox", "s").put("id", completion(utc_now()))


def test_a_queue_that_is_missing_is_told(sqs: Any, queue: str) -> None:
    """A queue that was deleted ends a put with our own error."""
    sqs.delete_queue(QueueUrl=queue)
    with pytest.raises(OutboxError):
        SqsOutbox(queue, "s").put("id", completion(utc_now()))


def test_a_silent_queue_ends_a_put_in_time(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that accepts and is silent is given up."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent_port}"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OutboxError), within(1.0):
        SqsOutbox("http://127.0.0.1/1/outbox", "s").put("id", completion(utc_now()))


WITHOUT_BOTO3 = """
import sys
from app import create_app
create_app()
assert not {"boto3", "botocore"} & set(sys.modules)
"""


@pytest.mark.parametrize("queue_url", ["", "https://sqs.eu-central-1.amazonaws.com/1/outbox"])
def test_boto3_is_imported_when_it_is_needed(tmp_path: Path, queue_url: str) -> None:
    """Neither without a queue nor with one does a start import boto3."""
    environ = {"DATA_DIR": str(tmp_path), "OUTBOX_QUEUE_URL": queue_url, "DATABASE_URL": sqlite_url(tmp_path / "x")}
    subprocess.run([sys.executable, "-c", WITHOUT_BOTO3], cwd=ROOT, env=environ, check=True, timeout=60)


def test_without_boto3_a_queue_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where boto3 is not installed, that is said at the start and not when the first answer is to be kept."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    url = "https://sqs.eu-central-1.amazonaws.com/1/outbox"
    with pytest.raises(SystemExit, match=r"^klamala: OUTBOX_QUEUE_URL: needs the package boto3$"):
        create_app(settings_in(tmp_path, OUTBOX_QUEUE_URL=url))
