"""The audit log: one contract for every store, what each does for durability, its faults, and the service on it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, repeat
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern
from sqlalchemy import event
from werkzeug.test import TestResponse

from app import create_app
from records import ABANDONED_ERROR, IDEMPOTENCY_WINDOW, Kind, Owner, Record, Status, utc_now
from refinery.engines import (
    EngineError,
    ModelRefused,
    ModelTimeout,
    UnusableAnswer,
    UpstreamRejected,
    UpstreamUnavailable,
)
from storage import DuplicateKey, RecordRejected, Storage, StorageUnavailable, open_storage
from stores.documents import page_indexes
from stores.mongo import MongoStorage
from stores.sql import SqlStorage
from stores.sqlite import SqliteDatabase
from stores.within import within
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.stores import (
    BOUND,
    NO_MONGODB,
    OWNER,
    PASSWORD,
    REAL_MONGODB,
    ROOT,
    Backend,
    NxServer,
    as_text,
    assert_unavailable,
    at_url,
    free_port,
    ids,
    made_by,
    on,
    pending,
    ping_seconds,
    race,
    sqlite_url,
    stored,
)

RACERS = 30
WEAK = "?w=0&journal=false&readPreference=secondary"
SURROGATE = "\ud800"
PROMPT = "Grüße, 世界 🦊👩‍👩‍👧 {{name}}\r\n\t「」 \u2028 'quoted' \\ \x7f  "
METADATA = {
    "$set": {"$where": "1", "a.b": {"c..d": [1, [2, {"$": None}]]}},
    "": {"": "empty names"},
    ".": "dots",
    "_id": "not the record's",
    "big": [2**53 + 1, 2**63, -(2**200)],
    "floats": [0.1, 1.0, -0.0, 1e300, 5e-324],
    "whole": 1,
    "世界": "🦊",
    "truth": [True, False, None],
}


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqlStorage]:
    """A store on a new SQLite file."""
    with closing(open_storage(sqlite_url(tmp_path / "plain.sqlite3"))) as opened:
        assert isinstance(opened, SqlStorage)
        yield opened


# The record


def full_record(backend: Backend) -> Record:
    now = backend.clock()
    later = iter(now + timedelta(days=day, milliseconds=day) for day in count(1))
    return backend.record(
        v=7,
        kind=Kind.GENERATE,
        source="client",
        request_id="request-世界",
        prompt=PROMPT,
        response=f"response {PROMPT}",
        metadata=METADATA,
        detail={"strategy": "general", "changes": [{"reason": "世界", "before": "", "after": "🦊"}], "n": None},
        usage={"input_tokens": 2**53, "output_tokens": None},
        error={"type": "/problems/x", "title": "X", "status": 502, "detail": "世界"},
        latency_ms=2**31 - 1,
        completed_at=next(later),
        expires_at=next(later),
        deadline_at=next(later),
        lease_until=next(later),
        attempt=3,
        idempotency_key="key-1",
        body_hash="f" * 64,
    )


def test_every_field_comes_back(backend: Backend, store: Storage) -> None:
    """A record comes back equal in every field, its JSON with the same order of names and types of numbers."""
    record = full_record(backend)
    assert [name for name, value in record.as_dict().items() if value is None] == []
    assert store.begin(record) == record
    found = stored(backend.open(), record)
    assert found == record
    for name in ("metadata", "detail", "usage", "error"):
        assert as_text(getattr(found, name)) == as_text(getattr(record, name))
    assert (type(found.kind), type(found.status)) == (Kind, Status)


def test_what_is_not_known_comes_back_so(backend: Backend, store: Storage) -> None:
    """None stays None, and what is empty stays empty."""
    unknown = backend.record(
        deadline_at=None, body_hash=None, model=None, engine=None, detail={}, metadata=None, response=None
    )
    empty = backend.record(metadata={}, detail={}, usage={}, response="", prompt="")
    for record in (unknown, empty):
        store.begin(record)
        assert stored(store, record) == record


def test_a_long_prompt_comes_back(backend: Backend, store: Storage) -> None:
    """Prompts of 100,000 characters come back unchanged, of one byte each and of four."""
    for text in ("x" * 100_000, "🦊" * 100_000):
        record = backend.record(prompt=text)
        store.begin(record)
        store.finish(record.id, backend.completion(response=text[::-1]))
        found = stored(store, record)
        assert (found.prompt == text, found.response == text[::-1]) == (True, True)


@pytest.mark.parametrize("millisecond", [0, 1, 4, 29, 570, 999])
def test_times_are_aware_and_keep_their_milliseconds(backend: Backend, store: Storage, millisecond: int) -> None:
    """Times come back aware, in UTC, to the millisecond, in winter and in summer."""
    # Years ahead: MongoDB deletes at once what has expired.
    for moment in (datetime(2040, 1, 31, 23, 59, 59, tzinfo=UTC), datetime(2040, 7, 1, 2, 30, tzinfo=UTC)):
        moment += timedelta(milliseconds=millisecond)
        record = backend.record(timestamp=moment, expires_at=moment)
        store.begin(record)
        store.finish(record.id, backend.completion(completed_at=moment))
        found = stored(store, record)
        for time_of in (found.timestamp, found.expires_at, found.completed_at):
            assert time_of is not None
            assert (time_of, time_of.utcoffset()) == (moment, timedelta(0))


def test_another_zone_is_kept_as_utc(backend: Backend, store: Storage) -> None:
    """A time in another zone comes back as the same moment in UTC."""
    tokyo = datetime.fromisoformat("2026-11-20T08:30:00.250+09:00")
    record = backend.record(timestamp=tokyo)
    store.begin(record)
    found = stored(store, record)
    assert (found.timestamp, found.timestamp.utcoffset()) == (tokyo, timedelta(0))


def test_an_owner_reads_only_their_own(backend: Backend, store: Storage) -> None:
    """A record is read by its client's user alone: not by the client's others, nor by a namesake at another client."""
    record = backend.record()
    store.begin(record)
    others = [
        Owner(OWNER.client_id, "user-2"),
        Owner("klm_other", OWNER.user_id),
        Owner(OWNER.client_id, ""),
        Owner(OWNER.user_id, OWNER.client_id),
    ]
    assert [store.read(record.id, other) for other in others] == [None] * len(others)
    assert store.read(backend.record().id, OWNER) is None
    assert stored(store, record) == record


@pytest.mark.parametrize("key", [None, "key-1"])
def test_a_record_begun_again_is_one_record(backend: Backend, store: Storage, key: str | None) -> None:
    """A begin that is sent again because its outcome was unknown returns its own record, which is there once."""
    store.begin(backend.record())
    record = backend.record(idempotency_key=key)
    assert store.begin(record) == record
    assert store.begin(record) == record
    assert ids(store).count(record.id) == 1


# States


def in_state(store: Storage, backend: Backend, status: Status) -> Record:
    """A record that came to this state the allowed way."""
    record = backend.record()
    store.begin(record)
    if status is Status.ABANDONED:
        backend.clock.advance(seconds=60)
        assert stored(store, record).status is Status.ABANDONED
    elif status is not Status.PENDING:
        assert store.finish(record.id, backend.completion(status))
    return stored(store, record)


@pytest.mark.parametrize("end", [Status.SUCCEEDED, Status.FAILED])
@pytest.mark.parametrize("start", [Status.PENDING, Status.ABANDONED])
def test_an_open_record_is_completed(backend: Backend, store: Storage, start: Status, end: Status) -> None:
    """A pending record, and one abandoned before, is completed whole and keeps everything else."""
    record = in_state(store, backend, start)
    completion = backend.completion(end, response="späte 世界", error={"status": 502}, detail={"new": [1]})
    assert store.finish(record.id, completion) is True
    assert stored(store, record) == completion.applied_to(record)
    assert stored(store, record).status is end


def test_a_late_success_is_no_failure_any_more(backend: Backend, store: Storage) -> None:
    """The error of the abandonment goes with the success that comes after it."""
    record = in_state(store, backend, Status.ABANDONED)
    store.finish(record.id, backend.completion(error=None))
    assert stored(store, record).error is None


@pytest.mark.parametrize("again", [Status.SUCCEEDED, Status.FAILED])
@pytest.mark.parametrize("done", [Status.SUCCEEDED, Status.FAILED])
def test_a_completed_record_is_final(backend: Backend, store: Storage, done: Status, again: Status) -> None:
    """A second completion is refused and changes nothing."""
    record = in_state(store, backend, done)
    assert store.finish(record.id, backend.completion(again, response="other", frees_key=True)) is False
    assert stored(store, record) == record


def test_a_completion_never_creates_a_record(backend: Backend, store: Storage) -> None:
    """Completing what is not there is refused and leaves nothing behind."""
    assert store.finish(backend.record().id, backend.completion()) is False
    assert ids(store) == []


def test_of_completions_that_race_one_wins(backend: Backend, store: Storage) -> None:
    """Of many completions of one record at a time exactly one is taken, and it is whole."""
    record = backend.record()
    store.begin(record)
    rivals = [backend.completion(response=f"{number}", latency_ms=number) for number in range(10)]
    won = race([partial(store.finish, record.id, rival) for rival in rivals])
    assert won.count(True) == 1
    assert stored(store, record) == rivals[won.index(True)].applied_to(record)


def test_a_pending_record_is_abandoned_at_its_deadline(backend: Backend, store: Storage) -> None:
    """Until its deadline a record reads as pending; from then on as abandoned, with the reason, and its key is free."""
    record = backend.record(idempotency_key="key-1")
    store.begin(record)
    backend.clock.advance(seconds=25, milliseconds=-1)
    assert stored(store, record) == record
    backend.clock.advance(milliseconds=1)
    abandoned = replace(
        record,
        status=Status.ABANDONED,
        error=ABANDONED_ERROR,
        completed_at=backend.clock(),
        idempotency_key=None,
    )
    assert stored(store, record) == abandoned
    backend.clock.advance(days=1)
    assert stored(backend.open(), record) == abandoned


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
def test_what_is_completed_is_never_abandoned(backend: Backend, store: Storage, status: Status) -> None:
    """A completed record stays as it is, whenever it is read."""
    record = in_state(store, backend, status)
    backend.clock.advance(days=400)
    assert stored(store, record) == record


def test_without_a_deadline_nothing_is_abandoned(backend: Backend, store: Storage) -> None:
    """A pending record that has no deadline stays pending."""
    record = backend.record(deadline_at=None)
    store.begin(record)
    backend.clock.advance(days=400)
    assert stored(store, record) == record


def after(moments: Iterable[datetime], happens: Callable[[], object]) -> Callable[[], datetime]:
    """A clock that shows these moments; before the first one something happens: in the midst of who asked for it."""
    shown = iter(moments)

    def clock() -> datetime:
        happens()
        return next(shown)

    return clock


def test_a_completion_comes_before_the_abandonment(backend: Backend, store: Storage) -> None:
    """A record that is completed while a reader finds it overdue stays completed."""
    record = backend.record()
    store.begin(record)
    completion, late = backend.completion(), backend.clock() + timedelta(hours=1)
    reader = backend.open(clock=after(repeat(late), lambda: store.finish(record.id, completion)))
    assert stored(reader, record) == completion.applied_to(record)


def test_an_abandonment_goes_by_the_deadline(backend: Backend, store: Storage) -> None:
    """The write that abandons a record judges the deadline itself, by the time that it is given."""
    record = backend.record()
    store.begin(record)
    late = backend.clock() + timedelta(hours=1)
    reader = backend.open(clock=after([late, backend.clock()], lambda: None))
    assert stored(reader, record) == record


def test_a_completion_comes_before_the_retry(backend: Backend, store: Storage) -> None:
    """A retry that finds the first call overdue while that is being completed gets its answer."""
    record = backend.record(idempotency_key="key-1")
    store.begin(record)
    late = backend.clock() + timedelta(hours=1)
    retrying = backend.open(clock=after(repeat(late), lambda: store.finish(record.id, backend.completion())))
    found = retrying.begin(backend.record(idempotency_key="key-1"))
    assert (found.id, found.status) == (record.id, Status.SUCCEEDED)


def test_only_its_owner_closes_a_record_by_reading(backend: Backend, store: Storage) -> None:
    """A stranger who asks for an overdue record learns nothing and changes nothing."""
    record = backend.record()
    store.begin(record)
    backend.clock.advance(seconds=60)
    assert store.read(record.id, Owner(OWNER.client_id, "user-2")) is None
    backend.clock.advance(seconds=-60)
    assert stored(store, record) == record


# Idempotency


def test_a_key_belongs_to_one_record(backend: Backend, store: Storage) -> None:
    """A second call with the key gets the first one's record as it is now, and leaves none of its own."""
    first, second = (backend.record(idempotency_key="key-1") for _ in range(2))
    assert store.begin(first) == first
    assert store.begin(second) == first
    store.finish(first.id, backend.completion())
    assert store.begin(second).status is Status.SUCCEEDED
    assert ids(store) == [first.id]


