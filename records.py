"""The audit record: what is kept of a call, the states it goes through, and what may be asked about many of them."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 1
IDEMPOTENCY_WINDOW = timedelta(hours=24)
# A job that takes its worker down each time must not be paid for for ever: then it is left until its deadline.
MAX_JOB_ATTEMPTS = 3


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
FINISHED_STATES = (Status.SUCCEEDED, Status.FAILED)
MODEL_KINDS = (Kind.REFINE, Kind.GENERATE)

# A record's `source`: the service made the call itself, or a client told of one that it made elsewhere.
OBSERVED, REPORTED = "server", "client"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a record belongs to: the end user (or the client itself) as one client names it."""

    client_id: str
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records are meant: each field narrows, `None` does not. `since` is inclusive, `until` exclusive."""

    client_id: str | None = None
    user_id: str | None = None
    kind: Kind | None = None
    status: Status | None = None
    parent_id: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order of records, newest first: by the moment of the call, then by id."""

    timestamp: datetime
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyUsage:
    """What the finished calls to one model came to on one UTC day; tokens that nobody counted are 0.

    `day` is a date of RFC 3339, `latency_mean` and `latency_max` are in milliseconds.
    """

    day: str
    model: str
    calls: int
    succeeded: int
    failed: int
    input_tokens: int
    output_tokens: int
    latency_mean: float
    latency_max: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: records closed as `abandoned`, records deleted at the end of their retention."""

    abandoned: int
    expired: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One audited call. Times are UTC, aware, whole milliseconds; `usage`, `error` and `detail` are JSON objects.

    A job, which is done in the background, has a lease: until `lease_until` it is a worker's, who has leased it as the
    `attempt`-th. It is begun free, with its receipt as `lease_until` and 0 as `attempt`. Other calls have no lease.
    """

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

    @property
    def position(self) -> Position:
        return Position(self.timestamp, self.id)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, not copied."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """The record that a store kept under these names; others are passed over."""
        # A slotted dataclass's fields; `fields` would gather them anew for each record of a page.
        known = {name: values[name] for name in cls.__slots__}
        return cls(**{**known, "kind": Kind(known["kind"]), "status": Status(known["status"])})

    def is_overdue(self, now: datetime) -> bool:
        return self.status is Status.PENDING and self.deadline_at is not None and self.deadline_at <= now

    @property
    def is_job(self) -> bool:
        return self.lease_until is not None

    @property
    def received_at(self) -> datetime:
        """When the service got the call: what a client reports is complete then, and happened at any time before."""
        return self.completed_at if self.source == REPORTED and self.completed_at else self.timestamp

    def holds_its_key(self, now: datetime) -> bool:
        """Whether the idempotency key is still this record's: for 24 hours, and no longer than the call is alive."""
        return now - self.received_at < IDEMPOTENCY_WINDOW and not self.is_overdue(now)


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
    """A registered client. `key_hash` is the SHA-256 of its API key, in hexadecimal; the key itself is not kept.

    The key before it, if there was one, works on until `previous_key_expires_at`.
    """

    client_id: str
    name: str
    scopes: tuple[str, ...]
    key_hash: str
    previous_key_hash: str | None = None
    previous_key_expires_at: datetime | None = None
    disabled: bool = False
    created_at: datetime

    def at(self, now: datetime) -> Client:
        """The client with the keys that it has then."""
        if self.previous_key_expires_at is not None and now < self.previous_key_expires_at:
            return self
        return replace(self, previous_key_hash=None, previous_key_expires_at=None)


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
