"""From the start of a process to its first answer: each case, each route, with and without bytecode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.cases import JWT_SECRET, ROOT, Case, Servers, cases, first_answer_ms
from bench.counted import counted
from bench.figures import in_rounds
from bench.folders import Folders
from settings import Settings

EVENTS = ("refine-1k", "token", "log-request")
SECRET = "klamala/bench"


def measure(folders: Folders, bare: Folders, servers: Servers, events: Path, rounds: int) -> list[dict[str, Any]]:
    """The figures of each route: of each case, its milliseconds, and its instructions where they can be counted."""
    compiled, plain = cases(folders.ours, folders.peers), cases(bare.ours, bare.peers)
    with secrets_manager(servers) as secret:
        secret |= {"PYTHONPATH": f"{folders.ours}{os.pathsep}{folders.runtime}"}
        found = {
            **compiled,
            **{f"{name}, no bytecode": case for name, case in plain.items() if name != "stdlib"},
            "klamala, SECRETS_ID": replace(compiled["klamala"], environ={**compiled["klamala"].environ, **secret}),
        }
        return [one(event, found, folders.python, servers, events, rounds) for event in EVENTS]


def one(event: str, found: dict[str, Case], python: str, servers: Servers, events: Path, rounds: int) -> dict[str, Any]:
    """The figures of one route."""
    starts = {name: partial(first_answer_ms, case, python, servers, events, event) for name, case in found.items()}
    taken = in_rounds(starts, rounds)
    return {"event": event, "ms": taken, "instructions": counted(found, python, servers, events, event)}


@contextmanager
def secrets_manager(servers: Servers) -> Iterator[dict[str, str]]:
    """What a function needs in its environment that has its settings from a secret, on a Secrets Manager of moto's."""
    values = {"DATABASE_URL": servers.database_url, "JWT_SECRETS": f"k1:{JWT_SECRET}", "OPENAI_API_KEY": "sk-bench"}
    assert set(values) <= {name.upper() for name in vars(Settings)["__dataclass_fields__"]}
    command = [sys.executable, "-m", "bench.secrets_manager", SECRET, json.dumps(values)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        # What is set in the environment counts more than a secret; empty is not set.
        yield {"SECRETS_ID": SECRET, "AWS_ENDPOINT_URL": process.stdout.readline().strip(), **dict.fromkeys(values, "")}
        process.stdin.close()
