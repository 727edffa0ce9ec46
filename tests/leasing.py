"""A process that leases jobs as long as there are any, several at once, and says which it got."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from records import Record
from storage import Storage, open_storage
from tests.stores import race

FAR = datetime(2100, 1, 1, tzinfo=UTC)


def all_of(store: Storage, until: datetime) -> list[Record]:
    """Every job that one worker leases until then, one after the other, as long as any is free."""
    jobs = []
    while job := store.lease(until):
        jobs.append(job)
    return jobs


def main() -> None:
    """`python -m tests.leasing URL WORKERS`: begins when its input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.leasing", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("workers", type=int)
    arguments = parser.parse_args()
    store = open_storage(arguments.url)
    store.prepare()
    print("ready", flush=True)  # noqa: T201 - what its parent reads
    sys.stdin.read()
    for jobs in race([lambda: all_of(store, FAR)] * arguments.workers):
        for job in jobs:
            print(job.id, job.attempt)  # noqa: T201 - as above
    store.close()


if __name__ == "__main__":
    main()
