"""What a page of the audit log costs with a million records: about what it costs with ten thousand."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.pages import in_turn, ratio
from bench.services import PAGE, Database, Service, postgresql_on, service_on, sqlite_in
from stores.sql import SqlStorage
from tests.stores import NO_POSTGRESQL, POSTGRESQL_BINARIES, PgServer
from tests.test_store_plans import explained, removed, statements_of, steps

FEW, MANY = 10_000, 1_000_000
# Short texts: a million rows are made in half a minute.
CHARS = 10
ROUNDS = 60
# Of the medians of the same requests in the same run.
BUDGET = 1.5
# Of what no other process has a part in. An index of more rows may be a level deeper.
COUNTED = 1.1
# What the large owner reads lies together. Of the thousand records of another, each comes to lie in a block of its own.
TOGETHER = ("first page", "a page deep inside")
SCATTERED = ("first page of 1,000 records", "usage, 1,000 records")
PAGES = (*TOGETHER, SCATTERED[0])
# What of an index is read beside: its levels, and the few blocks that hold three hundred entries.
INDEX_BLOCKS = 16

Services = Mapping[int, Service]
pages = pytest.mark.parametrize("page", PAGES)
requests = pytest.mark.parametrize("name", [*TOGETHER, *SCATTERED])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not one of pytest's, which stay for a while: this gets large."""
    with tempfile.TemporaryDirectory(prefix="budget-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def in_sqlite(folder: Path) -> Iterator[Services]:
    with ExitStack() as stack:
        yield _services(stack, sqlite_in(folder), folder)


@pytest.fixture(scope="module")
def in_postgresql(folder: Path) -> Iterator[Services]:
    if not POSTGRESQL_BINARIES:
        pytest.skip(NO_POSTGRESQL)
    # A server whose folder goes with it.
    with PgServer() as server, ExitStack() as stack:
        yield _services(stack, postgresql_on(server), folder)


def _services(stack: ExitStack, database: Database, folder: Path) -> Services:
    return {size: stack.enter_context(service_on(database, size, folder, CHARS)) for size in (FEW, MANY)}


def assert_within_the_budget(services: Services, page: str) -> None:
    taken = in_turn(services, page, ROUNDS)
    found = ratio([each.wall for each in taken[MANY]], [each.wall for each in taken[FEW]])
    assert found.of_medians <= BUDGET, found


def statement_of(service: Service, name: str) -> tuple[str, Any]:
    """What the request asks of the records."""
    assert isinstance(service.storage, SqlStorage)
    asked = statements_of(service.storage, partial(service.ask, name))
    (found,) = [each for each in asked if "FROM requests" in each[0]]
    return found


@pages
def test_sqlite_gives_a_page_of_a_million_records_in_the_same_time(in_sqlite: Services, page: str) -> None:
    """At most half as much again as with ten thousand, in the same run."""
    assert_within_the_budget(in_sqlite, page)


@pages
def test_postgresql_gives_a_page_of_a_million_records_in_the_same_time(in_postgresql: Services, page: str) -> None:
    """At most half as much again as with ten thousand, in the same run."""
    assert_within_the_budget(in_postgresql, page)


@requests
def test_sqlite_takes_the_same_steps(in_sqlite: Services, name: str) -> None:
    """The request's statement takes SQLite's virtual machine as many steps, and gives as many rows."""
    counted = {}
    for size, service in in_sqlite.items():
        assert isinstance(service.storage, SqlStorage)
        with closing(sqlite3.connect(str(service.storage._database.engine.url.database))) as connection:
            counted[size] = steps(connection, *statement_of(service, name))
    assert counted[MANY][0] <= counted[FEW][0] * COUNTED, counted
    assert counted[MANY][1] == counted[FEW][1] > PAGE


@requests
def test_postgresql_reads_as_many_blocks(in_postgresql: Services, name: str) -> None:
    """The request's statement reads as many rows; of as many blocks, or at most of one for each."""
    counted = {}
    for size, service in in_postgresql.items():
        assert isinstance(service.storage, SqlStorage)
        plan = explained(service.storage, *statement_of(service, name))
        blocks = plan[0]["Shared Hit Blocks"] + plan[0]["Shared Read Blocks"]
        counted[size] = (blocks, plan[-1]["Actual Rows"], removed(plan))
    (few, *rows_of_few), (many, *rows_of_many) = counted[FEW], counted[MANY]
    assert rows_of_many == rows_of_few, counted
    allowed = sum(rows_of_many) + INDEX_BLOCKS if name in SCATTERED else few * COUNTED + 2
    assert many <= allowed, counted