@pytest.mark.parametrize(
    "other",
    [
        {"user_id": "user-2"},
        {"client_id": "klm_other"},
        {"kind": Kind.GENERATE},
        {"idempotency_key": "KEY-1"},
        {"idempotency_key": "key-1 "},
    ],
    ids=str,
)
def test_keys_are_the_caller_s_and_the_route_s(backend: Backend, store: Storage, other: dict[str, Any]) -> None:
    """The same key of another user, client or route is another key, and so is one that only looks alike."""
    first = backend.record(idempotency_key="key-1")
    second = replace(backend.record(idempotency_key="key-1"), **other)
    assert store.begin(first) == first
    assert store.begin(second) == second
    assert store.begin(backend.record(idempotency_key="key-1")).id == first.id


def test_records_without_a_key_never_collide(backend: Backend, store: Storage) -> None:
    """However many records have no key, each is begun."""
    records = [backend.record(idempotency_key=None) for _ in range(5)]
    assert [store.begin(record) for record in records] == records
    assert sorted(ids(store)) == sorted(record.id for record in records)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
def test_a_completion_frees_the_key_only_where_it_says_so(backend: Backend, store: Storage, status: Status) -> None:
    """With `frees_key` the next call is begun anew; without, it gets the completed record."""
    for frees in (False, True):
        first, second = (backend.record(idempotency_key=f"key-{frees}") for _ in range(2))
        store.begin(first)
        store.finish(first.id, backend.completion(status, frees_key=frees))
        assert store.begin(second).id == (second.id if frees else first.id)
        assert stored(store, first).status is status


