"""The outbox in its file: what it keeps, how it is applied, what a caller gets, and the command that drains it."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC
from functools import partial
from math import inf
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from app import create_app
from calls.ledger import Ledger
from records import Completion, Record, Status, utc_now
from refinery.deadline import Deadline
from refinery.engines import EngineError, UnusableAnswer, UpstreamUnavailable
from storage import RecordRejected, Storage, StorageError, StorageUnavailable, open_storage
from stores.courier import Courier
from stores.outbox import Applied, Held, OutboxError, database_id, decode, encode
from stores.outbox_sqlite import BUSY_SECONDS, SqliteOutbox
from stores.sql import SqlStorage
from stores.sqlite import SqliteDatabase
from stores.within import seconds_left, within
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.stores import BOUND, OWNER, ROOT, Clock, completion, ids, pending, race, sqlite_url, stored

DOWN = StorageUnavailable("The audit log cannot be reached.")
REJECTED = RecordRejected("The audit log does not take this record.")
UNKEEPABLE = "an unpaired surrogate \ud800"
CANARY = "CANARY-outbox-81c2"


class Faulty(SqlStorage):
    """A store on a real file that fails to complete records as a test tells it, all of them or some by id."""

    def __init__(self, path: Path) -> None:
        super().__init__(SqliteDatabase(make_url(sqlite_url(path))), create=True, clock=lambda: self.now())
        self.now: Callable[[], Any] = utc_now
        self.failure: StorageError | None = None
        self.failures: dict[str, StorageError] = {}
        self.offered: list[str] = []
        self.seconds = 0.0
        self.completed = Event()
        self.failed = Event()

    def finish(self, record_id: str, completion: Completion) -> bool:
        self.offered.append(record_id)
        self.seconds = seconds_left(inf)
        failure = self.failures.get(record_id, self.failure)
        if failure is not None:
            self.failed.set()
            raise failure
        done = super().finish(record_id, completion)
        self.completed.set()
        return done


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Faulty]:
    with closing(Faulty(tmp_path / "store.sqlite3")) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the outbox of this test is, or is to be."""
    return tmp_path / "outbox.sqlite3"


@pytest.fixture
def outbox(path: Path) -> SqliteOutbox:
    return SqliteOutbox(path, "this store")


def begun(store: Storage, **changes: Any) -> Record:
    """A pending record in the store."""
    return store.begin(pending(utc_now(), **changes))


def waiting(store: Storage, outbox: SqliteOutbox, count: int, **changes: Any) -> list[Record]:
    """So many pending records whose completions wait."""
    records = [begun(store) for _ in range(count)]
    for record in records:
        outbox.put(record.id, completion(utc_now(), **changes))
    return records


# What is kept.

_text = st.text(st.characters(codec=None, categories=None), max_size=50)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
)
_object = st.dictionaries(_text, _json, max_size=4)
_completions = st.builds(
    Completion,
    status=st.sampled_from(Status),
    response=st.none() | _text,
    detail=_object,
    usage=st.none() | _object,
    error=st.none() | _object,
    latency_ms=st.integers(),
    # UTC has no second summer hour to tell apart.
    completed_at=st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(fold=0)),
    frees_key=st.booleans(),
)


@given(kept=_completions)
def test_a_completion_comes_back_exactly(kept: Completion) -> None:
    """Every field of a completion is the same after the outbox, types, order of names and surrogates included."""
    back = decode(encode(kept))
    assert back == kept
    assert repr(back) == repr(kept)


@given(body=st.binary(max_size=100))
def test_what_is_no_completion_is_refused(body: bytes) -> None:
    """Any other bytes end with the outbox's own error."""
    for made in (body, zlib.compress(body)):
        with pytest.raises(OutboxError):
            decode(made)


