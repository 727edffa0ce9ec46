"""`Prefer: respond-async`: accepted at once, done in the background, once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import pytest

from calls.jobs import POLL_SECONDS
from calls.pool import JobPool
from records import Record, Selection, Status
from refinery.engines import ModelRefused, ModelTimeout
from tests.harness import Harness, ScriptedEngine, build
from tests.stores import BOUND

ASYNC = {"Prefer": "respond-async"}
DRAFT = {"prompt": "a draft for {{name}}"}


class Held:
    """An engine's answers, kept back until they are released; `asked` is set when one is awaited."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.asked, self._released = Event(), Event()
        engine.before_answer = self._wait

    def _wait(self) -> None:
        self.asked.set()
        assert self._released.wait(BOUND)

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Harness]:
    """A service whose pool is stopped at the end."""
    built = build(tmp_path, JOB_DEADLINE_SECONDS="100", REQUEST_DEADLINE_SECONDS="10")
    yield built
    pool_of(built).stop()
    built.storage.close()


def pool_of(service: Harness) -> JobPool:
    pool: JobPool = service.app.extensions["jobs"]
    return pool


def done(service: Harness) -> Record:
    """The newest record, once it is no longer pending."""
    ends = monotonic() + BOUND
    while (record := service.storage.page(Selection(), 1)[0]).status is Status.PENDING:
        assert monotonic() < ends, "the job was not done"
        sleep(0.01)
    return record


def test_a_job_is_accepted_and_done(service: Harness) -> None:
    """202 at once with where to look; there it is pending, then what the same request gets that waits."""
    held, token = Held(service.engine), service.token()
    accepted = service.refine(token, DRAFT, **ASYNC)
    assert accepted.status_code == 202
    job_id = accepted.get_json()["id"]
    assert accepted.get_json() == {"id": job_id, "status": "pending"}
    assert accepted.headers["Location"] == f"/refine/{job_id}"
    assert accepted.headers["Preference-Applied"] == "respond-async"
    assert accepted.headers["Retry-After"] == str(POLL_SECONDS)
    assert held.asked.wait(BOUND)
    pending = service.get(accepted.headers["Location"], token)
    assert (pending.status_code, pending.get_json()["status"]) == (200, "pending")
    assert pending.headers["Retry-After"] == str(POLL_SECONDS)
    held.release()
    record = done(service)
    finished = service.get(accepted.headers["Location"], token)
    assert "Retry-After" not in finished.headers
    body = finished.get_json()
    assert (body["status"], body["refined_prompt"], body["created_at"]) == (
        "succeeded",
        DRAFT["prompt"],
        pending.get_json()["created_at"],
    )
    waited = service.refine(token, DRAFT).get_json()
    differing = ("id", "created_at", "latency_ms")
    assert {**body, **dict.fromkeys(differing)} == {**waited, **dict.fromkeys(differing)}
    assert record.request_id == accepted.headers["X-Request-Id"]


def test_a_job_has_its_own_deadline(service: Harness) -> None:
    """It may take `JOB_DEADLINE_SECONDS` from its receipt, of which the model gets all but the reserve."""
    assert service.refine(service.token(), DRAFT, **ASYNC).status_code == 202
    record = done(service)
    assert record.deadline_at == record.timestamp + timedelta(seconds=100)
    assert 90 < service.engine.deadlines[0].remaining() < 100
    assert record.attempt == 1


def test_the_first_name_takes_jobs_too(service: Harness) -> None:
    """`/refine-prompt` is the same route under another name."""
    answer = service.post("/refine-prompt", service.token(), DRAFT, **ASYNC)
    assert answer.status_code == 202
    assert done(service).id == answer.get_json()["id"]


def test_the_same_key_gets_the_same_202(service: Harness) -> None:
    """Before and after the job is done, the same request is answered as before, and nothing is done twice."""
    token, headers = service.token(), {**ASYNC, "Idempotency-Key": "k"}
    held = Held(service.engine)
    first = service.refine(token, DRAFT, **headers)
    again = [service.refine(token, DRAFT, **headers)]
    held.release()
    done(service)
    again.append(service.refine(token, DRAFT, **headers))
    for answer in again:
        assert (answer.status_code, answer.data) == (202, first.data)
        assert answer.headers["Location"] == first.headers["Location"]
        assert answer.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert len(service.engine.tasks) == 1


def test_a_job_s_key_holds_for_waiting_requests(service: Harness) -> None:
    """Without the preference the same request gets 409 while the job is worked on, and its outcome afterwards."""
    token, held = service.token(), Held(service.engine)
    job = service.refine(token, DRAFT, **ASYNC, Idempotency_Key="k").get_json()
    conflict = service.refine(token, DRAFT, Idempotency_Key="k")
    assert (conflict.status_code, conflict.get_json()["type"]) == (409, "/problems/request-in-progress")
    held.release()
    done(service)
    replayed = service.refine(token, DRAFT, Idempotency_Key="k")
    assert (replayed.status_code, replayed.get_json()["id"]) == (200, job["id"])
    assert replayed.headers["Idempotent-Replayed"] == "true"