def test_a_retry_takes_the_key_of_an_overdue_call(backend: Backend, store: Storage) -> None:
    """From the deadline on a retry is begun anew, and what it takes the key from is abandoned; before, it is not."""
    first, second = (backend.record(idempotency_key="key-1") for _ in range(2))
    store.begin(first)
    backend.clock.advance(seconds=25, milliseconds=-1)
    assert store.begin(second) == first
    backend.clock.advance(milliseconds=1)
    assert store.begin(second) == second
    assert stored(store, first).status is Status.ABANDONED
    assert stored(store, first).error == ABANDONED_ERROR


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
def test_a_key_lasts_for_24_hours(backend: Backend, store: Storage, status: Status) -> None:
    """A completed record holds its key for 24 hours after its receipt, to the millisecond; it stays as it is then."""
    first = backend.record(idempotency_key="key-1")
    store.begin(first)
    store.finish(first.id, backend.completion(status))
    before = stored(store, first)
    backend.clock.advance(days=1, milliseconds=-1)
    assert store.begin(backend.record(idempotency_key="key-1")).id == first.id
    backend.clock.advance(milliseconds=1)
    second = backend.record(idempotency_key="key-1")
    assert store.begin(second) == second
    assert stored(store, first) == replace(before, idempotency_key=None)


def holder_none(backend: Backend, store: Storage) -> None:
    """Nobody has the key yet."""


def holder_expired(backend: Backend, store: Storage) -> None:
    """A completed record has had the key for 24 hours."""
    record = backend.record(idempotency_key="key-1")
    store.begin(record)
    store.finish(record.id, backend.completion())
    backend.clock.advance(seconds=IDEMPOTENCY_WINDOW.total_seconds())


def holder_overdue(backend: Backend, store: Storage) -> None:
    """A pending record past its deadline has the key."""
    store.begin(backend.record(idempotency_key="key-1"))
    backend.clock.advance(seconds=60)


@pytest.mark.parametrize("holder", [holder_none, holder_expired, holder_overdue])
def test_of_calls_that_race_for_a_key_one_is_begun(
    backend: Backend, store: Storage, holder: Callable[[Backend, Storage], None]
) -> None:
    """Of 30 calls with one key at a time exactly one is begun, and all are told of it, whoever had the key before."""
    store.prepare()
    holder(backend, store)
    before = set(ids(store))
    rivals = [backend.record(idempotency_key="key-1") for _ in range(RACERS)]
    holders = race([partial(store.begin, rival) for rival in rivals])
    assert {found.id for found in holders} == set(ids(store)) - before
    assert len(set(ids(store)) - before) == 1
    assert {found.id for found in holders} < {rival.id for rival in rivals}


def test_a_late_completion_leaves_the_key_with_the_retry(backend: Backend, store: Storage) -> None:
    """A completion that comes after the abandonment is kept, and the retry that took the key goes on holding it."""
    first, retry = (backend.record(idempotency_key="key-1") for _ in range(2))
    store.begin(first)
    backend.clock.advance(seconds=60)
    retry = replace(retry, timestamp=backend.clock(), deadline_at=backend.clock() + timedelta(seconds=25))
    store.begin(retry)
    assert store.finish(first.id, backend.completion(response="late")) is True
    late = stored(store, first)
    assert (late.status, late.response, late.idempotency_key) == (Status.SUCCEEDED, "late", None)
    assert store.begin(backend.record(idempotency_key="key-1")) == retry


# Clients


def test_clients_come_back(backend: Backend, store: Storage) -> None:
    """A client comes back as it was added, alone by its id and among all of them, which are sorted by id."""
    added = [
        backend.client("klm_b", name="Grüße 世界 🦊"),
        backend.client("klm_A", scopes=("log:read:all",), disabled=True),
        backend.client("klm_a", key_hash="b" * 64),
    ]
    assert list(store.clients()) == []
    for client in added:
        store.add_client(client)
    assert [store.client(client.client_id) for client in added] == added
    assert list(store.clients()) == [added[1], added[2], added[0]]
    found = store.client("klm_b")
    assert found is not None
    assert found.created_at.utcoffset() == timedelta(0)


