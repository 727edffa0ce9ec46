"""The databases of a soak run, each with its way to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

from tests.proxy import FaultProxy
from tests.soak.faults import HOLD_SECONDS, STORAGE_FRACTION, locker
from tests.stores import NxServer, PgServer, sqlite_url


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database: `url` is what the service is told, `direct` leads past the faults.

    `fail` has it fail from now on, and `heal` never again; `faults` tells how often it did.
    """

    url: str
    direct: str
    fail: Callable[[], None]
    heal: Callable[[], None]
    faults: Callable[[], dict[str, int]]


@contextmanager
def _behind_a_proxy(direct: str, seed: int) -> Iterator[Database]:
    address = urlsplit(direct)
    with FaultProxy("127.0.0.1", address.port or 0) as proxy:
        # The user and password of the address, if any, stay as they are.
        before, _, _ = address.netloc.rpartition(":")
        yield Database(
            address._replace(netloc=f"{before}:{proxy.port}").geturl(),
            direct,
            lambda: proxy.faulty(STORAGE_FRACTION, Random(seed)),  # noqa: S311 - chance, no secret
            proxy.heal,
            lambda: {"storage requests": proxy.requests, "of them failed": proxy.faults},
        )


@contextmanager
def _mongodb(folder: Path, seed: int) -> Iterator[Database]:
    with NxServer(folder / "nx") as server, _behind_a_proxy(server.url("klamala"), seed) as database:
        yield database


@contextmanager
def _postgresql(_folder: Path, seed: int) -> Iterator[Database]:
    with PgServer() as server, _behind_a_proxy(server.url(server.create()), seed) as database:
        yield database


@contextmanager
def _sqlite(folder: Path, _seed: int) -> Iterator[Database]:
    path = folder / "soak.sqlite3"
    holds = locker(path)
    yield Database(
        sqlite_url(path),
        sqlite_url(path),
        holds.start,
        holds.stop,
        lambda: {f"times that the file was locked for {HOLD_SECONDS:.0f} s": holds.times},
    )


@dataclass(frozen=True, slots=True)
class DatabaseKind:
    """How to open an empty database in a folder with a seed, and how many requests go to one database at most."""

    open: Callable[[Path, int], AbstractContextManager[Database]]
    requests: int = 1_000_000


DATABASES: Final = {
    # nx-27017 0.8.1 looks at each document for one that it is asked for: 0.6 s a key among 6,000.
    "mongodb": DatabaseKind(_mongodb, 2_000),
    "postgresql": DatabaseKind(_postgresql),
    "sqlite": DatabaseKind(_sqlite),
}