@pytest.mark.parametrize("change", [{"v": 2}, {"status": "odd"}, {"completed_at": "today"}, {"more": 1}], ids=str)
def test_what_is_nearly_a_completion_is_refused(change: dict[str, Any]) -> None:
    """An entry of another version, with a wrong value or with an unknown field is not guessed at."""
    values = json.loads(zlib.decompress(encode(completion(utc_now()))))
    with pytest.raises(OutboxError):
        decode(zlib.compress(json.dumps({**values, **change}).encode()))


def test_what_json_cannot_say_is_not_put(outbox: SqliteOutbox) -> None:
    """A completion that would not come back is refused where it is put."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    for detail in ({"a": object()}, endless, {"a": 10**5000}):
        with pytest.raises(OutboxError):
            outbox.put("id", completion(utc_now(), detail=detail))
    assert outbox.held() == Held()


def test_the_file_is_made_when_needed_and_its_owner_s_alone(tmp_path: Path) -> None:
    """Looking makes nothing; the first put makes folder and file, which nobody else can read, whatever the umask."""
    path = tmp_path / "a" / "b" / "outbox.sqlite3"
    outbox = SqliteOutbox(path, "this store")
    assert (outbox.held(), outbox.is_at_hand()) == (Held(), False)
    assert not (tmp_path / "a").exists()
    before = os.umask(0)
    try:
        outbox.put("id", completion(utc_now()))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert outbox.is_at_hand()


# How it is applied.


def test_an_entry_is_applied_once(store: Faulty, outbox: SqliteOutbox) -> None:
    """What waits completes its record, and is in the outbox no longer."""
    (record,) = waiting(store, outbox, 1, response=CANARY)
    assert outbox.apply(store) == Applied(applied=1)
    assert (stored(store, record).status, stored(store, record).response) == (Status.SUCCEEDED, CANARY)
    assert outbox.apply(store) == Applied()
    assert outbox.held() == Held()
    assert store.offered == [record.id]


def test_nothing_of_an_entry_stays_in_the_file(store: Faulty, outbox: SqliteOutbox, path: Path) -> None:
    """Once a completion is applied, the file holds none of its bytes."""
    (record,) = waiting(store, outbox, 1, response=CANARY * 1000)
    with closing(sqlite3.connect(path)) as file:
        (body,) = file.execute("SELECT body FROM entries").fetchone()
    assert body in path.read_bytes()
    assert outbox.apply(store) == Applied(applied=1)
    assert body[:16] not in path.read_bytes()
    assert record.id.encode() not in path.read_bytes()


def test_an_entry_put_twice_completes_its_record_once(store: Faulty, outbox: SqliteOutbox) -> None:
    """A second entry for the same record changes nothing."""
    (record,) = waiting(store, outbox, 1)
    outbox.put(record.id, completion(utc_now()))
    assert outbox.apply(store) == Applied(applied=1, obsolete=1)


def test_threads_apply_each_entry_once(store: Faulty, path: Path) -> None:
    """Of workers that are at it together each entry completes its record once, and none fails."""
    records = waiting(store, SqliteOutbox(path, "this store"), 40)
    workers = [SqliteOutbox(path, "this store") for _ in range(4)]
    tallies = race([partial(worker.apply, store) for worker in workers])
    assert sum(tally.applied for tally in tallies) == 40
    assert {stored(store, record).status for record in records} == {Status.SUCCEEDED}
    assert workers[0].held() == Held()


_WORKER = """
import sys
from pathlib import Path
from storage import open_storage
from stores.outbox_sqlite import SqliteOutbox
print(flush=True)
sys.stdin.readline()
print(SqliteOutbox(Path(sys.argv[1]), "this store").apply(open_storage(sys.argv[2])).applied)
"""


def test_processes_apply_each_entry_once(store: Faulty, outbox: SqliteOutbox, path: Path, tmp_path: Path) -> None:
    """The same of processes that share the file."""
    waiting(store, outbox, 40)
    command = [sys.executable, "-c", _WORKER, str(path), sqlite_url(tmp_path / "store.sqlite3")]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers: list[Any] = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(3)]
    for worker in workers:
        assert worker.stdout.readline() == "\n"
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    applied = [int(worker.communicate(timeout=BOUND)[0]) for worker in workers]
    assert sum(applied) == 40
    assert outbox.held() == Held()


def test_an_entry_is_not_taken_for_the_one_before(store: Faulty, outbox: SqliteOutbox, path: Path) -> None:
    """While one process offers an entry, another has applied it, and a third has put the next: that one stays."""
    first, second = begun(store), begun(store)
    outbox.put(first.id, completion(utc_now()))

    class Overtaken(Faulty):
        """A store that the others use between its being asked and its answer."""

        def finish(self, record_id: str, completion: Completion) -> bool:
            if record_id == first.id:
                assert SqliteOutbox(path, "this store").apply(store) == Applied(applied=1)
                SqliteOutbox(path, "this store").put(second.id, completion)
            return super().finish(record_id, completion)

    with closing(Overtaken(path.with_name("store.sqlite3"))) as overtaken:
        assert outbox.apply(overtaken) == Applied(applied=1, obsolete=1)
    assert stored(store, second).status is Status.SUCCEEDED
    assert outbox.held() == Held()


def test_threads_put_at_once(store: Faulty, path: Path) -> None:
    """Every entry of two processes full of failing calls is kept."""
    outboxes = [SqliteOutbox(path, "this store") for _ in range(2)]

    def put(outbox: SqliteOutbox) -> None:
        with within(BUSY_SECONDS):
            outbox.put("id", completion(utc_now()))

    race([partial(put, outboxes[place % 2]) for place in range(32)])
    assert outboxes[0].held() == Held(waiting=32)


def test_a_completion_that_comes_late_wins(store: Faulty, outbox: SqliteOutbox) -> None:
    """A record that was abandoned while its completion waited is completed."""
    (record,) = waiting(store, outbox, 1)
    store.now = Clock(utc_now())
    store.now.advance(hours=1)
    assert stored(store, record).status is Status.ABANDONED
    assert outbox.apply(store) == Applied(applied=1)
    assert (stored(store, record).status, stored(store, record).error) == (Status.SUCCEEDED, None)


def test_what_was_erased_stays_erased(store: Faulty, outbox: SqliteOutbox) -> None:
    """A completion whose record is gone creates none, and is done with."""
    waiting(store, outbox, 2)
    assert store.erase(OWNER) == 2
    assert outbox.apply(store) == Applied(obsolete=2)
    assert ids(store) == []
    assert outbox.held() == Held()


class Denying(Faulty):
    """A store that says once that there is nothing to complete, although there is."""

    denials = 1

    def finish(self, record_id: str, completion: Completion) -> bool:
        self.denials -= 1
        return self.denials < 0 and super().finish(record_id, completion)


def test_a_completion_is_kept_while_its_record_is_open(tmp_path: Path, outbox: SqliteOutbox) -> None:
    """Whatever a store says of a write, what was paid for waits until the record is complete or gone."""
    with closing(Denying(tmp_path / "denying.sqlite3")) as store:
        (record,) = waiting(store, outbox, 1)
        assert outbox.apply(store) == Applied()
        assert outbox.held() == Held(waiting=1)
        assert outbox.apply(store) == Applied(applied=1)
        assert stored(store, record).status is Status.SUCCEEDED


def test_entries_belong_to_their_store(store: Faulty, outbox: SqliteOutbox, path: Path) -> None:
    """What was put for one database is never offered to another, and is counted there."""
    (record,) = waiting(store, outbox, 1)
    other = SqliteOutbox(path, "another store")
    assert other.apply(store, again=True) == Applied()
    assert (other.held(), other.is_at_hand()) == (Held(elsewhere=1), False)
    assert stored(store, record).status is Status.PENDING
    assert outbox.apply(store) == Applied(applied=1)


SAME = [
    ("mongodb://a/db", "mongodb://u:p@A/db?w=0"),
    ("mongodb://a,b/db", "mongodb://u:p@b,a/db?replicaSet=r"),
    ("postgresql://u:p@h:5432/db", "postgres://v:q@h:5432/db?sslmode=require&password=x"),
    ("sqlite:///x.sqlite3", "sqlite:///./x.sqlite3?timeout=1"),
]
OTHER = [
    ("mongodb://a/db", "mongodb://a/other"),
    ("mongodb://a/db", "mongodb://b/db"),
    ("mongodb://a/db", "mongodb://a:27018/db"),
    ("postgresql://h/db", "postgresql:///db?host=h"),
    ("postgresql:///db?host=/a", "postgresql:///db?host=/b"),
    ("sqlite:///x.sqlite3", "sqlite:////x.sqlite3"),
    ("mongodb://a/db", "postgresql://a/db"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_database_is_the_same_with_other_credentials(one: str, other: str) -> None:
    """Neither a new password nor an option makes another database of it, so that nothing is left behind."""
    assert database_id(one) == database_id(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_databases_are_told_apart(one: str, other: str) -> None:
    """Another kind, place or name is another database."""
    assert database_id(one) != database_id(other)


def test_what_the_store_rejects_is_kept_and_blocks_nobody(store: Faulty, outbox: SqliteOutbox) -> None:
    """An entry that the store does not take is put aside; the others are applied, and only `again` offers it anew."""
    (bad,) = waiting(store, outbox, 1, response=UNKEEPABLE)
    waiting(store, outbox, 3)
    assert outbox.apply(store) == Applied(applied=3, refused=1)
    assert outbox.held() == Held(refused=1)
    assert not outbox.is_at_hand()
    store.offered.clear()
    assert outbox.apply(store) == Applied()
    assert store.offered == []
    assert outbox.apply(store, again=True) == Applied(refused=1)
    assert store.offered == [bad.id]
    assert outbox.held() == Held(refused=1)


def test_what_cannot_be_read_is_kept_and_blocks_nobody(store: Faulty, outbox: SqliteOutbox, path: Path) -> None:
    """An entry that another version wrote is put aside like one that the store rejects."""
    waiting(store, outbox, 2)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE entries SET body = ? WHERE id = 1", (b"nonsense",))
    assert outbox.apply(store) == Applied(applied=1, refused=1)
    assert outbox.held() == Held(refused=1)


def test_nothing_is_lost_while_the_store_is_down(store: Faulty, outbox: SqliteOutbox) -> None:
    """A store that cannot be reached is asked once, and everything waits for the next time."""
    waiting(store, outbox, 3)
    store.failure = DOWN
    assert outbox.apply(store) == Applied()
    assert len(store.offered) == 1
    assert outbox.held() == Held(waiting=3)
    store.failure = None
    assert outbox.apply(store) == Applied(applied=3)


def test_an_entry_that_always_fails_keeps_nobody_waiting(store: Faulty, outbox: SqliteOutbox) -> None:
    """One completion that the store never answers in time comes last the next time."""
    records = waiting(store, outbox, 4)
    store.failures[records[0].id] = DOWN
    first, second = outbox.apply(store), outbox.apply(store)
    assert first.applied + second.applied == 3
    assert outbox.held() == Held(waiting=1)


def test_applying_ends_with_the_caller_s_time(store: Faulty, outbox: SqliteOutbox) -> None:
    """Who has no time left applies nothing."""
    waiting(store, outbox, 1)
    with within(0):
        assert outbox.apply(store) == Applied()
    assert store.offered == []


# The courier.


@pytest.fixture
def courier(store: Faulty, outbox: SqliteOutbox) -> Iterator[Courier]:
    made = Courier(outbox, store)
    yield made
    made.stop()


def test_the_courier_brings_what_an_earlier_process_left(store: Faulty, outbox: SqliteOutbox, courier: Courier) -> None:
    """What waits when it starts is applied."""
    (record,) = waiting(store, outbox, 1)
    courier.start()
    assert store.completed.wait(BOUND)
    assert stored(store, record).status is Status.SUCCEEDED


def test_the_courier_tries_again_by_itself(store: Faulty, outbox: SqliteOutbox, courier: Courier) -> None:
    """While the store is down it goes on trying, and nobody has to tell it that the store is back."""
    waiting(store, outbox, 1)
    store.failure = DOWN
    courier.wake()
    assert store.failed.wait(BOUND)
    store.failure = None
    assert store.completed.wait(BOUND)


def test_the_courier_wakes_at_a_put(store: Faulty, outbox: SqliteOutbox, courier: Courier) -> None:
    """After it has found nothing, it waits for long, unless something is put."""
    for _ in range(2):
        waiting(store, outbox, 1)
        courier.wake()
        assert store.completed.wait(BOUND)
        store.completed.clear()


def test_the_courier_survives_an_outbox_that_cannot_be_read(store: Faulty, path: Path) -> None:
    """A broken file ends no thread: once it is repaired, what waits is applied."""
    path.mkdir()
    courier = Courier(SqliteOutbox(path, "this store"), store)
    courier.wake()
    path.rmdir()
    waiting(store, SqliteOutbox(path, "this store"), 1)
    courier.wake()
    try:
        assert store.completed.wait(BOUND)
    finally:
        courier.stop()


# What a caller gets.


@contextmanager
def serving(folder: Path, store: Faulty, engine: ScriptedEngine, **environ: str) -> Iterator[Harness]:
    settings = settings_in(folder, **environ)
    app = create_app(settings, storage=store, engine=engine)
    try:
        yield Harness(app, settings, store, engine)
    finally:
        app.extensions["courier"].stop()


@pytest.fixture
def service(tmp_path: Path, store: Faulty) -> Iterator[Harness]:
    with serving(tmp_path, store, ScriptedEngine(["better"])) as harness:
        yield harness


def outbox_of(service: Harness) -> SqliteOutbox:
    return SqliteOutbox(service.settings.data_dir / "outbox.sqlite3", database_id(service.settings.database_url))


def back(service: Harness) -> None:
    """The storage is back, and what waited is applied."""
    assert isinstance(service.storage, Faulty)
    service.storage.failure = None
    assert service.storage.completed.wait(BOUND)


def failing(service: Harness, failure: StorageError = DOWN) -> str:
    """A token; from now on the storage completes nothing."""
    token = service.token()
    assert isinstance(service.storage, Faulty)
    service.storage.failure = failure
    return token


def test_a_healthy_service_has_no_outbox(service: Harness, path: Path) -> None:
    """Without a failure no file is made, and no thread is started."""
    assert service.refine(service.token(), {"prompt": "p"}, Idempotency_Key="k").status_code == 200
    assert not path.exists()
    assert service.app.extensions["courier"]._thread is None


ROUTES = {
    "/refine": ({"prompt": "p"}, "refined_prompt"),
    "/refine-prompt": ({"prompt": "p"}, "refined_prompt"),
    "/generate": ({"prompt": "p"}, "generated_text"),
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_paid_answer_is_given_although_the_storage_fails(service: Harness, store: Faulty, route: str) -> None:
    """The caller gets 200 and the answer; when the storage is back, the record holds the same, unaided, paid once."""
    token = failing(service)
    body, field = ROUTES[route]
    answer = service.post(route, token, body)
    given = answer.get_json()
    assert (answer.status_code, given[field]) == (200, "better")
    assert service.get("/log-request", token).get_json()["items"][0]["status"] == "pending"
    back(service)
    item = service.get(f"/log-request/{given['id']}", token).get_json()
    assert (item["status"], item["response"]) == ("succeeded", "better")
    assert len(service.engine.deadlines) == 1


def test_the_answer_is_the_one_that_is_stored(service: Harness) -> None:
    """What the caller got is, byte for byte, what the record gives afterwards, and a retry with the key too."""
    token = failing(service)
    first = service.refine(token, {"prompt": "p"}, Idempotency_Key="k")
    back(service)
    assert service.get(f"/refine/{first.get_json()['id']}", token).data == first.data
    retry = service.refine(token, {"prompt": "p"}, Idempotency_Key="k")
    assert (retry.data, retry.headers["Idempotent-Replayed"]) == (first.data, "true")
    assert len(service.engine.tasks) == 1


def test_an_answer_that_the_store_rejects_is_given_and_kept(service: Harness, store: Faulty) -> None:
    """A completion that the store does not take is the caller's all the same, and waits for the operator."""
    assert service.refine(failing(service, REJECTED), {"prompt": "p"}).status_code == 200
    service.app.extensions["courier"].stop()
    assert outbox_of(service).held() == Held(refused=1)
    store.failure = None
    assert outbox_of(service).apply(store, again=True) == Applied(applied=1)


