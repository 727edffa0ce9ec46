"""The audit log: the interface that each store implements.

The rules that keep a record honest stand here once; a store adds atomic, conditional writes.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from counters import Counters
from records import Client, Completion, DailyUsage, Owner, Position, Record, Selection, Status, Swept, utc_now

_CLAIM_ROUNDS = 8
BATCH = 200
# A round is lost to another worker, who was faster with a job: so many are never at it at the same moment.
_LEASE_ROUNDS = 100

_log = logging.getLogger("klamala.storage")


class StorageError(Exception):
    """A store did not do what it was asked. The message is ours: no connection string, no driver's words."""


class StorageUnavailable(StorageError):
    """The store cannot be reached, or does not answer in time. Whether a write took effect is unknown."""


class RecordRejected(StorageError):
    """The store is there and does not take this record."""


class DuplicateKey(StorageError):
    """Another record holds a value that must be unique."""


class Storage(ABC):
    """A place for audit records, clients and counters. Every method may raise `StorageUnavailable`."""

    counters: Counters

    def __init__(self, clock: Callable[[], datetime], *, create: bool) -> None:
        self._clock = clock
        self._creates = create

    def prepare(self) -> None:
        """Create what is missing, once, if this store was opened to; one that is down at the start is prepared later.

        Without a lock: creating twice is harmless, and waiting for a thread that waits for a dead server is not.
        """
        if self._creates:
            self.initialize()
            self._creates = False

    @abstractmethod
    def initialize(self) -> None:
        """Create the tables, collections and indexes that are missing."""

    @abstractmethod
    def ping(self) -> None:
        """Return when the store answers, within two seconds."""

    @abstractmethod
    def close(self) -> None:
        """Give back connections."""

    def begin(self, record: Record) -> Record:
        """Write a new record and claim its idempotency key, in one write.

        Returns the record itself, or the one that holds the key already. A holder past its 24 hours or its deadline
        loses the key first.

        Raises: `RecordRejected`.
        """
        for _ in range(_CLAIM_ROUNDS):
            with suppress(DuplicateKey):
                self._insert(record)
                return record
            holder, now = self._holder_of_key(record), self._clock()
            if holder is not None and holder.holds_its_key(now):
                return holder
            if holder is not None and holder.is_overdue(now):
                _report(self._abandon(holder.id, now))
            elif holder is not None:
                self._expire_key(holder.id, now)
        raise StorageUnavailable("the idempotency key changed hands too often")

    def holder(self, record: Record) -> Record | None:
        """The record that holds this one's idempotency key now, if it has one and another holds it."""
        held = self._holder_of_key(record) if record.idempotency_key is not None else None
        return held if held is not None and held.holds_its_key(self._clock()) else None

    def read(self, record_id: str, owner: Owner | Selection) -> Record | None:
        """One of the owner's records; a pending one past its deadline is closed as `abandoned` first.

        Of a selection only client and user count: without a user, any of the client's records is found.
        """
        record = self._find(record_id, owner)
        if record is not None and record.is_overdue(self._clock()):
            _report(self._abandon(record_id, self._clock()))
            record = self._find(record_id, owner)
        return record

    def page(self, selection: Selection, limit: int, after: Position | None = None) -> Sequence[Record]:
        """At most `limit` of the selected records, newest first, from behind `after` on.

        Pending ones past their deadline are closed as `abandoned` first.
        """
        if selection.status is Status.ABANDONED:
            _report(self.abandon_overdue())
        records = self._page(selection, limit, after)
        if any(record.is_overdue(self._clock()) for record in records):
            _report(self.abandon_overdue())
            records = self._page(selection, limit, after)
        return records

    def every(self, selection: Selection) -> Iterator[Record]:
        """All selected records, newest first, however many: only a batch of them is in memory at a time."""
        after = None
        while batch := self.page(selection, BATCH, after):
            yield from batch
            after = batch[-1].position

    def sweep(self) -> Swept:
        """Close every call that is past its deadline, and delete every record at the end of its retention.

        Counters that have ended go too, and are not counted.
        """
        self.counters.delete_expired()
        return Swept(abandoned=self.abandon_overdue(), expired=self.delete_expired())

    @abstractmethod
    def abandon_overdue(self) -> int:
        """Close every pending record past its deadline as `abandoned`, its key freed. Returns how many there were."""

    @abstractmethod
    def delete_expired(self) -> int:
        """Delete every record whose `expires_at` has come. Returns how many there were."""

    @abstractmethod
    def erase(self, owner: Owner) -> int:
        """Delete every record of an owner, whatever its state. Returns how many there were."""

    @abstractmethod
    def usage(self, selection: Selection) -> Sequence[DailyUsage]:
        """The selected calls that the service made and that succeeded or failed, by day, then model."""

    @abstractmethod
    def finish(self, record_id: str, completion: Completion) -> bool:
        """Complete a record that is pending or abandoned. False when there is none such: nothing is created.

        Raises: `RecordRejected`.
        """

    def lease(self, until: datetime, record_id: str | None = None) -> Record | None:
        """Lease a job until then: the one with this id, or the one that is free for the longest. None if none is free.

        Free is a pending job before its deadline, never leased or with a lease that has ended, and leased less than
        `MAX_JOB_ATTEMPTS` times; whose it is does not matter. A lease whose outcome is unknown may cost an attempt.
        """
        now = self._clock()
        for _ in range(_LEASE_ROUNDS):
            job = self._free_job(now, record_id)
            if job is None:
                break
            if self._lease(job, until, now):
                return replace(job, lease_until=until, attempt=job.attempt + 1)
        return None

    @abstractmethod
    def lost_jobs(self) -> Sequence[str]:
        """The ids of free jobs that somebody had leased and did not keep, those longest free first; a batch of them."""

    @abstractmethod
    def renew(self, job: Record, until: datetime) -> bool:
        """Keep a job, as `lease` returned it, until then. False when it is not pending or somebody leased it since."""

    @abstractmethod
    def _free_job(self, now: datetime, record_id: str | None) -> Record | None:
        """The job with this id, if it is free at `now`, or the one that is free for the longest, of several by id."""

    @abstractmethod
    def _lease(self, job: Record, until: datetime, now: datetime) -> bool:
        """Set the lease and count an attempt, if the job is pending, leased as often as here, and free at `now`."""

    @abstractmethod
    def _insert(self, record: Record) -> None:
        """Insert a record, or leave it if it is there. Raises: `DuplicateKey` when another one holds its key."""

    @abstractmethod
    def _holder_of_key(self, record: Record) -> Record | None:
        """The record with the same client, user, kind and idempotency key."""

    @abstractmethod
    def _expire_key(self, record_id: str, now: datetime) -> None:
        """Take the idempotency key from a record, if it is 24 hours old at `now`."""

    @abstractmethod
    def _abandon(self, record_id: str, now: datetime) -> int:
        """As `abandon_overdue`, for one record, if it is past its deadline at `now`."""

    @abstractmethod
    def _find(self, record_id: str, owner: Owner | Selection) -> Record | None: ...

    @abstractmethod
    def _page(self, selection: Selection, limit: int, after: Position | None) -> Sequence[Record]: ...

    @abstractmethod
    def add_client(self, client: Client) -> None: ...

    def client(self, client_id: str) -> Client | None:
        """The client with this id, if there is one, with the keys that it has now."""
        client = self._client(client_id)
        return client and client.at(self._clock())

    def clients(self) -> Sequence[Client]:
        """All clients, by id, with the keys that they have now."""
        return [client.at(self._clock()) for client in self._all_clients()]

    @abstractmethod
    def _client(self, client_id: str) -> Client | None: ...

    @abstractmethod
    def _all_clients(self) -> Sequence[Client]: ...

    @abstractmethod
    def set_client_key(self, client_id: str, key_hash: str, previous_until: datetime | None = None) -> bool:
        """Replace a client's key, which works on until then or stops; any before it stops. False for no such client."""

    @abstractmethod
    def set_client_disabled(self, client_id: str, disabled: bool) -> bool:
        """Disable or enable a client. False when there is no such client."""


def _report(abandoned: int) -> None:
    """Say in the log what was closed because somebody met it. Of a sweep its caller says it."""
    if abandoned:
        _log.warning("abandoned", extra={"fields": {"abandoned": abandoned}})


def open_storage(url: str, *, create: bool = True, clock: Callable[[], datetime] = utc_now) -> Storage:
    """The store that a database URL names. Nothing is connected yet.

    With `create`, what is missing is created before the first use; without, only `initialize` creates it.

    Raises: `ValueError` for an address that the driver cannot read.
    """
    if url.startswith("mongodb"):
        from stores.mongo import open_mongo

        return open_mongo(url, create=create, clock=clock)
    from stores.sql import open_sql

    return open_sql(url, create=create, clock=clock)