def test_a_client_is_added_once(backend: Backend, store: Storage) -> None:
    """A second client of the same id is refused, and the first one stays as it is."""
    store.add_client(backend.client())
    with pytest.raises(DuplicateKey):
        store.add_client(backend.client(name="another"))
    assert list(store.clients()) == [backend.client()]


def test_a_client_s_key_is_replaced(backend: Backend, store: Storage) -> None:
    """A new key replaces the client's own and nothing else, of this client and of others."""
    store.add_client(backend.client("klm_a"))
    store.add_client(backend.client("klm_b"))
    assert store.set_client_key("klm_a", "c" * 64) is True
    assert list(store.clients()) == [backend.client("klm_a", key_hash="c" * 64), backend.client("klm_b")]


def test_a_client_is_disabled_and_enabled(backend: Backend, store: Storage) -> None:
    """Disabling and enabling change that alone; doing so twice is no error."""
    store.add_client(backend.client("klm_a"))
    store.add_client(backend.client("klm_b"))
    for disabled in (True, True, False, False):
        assert store.set_client_disabled("klm_a", disabled) is True
        assert list(store.clients()) == [backend.client("klm_a", disabled=disabled), backend.client("klm_b")]


def test_an_unknown_client_is_told_from_a_known_one(backend: Backend, store: Storage) -> None:
    """Nothing is found or changed for an id that no client has, and no client comes of it."""
    store.add_client(backend.client())
    for unknown in ("klm_unknown", "", "KLM_CLIENT"):
        assert store.client(unknown) is None
        assert store.set_client_key(unknown, "c" * 64) is False
        assert store.set_client_disabled(unknown, True) is False
    assert list(store.clients()) == [backend.client()]


# Creating what is missing


def assert_usable(backend: Backend, store: Storage) -> None:
    first, second = (backend.record(idempotency_key="key-1") for _ in range(2))
    assert store.begin(first) == first
    assert store.begin(second) == first
    store.add_client(backend.client())
    store.ping()


def test_initializing_again_changes_nothing(backend: Backend) -> None:
    """A store that is initialised twice, by itself and by another, works and keeps its records."""
    first, second = backend.open(create=False), backend.open(create=False)
    first.initialize()
    assert_usable(backend, first)
    for store in (first, second):
        store.initialize()
    assert len(ids(second)) == 1
    assert list(second.clients()) == [backend.client()]


def test_threads_initialize_at_once(backend: Backend) -> None:
    """Many stores that initialise one fresh database at the same moment all succeed."""
    stores = [backend.open(create=False) for _ in range(12)]
    race([store.initialize for store in stores])
    assert_usable(backend, stores[0])


def test_threads_prepare_one_store_at_once(backend: Backend, store: Storage) -> None:
    """Threads whose first operations on a store come at the same moment all find it prepared."""
    records = [backend.record() for _ in range(12)]
    begun = race([partial(store.begin, record) for record in records])
    assert begun == records
    assert_usable(backend, store)


INITIALIZER = """
import sys
from storage import open_storage
storage = open_storage(sys.argv[1], create=False)
print("ready", flush=True)
sys.stdin.readline()
storage.initialize()
storage.close()
"""