def test_what_was_answered_at_once_stays_so(service: Harness) -> None:
    """A key whose request was answered is given that answer, whatever is preferred now."""
    token = service.token()
    first = service.refine(token, DRAFT, Idempotency_Key="k")
    again = service.refine(token, DRAFT, **ASYNC, Idempotency_Key="k")
    assert (again.status_code, again.data) == (200, first.data)
    assert "Preference-Applied" not in again.headers


def test_a_key_with_another_body_is_refused(service: Harness) -> None:
    """A job's key is bound to its body."""
    token = service.token()
    assert service.refine(token, DRAFT, **ASYNC, Idempotency_Key="k").status_code == 202
    assert service.refine(token, {"prompt": "other"}, **ASYNC, Idempotency_Key="k").status_code == 422


@pytest.mark.parametrize(
    ("error", "status", "frees_key"),
    [(ModelRefused("The model refused to answer."), 502, False), (ModelTimeout("Too late."), 504, True)],
    ids=["refused", "late"],
)
def test_a_failed_job_says_why(service: Harness, error: Any, status: int, frees_key: bool) -> None:
    """The problem that the caller would have got is in the refinement, and a key is freed as ever."""
    service.engine.outcomes = [error]
    token = service.token()
    job = service.refine(token, DRAFT, **ASYNC, Idempotency_Key="k").get_json()
    done(service)
    body = service.get(f"/refine/{job['id']}", token).get_json()
    assert (body["status"], body["error"]["status"], body["error"]["detail"]) == ("failed", status, str(error))
    again = service.refine(token, DRAFT, **ASYNC, Idempotency_Key="k").get_json()
    assert (again["id"] != job["id"]) == frees_key


def test_a_refused_request_is_no_job(service: Harness) -> None:
    """What is wrong with a request is said at once, and nothing is recorded."""
    token = service.token()
    assert service.refine(token, {"prompt": " "}, **ASYNC).status_code == 422
    assert service.refine(token, {"parent_id": "x"}, **ASYNC).status_code == 422
    assert not service.storage.page(Selection(), 1)


def test_a_job_is_its_owner_s_alone(service: Harness) -> None:
    """Another user of the same client finds no such refinement."""
    credentials = service.register()
    job = service.refine(service.token(credentials, user_id="ann"), DRAFT, **ASYNC).get_json()
    assert service.get(f"/refine/{job['id']}", service.token(credentials, user_id="bob")).status_code == 404


def test_an_unforeseen_error_is_reported_and_not_the_end(service: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """Where it came from is in the log, not what it says; the job stays pending, for another try."""

    begun = Event()

    def crash() -> None:
        begun.set()
        raise RuntimeError("a draft, maybe")

    service.engine.before_answer = crash
    assert service.refine(service.token(), DRAFT, **ASYNC).status_code == 202
    assert begun.wait(BOUND)
    pool_of(service).stop()
    record = service.storage.page(Selection(), 1)[0]
    assert (record.status, record.attempt) == (Status.PENDING, 1)
    errors = [entry for entry in caplog.records if entry.name == "klamala.error"]
    assert [entry.__dict__["fields"]["error"] for entry in errors] == ["RuntimeError"]
    assert "a draft, maybe" not in str([entry.__dict__ for entry in caplog.records])


PREFERENCES = {
    "respond-async": True,
    "Respond-Async": True,
    "respond-async, wait=10": True,
    'return=minimal; foo="some, value", respond-async': True,
    "respond-async;x=1": True,
    'respond-async=""': True,
    ", ,respond-async ,": True,
    "respond-async , respond-async": True,
    "wait=10": False,
    "return=representation": False,
    "x-respond-async": False,
    "": False,
    " ": False,
    ",": False,
    'foo="respond-async"': False,
    'foo="a, respond-async, b"': False,
    "respond-async=1": False,
    'respond-async = "yes"; x': False,
    'respond-async = ""  ; x="1, 2" , wait': True,
    'a="\\"";b = c ; ;d': False,
}
MALFORMED = (
    "respond async",
    "respond-async; =1",
    "=",
    ";",
    'foo="open',
    "foo=",
    "a b",
    "respond-async/",
    "respond-async, (",
    "prefer: respond-async",
    'a="x"y',
)


@pytest.mark.parametrize(("header", "asynchronous"), PREFERENCES.items())
def test_preferences_are_read_as_rfc_7240_has_them(service: Harness, header: str, asynchronous: bool) -> None:
    """Names in any case, parameters, empty elements; what is not known is passed over."""
    answer = service.refine(service.token(), DRAFT, Prefer=header)
    assert answer.status_code == (202 if asynchronous else 200), answer.text


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_preference_is_refused(service: Harness, header: str) -> None:
    """What is no list of preferences is 400, and nothing is recorded."""
    answer = service.refine(service.token(), DRAFT, Prefer=header)
    assert (answer.status_code, answer.get_json()["type"]) == (400, "/problems/malformed-request")
    assert "Prefer" in answer.get_json()["detail"]
    assert not service.storage.page(Selection(), 1)
