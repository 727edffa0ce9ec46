"""A MongoDB that is there and refuses: a replica set's election, its write concern, its passwords, its validation.

In process, over the real driver and real sockets: what the driver does by itself is half of the behaviour.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from app import create_app
from storage import open_storage
from tests.e2e.faults.scene import DEADLINE, MARGIN
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.primary import (
    SERVER_WORDS,
    Primary,
    Reply,
    fails,
    not_primary,
    refuses_document,
    written_by_a_member_that_leaves,
    written_then_gone,
    written_without_a_majority,
)
from tests.stores import PASSWORD

REJECTED = "The audit log does not take this record."
UNAVAILABLE = "The audit log cannot be reached."


@pytest.fixture(scope="module")
def server() -> Iterator[Primary]:
    with Primary() as running:
        yield running


@pytest.fixture
def primary(server: Primary) -> Primary:
    server.reset()
    return server


@contextmanager
def served(primary: Primary, folder: Path, **url: str) -> Iterator[Harness]:
    """The service on this primary, with a scripted engine."""
    settings = settings_in(folder, DATABASE_URL=primary.url(**url), REQUEST_DEADLINE_SECONDS=str(DEADLINE))
    engine = ScriptedEngine()
    with closing(open_storage(settings.database_url)) as storage:
        app = create_app(settings, storage=storage, engine=engine)
        primary.wait_until_watched()
        yield Harness(app, settings, storage, engine)


def timed(call: Callable[[], TestResponse]) -> TestResponse:
    """The answer, which came within the service's deadline."""
    started = time.monotonic()
    answer = call()
    assert time.monotonic() - started < DEADLINE + MARGIN
    return answer


def refine(harness: Harness, token: str) -> TestResponse:
    return timed(lambda: harness.refine(token, {"prompt": "a prompt"}))


def assert_refused(answer: TestResponse, detail: str = UNAVAILABLE) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.get_json().items() >= {"type": "/problems/storage-unavailable", "detail": detail}.items()
    assert int(answer.headers["Retry-After"]) >= 1
    assert SERVER_WORDS not in answer.text


def statuses(primary: Primary) -> list[Any]:
    return [document["status"] for document in primary.documents["requests"].values()]


def test_an_election_goes_unnoticed(primary: Primary, tmp_path: Path) -> None:
    """The write that meets a member which stepped down is sent again, by the driver, once that is primary again."""
    with served(primary, tmp_path) as harness:
        token = harness.token()

        def elected(scripted: Primary, command: dict[str, Any]) -> dict[str, Any]:
            answer = not_primary(scripted, command)
            scripted.heal()
            return answer

        primary.script("update", elected)
        assert refine(harness, token).status_code == 200
        assert (len(harness.engine.tasks), statuses(primary)) == (1, ["succeeded"])


def test_no_primary_is_elected(primary: Primary, tmp_path: Path) -> None:
    """Without a primary 503 in time, and no model is asked; with one all is well."""
    with served(primary, tmp_path) as harness:
        token = harness.token()
        primary.script("update", not_primary)
        assert_refused(refine(harness, token))
        with ThreadPoolExecutor(2) as pool:
            later = pool.submit(refine, harness, token)
            assert timed(lambda: harness.http.get("/ready")).status_code == 503
            assert_refused(later.result())
        assert (len(harness.engine.tasks), statuses(primary)) == (0, [])
        primary.heal()
        assert refine(harness, token).status_code == 200
        assert statuses(primary) == ["succeeded"]


def test_the_primary_goes_while_the_model_thinks(primary: Primary, tmp_path: Path) -> None:
    """The caller has the paid answer; with a new primary the record has it too, unaided."""
    with served(primary, tmp_path) as harness:
        token = harness.token()
        harness.engine.before_answer = primary.step_down
        answer = refine(harness, token)
        assert (answer.status_code, statuses(primary)) == (200, ["pending"])
        completions = primary.count("update")
        primary.heal()
        primary.wait_for("update", completions + 1)
        harness.app.extensions["courier"].stop()
        assert statuses(primary) == ["succeeded"]
        (record,) = primary.documents["requests"].values()
        assert record["response"] == answer.get_json()["refined_prompt"]


UNKNOWN = {
    "majority late": written_without_a_majority(64, "WriteConcernTimeout"),
    "no majority": written_without_a_majority(100, "UnsatisfiableWriteConcern"),
}


@pytest.mark.parametrize("reply", UNKNOWN.values(), ids=list(UNKNOWN))
def test_a_pending_write_without_a_majority(primary: Primary, tmp_path: Path, reply: Reply) -> None:
    """Whether the record stays is unknown: 503, no model is asked, and where it stayed it is pending."""
    with served(primary, tmp_path) as harness:
        token = harness.token()
        primary.script("update", reply)
        assert_refused(refine(harness, token))
        assert (len(harness.engine.tasks), statuses(primary)) == (0, ["pending"])
        assert refine(harness, token).status_code == 200


RETRIED = {
    "reply lost": written_then_gone,
    "shutting down": written_by_a_member_that_leaves,
    "not written": fails(189, "PrimarySteppedDown", "RetryableWriteError"),
}


