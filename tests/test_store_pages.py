"""Many records at a time: pages and their filters, sweeping, erasing, usage; one contract for every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, product
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from records import (
    ABANDONED_ERROR,
    OBSERVED,
    REPORTED,
    DailyUsage,
    Kind,
    Owner,
    Position,
    Record,
    Selection,
    Status,
    Swept,
    new_id,
)
from storage import Storage
from tests.stores import OWNER, Backend, bulk, ids, in_order, on, race, stored

# The store is the same for every example: each brings a client of its own, or only reads.
on_one_store = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ALL = 1000


def shown(records: Sequence[Record]) -> list[str]:
    """The ids, in the order in which the records are."""
    return [record.id for record in records]


def expected(records: Sequence[Record], selection: Selection) -> list[Record]:
    """The selected ones, newest first: what every store must find."""
    equal = ("client_id", "user_id", "kind", "status", "model")

    def fits(record: Record) -> bool:
        wanted = {name: getattr(selection, name) for name in equal}
        return (
            all(value is None or value == getattr(record, name) for name, value in wanted.items())
            and selection.parent_id in (None, record.detail.get("parent_id"))
            and (selection.since is None or selection.since <= record.timestamp)
            and (selection.until is None or record.timestamp < selection.until)
        )

    return in_order([record for record in records if fits(record)])


# Pages

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
# In ticks of the store: of milliseconds or, where it does not tell them apart, of seconds.
STEPS = (-90_000, -1, 0, 1, 1000, 3600)
CLIENTS, USERS, MODELS = ("klm_a", "klm_b"), ("user-1", "user-2"), ("gpt-1", "gpt-2", None)
PARENTS = (None, "00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002")


@pytest.fixture
def library(backend: Backend, store: Storage) -> list[Record]:
    """Records of two clients' users of the same names, in every combination of what can be filtered by."""
    records = [
        backend.record(
            client_id=client_id,
            user_id=user_id,
            kind=kind,
            status=status,
            model=MODELS[number % 3],
            detail={"parent_id": PARENTS[number % 7 % 3]} if number % 2 else {},
            timestamp=NOON + backend.tick * STEPS[number % len(STEPS)],
            deadline_at=None,
        )
        for number, (client_id, user_id, kind, status) in enumerate(product(CLIENTS, USERS, Kind, Status))
    ]
    store.prepare()
    bulk(store, records)
    return records