@on("sqlite", "postgresql", "nx", "mongodb")
def test_processes_initialize_at_once(backend: Backend) -> None:
    """Several processes that initialise one fresh database at the same moment all succeed."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", INITIALIZER, backend.url],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        errors = [process.communicate(timeout=BOUND)[1] for process in processes]
    assert [(process.returncode, error) for process, error in zip(processes, errors, strict=True)] == [(0, "")] * 4
    assert_usable(backend, backend.open(create=False))


def test_sqlite_waits_for_others_to_write_ahead(sqlite: SqlStorage, tmp_path: Path) -> None:
    """A fresh file that another connection writes to is turned to write-ahead logging as soon as that lets it go.

    SQLite itself does not wait there, whatever its busy timeout: two that turn a file at once would wait for ever.
    """
    with closing(sqlite3.connect(tmp_path / "plain.sqlite3", isolation_level=None)) as other:
        other.execute("CREATE TABLE other (a)")
        other.execute("BEGIN IMMEDIATE")
        attempts = count(1)

        def watch(statement: str) -> None:
            if "journal_mode=wal" in statement.lower() and next(attempts) == 2:
                other.execute("COMMIT")

        assert isinstance(sqlite._database, SqliteDatabase)
        event.listen(sqlite._database._plain, "connect", lambda connection, _: connection.set_trace_callback(watch))
        sqlite.initialize()
    assert next(attempts) > 2


def test_a_store_that_may_not_create_creates_nothing(backend: Backend) -> None:
    """Opened with `create=False` a store makes no table, collection or index, whatever is asked of it."""
    store = backend.open(create=False)
    with suppress(StorageUnavailable):
        store.ping()
    store.prepare()
    for use in (
        lambda: store.read(backend.record().id, OWNER),
        lambda: store.finish(backend.record().id, backend.completion()),
        lambda: store.client("klm_client"),
        lambda: store.set_client_key("klm_client", "a" * 64),
    ):
        with suppress(StorageUnavailable):
            assert not use()
    # nx-27017 0.8.1 makes a collection even for an update that finds nothing; MongoDB does not.
    allowed = {"requests", "clients"} if backend.name == "nx" else set()
    assert set(made_by(store)) <= allowed


def test_a_store_that_was_down_at_first_is_prepared_later(tmp_path: Path) -> None:
    """A store whose database comes up after it was opened creates what is missing at its next use."""
    folder = tmp_path / "later"
    backend = at_url("sqlite", sqlite_url(folder / "store.sqlite3"))
    with closing(backend.open()) as store:
        with pytest.raises(StorageUnavailable):
            store.prepare()
        folder.mkdir()
        assert_usable(backend, store)


# Durability and speed


def test_sqlite_is_durable_on_every_connection(sqlite: SqlStorage) -> None:
    """Each connection of the pool writes ahead in a log and waits for the disk at each commit."""
    sqlite.initialize()
    with ExitStack() as stack:
        connections = [stack.enter_context(sqlite._database.engine.connect()) for _ in range(8)]
        assert len({id(connection.connection.dbapi_connection) for connection in connections}) == 8
        for connection in connections:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2


def test_sqlite_finds_every_row_by_an_index(sqlite: SqlStorage) -> None:
    """No statement that looks for a record or a client goes through a whole table."""
    statements: list[tuple[str, Any]] = []
    sqlite.initialize()
    event.listen(
        sqlite._database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, parameters, _context, _many: statements.append((statement, parameters)),
    )
    record = pending(utc_now(), idempotency_key="key-1")
    uses: dict[str, Callable[[], object]] = {
        "read": lambda: sqlite.read(record.id, OWNER),
        "finish": lambda: sqlite.finish(record.id, Backend("", lambda *_: sqlite).completion()),
        "holder": lambda: sqlite._holder_of_key(record),
        "expire": lambda: sqlite._expire_key(record.id, utc_now()),
        "abandon": lambda: sqlite._abandon(record.id, utc_now()),
        "client": lambda: sqlite.client("klm_client"),
        "key": lambda: sqlite.set_client_key("klm_client", "a" * 64),
        "disable": lambda: sqlite.set_client_disabled("klm_client", True),
    }
    plans: dict[str, list[str]] = {}
    for name, use in uses.items():
        statements.clear()
        use()
        searching = [asked for asked in statements if asked[0].startswith(("SELECT", "UPDATE"))]
        with sqlite._database.engine.connect() as connection:
            explained = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values) for sql, values in searching]
            plans[name] = [step.detail for plan in explained for step in plan]
    by_id, by_client = (
        f"SEARCH {table} USING INDEX sqlite_autoindex_{table}_1 ({column}=?)"
        for table, column in (("requests", "id"), ("clients", "client_id"))
    )
    by_key = "SEARCH requests USING INDEX requests_idempotency "
    by_key += "(client_id=? AND user_id=? AND kind=? AND idempotency_key=?)"
    assert plans == {
        **{use: [by_id] for use in ("read", "finish", "expire", "abandon")},
        "holder": [by_key],
        **{use: [by_client] for use in ("client", "key", "disable")},
    }


@pytest.mark.skipif(not REAL_MONGODB, reason=NO_MONGODB)
@pytest.mark.parametrize("backend", ["mongodb"], indirect=True)
def test_mongodb_finds_every_row_by_an_index(backend: Backend, store: Storage) -> None:
    """No operation that looks for a record or a client goes through a whole collection.

    A partial index serves only a query that implies its filter, and an equality does not imply a `$type`.
    """
    assert isinstance(store, MongoStorage)
    first, second = (backend.record(idempotency_key="key-1") for _ in range(2))
    store.begin(first)
    store.add_client(backend.client())
    database = store._database
    database.command("profile", 2)
    store.begin(second)
    store.read(first.id, OWNER)
    store.finish(first.id, backend.completion())
    store.client("klm_client")
    store.set_client_disabled("klm_client", True)
    database.command("profile", 0)
    plans = [
        entry.get("planSummary", "") for entry in database["system.profile"].find({"op": {"$in": ["query", "update"]}})
    ]
    assert len(plans) >= 6
    assert [plan for plan in plans if "COLLSCAN" in plan] == []


@pytest.mark.parametrize("options", ["", WEAK, "?w=1&readPreference=nearest", "?journal=false&tz_aware=false"])
def test_no_url_takes_mongodb_s_durability_back(options: str) -> None:
    """Both collections write to a majority, journalled, and read from the primary, whatever the URL asks for."""
    with closing(open_storage(f"mongodb://127.0.0.1:1/{options}", create=False)) as store:
        assert isinstance(store, MongoStorage)
        for collection in (store._requests, store._clients):
            assert collection.write_concern == WriteConcern("majority", j=True)
            assert collection.read_preference == ReadPreference.PRIMARY
            assert collection.codec_options.tz_aware is True


@on("nx", "mongodb")
def test_writes_are_acknowledged_whatever_the_url_asks_for(backend: Backend) -> None:
    """With an unacknowledged write in the URL a key is still claimed by one record, and a completion still counted."""
    base, _, own = backend.url.partition("?")
    with closing(open_storage(base + WEAK + ("&" + own if own else ""))) as store:
        first, second = (pending(utc_now(), idempotency_key="key-1") for _ in range(2))
        assert store.begin(first) == first
        assert store.begin(second) == first
        assert store.finish(second.id, backend.completion()) is False
        assert store.finish(first.id, backend.completion()) is True


@on("mongomock", "nx", "mongodb")
def test_mongodb_has_its_indexes(backend: Backend, store: Storage) -> None:
    """The claim on a key is unique over caller, route and key, and the retention is MongoDB's own."""
    assert isinstance(store, MongoStorage)
    store.initialize()
    indexes = {tuple(name for name, _ in index["key"]): index for index in store._requests.index_information().values()}
    told = {("_id",), ("client_id", "user_id", "kind", "idempotency_key"), ("expires_at",), ("deadline_at",)}
    assert set(indexes) == {*told, ("lease_until", "id"), *page_indexes().values()}
    claim, retention = indexes["client_id", "user_id", "kind", "idempotency_key"], indexes["expires_at",]
    assert claim["unique"] is True
    assert retention["expireAfterSeconds"] == 0
    if backend.name != "nx":
        # nx-27017 0.8.1 does not tell of a filter; to it, as to SQL, keys that are null are distinct.
        assert claim["partialFilterExpression"] == {"idempotency_key": {"$type": "string"}}


# Faults


def mongo_url(port: int) -> str:
    return f"mongodb://someone:{PASSWORD}@127.0.0.1:{port}/klamala"


def test_mongodb_that_is_not_there() -> None:
    """Where nothing listens, every use of the store ends with our own error, without the password."""
    with closing(open_storage(mongo_url(free_port()))) as store:
        assert_unavailable(store)


