"""A paid answer survives the storage: the service as a process, a real server taken away while the model thinks."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from records import Selection, Status
from scripts.service import ROOT, Service
from storage import open_storage
from tests import upstream as fake
from tests.e2e.test_service import Caller, environment
from tests.stores import POSTGRESQL_BINARIES, NxServer, PgServer
from tests.upstream import Upstream

BOUND = 90.0


@dataclass
class Outage:
    """A database, and how a test takes it away from the service and gives it back."""

    url: str
    begin: Callable[[], None]
    end: Callable[[], None]


@dataclass
class Scene:
    """A service that is asked for one refinement, and whose storage goes away meanwhile."""

    outage: Outage
    environ: dict[str, str]
    folder: Path
    upstream: Upstream

    def service(self) -> Service:
        return Service(self.environ, self.folder / f"{uuid.uuid4().hex}.log")

    def caller(self, service: Service) -> Caller:
        return Caller(service.url, self.environ)

    def answer_during_the_outage(self, caller: Caller) -> dict[str, Any]:
        """What the caller gets when the storage goes away while the model has the draft."""
        self.upstream.hold()
        with ThreadPoolExecutor(1) as pool:
            asked: Future[requests.Response] = pool.submit(caller.refine, "x", Idempotency_Key="k")
            self.upstream.wait_for(1)
            self.outage.begin()
            self.upstream.release()
            answer = asked.result(BOUND)
        assert (answer.status_code, answer.json()["refined_prompt"]) == (200, "better: x"), answer.text
        assert (self.folder / "outbox.sqlite3").exists()
        body: dict[str, Any] = answer.json()
        return body

    def assert_completed(self, caller: Caller, body: dict[str, Any]) -> None:
        """The record comes to hold what the caller got, and the model was paid for it once."""
        until(lambda: _status(caller, body["id"]) == "succeeded")
        assert caller.read(body["id"]).json() == body
        assert caller.refine("x", Idempotency_Key="k").json() == body
        assert len(self.upstream.requests) == 1


def _status(caller: Caller, record_id: str) -> str | None:
    answer = caller.read(record_id)
    return answer.json()["status"] if answer.status_code == 200 else None


def until(condition: Callable[[], bool]) -> None:
    """Ask until it is so."""
    ends = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.1)


@pytest.fixture
def killed_mongodb(tmp_path: Path) -> Iterator[Outage]:
    with NxServer(tmp_path / "nx") as server:
        yield Outage(server.url("klamala"), server.kill, server.start)


@pytest.fixture
def silent_mongodb(tmp_path: Path) -> Iterator[Outage]:
    with NxServer(tmp_path / "nx") as server:
        yield Outage(server.url("klamala"), server.pause, server.resume)


@pytest.fixture
def killed_postgresql() -> Iterator[Outage]:
    with PgServer() as server:
        yield Outage(server.url(server.create()), server.kill, server.start)


@pytest.fixture
def silent_postgresql() -> Iterator[Outage]:
    with PgServer() as server:
        yield Outage(server.url(server.create()), server.pause, server.resume)


@pytest.fixture
def locked_sqlite(tmp_path: Path) -> Iterator[Outage]:
    """A file that another process writes to and does not let go of; reading goes on."""
    path = tmp_path / "store.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:

        def end() -> None:
            other.execute("ROLLBACK")

        yield Outage(f"sqlite:///{path}", lambda: other.execute("BEGIN IMMEDIATE").close(), end)


POSTGRESQL = ["killed_postgresql", "silent_postgresql"] if POSTGRESQL_BINARIES else []
OUTAGES = ["locked_sqlite", "killed_mongodb", "silent_mongodb", *POSTGRESQL]


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Scene:
    upstream.script(fake.echo(lambda draft: f"better: {draft}"))
    outage: Outage = request.getfixturevalue(request.param)
    model = {"OPENAI_BASE_URL": upstream.url, "OPENAI_MODEL": "gpt-test", "DATABASE_URL": outage.url}
    return Scene(outage, environment(tmp_path, **model), tmp_path, upstream)


@pytest.mark.parametrize("scene", OUTAGES, indirect=True)
def test_an_answer_outlives_the_storage(scene: Scene) -> None:
    """The caller gets the paid answer; once the storage is back the record holds it, unaided."""
    with scene.service() as service:
        caller = scene.caller(service)
        body = scene.answer_during_the_outage(caller)
        scene.outage.end()
        scene.assert_completed(caller, body)


@pytest.mark.parametrize("scene", OUTAGES, indirect=True)
def test_an_answer_outlives_the_service_too(scene: Scene) -> None:
    """Every process of the service is killed before it could apply the outbox: the next one does, unasked."""
    with scene.service() as service:
        caller = scene.caller(service)
        body = scene.answer_during_the_outage(caller)
        kill(service)
    scene.outage.end()
    with scene.service() as service, closing(open_storage(scene.outage.url)) as storage:
        until(lambda: storage.page(Selection(), 1)[0].status is Status.SUCCEEDED)
        caller.url = service.url
        scene.assert_completed(caller, body)


@pytest.mark.parametrize("scene", ["locked_sqlite", "killed_mongodb"], indirect=True)
def test_the_operator_drains_the_outbox(scene: Scene) -> None:
    """Without a service the command says what is left while the storage is away, and applies it afterwards."""
    with scene.service() as service:
        caller = scene.caller(service)
        body = scene.answer_during_the_outage(caller)
        kill(service)
    assert drain(scene) == (1, {"applied": 0, "obsolete": 0, "waiting": 1, "refused": 0, "elsewhere": 0})
    scene.outage.end()
    assert drain(scene) == (0, {"applied": 1, "obsolete": 0, "waiting": 0, "refused": 0, "elsewhere": 0})
    with scene.service() as service:
        caller.url = service.url
        scene.assert_completed(caller, body)


def kill(service: Service) -> None:
    """`kill -9`, every process of it; the first one last, which would start others."""
    master = service.process.pid
    os.kill(master, signal.SIGSTOP)
    children = Path(f"/proc/{master}/task/{master}/children").read_text("ascii").split()
    for process in (*map(int, children), master):
        os.kill(process, signal.SIGKILL)
    service.process.wait(BOUND)


def drain(scene: Scene) -> tuple[int, dict[str, int]]:
    """The exit code and the counts of `flask outbox drain`."""
    command = [sys.executable, "-m", "flask", "--app", "app", "outbox", "drain", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **scene.environ}, capture_output=True, timeout=BOUND, check=False
    )
    counts: dict[str, int] = json.loads(done.stdout)
    return done.returncode, counts