FAILURES = [(UnusableAnswer("unusable"), 502), (UpstreamUnavailable("overloaded"), 503)]


@pytest.mark.parametrize(("error", "status"), FAILURES, ids=["502", "503"])
def test_a_failed_call_is_completed_later_too(tmp_path: Path, store: Faulty, error: EngineError, status: int) -> None:
    """The caller gets the model's problem, not the storage's, and the record fails with it once the storage is back."""
    with serving(tmp_path, store, ScriptedEngine([error])) as service:
        token = failing(service)
        answer = service.refine(token, {"prompt": "p"}, Idempotency_Key="k")
        assert (answer.status_code, answer.get_json()["type"] == "/problems/storage-unavailable") == (status, False)
        back(service)
        (item,) = service.get("/log-request", token).get_json()["items"]
        assert (item["status"], item["error"]["type"]) == ("failed", answer.get_json()["type"])
        again = service.refine(token, {"prompt": "p"}, Idempotency_Key="k")
        assert ("Idempotent-Replayed" in again.headers) is (status == 502)


def test_a_retry_while_the_completion_waits_is_not_paid_twice(service: Harness, store: Faulty) -> None:
    """The record is pending: a retry with its key gets 409, and the model is not asked."""
    token = failing(service)
    assert service.refine(token, {"prompt": "p"}, Idempotency_Key="k").status_code == 200
    assert service.refine(token, {"prompt": "p"}, Idempotency_Key="k").status_code == 409
    assert len(service.engine.tasks) == 1


