"""The folders that the cases run from: the artifact as it ships, the peers as their tutorials pack them."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.cases import BENCH, ROOT, RUNTIME_FOLDER
from scripts.artifact import compile_all
from tests.artifacts import NO_RUNTIME, RUNTIME, Build

INSTALLED = ROOT / ".venv" / "bench"


def not_here() -> str | None:
    """Why nothing can be compared here, if so."""
    if RUNTIME is None:
        return NO_RUNTIME
    if platform.machine() != "x86_64":
        return "the benchmark runs the artifact for x86_64, which this machine is not"
    return None if INSTALLED.exists() else "the peers are not installed: `make .venv/peers` does it"


@dataclass(frozen=True)
class Folders:
    """Ours and the peers', what Lambda's runtime brings along, and the Python that they are for."""

    ours: Path
    peers: Path
    runtime: Path
    python: str

    def without_bytecode(self, folder: Path) -> Folders:
        """Copies of both in a new folder, as they are when nobody compiles them."""
        bare = Folders(folder / "ours", folder / "peers", self.runtime, self.python)
        for source, copy in ((self.ours, bare.ours), (self.peers, bare.peers)):
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        return bare


def prepared(build: Build, folder: Path) -> Folders:
    """Unpack the artifact, and put the peers beside what they import, all compiled as the artifact is."""
    assert RUNTIME
    ours, peers = build.unpack(folder / "ours"), folder / "peers"
    shutil.copytree(INSTALLED, peers)
    for path in (BENCH / "peers").glob("*.py"):
        shutil.copy(path, peers)
    compile_all(peers, RUNTIME)
    # On Lambda, boto3 is part of the runtime.
    runtime = shutil.copytree(RUNTIME_FOLDER, folder / "runtime")
    compile_all(runtime, RUNTIME)
    return Folders(ours, peers, runtime, RUNTIME)
