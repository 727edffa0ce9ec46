"""The outbox: where the completion of a call waits when the audit log does not take it, until it does."""

from __future__ import annotations

import hashlib
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from urllib.parse import parse_qsl

from records import FINISHED_STATES, Completion, Selection, Status
from storage import RecordRejected, Storage, StorageError

FORMAT_VERSION = 1
# libpq takes the server's place from the query too.
_PLACE = ("dbname", "host", "hostaddr", "port")


class OutboxError(StorageError):
    """The outbox does not take an entry, or cannot be read. The message is ours, without what is in the entry."""


class Settled(Enum):
    """What became of an entry that was offered to the store."""

    APPLIED = auto()
    # Its record is complete already, or was erased: there is nothing to do.
    OBSOLETE = auto()
    # The store is there and does not take it, or nobody can read it: offered again, it would end the same way.
    REFUSED = auto()
    # The store cannot be reached.
    WAITING = auto()


@dataclass(slots=True)
class Applied:
    """How many entries completed their record, had nothing left to complete, and were refused."""

    applied: int = 0
    obsolete: int = 0
    refused: int = 0

    def count(self, settled: Settled) -> None:
        self.applied += settled is Settled.APPLIED
        self.obsolete += settled is Settled.OBSOLETE
        self.refused += settled is Settled.REFUSED

    def __bool__(self) -> bool:
        return bool(self.applied or self.obsolete or self.refused)


@dataclass(frozen=True, slots=True)
class Held:
    """How many entries the outbox holds: to be offered, refused, and of another database."""

    waiting: int = 0
    refused: int = 0
    elsewhere: int = 0

    def __bool__(self) -> bool:
        return bool(self.waiting or self.refused or self.elsewhere)


class Outbox(ABC):
    """A durable place for completions, shared by processes and threads; each entry is bound to one database.

    Every method may raise `OutboxError`, and waits no longer than the time inside `within` allows.
    """

    @abstractmethod
    def put(self, record_id: str, completion: Completion) -> None:
        """Keep a completion. When this returns, it is on the disk, or with the queue."""

    @abstractmethod
    def apply(self, storage: Storage, *, again: bool = False) -> Applied:
        """Offer to the store what waits for it, until nothing does or the store cannot be reached.

        `again` offers what was refused once more. Whatever has been settled is in the outbox no longer; an entry that
        two processes offer at once completes its record once, and is obsolete the other time.
        """

    @abstractmethod
    def held(self) -> Held:
        """What is in the outbox now."""

    def is_at_hand(self) -> bool:
        """Whether something waits that this process can apply at once. Costs no more than a look at a file."""
        return False


def settle(storage: Storage, record_id: str, body: bytes) -> Settled:
    """Offer one entry to the store. It is obsolete only if the record says so: what was paid for is not dropped."""
    try:
        done = storage.finish(record_id, decode(body))
        found = None if done else storage.read(record_id, Selection())
    except (RecordRejected, OutboxError):
        return Settled.REFUSED
    except StorageError:
        return Settled.WAITING
    if done:
        return Settled.APPLIED
    return Settled.OBSOLETE if found is None or found.status in FINISHED_STATES else Settled.WAITING


def encode(completion: Completion) -> bytes:
    """A completion as compressed JSON; unpaired surrogates included. Raises: `OutboxError`."""
    values = {item.name: getattr(completion, item.name) for item in fields(completion)}
    document = {"v": FORMAT_VERSION, **values, "completed_at": completion.completed_at.isoformat()}
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise OutboxError("The outbox does not take this completion.") from error
    return zlib.compress(text.encode("utf-8", "surrogatepass"))


def decode(body: bytes) -> Completion:
    """What `encode` was given. Raises: `OutboxError` for anything else, and for the format of another version."""
    try:
        values = json.loads(zlib.decompress(body).decode("utf-8", "surrogatepass"))
        if values.pop("v") != FORMAT_VERSION:
            raise OutboxError("The entry is of another version.")
        moment = datetime.fromisoformat(values.pop("completed_at"))
        return Completion(**{**values, "status": Status(values["status"]), "completed_at": moment})
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OutboxError("The entry cannot be read.") from error


def database_id(url: str) -> str:
    """Which database a URL names: the SHA-256 of its kind, place and name, without credentials and other options."""
    scheme, _, rest = url.partition("://")
    address, _, query = rest.partition("?")
    authority, _, name = address.partition("/")
    if scheme == "sqlite":
        parts = [scheme, str(Path(name).resolve())]
    else:
        hosts = sorted(authority.rpartition("@")[2].lower().split(","))
        kind = "postgresql" if scheme == "postgres" else scheme
        parts = [kind, *hosts, name, *_place_in(query if kind == "postgresql" else "")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _place_in(query: str) -> Iterator[str]:
    for name, value in sorted(parse_qsl(query)):
        if name in _PLACE:
            yield f"{name}={value}"


def open_outbox(database_url: str, folder: Path, queue_url: str | None) -> Outbox:
    """The queue where one is named, else a file in the folder, made when it is first needed. Nothing is opened yet.

    Raises: `ValueError` where the queue cannot be used.
    """
    if queue_url:
        from .outbox_sqs import SqsOutbox

        return SqsOutbox(queue_url, database_id(database_url))
    from .outbox_sqlite import SqliteOutbox

    return SqliteOutbox(folder / "outbox.sqlite3", database_id(database_url))