@pytest.mark.parametrize("reply", RETRIED.values(), ids=list(RETRIED))
def test_a_write_that_may_be_sent_again(primary: Primary, tmp_path: Path, reply: Reply) -> None:
    """On a replica set the driver sends a write again whose outcome is unknown: there is one record, and one call."""
    with served(primary, tmp_path) as harness:
        token = harness.token()
        primary.script("update", reply)
        assert refine(harness, token).status_code == 200
        assert (len(harness.engine.tasks), statuses(primary)) == (1, ["succeeded"])
        first, second, _ = (asked for asked in primary.asked if "update" in asked)
        assert (first["txnNumber"], first["updates"]) == (second["txnNumber"], second["updates"])


def test_a_completion_without_a_majority(primary: Primary, tmp_path: Path) -> None:
    """The paid answer is given, and the completion written once more, which the first one makes obsolete."""
    with served(primary, tmp_path) as harness:
        token = harness.token()
        harness.engine.before_answer = lambda: primary.script("update", UNKNOWN["majority late"])
        assert refine(harness, token).status_code == 200
        primary.wait_for("update", 3)
        harness.app.extensions["courier"].stop()
        assert (len(harness.engine.tasks), statuses(primary)) == (1, ["succeeded"])


@pytest.mark.parametrize(
    "query", ["authMechanism=SCRAM-SHA-256", "authMechanism=PLAIN&authSource=$external"], ids=["SCRAM", "PLAIN"]
)
def test_a_password_that_is_refused(
    primary: Primary, tmp_path: Path, capfd: pytest.CaptureFixture[str], query: str
) -> None:
    """503 on every route that needs the storage; nobody reads the password or the server's words."""
    primary.always("saslStart", fails(18, "AuthenticationFailed"))
    with served(primary, tmp_path, credentials=f"someone:{PASSWORD}@", query=query) as harness:
        answer = timed(lambda: harness.http.post("/token", json={}, headers={"X-API-Key": "klm_0000000000000000.x"}))
        assert (answer.status_code, answer.get_json()["error"]) == (503, "temporarily_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert timed(lambda: harness.http.get("/ready")).status_code == 503
        assert harness.http.get("/health").status_code == 200
        printed = "".join(capfd.readouterr()) + answer.text
        assert primary.count("saslStart") >= 2
    assert [canary for canary in (PASSWORD, SERVER_WORDS) if canary in printed] == []


def test_a_password_that_is_accepted_again(primary: Primary, tmp_path: Path) -> None:
    """As soon as the server takes the password the service serves, with its indexes, without a restart."""
    primary.always("saslStart", fails(18, "AuthenticationFailed"))
    query = "authMechanism=PLAIN&authSource=$external"
    with served(primary, tmp_path, credentials=f"someone:{PASSWORD}@", query=query) as harness:
        assert timed(lambda: harness.http.get("/ready")).status_code == 503
        primary.heal()
        assert refine(harness, harness.token()).status_code == 200
        assert primary.count("createIndexes") >= 4


def test_a_role_that_may_not_write(primary: Primary, tmp_path: Path) -> None:
    """A user who may read alone gets no model asked: 503; with the right to write, all is well."""
    with served(primary, tmp_path) as harness:
        token = harness.token()
        primary.always("update", fails(13, "Unauthorized"))
        assert_refused(refine(harness, token))
        assert (len(harness.engine.tasks), statuses(primary)) == (0, [])
        primary.heal()
        assert refine(harness, token).status_code == 200


REFUSALS = {
    "too large": refuses_document(10334, "BSONObjectTooLarge"),
    "not valid": refuses_document(121, "DocumentValidationFailure"),
}


@pytest.mark.parametrize("reply", REFUSALS.values(), ids=list(REFUSALS))
def test_a_record_that_is_refused(primary: Primary, tmp_path: Path, reply: Reply) -> None:
    """What the server's own rules forbid is refused before any model is asked, and the next call is served."""
    with served(primary, tmp_path) as harness:
        token = harness.token()
        primary.script("update", reply)
        assert_refused(refine(harness, token), REJECTED)
        assert (len(harness.engine.tasks), statuses(primary)) == (0, [])
        assert refine(harness, token).status_code == 200


@pytest.mark.parametrize("reply", REFUSALS.values(), ids=list(REFUSALS))
def test_a_completion_that_is_refused(primary: Primary, tmp_path: Path, reply: Reply) -> None:
    """The caller has the paid answer, and the completion waits for the operator, who can have it offered again."""
    with served(primary, tmp_path) as harness:
        token = harness.token()
        harness.engine.before_answer = lambda: primary.always("update", reply)
        assert refine(harness, token).status_code == 200
        # The write, and the outbox's try.
        primary.wait_for("update", 3)
        harness.app.extensions["courier"].stop()
        drained = harness.app.test_cli_runner().invoke(args=["outbox", "drain"])
        assert (drained.exit_code, "refused: 1" in drained.stdout) == (1, True), drained.output
        primary.heal()
        drained = harness.app.test_cli_runner().invoke(args=["outbox", "drain"])
        assert (drained.exit_code, "applied: 1" in drained.stdout) == (0, True), drained.output
        assert statuses(primary) == ["succeeded"]