def test_a_retry_after_a_long_outage_is_not_paid_twice(service: Harness, store: Faulty) -> None:
    """After its deadline a retry has the outbox applied before it may take the record over."""
    token = failing(service)
    first = service.refine(token, {"prompt": "p"}, Idempotency_Key="k")
    # As after a restart: nobody else applies it.
    service.app.extensions["courier"].stop()
    later = Clock(utc_now())
    later.advance(hours=1)
    store.now, store.failure = later, None
    retry = service.refine(token, {"prompt": "p"}, Idempotency_Key="k")
    assert (retry.status_code, retry.data) == (200, first.data)
    assert len(service.engine.tasks) == 1


def test_what_an_earlier_process_left_is_applied(tmp_path: Path, store: Faulty) -> None:
    """The first request of a process has what waits from before applied, whatever it asks for."""
    with serving(tmp_path, store, ScriptedEngine(["better"])) as service:
        assert service.refine(failing(service), {"prompt": "p"}).status_code == 200
        service.app.extensions["courier"].stop()
    with serving(tmp_path, store, ScriptedEngine()) as service:
        assert not store.completed.is_set()
        store.failure = None
        assert service.http.get("/health").status_code == 200
        assert store.completed.wait(BOUND)


@contextmanager
def garbage(path: Path) -> Iterator[None]:
    """A file that is no database."""
    path.write_bytes(b"this is no database at all\n" * 1000)
    yield


