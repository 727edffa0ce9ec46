"""One `Idempotency-Key` is one call of the model, however many workers are asked, and when one of them is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from urllib.parse import urlsplit

import pytest
import requests

from records import Record, Selection, Status, utc_now
from scripts.service import Service
from storage import Storage
from tests import upstream as fake
from tests.e2e.test_outbox import until
from tests.e2e.test_service import Caller, environment
from tests.stores import Backend, bulk, on
from tests.upstream import Upstream

FIFTY = 50
BOUND = 90.0
DRAFT = "greet {{name}}"
# Longer than a hundred refusals take on a busy machine.
DEADLINE_SECONDS = 80
_ESTABLISHED = "01"

pytestmark = on("sqlite", "nx", "postgresql")


@pytest.fixture
def store(backend: Backend) -> Storage:
    """The service's database, past the service, on the clock of the wall."""
    return backend.open(clock=utc_now)


@contextmanager
def four_workers(backend: Backend, upstream: Upstream, folder: Path) -> Iterator[tuple[Service, Caller]]:
    upstream.script(fake.echo(lambda draft: f"better: {draft}"))
    environ = environment(
        folder,
        DATABASE_URL=backend.url,
        OPENAI_BASE_URL=upstream.url,
        OPENAI_MODEL="gpt-test",
        REQUEST_DEADLINE_SECONDS=str(DEADLINE_SECONDS),
        RATE_LIMIT="",
        WEB_CONCURRENCY="4",
        WEB_THREADS="16",
    )
    with Service(environ, folder / "service.log") as service:
        yield service, Caller(service.url, environ)


def fifty(pool: ThreadPoolExecutor, caller: Caller, key: str) -> list[Future[requests.Response]]:
    """The same request from fifty threads, which start at the same moment."""
    barrier = Barrier(FIFTY)

    def ask() -> requests.Response:
        barrier.wait(BOUND)
        return caller.refine(DRAFT, Idempotency_Key=key)

    return [pool.submit(ask) for _ in range(FIFTY)]


def answers(asked: list[Future[requests.Response]]) -> list[requests.Response]:
    return [future.result(BOUND) for future in asked]


def assert_one_call(given: list[requests.Response]) -> bytes:
    """One caller got the model's answer, the others got the same one as a replay, or 409. Returns the answer."""
    assert_in_progress([answer for answer in given if answer.status_code != 200])
    replayed = [answer.headers.get("Idempotent-Replayed") for answer in given if answer.status_code == 200]
    assert sorted(replayed, key=str) == [None, *["true"] * (len(replayed) - 1)]
    (body,) = {answer.content for answer in given if answer.status_code == 200}
    return body


def assert_in_progress(given: list[requests.Response]) -> None:
    assert [answer.text for answer in given if answer.status_code != 409] == []
    assert {answer.json()["type"] for answer in given} <= {"/problems/request-in-progress"}
    assert [wait for answer in given if not 1 <= (wait := int(answer.headers["Retry-After"])) <= DEADLINE_SECONDS] == []


def assert_replay(answer: requests.Response, body: bytes) -> None:
    assert (answer.status_code, answer.headers.get("Idempotent-Replayed")) == (200, "true")
    assert answer.content == body


def recorded(store: Storage) -> list[Record]:
    return list(store.every(Selection()))


def let_its_deadline_pass(store: Storage, record: Record) -> None:
    """Have the store hold the record as if it had been due by now, which nobody has to wait for then."""
    assert store.erase(record.owner) == 1
    # nx-27017 compares moments by the second.
    bulk(store, [replace(record, deadline_at=utc_now() - timedelta(seconds=1))])


def test_fifty_at_once_are_one_call(backend: Backend, store: Storage, tmp_path: Path, upstream: Upstream) -> None:
    """The model is asked once; every other caller, and whoever comes later, gets the same answer, or 409."""
    with four_workers(backend, upstream, tmp_path) as (_, caller), ThreadPoolExecutor(FIFTY) as pool:
        body = assert_one_call(answers(fifty(pool, caller, "at-once")))
        assert_replay(caller.refine(DRAFT, Idempotency_Key="at-once"), body)
        assert len(upstream.requests) == 1

        upstream.hold()
        asked = fifty(pool, caller, "while-it-thinks")
        until(lambda: sum(future.done() for future in asked) == FIFTY - 1)
        assert len(upstream.requests) == 2
        upstream.release()
        given = answers(asked)
        assert sorted(answer.status_code for answer in given) == [200] + [409] * (FIFTY - 1)
        assert_replay(caller.refine(DRAFT, Idempotency_Key="while-it-thinks"), assert_one_call(given))
    assert len(upstream.requests) == 2
    assert [record.status for record in recorded(store)] == [Status.SUCCEEDED] * 2


def test_a_kill_in_the_middle_is_paid_once_more_and_not_before_the_deadline(
    backend: Backend, store: Storage, tmp_path: Path, upstream: Upstream
) -> None:
    """The worker that asked dies: until the deadline every retry gets 409, then one of fifty asks the model again."""
    with four_workers(backend, upstream, tmp_path) as (service, caller), ThreadPoolExecutor(FIFTY) as pool:
        upstream.hold()
        asked = fifty(pool, caller, "k")
        until(lambda: sum(future.done() for future in asked) == FIFTY - 1)
        upstream.wait_for(1)
        (worker,) = connected_to(upstream, workers(service))
        os.kill(worker, signal.SIGKILL)
        (broken,) = [error for future in asked if (error := future.exception(BOUND))]
        assert isinstance(broken, requests.ConnectionError)
        assert_in_progress([future.result() for future in asked if not future.exception()])

        assert_in_progress(answers(fifty(pool, caller, "k")))
        (pending,) = recorded(store)
        assert (pending.status, len(upstream.requests)) == (Status.PENDING, 1)

        upstream.release()
        let_its_deadline_pass(store, pending)
        body = assert_one_call(answers(fifty(pool, caller, "k")))
        assert_replay(caller.refine(DRAFT, Idempotency_Key="k"), body)
    assert len(upstream.requests) == 2
    assert [record.status for record in recorded(store)] == [Status.SUCCEEDED, Status.ABANDONED]


def workers(service: Service) -> list[int]:
    """The processes that serve: the children of gunicorn's first one."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text("ascii")
    return [int(child) for child in children.split()]


def connected_to(upstream: Upstream, processes: list[int]) -> list[int]:
    """Which of these processes have an open connection to the model's server.

    A row of `/proc/net/tcp` has the peer's address in its third column, the state in the fourth, the socket's inode in
    the tenth; a process's socket is a link `socket:[inode]` (https://man7.org/linux/man-pages/man5/proc.5.html).
    """
    port = urlsplit(upstream.url).port
    rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    found = [row for row in rows if int(row[2].partition(":")[2], 16) == port and row[3] == _ESTABLISHED]
    sockets = {f"socket:[{row[9]}]" for row in found}
    return [process for process in processes if sockets & set(open_files(process))]


def open_files(process: int) -> Iterator[str]:
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        try:
            yield str(descriptor.readlink())
        except FileNotFoundError:
            # Closed meanwhile.
            continue
