"""Counters: what is granted, refused and given back, and by how many at once; one contract for every store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from counters import Quota, Taking
from storage import Storage
from tests.counting import CLIENT, FAR, granted, quotas
from tests.stores import Backend, on, race, race_of_processes

MINUTE = timedelta(minutes=1)
THREADS = 30
PROCESSES = 4


def a_minute(name: str, limit: int) -> Quota:
    """A quota whose counters last for a minute."""
    return Quota(name.rjust(64), limit, lambda now: now + MINUTE)


def amounts(taking: Taking) -> list[int]:
    return [count.mark.amount for count in taking.counts]


def in_store(storage: Storage, *wanted: Quota) -> list[int | None]:
    """The amounts that the store has for these, ended or not."""
    marks = storage.counters._read([quota.key for quota in wanted])
    return [marks[quota.key].amount if quota.key in marks else None for quota in wanted]


def test_a_quota_is_granted_to_its_last(store: Storage) -> None:
    """Each taking counts and says what is left; the one after the last is refused, and not counted."""
    wanted = [a_minute("caller", 3), a_minute("client", 30)]
    for taken in (1, 2, 3):
        taking = store.counters.take(wanted, 1)
        assert (taking.granted, amounts(taking)) == (True, [taken, taken])
        assert [count.remaining for count in taking.counts] == [3 - taken, 30 - taken]
    for _ in range(2):
        taking = store.counters.take(wanted, 1)
        assert (taking.granted, amounts(taking)) == (False, [3, 3])


def test_a_counter_ends_when_it_was_to(backend: Backend, store: Storage) -> None:
    """A counter lasts from its first use on, however often it is used, and not a tick longer than it was to."""
    wanted = [a_minute("caller", 1)]
    assert store.counters.take(wanted, 1).nearest.seconds_left == 60
    backend.clock.advance(seconds=20)
    assert store.counters.take(wanted, 1).nearest.seconds_left == 40
    backend.clock.now += timedelta(seconds=40) - backend.tick
    assert not store.counters.take(wanted, 1).granted
    backend.clock.now += backend.tick
    taking = store.counters.take(wanted, 1)
    assert (taking.granted, amounts(taking), taking.nearest.seconds_left) == (True, [1], 60)


def test_what_one_quota_refuses_counts_on_none(store: Storage) -> None:
    """A caller at its limit does not use up its client's quota, nor the other way round."""
    caller, other, client = a_minute("caller", 1), a_minute("other", 5), a_minute("client", 2)
    assert store.counters.take([caller, client], 1).granted
    refused = store.counters.take([caller, client], 1)
    assert (refused.granted, amounts(refused)) == (False, [1, 1])
    assert store.counters.take([other, client], 1).granted
    refused = store.counters.take([other, client], 1)
    assert (refused.granted, amounts(refused)) == (False, [1, 2])
    assert in_store(store, caller, other, client) == [1, 1, 2]


def test_a_refusal_tells_of_quotas_never_used(store: Storage) -> None:
    """Of a quota without a counter a refusal says that all of it is there."""
    client = a_minute("client", 1)
    assert store.counters.take([a_minute("caller", 5), client], 1).granted
    refused = store.counters.take([a_minute("new", 5), client], 1)
    assert not refused.granted
    assert [(count.remaining, count.seconds_left) for count in refused.counts] == [(5, 60), (0, 60)]
    assert refused.nearest.quota == client


def test_a_large_amount_passes_a_limit_once(store: Storage) -> None:
    """Whoever is below the limit is granted the whole amount, and then nothing more, not even nothing."""
    wanted = [a_minute("caller", 10)]
    assert amounts(store.counters.take(wanted, 9)) == [9]
    taking = store.counters.take(wanted, 5_000_000_000)
    assert (taking.granted, amounts(taking), taking.nearest.remaining) == (True, [5_000_000_009], 0)
    assert not store.counters.take(wanted, 0).granted


def test_nothing_can_be_taken_to_see_what_is_left(store: Storage) -> None:
    """An amount of nothing changes no counter."""
    wanted = [a_minute("caller", 10)]
    assert amounts(store.counters.take(wanted, 0)) == [0]
    store.counters.take(wanted, 4)
    assert amounts(store.counters.take(wanted, 0)) == [4]


def test_a_taking_is_corrected(backend: Backend, store: Storage) -> None:
    """What was taken can be more or less afterwards, on each counter; not on a counter that has begun anew since."""
    wanted = [a_minute("caller", 100), a_minute("client", 1000)]
    backend.clock.advance(seconds=7)
    store.counters.take(wanted[1:], 20)
    backend.clock.advance(seconds=7)
    taking = store.counters.take(wanted, 50)
    store.counters.correct(taking, -30)
    assert in_store(store, *wanted) == [20, 40]
    store.counters.correct(taking, 5)
    assert in_store(store, *wanted) == [25, 45]
    backend.clock.advance(seconds=53)
    assert amounts(store.counters.take(wanted, 1)) == [26, 1]
    store.counters.correct(taking, -25)
    assert in_store(store, *wanted) == [1, 1]


