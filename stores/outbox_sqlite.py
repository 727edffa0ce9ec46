"""The outbox in a SQLite file of its own, beside what else the service keeps on this machine's disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock

from records import Completion
from storage import Storage

from .outbox import Applied, Held, Outbox, OutboxError, Settled, encode, settle
from .within import seconds_left, time_is_up

BUSY_SECONDS = 5.0

_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    store TEXT NOT NULL,
    record_id TEXT NOT NULL,
    body BLOB NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    refused INTEGER NOT NULL DEFAULT 0
)
"""
# What failed less often comes first, so that no entry keeps the others waiting; of those any, so that processes which
# are at it together seldom meet.
_NEXT = """
SELECT id, record_id, body FROM entries WHERE id = (
    SELECT id FROM entries WHERE store = ? AND NOT refused ORDER BY tries, random() LIMIT 1
)
"""
_HELD = """
SELECT COALESCE(SUM(store = :store AND NOT refused), 0), COALESCE(SUM(store = :store AND refused), 0),
    COALESCE(SUM(store <> :store), 0) FROM entries
"""
# By the record too: SQLite gives the id of a deleted row to the next one, which another process may have put meanwhile.
_AFTER = {
    Settled.APPLIED: "DELETE FROM entries WHERE id = ? AND record_id = ?",
    Settled.OBSOLETE: "DELETE FROM entries WHERE id = ? AND record_id = ?",
    Settled.REFUSED: "UPDATE entries SET refused = 1 WHERE id = ? AND record_id = ?",
    Settled.WAITING: "UPDATE entries SET tries = tries + 1 WHERE id = ? AND record_id = ?",
}


class SqliteOutbox(Outbox):
    """One table; each write is a statement that is on the disk when it returns. The file is its owner's alone.

    A connection an operation: they are as rare as failures of the storage, and nothing is shared over a fork.
    """

    def __init__(self, path: Path, store: str) -> None:
        """`store` is the `database_id` of the store that entries are put and applied for."""
        self._path = path
        self._store = store
        # SQLite lets who waits longest try least often; among this process's threads each has its turn.
        self._turn = Lock()

    def put(self, record_id: str, completion: Completion) -> None:
        body = encode(completion)
        with self._file(make=True) as file:
            file.execute(
                "INSERT INTO entries (store, record_id, body) VALUES (?, ?, ?)", (self._store, record_id, body)
            )

    def apply(self, storage: Storage, *, again: bool = False) -> Applied:
        tally = Applied()
        if not self._is_there():
            return tally
        if again:
            with self._file() as file:
                file.execute("UPDATE entries SET refused = 0 WHERE refused AND store = ?", (self._store,))
        while not time_is_up() and (entry := self._next()):
            row, record_id, body = entry
            settled = settle(storage, record_id, body)
            with self._file() as file:
                file.execute(_AFTER[settled], (row, record_id))
            tally.count(settled)
            if settled is Settled.WAITING:
                break
        return tally

    def held(self) -> Held:
        if not self._is_there():
            return Held()
        with self._file() as file:
            return Held(*file.execute(_HELD, {"store": self._store}).fetchone())

    def is_at_hand(self) -> bool:
        return bool(self.held().waiting)

    def _is_there(self) -> bool:
        try:
            return self._path.exists()
        except OSError as error:
            raise OutboxError("The outbox cannot be used.") from error

    def _next(self) -> tuple[int, str, bytes] | None:
        with self._file() as file:
            found: tuple[int, str, bytes] | None = file.execute(_NEXT, (self._store,)).fetchone()
            return found

    @contextmanager
    def _file(self, *, make: bool = False) -> Iterator[sqlite3.Connection]:
        if not self._turn.acquire(timeout=seconds_left(BUSY_SECONDS)):
            raise OutboxError("The outbox is busy.")
        try:
            if make:
                self._make()
            # `mode=rw`: a file that somebody deleted meanwhile must not come back with another mode.
            address = f"{self._path.resolve().as_uri()}?mode=rw"
            with closing(
                sqlite3.connect(address, uri=True, timeout=seconds_left(BUSY_SECONDS), isolation_level=None)
            ) as connection:
                # EXTRA is FULL, and the folder's entry of the rollback journal is on the disk too
                # (https://www.sqlite.org/pragma.html#pragma_synchronous).
                connection.execute("PRAGMA synchronous=EXTRA").close()
                # What is deleted is overwritten: the file outlives its entries, and they are somebody's texts.
                connection.execute("PRAGMA secure_delete=ON").close()
                connection.execute(_TABLE).close()
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise OutboxError("The outbox cannot be used.") from error
        finally:
            self._turn.release()

    def _make(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its journal the same mode.
        self._path.touch(mode=0o600)
