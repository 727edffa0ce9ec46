"""The soak run in short: a few hundred requests, real faults, real kills. `make soak` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.soak.checks import broken_rules
from tests.soak.databases import DATABASES
from tests.soak.figures import faults
from tests.soak.run import Plan, run

PLAN = Plan(requests=250, concurrency=16, seed=7, kill_seconds=1.5, deadline_seconds=3)


def test_nothing_is_lost_under_faults_and_kills(tmp_path: Path) -> None:
    """The model and the storage fail and workers are killed, and each promise holds for each request."""
    progress: list[str] = []
    with DATABASES["mongodb"].open(tmp_path, PLAN.seed) as database:
        evidence = run(PLAN, database, tmp_path, progress.append)
    assert {rule: breaches for rule, breaches in broken_rules(evidence).items() if breaches} == {}
    assert min(faults(evidence).values()) > 0, faults(evidence)