@contextmanager
def directory(path: Path) -> Iterator[None]:
    """A folder where the file should be: nothing can be written there."""
    path.mkdir()
    yield


@contextmanager
def full(path: Path) -> Iterator[None]:
    """A disk that takes no more: the kernel refuses to let a file of this process grow beyond some bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A file that another connection keeps for itself."""
    SqliteOutbox(path, "another store").put("id", completion(utc_now()))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


BROKEN = [garbage, directory, full, locked]


@pytest.mark.parametrize("broken", BROKEN)
def test_an_outbox_that_fails_is_told(outbox: SqliteOutbox, path: Path, broken: Any) -> None:
    """Whatever is wrong with the file, a put ends with the outbox's own error, and tells nothing of the completion."""
    with broken(path), within(0.05), pytest.raises(OutboxError) as caught:
        outbox.put("id", completion(utc_now(), response=CANARY))
    assert CANARY not in f"{caught.value}{caught.value.__cause__!r}"


@pytest.mark.parametrize("broken", [garbage, directory, locked])
def test_without_storage_and_outbox_it_is_503(tmp_path: Path, store: Faulty, path: Path, broken: Any) -> None:
    """When both fail, the caller is told that the storage is unavailable, in time, and may read what became of it."""
    with serving(tmp_path, store, ScriptedEngine(["better"]), REQUEST_DEADLINE_SECONDS="1") as service:
        token = failing(service)
        with broken(path):
            started = time.monotonic()
            answer = service.refine(token, {"prompt": "p"})
            assert time.monotonic() - started < BUSY_SECONDS
        assert (answer.status_code, answer.get_json()["type"]) == (503, "/problems/storage-unavailable")
        assert "Retry-After" in answer.headers
        assert len(ids(store)) == 1