def test_a_silent_mongodb(silent_port: int) -> None:
    """A server that accepts and is silent is known for it within two seconds, and no use of the store hangs."""
    with closing(open_storage(mongo_url(silent_port))) as store, ThreadPoolExecutor(1) as pool:
        pinging = pool.submit(ping_seconds, store)
        assert_unavailable(store)
        assert pinging.result() < 2


def test_mongodb_falls_silent(tmp_path: Path) -> None:
    """A server that falls silent in use fails a ping within two seconds; a write repeated later is there once."""
    with ExitStack() as stack:
        server = stack.enter_context(NxServer(tmp_path))
        store = stack.enter_context(closing(open_storage(server.url("paused"))))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        store.begin(pending(utc_now()))
        server.pause()
        pinging = pool.submit(ping_seconds, store)
        record = pending(utc_now(), idempotency_key="key-1")
        with pytest.raises(StorageUnavailable):
            store.begin(record)
        assert pinging.result() < 2
        server.resume()
        store.ping()
        assert store.begin(record) == record
        assert ids(store).count(record.id) == 1


def missing_folder(folder: Path) -> Path:
    """A file in a folder that does not exist."""
    return folder / "missing" / "store.sqlite3"


def directory(folder: Path) -> Path:
    """A path that is a directory."""
    return folder


def garbage(folder: Path) -> Path:
    """A file that is no database."""
    path = folder / "garbage.sqlite3"
    path.write_bytes(b"this is no database at all\n" * 1000)
    return path


