"""What the service may cost, beside a tutorial's FastAPI that does less: instructions, which no other load changes.

docs/performance.md has the same figures with those in seconds, and what else `make bench` measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which

import pytest

from bench.cases import Case, Servers, cases, constant_servers, write_events
from bench.counted import instructions
from bench.folders import Folders, not_here, prepared
from tests.artifacts import Build

MISSING = not_here()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
counts = pytest.mark.skipif(which("valgrind") is None, reason="valgrind is not installed")

MIB = 1024
PEER = "fastapi"
SHORT, LONG = "refine-1k", "refine-100k"
CALLS = 10


@dataclass
class Yard:
    """The cases, with and without bytecode, and what has been counted of them."""

    folders: Folders
    bare: Folders
    servers: Servers
    events: Path
    _known: dict[tuple[str, str, int, bool], int] = field(default_factory=dict)

    def case(self, name: str, *, bytecode: bool = True) -> Case:
        folders = self.folders if bytecode else self.bare
        return cases(folders.ours, folders.peers)[name]

    def count(self, name: str, event: str, calls: int = 1, *, bytecode: bool = True) -> int:
        """The instructions from the start of a process until it has answered so often."""
        what = (name, event, calls, bytecode)
        if what not in self._known:
            case = self.case(name, bytecode=bytecode)
            self._known[what] = instructions(case, self.folders.python, self.servers, self.events, event, calls)
        return self._known[what]


@pytest.fixture(scope="module")
def yard(x86: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """The artifact and the peers, in front of servers that answer at once."""
    folder = tmp_path_factory.mktemp("bench")
    folders = prepared(x86, folder)
    with constant_servers() as servers:
        yield Yard(folders, folders.without_bytecode(folder / "bare"), servers, write_events(folder))


@counts
@pytest.mark.parametrize(("event", "most"), [(SHORT, 0.75), ("token", 0.50), ("log-request", 0.50)])
def test_a_cold_start_costs_a_part_of_the_peers(yard: Yard, event: str, most: float) -> None:
    """From the start of the process to the first answer, both with bytecode."""
    assert yard.count("klamala", event) <= most * yard.count(PEER, event)


@counts
def test_a_cold_start_costs_less_still_than_that_of_what_nobody_compiled(yard: Yard) -> None:
    """The peer as it is usually packed has no bytecode, and compiles what it imports at each start."""
    assert yard.count("klamala", SHORT) <= 0.40 * yard.count(PEER, SHORT, bytecode=False)


@counts
def test_a_warm_refinement_costs_less_than_the_peers(yard: Yard) -> None:
    """With limits, two writes, integrity and idempotency, against one write."""
    warm = {name: yard.count(name, SHORT, 1 + CALLS) - yard.count(name, SHORT) for name in ("klamala", PEER)}
    assert warm["klamala"] <= 0.75 * warm[PEER]


@counts
def test_a_long_prompt_costs_little_more(yard: Yard) -> None:
    """What 100 KB cost beyond 1 KB, against what they cost a peer that looks at none of it."""
    counted = {name: [yard.count(name, event, 1 + CALLS) for event in (LONG, SHORT)] for name in ("klamala", PEER)}
    extra = {name: long - short for name, (long, short) in counted.items()}
    assert extra["klamala"] <= 4 * extra[PEER]


def test_memory_is_bounded(yard: Yard) -> None:
    """At most 70 MiB after the first answer, and 2 MiB more after 10,000 refinements."""
    with yard.case("klamala").started(yard.folders.python, yard.servers, yard.events) as running:
        first = running.call(SHORT)["rss_kib"]
        last = running.call(SHORT, 10_000)["rss_kib"]
    assert first <= 70 * MIB
    assert last - first <= 2 * MIB