def test_the_log_says_what_waits_and_not_what_it_says(
    tmp_path: Path, store: Faulty, capfd: pytest.CaptureFixture[str]
) -> None:
    """One warning when a completion is put and one when it is applied, without prompt or response."""
    with serving(tmp_path, store, ScriptedEngine([CANARY])) as service:
        answer = service.refine(failing(service), {"prompt": CANARY})
        back(service)
    printed = capfd.readouterr().err
    lines = [json.loads(line) for line in printed.splitlines()]
    put, applied = (line for line in lines if line["logger"] == "klamala.outbox")
    assert (put["level"], put["message"]) == ("warning", "completion put into the outbox")
    assert (put["record_id"], put["request_id"]) == (answer.get_json()["id"], answer.headers["X-Request-Id"])
    assert (applied["level"], applied["message"], applied["applied"]) == ("warning", "outbox applied", 1)
    assert CANARY not in printed


# In time.


class Watch(SqliteOutbox):
    """An outbox that notes how much time it has for a put."""

    seconds = 0.0

    def put(self, record_id: str, completion: Completion) -> None:
        self.seconds = seconds_left(inf)
        super().put(record_id, completion)


@pytest.mark.parametrize(("remaining", "to_store", "to_outbox"), [(20, 19, 20), (2, 1, 2), (1.5, 1, 1.5), (0, 1, 1)])
def test_storage_and_outbox_share_what_is_left(
    store: Faulty, path: Path, remaining: float, to_store: float, to_outbox: float
) -> None:
    """The storage gets the time to the deadline less the outbox's second, the outbox what is left; one at least."""
    outbox = Watch(path, "this store")
    store.failure = DOWN
    Ledger(store, outbox, None, 2.0).finish(begun(store), completion(utc_now()), Deadline(remaining, lambda: 0.0))
    assert (round(store.seconds, 1), round(outbox.seconds, 1)) == (to_store, to_outbox)