def test_a_sweep_deletes_what_has_ended(backend: Backend, store: Storage) -> None:
    """Counters that have ended go with a sweep, and no other; they are no records of its report."""
    ended, lasting = a_minute("ended", 5), Quota("lasting".rjust(64), 5, lambda now: now + 2 * MINUTE)
    store.counters.take([ended, lasting], 1)
    backend.clock.advance(minutes=1)
    swept = store.sweep()
    assert (swept.abandoned, swept.expired) == (0, 0)
    assert in_store(store, ended, lasting) == [None, 1]


def test_all_stores_of_a_database_count_together(backend: Backend, store: Storage) -> None:
    """What one process has taken is gone for another."""
    wanted = [a_minute("caller", 2)]
    other = backend.open()
    assert [each.counters.take(wanted, 1).granted for each in (store, other, store, other)] == [
        True,
        True,
        False,
        False,
    ]


def test_who_had_to_wait_is_told_no_longer_time(backend: Backend, store: Storage) -> None:
    """A counter that began while somebody waited to be counted ends no later for them than it lasts."""
    wanted = [a_minute("caller", 1)]
    moments = iter([backend.clock() - timedelta(seconds=3), backend.clock()])
    assert store.counters.take(wanted, 1).granted
    late = backend.open(clock=lambda: next(moments)).counters.take(wanted, 1)
    assert (late.granted, late.nearest.seconds_left) == (False, 60)


def test_racing_threads_are_granted_the_limit(store: Storage) -> None:
    """However many take at once, as many are granted as the caller may, and its client is charged for those alone."""
    wanted = [quotas("caller", 10)] * THREADS
    assert granted(store, wanted) == 10
    assert in_store(store, *wanted[0]) == [10, 10]


def test_racing_threads_begin_a_counter_anew_once(backend: Backend, store: Storage) -> None:
    """At the end of a counter too as many are granted as may be, and not one for each who finds it ended."""
    wanted = [a_minute("caller", 10), a_minute("client", 100)]
    for _ in range(3):
        takings = race([lambda: store.counters.take(wanted, 1).granted] * THREADS)
        assert sum(takings) == 10
        assert in_store(store, *wanted) == [10, 10]
        backend.clock.advance(minutes=1)


def test_racing_callers_share_their_clients_limit(store: Storage) -> None:
    """Many callers of one client get no more than it may, and none is charged for what its client was refused."""
    wanted = [quotas(f"caller-{number % 10}", 3, client_limit=12) for number in range(THREADS)]
    assert granted(store, wanted) == 12
    assert in_store(store, wanted[0][1]) == [12]
    assert sum(amount or 0 for amount in in_store(store, *(each[0] for each in wanted[:10]))) == 12


def test_what_is_given_back_is_granted_again(store: Storage) -> None:
    """A reservation that was not needed makes room for as much, at whatever moment it is given back."""
    wanted = [a_minute("caller", 5)]
    takings = [store.counters.take(wanted, 1) for _ in range(5)]
    assert not store.counters.take(wanted, 1).granted
    race([lambda taking=taking: store.counters.correct(taking, -1) for taking in takings])  # type: ignore[misc]
    assert in_store(store, *wanted) == [0]
    assert granted(store, [wanted] * 10) == 5


@pytest.mark.parametrize("names", [("a caller", "its client"), ("its caller", "a client")], ids=str)
def test_takings_and_corrections_do_not_block_each_other(store: Storage, names: tuple[str, str]) -> None:
    """However calls of one caller begin and end around one another, each is granted, and all is given back."""
    wanted = [a_minute(name, 1000) for name in names]

    def call() -> None:
        for _ in range(10):
            taking = store.counters.take(wanted, 3)
            assert taking.granted
            store.counters.correct(taking, -3)

    race([call] * 10)
    assert in_store(store, *wanted) == [0, 0]


@on("sqlite", "postgresql", "nx", "mongodb")
@pytest.mark.parametrize(("limit", "client_limit", "expected"), [(25, 1000, 25), (20, 25, 25)])
def test_racing_processes_are_granted_the_limit(backend: Backend, limit: int, client_limit: int, expected: int) -> None:
    """Processes that know nothing of one another are granted together what a caller, or a client of four, may."""
    callers = ["one"] * PROCESSES if client_limit == 1000 else [f"caller-{number}" for number in range(PROCESSES)]
    counts = _counted(backend, limit, client_limit, [[caller] * 15 for caller in callers])
    assert sum(counts) == expected
    assert in_store(backend.open(clock=lambda: FAR), Quota(CLIENT, 1, _never)) == [expected]


def _never(now: datetime) -> datetime:
    raise AssertionError("nothing begins here")


def _counted(backend: Backend, limit: int, client_limit: int, callers: Sequence[Sequence[str]]) -> list[int]:
    """How often each of so many processes was granted, all begun at the same moment."""
    command = ["tests.counting", backend.url, str(limit), str(client_limit)]
    return [int(told) for told in race_of_processes([[*command, *each] for each in callers])]
