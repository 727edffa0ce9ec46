"""The audit log: its record, its states, and the interface that each store implements.

The rules that keep a record honest stand here once; a store adds atomic, conditional writes.
"""

from __future__ import annotations

import secrets
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 1
IDEMPOTENCY_WINDOW = timedelta(hours=24)
_CLAIM_ROUNDS = 8


class Kind(StrEnum):
    REFINE = "refine"
    GENERATE = "generate"
    CLIENT = "client"


class Status(StrEnum):
    """`pending → succeeded | failed | abandoned`, `abandoned → succeeded | failed`, and nothing else."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABANDONED = "abandoned"


OPEN_STATES = (Status.PENDING, Status.ABANDONED)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a record belongs to: the end user (or the client itself) as one client names it."""

    client_id: str
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One audited call. Times are UTC, aware, whole milliseconds; `usage`, `error` and `detail` are JSON objects."""

    id: str
    v: int = SCHEMA_VERSION
    kind: Kind
    source: str
    status: Status
    user_id: str
    client_id: str
    request_id: str
    prompt: str
    response: str | None = None
    metadata: dict[str, Any] | None = None
    detail: dict[str, Any]
    model: str | None
    engine: str | None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    latency_ms: int | None = None
    timestamp: datetime
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    deadline_at: datetime | None = None
    lease_until: datetime | None = None
    attempt: int = 1
    idempotency_key: str | None = None
    body_hash: str | None = None

    @property
    def owner(self) -> Owner:
        return Owner(self.client_id, self.user_id)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, not copied."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """The record that a store kept under these names; others are passed over."""
        known = {item.name: values[item.name] for item in fields(cls)}
        return cls(**{**known, "kind": Kind(known["kind"]), "status": Status(known["status"])})

    def is_overdue(self, now: datetime) -> bool:
        return self.status is Status.PENDING and self.deadline_at is not None and self.deadline_at <= now

    def holds_its_key(self, now: datetime) -> bool:
        """Whether the idempotency key is still this record's: for 24 hours, and no longer than the call is alive."""
        return now - self.timestamp < IDEMPOTENCY_WINDOW and not self.is_overdue(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a finished call adds to its record. `frees_key` lets a retry with the same idempotency key try anew."""

    status: Status
    response: str | None = None
    detail: dict[str, Any]
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    latency_ms: int
    completed_at: datetime
    frees_key: bool = False

    def applied_to(self, record: Record) -> Record:
        """The record as the store holds it once this completion is in."""
        return replace(record, **self.as_update())

    def as_update(self) -> dict[str, Any]:
        """The fields of the record that it sets, by name."""
        update = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "frees_key"}
        return {**update, "idempotency_key": None} if self.frees_key else update


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered client. `key_hash` is the SHA-256 of its API key, in hexadecimal; the key itself is not kept."""

    client_id: str
    name: str
    scopes: tuple[str, ...]
    key_hash: str
    disabled: bool = False
    created_at: datetime


class StorageError(Exception):
    """A store did not do what it was asked. The message is ours: no connection string, no driver's words."""


class StorageUnavailable(StorageError):
    """The store cannot be reached, or does not answer in time. Whether a write took effect is unknown."""


class RecordRejected(StorageError):
    """The store is there and does not take this record."""


class DuplicateKey(StorageError):
    """Another record holds a value that must be unique."""


class Storage(ABC):
    """A place for audit records and clients. Every method may raise `StorageUnavailable`."""

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
        """Write a pending record and claim its idempotency key, in one write.

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
            if holder is not None:
                free = self._abandon if holder.is_overdue(now) else self._expire_key
                free(holder.id, now)
        raise StorageUnavailable("the idempotency key changed hands too often")

    def read(self, record_id: str, owner: Owner) -> Record | None:
        """One of the owner's records; a pending one past its deadline is closed as `abandoned` first."""
        record = self._find(record_id, owner)
        if record is not None and record.is_overdue(self._clock()):
            self._abandon(record_id, self._clock())
            record = self._find(record_id, owner)
        return record

    @abstractmethod
    def finish(self, record_id: str, completion: Completion) -> bool:
        """Complete a record that is pending or abandoned. False when there is none such: nothing is created.

        Raises: `RecordRejected`.
        """

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
    def _abandon(self, record_id: str, now: datetime) -> None:
        """Close a record as `abandoned`, its key freed, if it is still pending and past its deadline at `now`."""

    @abstractmethod
    def _find(self, record_id: str, owner: Owner) -> Record | None: ...

    @abstractmethod
    def add_client(self, client: Client) -> None: ...

    @abstractmethod
    def client(self, client_id: str) -> Client | None: ...

    @abstractmethod
    def clients(self) -> Sequence[Client]:
        """All clients, by id."""

    @abstractmethod
    def set_client_key(self, client_id: str, key_hash: str) -> bool:
        """Replace a client's key. False when there is no such client."""

    @abstractmethod
    def set_client_disabled(self, client_id: str, disabled: bool) -> bool:
        """Disable or enable a client. False when there is no such client."""


def abandonment(now: datetime) -> dict[str, Any]:
    """The fields that closing a record as `abandoned` sets."""
    return {
        "status": Status.ABANDONED,
        "error": ABANDONED_ERROR,
        "completed_at": now,
        "idempotency_key": None,
    }


ABANDONED_ERROR = {
    "type": "/problems/abandoned",
    "title": "Abandoned",
    "status": 504,
    "detail": "The call was not completed before its deadline.",
}


def utc_now() -> datetime:
    """Now, in whole milliseconds: what every store can keep."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def rfc3339(moment: datetime) -> str:
    """A moment in UTC as answers, records and commands show it: with milliseconds, and `Z`."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """A UUIDv7 (RFC 9562 §5.7): time-ordered, its other 74 bits random, so that nobody guesses a neighbour's."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


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