def or_none(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.sampled_from([value for value in values if value is not None])


selections = st.builds(
    Selection,
    client_id=or_none(CLIENTS),
    user_id=or_none(USERS),
    kind=or_none(list(Kind)),
    status=or_none(list(Status)),
    parent_id=or_none(PARENTS),
    model=or_none(MODELS),
)
edges = or_none([step + offset for step in STEPS for offset in (-1, 0, 1)])

SINGLE = [
    {"client_id": "klm_a"},
    {"client_id": "klm_nobody"},
    {"user_id": "user-1"},
    *({"kind": kind} for kind in Kind),
    *({"status": status} for status in Status),
    {"parent_id": PARENTS[1]},
    {"parent_id": "nothing"},
    {"model": "gpt-1"},
    {"model": "GPT-1"},
    {},
]


def test_each_filter_alone(library: list[Record], backend: Backend, store: Storage) -> None:
    """A filter finds what it names and nothing else, of a user's records, of a client's and of all."""
    whose: list[dict[str, Any]] = [{}, {"client_id": "klm_b"}, {"client_id": "klm_b", "user_id": "user-2"}]
    times = [{edge: NOON + backend.tick * step} for edge in ("since", "until") for step in STEPS]
    for own, single in product(whose, [*SINGLE, *times]):
        selection = Selection(**{**own, **single})
        assert list(store.page(selection, ALL)) == expected(library, selection), selection


@on_one_store
@given(selection=selections, since=edges, until=edges, limit=st.integers(1, 50))
def test_filters_together(
    library: list[Record],
    backend: Backend,
    store: Storage,
    selection: Selection,
    since: int | None,
    until: int | None,
    limit: int,
) -> None:
    """Any filters together find what meets all of them: as many as asked for, the newest."""
    times = {"since": since, "until": until}
    edge: dict[str, Any] = {name: None if step is None else NOON + backend.tick * step for name, step in times.items()}
    selection = replace(selection, **edge)
    assert list(store.page(selection, limit)) == expected(library, selection)[:limit]


def test_the_first_moment_is_included_and_the_last_is_not(backend: Backend, store: Storage) -> None:
    """To the tick: what happened at `since` is found, what happened at `until` is not."""
    records = [backend.record(timestamp=NOON + step * backend.tick, deadline_at=None) for step in range(-2, 3)]
    bulk_into(store, records)
    page = store.page(Selection(since=NOON - backend.tick, until=NOON + backend.tick), ALL)
    assert shown(page) == shown([records[2], records[1]])
    assert shown(store.page(Selection(since=NOON, until=NOON), ALL)) == []


def bulk_into(store: Storage, records: Sequence[Record]) -> None:
    store.prepare()
    bulk(store, records)


def test_a_record_on_a_page_is_whole(backend: Backend, store: Storage) -> None:
    """What a page shows of a record is what reading it shows."""
    record = backend.record(metadata={"a.b": 1.0, "$x": [1]}, detail={"strategy": "general", "parent_id": PARENTS[1]})
    store.begin(record)
    assert store.page(Selection(client_id=record.client_id), 1) == [record]
    store.finish(record.id, backend.completion())
    (found,) = store.page(Selection(client_id=record.client_id), 1)
    assert replace(found, completed_at=None) == replace(stored(store, record), completed_at=None)


def test_an_empty_store_has_an_empty_page(store: Storage) -> None:
    """Where nothing is, nothing is found, and nothing fails."""
    assert list(store.page(Selection(), 20)) == []
    assert list(store.page(Selection(client_id="klm_a"), 20, Position(NOON, new_id()))) == []
    assert list(store.every(Selection())) == []
    assert list(store.usage(Selection())) == []


def pages(store: Storage, selection: Selection, size: int, between: Callable[[], object]) -> Iterator[Sequence[Record]]:
    after = None
    while page := store.page(selection, size, after):
        yield page
        after = page[-1].position
        between()


# Few moments for many records: most share theirs with others.
moments = st.integers(0, 3)
numbers = count()


@on_one_store
@given(times=st.lists(moments, max_size=30), later=st.lists(moments, max_size=10), size=st.integers(1, 12))
def test_paging_never_skips_or_repeats(
    backend: Backend, store: Storage, times: list[int], later: list[int], size: int
) -> None:
    """Every record that was there when paging began comes once, in order, whatever is begun and completed meanwhile."""
    owner: dict[str, Any] = {"client_id": f"klm_{next(numbers)}", "deadline_at": None}
    records = [backend.record(timestamp=NOON + backend.tick * step, **owner) for step in times]
    newer = (backend.record(timestamp=NOON + backend.tick * step, **owner) for step in later)
    open_ones = iter(records[::2])
    bulk_into(store, records)

    def meanwhile() -> None:
        if record := next(newer, None):
            store.begin(record)
        if record := next(open_ones, None):
            store.finish(record.id, backend.completion())

    found = [
        record for page in pages(store, Selection(client_id=owner["client_id"]), size, meanwhile) for record in page
    ]
    assert shown(found) == shown(in_order(found))
    assert len(set(shown(found))) == len(found)
    there = set(shown(records))
    assert [record_id for record_id in shown(found) if record_id in there] == shown(in_order(records))


def test_a_cursor_needs_no_record_of_its_own(backend: Backend, store: Storage) -> None:
    """Paging goes on behind a record that was erased, and behind a place where none ever was."""
    records = in_order([backend.record(timestamp=NOON, deadline_at=None) for _ in range(6)])
    other = replace(records[2], user_id="user-2")
    bulk_into(store, [*records[:2], other, *records[3:]])
    store.erase(other.owner)
    assert shown(store.page(Selection(), ALL, records[2].position)) == shown(records[3:])
    assert shown(store.page(Selection(), ALL, Position(NOON + backend.tick, ""))) == shown(records[:2] + records[3:])
    assert shown(store.page(Selection(), ALL, Position(NOON, ""))) == []


def test_every_record_however_many(backend: Backend, store: Storage) -> None:
    """All selected ones come, newest first, over more than two batches, and none of another client's."""
    records = [backend.record(timestamp=NOON + backend.tick * (n % 7), deadline_at=None) for n in range(450)]
    others = [backend.record(client_id="klm_other", timestamp=NOON, deadline_at=None) for _ in range(50)]
    bulk_into(store, records + others)
    assert shown(list(store.every(Selection(client_id=OWNER.client_id)))) == shown(in_order(records))
    assert shown(list(store.every(Selection()))) == shown(in_order(records + others))


def test_nobody_sees_another_client_s(library: list[Record], store: Storage) -> None:
    """A client-wide selection and a user's find nothing of a client whose users have the same names."""
    for client_id in CLIENTS:
        found = store.page(Selection(client_id=client_id), ALL)
        assert {record.client_id for record in found} == {client_id}
        assert {record.user_id for record in found} == set(USERS)
        found = store.page(Selection(client_id=client_id, user_id="user-1"), ALL)
        assert {record.owner for record in found} == {Owner(client_id, "user-1")}


def test_a_record_is_read_by_a_selection(backend: Backend, store: Storage) -> None:
    """Without a user any of the client's records is read; with one, that user's; without a client, any."""
    record = backend.record()
    store.begin(record)
    client_id, user_id = record.client_id, record.user_id
    finds = [
        Selection(client_id=client_id),
        Selection(client_id=client_id, user_id=user_id),
        Selection(),
        Selection(client_id=client_id, kind=Kind.CLIENT, status=Status.FAILED, until=NOON),
    ]
    assert [store.read(record.id, selection) for selection in finds] == [record] * len(finds)
    misses = [Selection(client_id="klm_other"), Selection(client_id=client_id, user_id="user-2")]
    assert [store.read(record.id, selection) for selection in misses] == [None] * len(misses)
    backend.clock.advance(seconds=60)
    found = store.read(record.id, Selection(client_id=client_id))
    assert found is not None
    assert found.status is Status.ABANDONED


# What is overdue


def overdue_and_not(backend: Backend, store: Storage) -> tuple[Record, Record]:
    """A record at its deadline, which holds a key, and one a millisecond before its own."""
    now = backend.clock()
    late = backend.record(deadline_at=now, idempotency_key="key-1")
    early = backend.record(deadline_at=now + backend.tick, timestamp=now - backend.tick)
    bulk_into(store, [late, early])
    return late, early


@pytest.mark.parametrize(
    ("status", "found"), [(None, ["late", "early"]), (Status.ABANDONED, ["late"]), (Status.PENDING, ["early"])]
)
def test_a_page_shows_what_is_overdue_as_abandoned(
    backend: Backend, store: Storage, status: Status | None, found: list[str]
) -> None:
    """A pending record at its deadline is closed before a page shows it, and found by the status that it has then."""
    late, early = overdue_and_not(backend, store)
    names = {late.id: "late", early.id: "early"}
    page = store.page(Selection(client_id=OWNER.client_id, status=status), ALL)
    assert [names[record.id] for record in page] == found
    states = {"late": Status.ABANDONED, "early": Status.PENDING}
    assert [record.status for record in page] == [states[name] for name in found]
    backend.clock.advance(seconds=-1)
    closed = stored(store, late)
    assert (closed.status, closed.error, closed.idempotency_key) == (Status.ABANDONED, ABANDONED_ERROR, None)
    assert stored(store, early) == early


def test_a_page_is_full_of_the_status_asked_for(backend: Backend, store: Storage) -> None:
    """Overdue records in front of pending ones leave no gaps on a page of pending ones."""
    now = backend.clock()
    overdue = [backend.record(timestamp=now, deadline_at=now) for _ in range(5)]
    waiting = [backend.record(timestamp=now - timedelta(days=1), deadline_at=None) for _ in range(5)]
    bulk_into(store, overdue + waiting)
    assert shown(store.page(Selection(status=Status.PENDING), 3)) == shown(in_order(waiting)[:3])


def test_abandoning_closes_all_that_is_overdue(backend: Backend, store: Storage) -> None:
    """Every client's pending records at their deadline are closed, their keys freed; no other record is touched."""
    late, early = overdue_and_not(backend, store)
    elsewhere = replace(late, id=new_id(), client_id="klm_other")
    others = [
        backend.record(status=status, deadline_at=backend.clock()) for status in Status if status is not Status.PENDING
    ]
    unlimited = backend.record(deadline_at=None)
    bulk(store, [elsewhere, unlimited, *others])
    assert store.abandon_overdue() == 2
    assert store.abandon_overdue() == 0
    for record in (late, elsewhere):
        closed = stored(store, record)
        assert closed == replace(
            record,
            status=Status.ABANDONED,
            error=ABANDONED_ERROR,
            completed_at=backend.clock(),
            idempotency_key=None,
        )
    for record in (early, unlimited, *others):
        assert stored(store, record) == record
    retry = backend.record(idempotency_key="key-1")
    assert store.begin(retry) == retry


# The doubles of MongoDB take seconds for so many.
@on("sqlite", "postgresql", "mongodb")
def test_more_are_abandoned_than_one_statement_takes(backend: Backend, store: Storage) -> None:
    """Of many overdue records none is left."""
    bulk_into(store, [backend.record(deadline_at=backend.clock()) for _ in range(1100)])
    assert store.abandon_overdue() == 1100
    assert store.page(Selection(status=Status.PENDING), 1) == []


# mongomock's update looks first and writes then.
@on("sqlite", "postgresql", "nx", "mongodb")
def test_what_is_completed_meanwhile_is_not_abandoned(backend: Backend, store: Storage) -> None:
    """Completions that race with sweeps all count in the end."""
    records = [backend.record(deadline_at=backend.clock()) for _ in range(60)]
    bulk_into(store, records)
    late = [partial(store.finish, record.id, backend.completion()) for record in records]

    def finish(part: int) -> list[bool]:
        return [call() for call in late[part::4]]

    results = race([store.abandon_overdue, store.abandon_overdue, *(partial(finish, part) for part in range(4))])
    assert [done for part in results[2:] for done in part] == [True] * 60
    assert {stored(store, record).status for record in records} == {Status.SUCCEEDED}


# Retention and erasure

# Ahead of the real time: MongoDB deletes by itself what has expired.
AHEAD = datetime(2040, 1, 1, tzinfo=UTC)


def test_what_has_expired_is_deleted(backend: Backend, store: Storage) -> None:
    """Records at the end of their retention go, whatever their state; one a millisecond short and one without stay."""
    backend.clock.now = AHEAD
    gone = [backend.record(status=status, expires_at=AHEAD) for status in Status]
    gone.append(backend.record(client_id="klm_other", expires_at=AHEAD - timedelta(days=400)))
    kept = [backend.record(expires_at=AHEAD + backend.tick), backend.record(expires_at=None)]
    bulk_into(store, gone + kept)
    assert store.delete_expired() == len(gone)
    assert sorted(ids(store)) == sorted(shown(kept))
    assert store.delete_expired() == 0


def test_a_sweep_does_both(backend: Backend, store: Storage) -> None:
    """A sweep closes what is overdue and deletes what has expired, and says how many those were."""
    backend.clock.now = AHEAD
    late, early = overdue_and_not(backend, store)
    bulk(store, [backend.record(expires_at=AHEAD, deadline_at=None) for _ in range(3)])
    assert store.sweep() == Swept(abandoned=1, expired=3)
    assert store.sweep() == Swept(abandoned=0, expired=0)
    assert sorted(ids(store)) == sorted([late.id, early.id])


@on("sqlite", "postgresql", "nx", "mongodb")
def test_more_is_deleted_than_one_statement_takes(backend: Backend, store: Storage) -> None:
    """Of many expired records, and of an owner's, none is left, and no one else's is gone."""
    backend.clock.now = AHEAD
    expired = [backend.record(expires_at=AHEAD) for _ in range(1100)]
    own = [backend.record(deadline_at=None) for _ in range(600)]
    other = backend.record(user_id="user-2", deadline_at=None)
    bulk_into(store, [*expired, *own, other])
    assert store.delete_expired() == 1100
    assert store.erase(OWNER) == 600
    assert ids(store) == [other.id]


def test_an_owner_is_erased(library: list[Record], store: Storage) -> None:
    """All of the owner's records go, whatever their state; the client's other users' and a namesake's stay."""
    owner = Owner("klm_a", "user-1")
    own = [record for record in library if record.owner == owner]
    assert {record.status for record in own} == set(Status)
    assert store.erase(owner) == len(own)
    assert sorted(ids(store)) == sorted(set(shown(library)) - set(shown(own)))
    assert store.erase(owner) == 0


def test_what_is_erased_stays_so(backend: Backend, store: Storage) -> None:
    """The completion of a call whose record was erased meanwhile is refused, and makes no record."""
    record = backend.record(idempotency_key="key-1")
    store.begin(record)
    assert store.erase(record.owner) == 1
    assert store.finish(record.id, backend.completion()) is False
    assert ids(store) == []
    retry = backend.record(idempotency_key="key-1")
    assert store.begin(retry) == retry


# mongomock's deletion is not made for threads.
@on("sqlite", "postgresql", "nx", "mongodb")
def test_two_who_erase_at_once_leave_nothing(backend: Backend, store: Storage) -> None:
    """When each returns nothing is left, and together they count each record once."""
    bulk_into(store, [backend.record(deadline_at=None) for _ in range(1100)])
    left = race([lambda: (store.erase(OWNER), len(ids(store)))] * 3)
    assert [remaining for _, remaining in left] == [0, 0, 0]
    assert sum(deleted for deleted, _ in left) == 1100


# Usage


def call(backend: Backend, moment: datetime, model: str | None = "gpt-1", **changes: Any) -> Record:
    """A succeeded call of that moment."""
    values = {"source": OBSERVED, "status": Status.SUCCEEDED, "latency_ms": 10, "usage": tokens(0, 0)}
    return backend.record(**{**values, "timestamp": moment, "model": model, "completed_at": moment, **changes})


def tokens(given_in: object, given_out: object) -> dict[str, object]:
    return {"input_tokens": given_in, "output_tokens": given_out}


def day(name: str, model: str = "gpt-1", **changes: Any) -> DailyUsage:
    values = {"calls": 1, "succeeded": 1, "failed": 0, "input_tokens": 0, "output_tokens": 0}
    return DailyUsage(**{**values, "latency_mean": 10.0, "latency_max": 10, **changes}, day=name, model=model)


MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def test_usage_goes_by_utc_days(backend: Backend, store: Storage) -> None:
    """A call counts for the day in UTC on which it began, to the millisecond, days in order."""
    tokyo = datetime.fromisoformat("2026-03-01T08:30:00+09:00")
    moments = [
        MIDNIGHT,
        MIDNIGHT - backend.tick,
        MIDNIGHT + timedelta(days=1) - backend.tick,
        MIDNIGHT + timedelta(days=1),
        tokyo,
    ]
    bulk_into(store, [call(backend, moment) for moment in moments])
    assert list(store.usage(Selection())) == [
        day("2026-02-28", calls=2, succeeded=2),
        day("2026-03-01", calls=2, succeeded=2),
        day("2026-03-02"),
    ]


def test_usage_goes_by_model(backend: Backend, store: Storage) -> None:
    """Each model of a day has a line, by the bytes of its name; one that is not known has an empty name."""
    names = ["gpt-2", "gpt-1", "GPT-3", "gpt-1", "a b|c", "世界", None, "2026-03-01"]
    bulk_into(store, [call(backend, NOON, name) for name in names])
    assert [(line.model, line.calls) for line in store.usage(Selection())] == [
        *(("", 1), ("2026-03-01", 1), ("GPT-3", 1), ("a b|c", 1), ("gpt-1", 2), ("gpt-2", 1), ("世界", 1)),
    ]


def test_usage_counts_what_the_service_did(backend: Backend, store: Storage) -> None:
    """Succeeded and failed calls of the model count; pending and abandoned ones and clients' reports do not."""
    records = [call(backend, NOON, kind=kind, status=status) for kind, status in product(Kind, Status)]
    bulk_into(store, [replace(record, deadline_at=None) for record in records])
    assert list(store.usage(Selection())) == [day("2026-03-01", calls=4, succeeded=2, failed=2)]
    assert [line.calls for line in store.usage(Selection(kind=Kind.REFINE))] == [2]
    assert [(line.calls, line.failed) for line in store.usage(Selection(status=Status.FAILED))] == [(2, 2)]
    assert list(store.usage(Selection(kind=Kind.CLIENT))) == []


@pytest.mark.parametrize(
    ("counted", "total"),
    [
        ([tokens(3, 5), tokens(None, 7), None, {}, tokens(1, None)], (4, 12)),
        ([None], (0, 0)),
        ([tokens(2**52, 2**31), tokens(2**52 - 1, 2**31)], (2**53 - 1, 2**32)),
    ],
)
def test_usage_adds_tokens(backend: Backend, store: Storage, counted: list[Any], total: tuple[int, int]) -> None:
    """Tokens add up exactly, and what nobody counted is 0."""
    bulk_into(store, [call(backend, NOON, usage=usage) for usage in counted])
    (line,) = store.usage(Selection())
    assert (line.input_tokens, line.output_tokens) == total
    assert (type(line.input_tokens), type(line.output_tokens)) == (int, int)


# nx-27017 0.8.1 fails to add them and does not answer.
@on("sqlite", "postgresql", "mongomock", "mongodb")
def test_usage_survives_absurd_counts(backend: Backend, store: Storage) -> None:
    """Counts whose sum exceeds 64 bits are added all the same, if not to the last token."""
    bulk_into(store, [call(backend, NOON, usage=tokens(2**62, 2**63 - 1)) for _ in range(4)])
    (line,) = store.usage(Selection())
    assert line.input_tokens == pytest.approx(2**64)
    assert line.output_tokens == pytest.approx(2**65)


def test_usage_tells_latencies(backend: Backend, store: Storage) -> None:
    """The mean and the greatest of the calls' latencies, in milliseconds."""
    latencies = [1, 2, 2**31 - 1, 0]
    bulk_into(store, [call(backend, NOON, latency_ms=latency) for latency in latencies])
    (line,) = store.usage(Selection())
    assert line.latency_mean == pytest.approx(sum(latencies) / 4)
    assert (line.latency_max, type(line.latency_mean), type(line.latency_max)) == (2**31 - 1, float, int)


def test_usage_of_a_call_without_a_latency(backend: Backend, store: Storage) -> None:
    """A latency that is not known breaks nothing."""
    bulk_into(store, [call(backend, NOON, latency_ms=None)])
    assert list(store.usage(Selection())) == [day("2026-03-01", latency_mean=0.0, latency_max=0)]


def test_usage_is_the_selected_ones_own(backend: Backend, store: Storage) -> None:
    """A user's, a client's, and those of a time: `since` inclusive, `until` exclusive; nobody else's."""
    records = [
        call(backend, NOON + backend.tick * step, client_id=client_id, user_id=user_id)
        for step, client_id, user_id in product((-1, 0, 1), CLIENTS, USERS)
    ]
    bulk_into(store, records)
    for whose, times in product(
        [{}, {"client_id": "klm_a"}, {"client_id": "klm_a", "user_id": "user-1"}, {"model": "gpt-1"}],
        [{}, {"since": NOON}, {"until": NOON}, {"since": NOON, "until": NOON + backend.tick}],
    ):
        selection = Selection(**{**whose, **times})  # type: ignore[arg-type]
        assert [line.calls for line in store.usage(selection)] == [len(expected(records, selection))]
    assert list(store.usage(Selection(client_id="klm_other"))) == []


# A client's report of a call


@pytest.mark.parametrize("happened", [timedelta(days=-3000), timedelta(minutes=5), timedelta(0)], ids=str)
def test_the_key_of_a_report_lasts_from_its_receipt(backend: Backend, store: Storage, happened: timedelta) -> None:
    """A key lasts for 24 hours from the receipt, to the millisecond, whenever the reported call happened."""

    def report() -> Record:
        now = backend.clock()
        return backend.record(
            kind=Kind.CLIENT,
            source=REPORTED,
            status=Status.SUCCEEDED,
            timestamp=now + happened,
            completed_at=now,
            deadline_at=None,
            idempotency_key="key-1",
        )

    first = report()
    assert store.begin(first) == first
    backend.clock.advance(days=1, milliseconds=-1)
    assert store.begin(report()) == first
    backend.clock.advance(milliseconds=1)
    second = report()
    assert store.begin(second) == second
    assert stored(store, first) == replace(first, idempotency_key=None)


def test_a_key_can_be_had_again_whatever_is_known_of_its_holder(backend: Backend, store: Storage) -> None:
    """The write that frees a key goes by the same moment as the look at its holder, for every source."""
    for number, (source, completed) in enumerate(product((OBSERVED, REPORTED), (None, NOON))):
        key = {"idempotency_key": f"key-{number}", "deadline_at": None}
        holder = backend.record(source=source, timestamp=NOON, completed_at=completed, **key)
        store.begin(holder)
        taker = backend.record(**key)
        assert store.begin(taker) == taker


def test_in_order_is_by_time_and_id(backend: Backend) -> None:
    """What this file compares with is newest first, by timestamp and then by id."""
    old, new = backend.record(timestamp=NOON), backend.record(timestamp=NOON + backend.tick)
    small, large = sorted([backend.record(timestamp=NOON), old], key=attrgetter("id"))
    assert in_order([small, new, large]) == [new, large, small]
