"""Jobs in the service as users have it: its own processes, which may die."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import requests

from records import Record, Selection, Status, utc_now
from scripts.service import Service
from storage import Storage, open_storage
from tests import upstream as fake
from tests.e2e.test_outbox import kill, until
from tests.e2e.test_service import Caller
from tests.upstream import Upstream


@pytest.fixture
def storage(environ: dict[str, str]) -> Iterator[Storage]:
    """The service's own, from beside it."""
    with closing(open_storage(environ["DATABASE_URL"] or f"sqlite:///{environ['DATA_DIR']}/klamala.sqlite3")) as opened:
        yield opened


def accepted(caller: Caller, prompt: str, **headers: str) -> str:
    """The id of a job that the service took on."""
    answer = caller.refine(prompt, Prefer="respond-async", **headers)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def ended(caller: Caller, job_id: str) -> dict[str, object]:
    """What became of a job, once something did."""
    until(lambda: caller.read(job_id).json()["status"] != "pending")
    body: dict[str, object] = caller.read(job_id).json()
    return body


def in_progress(storage: Storage) -> Record:
    (record,) = storage.page(Selection(), 2)
    assert record.status is Status.PENDING
    return record


def test_many_jobs_at_once_are_each_done_once(service: Service, environ: dict[str, str], upstream: Upstream) -> None:
    """Two processes do forty jobs: each has its own outcome, and the model is asked forty times."""
    upstream.script(fake.echo(lambda draft: f"better: {draft}"))
    caller = Caller(service.url, environ)
    with ThreadPoolExecutor(40) as pool:
        jobs = dict(pool.map(lambda number: (accepted(caller, f"draft {number}"), number), range(40)))
    for job_id, number in jobs.items():
        assert ended(caller, job_id)["refined_prompt"] == f"better: draft {number}"
    assert len(upstream.requests) == 40


def test_a_job_outlives_every_process(
    tmp_path: Path, environ: dict[str, str], storage: Storage, upstream: Upstream
) -> None:
    """All are killed while the model thinks: once the lease is over, the next service does the job, unasked."""
    upstream.script(fake.echo(lambda draft: f"better: {draft}"))
    upstream.hold()
    with Service(environ, tmp_path / "first.log") as service:
        caller = Caller(service.url, environ)
        job_id = accepted(caller, "x", Idempotency_Key="k")
        upstream.wait_for(1)
        kill(service)
    left = in_progress(storage)
    assert storage.lease(utc_now()) is None
    # As if so much time had gone by.
    assert storage.renew(left, utc_now())
    upstream.release()
    with Service(environ, tmp_path / "second.log") as service:
        upstream.wait_for(2)
        caller.url = service.url
        assert ended(caller, job_id)["refined_prompt"] == "better: x"
        assert accepted(caller, "x", Idempotency_Key="k") == job_id
    record = storage.read(job_id, Selection())
    assert record is not None
    assert (record.attempt, len(upstream.requests)) == (2, 2)


def test_a_service_that_is_told_to_go_finishes_its_jobs(
    service: Service, environ: dict[str, str], storage: Storage, upstream: Upstream
) -> None:
    """What is at work when a deploy ends the service is completed, and paid once."""
    upstream.script(fake.echo(lambda draft: f"better: {draft}"))
    upstream.hold()
    caller = Caller(service.url, environ)
    job_id = accepted(caller, "x")
    upstream.wait_for(1)
    service.process.terminate()
    until(lambda: not takes_connections(service))
    upstream.release()
    service.process.wait(60)
    record = storage.read(job_id, Selection())
    assert record is not None
    assert (record.status, record.response, record.attempt) == (Status.SUCCEEDED, "better: x", 1)
    assert len(upstream.requests) == 1


def takes_connections(service: Service) -> bool:
    try:
        requests.get(f"{service.url}/health", timeout=5)
    except requests.ConnectionError:
        return False
    return True


def test_a_job_that_is_late_says_so(tmp_path: Path, environ: dict[str, str], upstream: Upstream) -> None:
    """A model that is silent until the job's deadline leaves a failed refinement with a 504, long after the 202."""
    upstream.script(fake.silent())
    hurried = {**environ, "JOB_DEADLINE_SECONDS": "4", "REQUEST_DEADLINE_SECONDS": "2"}
    with Service(hurried, tmp_path / "service.log") as service:
        caller = Caller(service.url, hurried)
        body = ended(caller, accepted(caller, "x"))
    assert body["status"] == "failed"
    assert isinstance(body["error"], dict)
    assert (body["error"]["status"], body["error"]["type"]) == (504, "/problems/model-timeout")


def test_nothing_of_a_job_is_printed(service: Service, environ: dict[str, str], upstream: Upstream) -> None:
    """A job has its line in the log, with the request's id, its attempt and its tokens, and without its texts."""
    upstream.script(fake.echo(lambda draft: f"RESPONSE-CANARY {draft}"))
    caller = Caller(service.url, environ)
    ended(caller, accepted(caller, "PROMPT-CANARY", X_Request_Id="this-job"))
    service.stop()
    printed = service.log.read_text("utf-8")
    (line,) = [line for line in printed.splitlines() if '"klamala.jobs"' in line]
    assert '"request_id": "this-job"' in line
    assert '"attempt": 1' in line
    assert '"output_tokens": 7' in line
    assert "CANARY" not in printed
