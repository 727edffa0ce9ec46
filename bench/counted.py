"""Instructions instead of seconds: what a case executes, which no other load on the machine changes.

Counted by valgrind's cachegrind (https://valgrind.org/docs/manual/cg-manual.html), of all of a process's threads, and
of what runs outside of the kernel only.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which

from bench.cases import Case, Servers, size_of

# Nothing of the caches is simulated: it would take twice as long.
_VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
_TOTAL = re.compile(r"I\s+refs:\s+([\d,]+)")


def instructions(case: Case, python: str, servers: Servers, events: Path, event: str, count: int = 1) -> int:
    """The instructions of a process from its start until it has answered an event so often.

    Raises: `RuntimeError` when it does not end well.
    """
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as log:
        done = subprocess.run(
            [*_VALGRIND, f"--log-file={log.name}", *case.command(python, events)],
            env=case.environment(servers, size_of(event)),
            cwd=case.folder,
            input=f"{event} {count}\n",
            capture_output=True,
            text=True,
            check=False,
        )
        counted = _TOTAL.search(log.read())
    if done.returncode or counted is None:
        raise RuntimeError(f"{case.name}: {done.stdout}{done.stderr}")
    return int(counted.group(1).replace(",", ""))


def counted(
    found: Mapping[str, Case], python: str, servers: Servers, events: Path, event: str, count: int = 1
) -> dict[str, int]:
    """`instructions` of each case, a few at once; none where valgrind is not installed."""
    if not which("valgrind"):
        return {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = pool.map(lambda case: instructions(case, python, servers, events, event, count), found.values())
        return dict(zip(found, counts, strict=True))
