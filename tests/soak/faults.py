"""What goes wrong in a soak run: the model, a locked file, and workers that are killed."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from threading import Event, Lock, Thread
from typing import Final, Self

from scripts.service import Service
from tests import upstream as fake
from tests.upstream import Received, Reply

UPSTREAM_FRACTION: Final = 0.05
STORAGE_FRACTION: Final = 0.02
# Longer than the store waits for a lock, so that who comes first is refused.
HOLD_SECONDS: Final = 6.0
BETWEEN_HOLDS_SECONDS: Final = 15.0
# Every draft and report holds one.
MARKER: Final = re.compile(r"soak-\d{6}")
FAULTS: Final[Mapping[str, Reply]] = {
    "500": fake.status(500),
    "429": fake.status(429, headers={"Retry-After": "1"}),
    "reset": fake.reset(),
    "truncated": fake.truncated(),
    "garbage": fake.malformed(),
    "silence": fake.silent(),
}


def better(draft: str) -> str:
    """What the model makes of a draft."""
    return f"better: {draft}"


def text_for(prompt: str) -> str:
    """What the model answers to a prompt."""
    return f"text for: {prompt}"


class Model:
    """The model's part, and how often it was asked, and answered, for each marker.

    One draft in twenty meets a fault, the first time that it comes or the first three times, which are all the
    attempts of one call. Which draft and which fault follows from the seed alone, not from who comes first.
    """

    def __init__(self, seed: int) -> None:
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._seed = seed
        self._lock = Lock()

    def reply(self) -> Reply:
        return fake.mixed(self._choose)

    def is_silent(self, marker: str) -> bool:
        """Whether it gives no answer to this draft, the first time or the first three."""
        return self._plan(marker)[0] == "silence"

    def _choose(self, received: Received) -> Reply:
        marker = MARKER.findall(received.raw.decode())[-1]
        with self._lock:
            self.asked[marker] += 1
            fault = self._fault(marker)
            if fault is None:
                self.answered[marker] += 1
                return _answer(received)
            self.faults[fault] += 1
        return FAULTS[fault]

    def _fault(self, marker: str) -> str | None:
        kind, times = self._plan(marker)
        return kind if self.asked[marker] <= times else None

    def _plan(self, marker: str) -> tuple[str | None, int]:
        chance = Random(f"{self._seed} {marker}")  # noqa: S311 - chance, no secret
        strikes = chance.random() < UPSTREAM_FRACTION
        kind, times = chance.choice(sorted(FAULTS)), chance.choice((1, 3))
        return (kind, times) if strikes else (None, 0)


def _answer(received: Received) -> Reply:
    messages = received.body["messages"]
    return fake.echo(better) if len(messages) > 1 else fake.completion(text_for(messages[0]["content"]))


class Repeated:
    """Does something again and again, with a pause before each time, from `start` to `stop`; counts how often."""

    def __init__(self, seconds: float, act: Callable[[Event], None]) -> None:
        """`act` is given what is set when it has to come to its end."""
        self.times = 0
        self._seconds = seconds
        self._act = act
        self._stopped = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._act(self._stopped)
            self.times += 1


def killer(service: Service, seconds: float, chance: Random) -> Repeated:
    """Kills one worker of the service, any of them, every so many seconds; the first process starts another."""

    def kill(_: Event) -> None:
        if running := workers(service):
            with suppress(ProcessLookupError):
                os.kill(chance.choice(running), signal.SIGKILL)

    return Repeated(seconds, kill)


def workers(service: Service) -> list[int]:
    """The processes that serve: the children of gunicorn's first one."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text("ascii")
    return [int(child) for child in children.split()]


def locker(path: Path) -> Repeated:
    """Another process than the service's, which takes the file's write lock and keeps it for seconds."""

    def hold(stopped: Event) -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=HOLD_SECONDS)) as other:
            other.execute("BEGIN IMMEDIATE")
            stopped.wait(HOLD_SECONDS)
            other.execute("ROLLBACK")

    return Repeated(BETWEEN_HOLDS_SECONDS, hold)
