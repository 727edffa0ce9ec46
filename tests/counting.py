"""A process that takes from a quota as fast as it can, and says how often it was granted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from counters import Quota
from storage import Storage, open_storage
from tests.stores import race

FAR = datetime(2100, 1, 1, tzinfo=UTC)
CLIENT = "c" * 64


def quotas(name: str, limit: int, client_limit: int = 10**6) -> Sequence[Quota]:
    """A caller's quota and its client's, of one client, that last for longer than any test."""
    return Quota(name.rjust(64), limit, lambda now: FAR), Quota(CLIENT, client_limit, lambda now: FAR)


def granted(storage: Storage, wanted: Sequence[Sequence[Quota]]) -> int:
    """How many of these are granted, when all are taken at the same moment."""
    takings = race([lambda each=each: storage.counters.take(each, 1).granted for each in wanted])  # type: ignore[misc]
    return sum(takings)


def main() -> None:
    """`python -m tests.counting URL LIMIT CLIENT_LIMIT CALLER…`: begins when its input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.counting", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("limits", type=int, nargs=2)
    parser.add_argument("callers", nargs="+")
    arguments = parser.parse_args()
    storage = open_storage(arguments.url)
    storage.prepare()
    print("ready", flush=True)  # noqa: T201 - what its parent reads
    sys.stdin.read()
    print(granted(storage, [quotas(caller, *arguments.limits) for caller in arguments.callers]))  # noqa: T201 - as above
    storage.close()


if __name__ == "__main__":
    main()
