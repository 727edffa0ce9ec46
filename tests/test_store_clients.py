"""A client's key and the one before it, on every store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from storage import Storage
from tests.stores import Backend, forget_previous_keys, on, race


def test_the_key_before_works_on_until_its_end(backend: Backend, store: Storage) -> None:
    """Both keys are the client's until the moment comes, for every reader, and from then on the new one alone."""
    other = backend.client("klm_b")
    store.add_client(backend.client("klm_a"))
    store.add_client(other)
    until = backend.clock() + timedelta(hours=2)
    assert store.set_client_key("klm_a", "c" * 64, until) is True
    both = backend.client("klm_a", key_hash="c" * 64, previous_key_hash="a" * 64, previous_key_expires_at=until)
    after = replace(both, previous_key_hash=None, previous_key_expires_at=None)
    backend.clock.advance(hours=2, milliseconds=-1)
    for reader in (store, backend.open()):
        assert reader.client("klm_a") == both
        assert list(reader.clients()) == [both, other]
    backend.clock.advance(milliseconds=1)
    for reader in (store, backend.open()):
        assert reader.client("klm_a") == after
        assert list(reader.clients()) == [after, other]


@pytest.mark.parametrize("hours", [None, 3])
def test_one_key_before_works_on_at_most(backend: Backend, store: Storage, hours: int | None) -> None:
    """Another rotation ends the older key at once, whether it lets the one that it replaces work on or not."""
    store.add_client(backend.client())
    store.set_client_key("klm_client", "b" * 64, backend.clock() + timedelta(hours=720))
    until = None if hours is None else backend.clock() + timedelta(hours=hours)
    assert store.set_client_key("klm_client", "c" * 64, until) is True
    found = store.client("klm_client")
    assert found is not None
    assert (found.key_hash, found.previous_key_expires_at) == ("c" * 64, until)
    assert found.previous_key_hash == (None if hours is None else "b" * 64)


def test_rotations_at_once_leave_the_last_two_keys(backend: Backend, store: Storage) -> None:
    """Whichever of two rotations comes second keeps the first one's key as the key before."""
    store.add_client(backend.client())
    until = backend.clock() + timedelta(hours=1)
    assert race([partial(store.set_client_key, "klm_client", key * 64, until) for key in "bc"]) == [True, True]
    found = store.client("klm_client")
    assert found is not None
    assert {found.key_hash, found.previous_key_hash} == {"b" * 64, "c" * 64}


def test_a_disabled_client_keeps_its_keys(backend: Backend, store: Storage) -> None:
    """Disabling and enabling say nothing of keys."""
    store.add_client(backend.client())
    store.set_client_key("klm_client", "b" * 64, backend.clock() + timedelta(hours=1))
    before = store.client("klm_client")
    assert before is not None
    for disabled in (True, False):
        store.set_client_disabled("klm_client", disabled)
        assert store.client("klm_client") == replace(before, disabled=disabled)


def test_a_client_of_an_earlier_version_is_read(backend: Backend, store: Storage) -> None:
    """One that was stored when a client had one key only comes back, and its key is rotated like any other's."""
    store.initialize()
    store.add_client(backend.client())
    forget_previous_keys(store)
    reopened = backend.open()
    assert list(reopened.clients()) == [backend.client()]
    until = backend.clock() + timedelta(hours=1)
    assert reopened.set_client_key("klm_client", "b" * 64, until) is True
    found = reopened.client("klm_client")
    assert found is not None
    assert (found.previous_key_hash, found.previous_key_expires_at) == ("a" * 64, until)


@on("sqlite", "postgresql")
def test_several_add_missing_columns_at_once(backend: Backend, store: Storage) -> None:
    """Stores that find a table of an earlier version at the same moment all succeed, and nothing in it is lost."""
    store.initialize()
    store.add_client(backend.client())
    forget_previous_keys(store)
    race([backend.open(create=False).initialize for _ in range(12)])
    assert list(store.clients()) == [backend.client()]
