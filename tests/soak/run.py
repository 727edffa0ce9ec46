"""A soak run from its beginning to what is left of it: real processes, real sockets, real faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from records import Record, Selection, Status, utc_now
from scripts.service import ROOT, Service
from storage import open_storage
from tests.e2e.test_service import Caller as Registered
from tests.e2e.test_service import environment
from tests.soak.databases import Database
from tests.soak.faults import Model, Repeated, killer
from tests.soak.load import JOB_SECONDS, Caller, Case, cases
from tests.upstream import Upstream

DRAIN_SECONDS = 60.0
PROGRESS_SECONDS = 10.0
# nx-27017 compares moments by the second: a deadline has passed a second later, and a second page may begin anywhere
# in the last second of the first, so that all is read in one.
TICK = timedelta(seconds=1)
ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked, and how often a worker is killed. `deadline_seconds` is the service's for a request."""

    requests: int = 10_000
    concurrency: int = 32
    seed: int = 1
    kill_seconds: float = 3.0
    deadline_seconds: int = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run left behind: what the callers were told, what the model was asked, what the log and storage hold.

    `waiting` is what the outbox still held, `swept` how many records the sweep closed, `pending` how many it left.
    """

    plan: Plan
    cases: Sequence[Case]
    model: Model
    records: Sequence[Record]
    kills: int
    storage_faults: Mapping[str, int]
    waiting: Mapping[str, int]
    swept: int
    pending: int
    log: str
    seconds: float


def run(plan: Plan, database: Database, folder: Path, say: Callable[[str], None]) -> Evidence:
    """Do it, and wait until the service has brought everything to its end."""
    model, asked = Model(plan.seed), cases(plan.requests, plan.seed)
    log = folder / "service.log"
    with Upstream() as upstream:
        upstream.script(model.reply())
        environ = _environment(plan, database, upstream, folder)
        with Service(environ, log) as service:
            bearer = Registered(service.url, environ).bearer
            killing = killer(service, plan.kill_seconds, Random(plan.seed))  # noqa: S311 - chance, no secret
            started = time.monotonic()
            database.fail()
            with killing:
                _ask(plan, service.url, bearer, asked, lambda: say(_progress(asked, killing)))
            database.heal()
            seconds = time.monotonic() - started
            last = utc_now()
            say("All are answered. The outbox is drained, and the log swept once the last deadline has passed.")
            waiting = _drained(environ)
            _wait_for_jobs(database.direct)
            _wait_until_past(last + timedelta(seconds=plan.deadline_seconds) + TICK)
            swept = _flask(environ, "logs", "sweep")["abandoned"]
    with closing(open_storage(database.direct)) as storage:
        # Reading closes what is overdue, so that this has to be counted before.
        left = storage.abandon_overdue()
        records = storage.page(Selection(), ALL)
    return Evidence(
        plan=plan,
        cases=asked,
        model=model,
        records=records,
        kills=killing.times,
        storage_faults=database.faults(),
        waiting=waiting,
        swept=swept,
        pending=left + sum(record.status is Status.PENDING for record in records),
        log=log.read_text("utf-8"),
        seconds=seconds,
    )


def _environment(plan: Plan, database: Database, upstream: Upstream, folder: Path) -> dict[str, str]:
    return environment(
        folder,
        DATABASE_URL=database.url,
        OPENAI_BASE_URL=upstream.url,
        OPENAI_MODEL="gpt-test",
        REQUEST_DEADLINE_SECONDS=str(plan.deadline_seconds),
        JOB_DEADLINE_SECONDS=str(JOB_SECONDS),
        RATE_LIMIT="",
        WEB_CONCURRENCY="4",
        # As many as there are callers may be at work while a killed worker is replaced.
        WEB_THREADS=str(max(8, plan.concurrency // 2)),
    )


def _ask(plan: Plan, url: str, bearer: Mapping[str, str], asked: Sequence[Case], progress: Callable[[], None]) -> None:
    # A list's iterator gives each case to one thread.
    rest = iter(asked)
    with ThreadPoolExecutor(plan.concurrency) as pool:
        working = [pool.submit(Caller(url, bearer).work, rest) for _ in range(plan.concurrency)]
        try:
            while wait(working, PROGRESS_SECONDS).not_done:
                progress()
        finally:
            # Whoever interrupts the run does not wait for what has not been asked for.
            deque(rest, maxlen=0)
        for worker in working:
            worker.result()


def _progress(asked: Sequence[Case], killing: Repeated) -> str:
    begun = sum(bool(case.attempts) for case in asked)
    return f"{begun:>7,} of {len(asked):,} asked, {killing.times} workers killed"


def _drained(environ: Mapping[str, str]) -> dict[str, int]:
    """What the outbox still holds when nothing is left in it, or waiting for that is no use any more."""
    ends = time.monotonic() + DRAIN_SECONDS
    while any((left := _left(_flask(environ, "outbox", "drain"))).values()) and time.monotonic() < ends:
        time.sleep(0.5)
    return left


def _wait_for_jobs(url: str) -> None:
    """A job whose 202 broke off is done all the same, though nobody looks after it."""
    ends = time.monotonic() + JOB_SECONDS
    with closing(open_storage(url)) as storage:
        while time.monotonic() < ends:
            pending = storage.page(Selection(status=Status.PENDING), ALL)
            if not any(record.is_job for record in pending):
                return
            time.sleep(0.5)


def _left(drained: Mapping[str, int]) -> dict[str, int]:
    return {name: drained[name] for name in ("waiting", "refused", "elsewhere")}


def _wait_until_past(moment: datetime) -> None:
    while (now := utc_now()) <= moment:
        time.sleep((moment - now).total_seconds() + 0.001)


def _flask(environ: Mapping[str, str], *arguments: str) -> dict[str, int]:
    """What one of the project's commands prints, also where it ends with 1 because something is left to do."""
    command = [sys.executable, "-m", "flask", "--app", "app", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, check=False, stdout=subprocess.PIPE)
    result: dict[str, int] = json.loads(done.stdout)
    return result