def test_a_locked_store_does_not_hold_the_answer_back(tmp_path: Path, store: Faulty) -> None:
    """Completing the record and settling the budget wait together no longer than the request may take."""
    engine = ScriptedEngine(["better"])
    environ = {"REQUEST_DEADLINE_SECONDS": "2", "DAILY_TOKEN_BUDGET": "1000000"}
    with serving(tmp_path, store, engine, **environ) as service:
        token = service.token()
        with closing(sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)) as other:
            engine.before_answer = lambda: other.execute("BEGIN IMMEDIATE").close()
            started = time.monotonic()
            answer = service.refine(token, {"prompt": "p"})
            assert (answer.status_code, time.monotonic() - started < BUSY_SECONDS) == (200, True)
            other.execute("ROLLBACK")
        assert store.completed.wait(BOUND)


def test_a_call_without_a_courier_is_kept(store: Faulty, outbox: SqliteOutbox) -> None:
    """Where another process applies the outbox, as on AWS Lambda, the completion is put and no thread is started."""
    store.failure = DOWN
    before = threading.active_count()
    Ledger(store, outbox, None, 2.0).finish(begun(store), completion(utc_now()), Deadline.after(5))
    assert (outbox.held(), threading.active_count()) == (Held(waiting=1), before)


@pytest.mark.parametrize("kind", ["mongodb", "postgresql"])
def test_a_silent_server_takes_no_more_than_the_caller_has(silent_port: int, kind: str) -> None:
    """A store is given up when the caller's time is over, long before its own five seconds are."""
    with closing(open_storage(f"{kind}://127.0.0.1:{silent_port}/x", create=False)) as silent:
        started = time.monotonic()
        with within(0.2), pytest.raises(StorageUnavailable):
            silent.finish("id", completion(utc_now()))
        assert time.monotonic() - started < 4


