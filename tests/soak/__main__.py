"""`python -m tests.soak`: thousands of requests under faults and kills; ends with 1 unless every zero is a zero."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from tests.soak.checks import broken_rules
from tests.soak.databases import DATABASES, DatabaseKind
from tests.soak.figures import faults, figures, total
from tests.soak.run import Evidence, Plan, run

SHOWN = 5
WIDTH = 56


def main() -> None:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="klamala-soak-"))
    click.echo(
        f"{options.requests:,} requests at concurrency {options.concurrency} on {options.database}, seed {options.seed}"
    )
    rounds = list(_rounds(options, folder))
    found = [broken_rules(one) for one in rounds]
    rules = {rule: [breach for one in found for breach in one[rule]] for rule in found[0]}
    _table("What happened", total([figures(one) for one in rounds]))
    _table("What must be zero", {rule: len(breaches) for rule, breaches in rules.items()})
    for rule, breaches in rules.items():
        for breach in breaches[:SHOWN]:
            click.echo(f"{rule}: {breach}", err=True)
    if any(rules.values()) or not all(total([faults(one) for one in rounds]).values()):
        click.echo(f"A zero is not zero, or nothing went wrong. The log and the files are in {folder}", err=True)
        sys.exit(1)
    shutil.rmtree(folder)


def _rounds(options: argparse.Namespace, folder: Path) -> Iterator[Evidence]:
    """One run after the other, each on an empty database, until all requests are made."""
    kind: DatabaseKind = DATABASES[options.database]
    for number, begun in enumerate(range(0, options.requests, kind.requests)):
        plan = Plan(
            requests=min(kind.requests, options.requests - begun),
            concurrency=options.concurrency,
            seed=options.seed + number,
            kill_seconds=options.kill_seconds,
            deadline_seconds=options.deadline_seconds,
        )
        place = folder / str(number)
        place.mkdir()
        with kind.open(place, plan.seed) as database:
            yield run(plan, database, place, click.echo)


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


def _table(title: str, rows: Mapping[str, int]) -> None:
    click.echo(f"\n{title}")
    for name, value in rows.items():
        click.echo(f"  {name:<{WIDTH}}{value:>9,}")


if __name__ == "__main__":
    main()
