"""`python -m tests.soak`: thousands of requests under faults and kills; ends with 1 unless every zero is a zero."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from tests.soak.checks import broken_rules
from tests.soak.databases import DATABASES
from tests.soak.figures import faults, figures
from tests.soak.run import Plan, run

SHOWN = 5
WIDTH = 56


def main() -> None:
    options = _options()
    plan = Plan(options.requests, options.concurrency, options.seed, options.kill_seconds, options.deadline_seconds)
    folder = Path(tempfile.mkdtemp(prefix="klamala-soak-"))
    click.echo(f"{plan.requests:,} requests at concurrency {plan.concurrency} on {options.database}, seed {plan.seed}")
    with DATABASES[options.database](folder, plan.seed) as database:
        evidence = run(plan, database, folder, click.echo)
    rules = broken_rules(evidence)
    _table("What happened", figures(evidence))
    _table("What must be zero", {rule: len(breaches) for rule, breaches in rules.items()})
    for rule, breaches in rules.items():
        for breach in breaches[:SHOWN]:
            click.echo(f"{rule}: {breach}", err=True)
    if any(rules.values()) or not all(faults(evidence).values()):
        click.echo(f"A zero is not zero, or nothing went wrong. The log and the files are in {folder}", err=True)
        sys.exit(1)
    shutil.rmtree(folder)


def _options() -> argparse.Namespace:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=plan.requests)
    parser.add_argument("--concurrency", type=int, default=plan.concurrency)
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--kill-seconds", type=float, default=plan.kill_seconds, help="between two kills of a worker")
    parser.add_argument("--deadline-seconds", type=int, default=plan.deadline_seconds, help="the service's, a request")
    parser.add_argument("--database", choices=DATABASES, default="mongodb")
    return parser.parse_args()


def _table(title: str, rows: Mapping[str, int | str]) -> None:
    click.echo(f"\n{title}")
    for name, value in rows.items():
        click.echo(f"  {name:<{WIDTH}}{value:>9,}")


if __name__ == "__main__":
    main()