@pytest.mark.parametrize("place", [missing_folder, directory, garbage])
def test_sqlite_that_cannot_be_used(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    """A file that cannot be opened or is no database ends every use with our own error."""
    with closing(open_storage(sqlite_url(place(tmp_path)))) as store:
        assert_unavailable(store)


def test_a_corrupt_sqlite_file(sqlite: SqlStorage, tmp_path: Path) -> None:
    """A database whose pages were overwritten ends a read with our own error."""
    record = pending(utc_now(), prompt="x" * 50_000)
    sqlite.begin(record)
    # Closing the last connection moves the log into the file.
    sqlite.close()
    path = tmp_path / "plain.sqlite3"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(StorageUnavailable):
        sqlite.read(record.id, OWNER)


def test_a_locked_sqlite_file(sqlite: SqlStorage) -> None:
    """While another connection holds the file, a write ends with our own error; afterwards it succeeds."""
    sqlite.initialize()
    record = pending(utc_now())
    with sqlite._database.engine.connect() as other:
        other.rollback()
        cursor = other.connection.cursor()
        cursor.execute("BEGIN EXCLUSIVE")
        # The store waits for five seconds; the test has no such patience.
        with pytest.raises(StorageUnavailable), within(0.05):
            sqlite.begin(record)
        assert sqlite.read(record.id, OWNER) is None
        cursor.execute("ROLLBACK")
        cursor.close()
    assert sqlite.begin(record) == record


def test_a_locked_sqlite_file_fails_a_ping_in_time(sqlite: SqlStorage, tmp_path: Path) -> None:
    """A file that another process keeps for itself is known for it within two seconds, as a silent server is."""
    with closing(sqlite3.connect(tmp_path / "plain.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert ping_seconds(sqlite) < 2
    sqlite.ping()


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


# Made when asked for: pytest cannot show what is nested so deeply.
REFUSED: dict[str, Callable[[], dict[str, Any]]] = {
    "prompt": lambda: {"prompt": f"a {SURROGATE}"},
    "value in metadata": lambda: {"metadata": {"a": SURROGATE}},
    "name in metadata": lambda: {"metadata": {SURROGATE: "a"}},
    "value in detail": lambda: {"detail": {"a": SURROGATE}},
    "nested metadata": lambda: {"metadata": nested(100_000)},
    "nested detail": lambda: {"detail": nested(100_000)},
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_record_that_cannot_be_kept_is_rejected(backend: Backend, store: Storage, what: str) -> None:
    """What no store can write is rejected whole, and the store goes on."""
    with pytest.raises(RecordRejected):
        store.begin(backend.record(**REFUSED[what](), idempotency_key="key-1"))
    assert ids(store) == []
    assert_usable(backend, store)


# mongomock checks what it is to insert and not what it is to set.
@on("sqlite", "postgresql", "nx", "mongodb")
def test_a_completion_that_cannot_be_kept_is_rejected(backend: Backend, store: Storage) -> None:
    """A completion that cannot be written is rejected whole; the record stays pending and takes another."""
    record = backend.record()
    store.begin(record)
    for changes in ({"response": SURROGATE}, {"detail": {"a": [SURROGATE]}}, {"error": {"detail": SURROGATE}}):
        with pytest.raises(RecordRejected):
            store.finish(record.id, backend.completion(**changes))
    assert stored(store, record) == record
    assert store.finish(record.id, backend.completion()) is True


@on("nx", "mongodb")
def test_a_document_that_is_too_large_is_rejected(backend: Backend, store: Storage) -> None:
    """A record or a completion over MongoDB's 16 MB is rejected, and the store goes on."""
    record, text = backend.record(), "x" * (17 << 20)
    with pytest.raises(RecordRejected):
        store.begin(backend.record(prompt=text))
    store.begin(record)
    with pytest.raises(RecordRejected):
        store.finish(record.id, backend.completion(response=text))
    assert stored(store, record) == record
    assert ids(store) == [record.id]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        f"unknown://someone:{PASSWORD}@host/db",
        f"sqlite:///file?timeout={PASSWORD}",
        f"postgresql://someone:{PASSWORD}@host:port/db",
        f"postgresql://someone:{PASSWORD}@host:99999/db",
        f"postgresql://someone:{PASSWORD}@host/db?{PASSWORD}=1",
        f"postgresql://someone:{PASSWORD}@host/db?autocommit={PASSWORD}",
        f"postgres://someone:{PASSWORD}@host:port/db",
        f"postgresql+psycopg://someone:{PASSWORD}@host:port/db",
        "mongodb://",
        f"mongodb:{PASSWORD}",
        f"mongodb://someone:p@{PASSWORD}@host/",
        f"mongodb://someone:{PASSWORD}@host:99999/",
        f"mongodb://someone:{PASSWORD}@[::1/",
        f"mongodb://someone:{PASSWORD}@host/a$b",
        f"mongodb://someone:{PASSWORD}@one,two/?directConnection=true",
        f"mongodb://someone:{PASSWORD}@host/?tls=true&tlsCAFile=/missing/{PASSWORD}",
    ],
)
def test_an_address_that_cannot_be_read(url: str) -> None:
    """An address that the driver cannot read is a `ValueError` that shows nothing of it."""
    with pytest.raises(ValueError, match="is not an address") as caught:
        open_storage(url)
    assert PASSWORD not in f"{caught.value}{caught.value!r}"


# The service on its store


@pytest.fixture
def service(backend: Backend, tmp_path: Path) -> Harness:
    """The service on each store, with a scripted engine."""
    return serve(backend, tmp_path)


def serve(backend: Backend, folder: Path, **environ: str) -> Harness:
    settings, storage, engine = settings_in(folder, **environ), backend.open(clock=utc_now), ScriptedEngine()
    return Harness(create_app(settings, storage=storage, engine=engine), settings, storage, engine)


def caller(service: Harness) -> tuple[str, Owner]:
    """A token and whom it stands for."""
    credentials = service.register()
    return service.token(credentials), Owner(credentials.client_id, credentials.client_id)


def only_record(service: Harness, owner: Owner) -> Record:
    """The one record that is there."""
    (record_id,) = ids(service.storage)
    found = service.storage.read(record_id, owner)
    assert found is not None
    return found


def fetch(service: Harness, token: str, record_id: str) -> TestResponse:
    return service.http.get(f"/refine/{record_id}", headers={"Authorization": f"Bearer {token}"})


def assert_problem(answer: TestResponse, status: int, slug: str) -> None:
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json"), answer.text
    assert answer.get_json()["type"] == f"/problems/{slug}"


@pytest.mark.parametrize("known", [False, True], ids=["unknown client", "known client"])
def test_without_the_storage_no_money_is_spent(tmp_path: Path, known: bool) -> None:
    """When the storage is down the call is refused with 503, and the engine is never asked."""
    folder = tmp_path / "database"
    folder.mkdir()
    backend = at_url("sqlite", sqlite_url(folder / "store.sqlite3"))
    with closing(backend.open()):
        service = serve(backend, tmp_path)
        token, _ = caller(service)
        if known:
            assert service.refine(token, {"prompt": "first"}).status_code == 200
        asked = len(service.engine.tasks)
        service.storage.close()
        folder.rename(tmp_path / "gone")
        answer = service.refine(token, {"prompt": "second"})
    assert_problem(answer, 503, "storage-unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert len(service.engine.tasks) == asked
    assert str(tmp_path) not in answer.text


def test_the_record_is_pending_while_the_model_thinks(service: Harness) -> None:
    """Before the model is asked the record is there with the prompt, as pending; after the answer it is completed."""
    token, owner = caller(service)
    seen: list[Record] = []
    service.engine.before_answer = lambda: seen.append(only_record(service, owner))
    answer = service.refine(token, {"prompt": "do 世界 {{name}}"}, X_Request_Id="request-7").get_json()
    (before,), after = seen, only_record(service, owner)
    assert (before.status, before.prompt, before.response) == (Status.PENDING, "do 世界 {{name}}", None)
    assert (before.request_id, before.source, before.kind) == ("request-7", "server", Kind.REFINE)
    assert before.deadline_at is not None
    assert before.deadline_at - before.timestamp == timedelta(seconds=service.settings.request_deadline_seconds)
    assert (after.status, after.response, after.id) == (Status.SUCCEEDED, answer["refined_prompt"], answer["id"])
    assert after.timestamp == before.timestamp


FAILURES = [
    (UpstreamRejected("Rejected.", upstream_status=401), 502, "upstream-rejected"),
    (UnusableAnswer("Unusable."), 502, "unusable-answer"),
    (ModelRefused("Refused."), 502, "model-refused"),
    (UpstreamUnavailable("Overloaded.", upstream_status=429), 503, "upstream-unavailable"),
    (ModelTimeout("Too late."), 504, "model-timeout"),
]
every_failure = pytest.mark.parametrize(("error", "status", "slug"), FAILURES, ids=[slug for _, _, slug in FAILURES])


@every_failure
def test_a_failure_is_recorded(service: Harness, error: EngineError, status: int, slug: str) -> None:
    """A call whose engine fails is recorded as failed, with the problem that its caller was given."""
    service.engine.outcomes = [error]
    token, owner = caller(service)
    answer = service.refine(token, {"prompt": "a prompt"})
    assert_problem(answer, status, slug)
    record = only_record(service, owner)
    assert (record.status, record.response) == (Status.FAILED, None)
    problem = answer.get_json()
    assert record.error == {name: problem[name] for name in ("type", "title", "status", "detail")}
    assert record.request_id == problem["request_id"]
    read = fetch(service, token, record.id)
    assert (read.status_code, read.get_json()["status"]) == (200, "failed")
    assert read.get_json()["error"] == record.error


@every_failure
def test_a_failure_is_replayed_or_tried_again(service: Harness, error: EngineError, status: int, slug: str) -> None:
    """After a 502 the same key gets the same failure and no call is made; after a 503 or 504 it is a new call."""
    service.engine.outcomes = [error, "better"]
    token, _ = caller(service)
    first, second = (service.refine(token, {"prompt": "a prompt"}, Idempotency_Key="key-1") for _ in range(2))
    assert_problem(first, status, slug)
    assert "Idempotent-Replayed" not in first.headers
    if status == 502:
        assert_problem(second, status, slug)
        assert second.headers["Idempotent-Replayed"] == "true"
        assert {**second.get_json(), "request_id": ""} == {**first.get_json(), "request_id": ""}
        assert len(service.engine.tasks) == 1
    else:
        assert (second.status_code, second.get_json()["refined_prompt"]) == (200, "better")
        assert "Idempotent-Replayed" not in second.headers
        assert len(service.engine.tasks) == 2


def test_a_success_is_replayed_to_the_byte(service: Harness) -> None:
    """The same key and body get the first answer again, byte for byte, and the model is asked once."""
    service.engine.outcomes = ["Besser 世界 🦊: {{name}} {{name}}\n```py\nx = {1.0}\n```\nhttps://example.com/a?b=c"]
    token, _ = caller(service)
    body = {
        "prompt": "do {{name}} {{name}}\n```py\nx = {1.0}\n```\nhttps://example.com/a?b=c",
        "instructions": "kürzer",
    }
    first = service.refine(token, body, Idempotency_Key="key-1")
    # The order of a JSON object's names says nothing.
    second = service.refine(token, dict(reversed(body.items())), Idempotency_Key="key-1")
    assert (first.status_code, second.status_code) == (200, 200), second.text
    assert second.data == first.data
    assert (first.headers.get("Idempotent-Replayed"), second.headers["Idempotent-Replayed"]) == (None, "true")
    assert fetch(service, token, first.get_json()["id"]).data == first.data
    assert len(service.engine.tasks) == 1


@pytest.mark.parametrize("other", [{"prompt": "another"}, {"prompt": "a prompt", "instructions": "shorter"}], ids=str)
def test_a_key_used_again_for_something_else_is_refused(service: Harness, other: dict[str, str]) -> None:
    """The same key with another body is 422, and the model is not asked for it."""
    token, owner = caller(service)
    assert service.refine(token, {"prompt": "a prompt"}, Idempotency_Key="key-1").status_code == 200
    answer = service.refine(token, other, Idempotency_Key="key-1")
    assert_problem(answer, 422, "idempotency-key-reused")
    assert len(service.engine.tasks) == 1
    assert only_record(service, owner).prompt == "a prompt"


def test_another_caller_s_key_is_another_key(service: Harness) -> None:
    """Two users of one client, and two clients, may use one key without meeting."""
    credentials = service.register()
    tokens = [service.token(credentials, user_id="u1"), service.token(credentials, user_id="u2"), service.token()]
    answers = [service.refine(token, {"prompt": "a prompt"}, Idempotency_Key="key-1") for token in tokens]
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None] * 3
    assert len({answer.get_json()["id"] for answer in answers}) == 3


def test_a_call_in_progress_is_not_made_twice(service: Harness) -> None:
    """While the first call with a key is worked on, the second gets 409 at once; afterwards it gets the answer."""
    token, _ = caller(service)
    thinking, released = Event(), Event()

    def think() -> None:
        thinking.set()
        assert released.wait(BOUND)

    service.engine.before_answer = think

    def call() -> TestResponse:
        return service.refine(token, {"prompt": "a prompt"}, Idempotency_Key="key-1")

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(call)
        try:
            assert thinking.wait(BOUND)
            second = call()
            assert not first.done(), "the second call waited for the first"
        finally:
            released.set()
    assert_problem(second, 409, "request-in-progress")
    assert 1 <= int(second.headers["Retry-After"]) <= service.settings.request_deadline_seconds
    assert first.result().status_code == 200
    third = call()
    assert (third.data, third.headers["Idempotent-Replayed"]) == (first.result().data, "true")
    assert len(service.engine.tasks) == 1


def left_pending(service: Harness, owner: Owner, **changes: Any) -> Record:
    """The record of a call whose process died an hour ago."""
    detail = {"strategy": "general", "instructions": None, "parent_id": None}
    record = pending(utc_now() - timedelta(hours=1), **asdict(owner), detail=detail, **changes)
    assert service.storage.begin(record) == record
    return record


def test_a_call_that_never_ended_reads_as_abandoned(service: Harness) -> None:
    """A record left pending past its deadline is read as abandoned, with a problem for an error."""
    token, owner = caller(service)
    record = left_pending(service, owner)
    answer = fetch(service, token, record.id)
    body = answer.get_json()
    assert (answer.status_code, body["status"], body["error"]) == (200, "abandoned", ABANDONED_ERROR)
    assert (body["original_prompt"], body["refined_prompt"]) == (record.prompt, None)
    assert "Retry-After" not in answer.headers


def test_a_call_that_is_worked_on_reads_as_pending(service: Harness) -> None:
    """A record before its deadline is read as pending, without an error, and with the time to ask again."""
    token, owner = caller(service)
    record = left_pending(service, owner, deadline_at=utc_now() + timedelta(minutes=1))
    answer = fetch(service, token, record.id)
    assert (answer.status_code, answer.get_json()["status"]) == (200, "pending")
    assert "error" not in answer.get_json()
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


def test_a_retry_of_an_abandoned_call_is_a_new_call(service: Harness) -> None:
    """The key of a call that never ended is free after its deadline, and the old record is closed."""
    token, owner = caller(service)
    record = left_pending(service, owner, idempotency_key="key-1")
    answer = service.refine(token, {"prompt": "a prompt"}, Idempotency_Key="key-1")
    assert (answer.status_code, answer.headers.get("Idempotent-Replayed")) == (200, None)
    assert answer.get_json()["id"] != record.id
    assert stored(service.storage, record).status is Status.ABANDONED


def test_someone_else_s_record_is_not_found(service: Harness) -> None:
    """A record of another user, and an id that is none, are both 404."""
    token, _ = caller(service)
    record = left_pending(service, Owner("klm_other", "user-1"))
    for record_id in (record.id, "0" * 36, "nonsense"):
        assert_problem(fetch(service, token, record_id), 404, "not-found")


@pytest.mark.parametrize("days", [None, 1, 400])
def test_a_record_expires_when_its_retention_ends(backend: Backend, tmp_path: Path, days: int | None) -> None:
    """A record expires `LOG_RETENTION_DAYS` after its receipt, and never without that setting."""
    service = serve(backend, tmp_path, **({"LOG_RETENTION_DAYS": str(days)} if days else {}))
    token, owner = caller(service)
    assert service.refine(token, {"prompt": "a prompt"}).status_code == 200
    record = only_record(service, owner)
    assert record.expires_at == (record.timestamp + timedelta(days=days) if days else None)


def test_a_refusal_before_the_record_leaves_none(service: Harness) -> None:
    """What is refused with a 4xx is not recorded."""
    token, _ = caller(service)
    assert_problem(service.refine(token, {"prompt": " "}), 422, "invalid-request")
    assert_problem(service.refine("nonsense", {"prompt": "a prompt"}), 401, "invalid-token")
    assert ids(service.storage) == []
