"""What one more refinement costs a process that is warm: time, processor, instructions; and what it keeps of memory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.cases import Case, Running, Servers, cases
from bench.counted import counted
from bench.figures import summaries
from bench.folders import Folders
from bench.texts import SIZES

CALLS, COUNTED_CALLS, MANY = 50, 20, 10_000


def measure(folders: Folders, servers: Servers, events: Path, rounds: int) -> list[dict[str, Any]]:
    """The figures of each size of prompt: `p50_ms`, `cpu_ms` and `instructions` of a call of each case."""
    found = cases(folders.ours, folders.peers)
    return [_of(size, found, folders.python, servers, events, rounds) for size in SIZES]


def _of(
    size: str, found: Mapping[str, Case], python: str, servers: Servers, events: Path, rounds: int
) -> dict[str, Any]:
    event = f"refine-{size}"
    p50: dict[str, list[float]] = {name: [] for name in found}
    cpu: dict[str, list[float]] = {name: [] for name in found}
    with ExitStack() as stack:
        running: dict[str, Running] = {
            name: stack.enter_context(case.started(python, servers, events, size)) for name, case in found.items()
        }
        for case in running.values():
            case.call(event, CALLS)
        for _ in range(rounds):
            for name, case in running.items():
                answer = case.call(event, CALLS)
                p50[name].append(median(answer["ms"]))
                cpu[name].append(mean(answer["cpu_ms"]))
    one, more = (counted(found, python, servers, events, event, count) for count in (1, 1 + COUNTED_CALLS))
    a_call = {name: (more[name] - one[name]) // COUNTED_CALLS for name in more}
    return {"size": size, "p50_ms": summaries(p50), "cpu_ms": summaries(cpu), "instructions": a_call}


def memory(folders: Folders, servers: Servers, events: Path, calls: int = MANY) -> dict[str, Any]:
    """Resident memory of each case in KiB: after its first answer, and after so many more."""
    found = {}
    for name, case in cases(folders.ours, folders.peers).items():
        with case.started(folders.python, servers, events) as running:
            first = running.call("refine-1k")["rss_kib"]
            found[name] = {"first": first, "calls": calls, "last": running.call("refine-1k", calls)["rss_kib"]}
    return found