# The command.


def drain(service: Harness, *arguments: str) -> Result:
    return service.app.test_cli_runner().invoke(args=["outbox", "drain", *arguments])


def test_an_empty_outbox_is_drained(service: Harness, path: Path) -> None:
    """There is nothing to do, nothing is made, and that is no failure."""
    result = drain(service)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "applied: 0\nobsolete: 0\nwaiting: 0\nrefused: 0\nelsewhere: 0\n"
    assert not path.exists()


def test_draining_applies_what_waits(service: Harness, store: Faulty) -> None:
    """What waits is applied and counted, also what was refused before and is taken now."""
    records = [begun(store) for _ in range(3)]
    for record in records:
        outbox_of(service).put(record.id, completion(utc_now()))
    store.failures = {records[0].id: REJECTED}
    assert outbox_of(service).apply(store) == Applied(applied=2, refused=1)
    store.failures = {}
    result = drain(service, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"applied": 1, "obsolete": 0, "waiting": 0, "refused": 0, "elsewhere": 0}


def test_what_is_left_is_a_failure(service: Harness, store: Faulty, path: Path) -> None:
    """Exit code 1 and the counts, when the storage is down, does not take an entry, or another one is meant."""
    records = [begun(store) for _ in range(3)]
    for record in records:
        outbox_of(service).put(record.id, completion(utc_now()))
    SqliteOutbox(path, "another store").put("id", completion(utc_now()))
    store.failures = {records[0].id: REJECTED, records[1].id: DOWN, records[2].id: DOWN}
    assert outbox_of(service).apply(store).applied == 0
    store.failures[records[2].id] = REJECTED
    for _ in range(3):
        result = drain(service, "--json")
        assert (result.exit_code, result.stderr) == (1, "Something is left in the outbox.\n")
    left = json.loads(result.stdout)
    assert (left["applied"], left["waiting"] + left["refused"], left["elsewhere"]) == (0, 3, 1)


def test_an_outbox_that_cannot_be_read_is_told(service: Harness, path: Path) -> None:
    """A broken file ends the command with one line and exit code 1."""
    path.mkdir()
    result = drain(service)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: Storage unavailable: The outbox cannot be used.\n"
