"""This service beside its peers, in one run: `python -m bench`, or `make bench`.

Writes `bench/results.json`, the tables of docs/performance.md as `bench/tables.md`, and its pictures.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from shutil import which
from typing import Any

import click

from bench import cold, litellm_proxy, load, pages, warm
from bench.cases import BENCH, ROOT, constant_servers, write_events
from bench.folders import INSTALLED, not_here, prepared
from bench.report import tables
from tests.artifacts import PYTHON, build, no_node

RESULTS, TABLES = BENCH / "results.json", BENCH / "tables.md"
PLOTS = ROOT / ".venv" / "charts"
COMPARED = ("fastapi", "flask", "gunicorn", "mangum", "openai", "pydantic", "pyjwt", "pymongo", "uvicorn", "werkzeug")
SECTIONS = ("cold", "warm", "memory", "load", "litellm", "pages")


def machine() -> dict[str, Any]:
    """What the figures were measured on, and with what."""
    processors = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.partition(": ")[2] for line in processors if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{PYTHON} for the cases, {platform.python_version()} for the pages",
        "packages": {each.name: each.version for each in sorted(_compared(), key=lambda each: each.name)},
        "instructions": "valgrind" if which("valgrind") else "not counted: valgrind is not installed",
    }


def _compared() -> list[Distribution]:
    return [each for each in distributions(path=[str(INSTALLED)]) if each.name.lower() in COMPARED]


def run(only: tuple[str, ...], quick: bool) -> dict[str, Any]:
    """Measure the sections that are named."""
    with tempfile.TemporaryDirectory() as name, constant_servers() as servers:
        folder = Path(name)
        folders = prepared(build(folder / "checkout", architecture="x86_64"), folder)
        bare, events = folders.without_bytecode(folder / "bare"), write_events(folder)
        rounds, sizes = (2, (10_000,)) if quick else (7, pages.SIZES)
        sections: Mapping[str, Callable[[], Any]] = {
            "cold": lambda: cold.measure(folders, bare, servers, events, rounds),
            "warm": lambda: warm.measure(folders, servers, events, rounds),
            "memory": lambda: warm.memory(folders, servers, events, 500 if quick else warm.MANY),
            "load": lambda: load.measure(folders, servers, events, 1 if quick else 3),
            "litellm": lambda: litellm_proxy.measure(servers),
            "pages": lambda: [
                asdict(each) for each in pages.measure(sizes, pages.QUICK_ROUNDS if quick else pages.ROUNDS)
            ],
        }
        found: dict[str, Any] = {"machine": machine()}
        for section in only:
            click.echo(f"{section} …", err=True)
            found[section] = sections[section]()
        return found


def _sections(_context: object, _parameter: object, value: str) -> tuple[str, ...]:
    only = tuple(value.split(","))
    if unknown := set(only) - set(SECTIONS):
        raise click.BadParameter(f"no such section: {', '.join(sorted(unknown))}")
    return only


@click.command()
@click.option("--only", callback=_sections, default=",".join(SECTIONS), show_default=True, help="With commas between.")
@click.option("--quick", is_flag=True, help="A few minutes instead of half an hour; prints, and writes nothing.")
def main(only: tuple[str, ...], quick: bool) -> None:
    """Measure this service and its peers, and write down what they cost."""
    if missing := no_node() or not_here():
        raise click.ClickException(missing)
    found = run(only, quick)
    if not quick:
        known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        found = {**known, **found}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        TABLES.write_text(tables(found), "utf-8")
        if PLOTS.exists():
            environ = {**os.environ, "PYTHONPATH": f"{PLOTS}{os.pathsep}{ROOT}"}
            command = [sys.executable, "-m", "bench.plots", str(RESULTS), str(ROOT / "docs" / "images")]
            subprocess.run(command, cwd=ROOT, env=environ, check=True)
    click.echo(tables(found))


if __name__ == "__main__":
    main()
