"""A process that writes records until it is killed, and says of each write when the store has acknowledged it."""

from __future__ import annotations

import argparse
from threading import Event, Lock, Thread

from records import Record, utc_now
from storage import Storage, StorageError, open_storage
from tests.stores import completion, pending

BEGUN = "begun"
FINISHED = "finished"


def response_to(record_id: str) -> str:
    """What the writer completes this record with."""
    return f"the answer to {record_id} " + "ü" * 500


class _Writer:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = Lock()
        self._refused = Event()

    def run(self) -> None:
        """Write until the store refuses for the first time."""
        while not self._refused.is_set():
            try:
                self._write(pending(utc_now()))
            except StorageError:
                self._refused.set()

    def _write(self, record: Record) -> None:
        self._storage.begin(record)
        self._acknowledge(BEGUN, record)
        self._storage.finish(record.id, completion(utc_now(), response=response_to(record.id)))
        self._acknowledge(FINISHED, record)

    def _acknowledge(self, what: str, record: Record) -> None:
        with self._lock:
            print(what, record.id, flush=True)  # noqa: T201 - what its parent reads


def main() -> None:
    """`python -m tests.e2e.writer URL [--threads N]`."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.writer", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    storage = open_storage(arguments.url)
    writer = _Writer(storage)
    threads = [Thread(target=writer.run) for _ in range(arguments.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    storage.close()


if __name__ == "__main__":
    main()
