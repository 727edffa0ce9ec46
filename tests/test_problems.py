"""Every error leaves in the form that the contract promises, and says nothing that it should not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import make_url
from werkzeug.exceptions import ImATeapot
from werkzeug.test import TestResponse

import auth
import clients
import counters
import problems
import storage
from app import create_app
from logs import JsonFormatter
from records import Client, utc_now
from refinery import engines
from stores.sql import SqlStorage
from stores.sqlite import SqliteDatabase
from tests.harness import Harness, build, settings_in

SECRET = "CANARY-problem-91c2"
JSON = "application/json"


class Lines(logging.Handler):
    """Keeps what is logged, as the service writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def of(self, logger: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.lines) if line["logger"] == logger]


@contextmanager
def logged() -> Iterator[Lines]:
    """What the service logs inside, once it is built: building replaces handlers."""
    lines, logger = Lines(), logging.getLogger("klamala")
    logger.addHandler(lines)
    try:
        yield lines
    finally:
        logger.removeHandler(lines)


def assert_problem(answer: TestResponse, status: int, slug: str) -> dict[str, Any]:
    """The answer is this problem, whole; returns it."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    problem: dict[str, Any] = json.loads(answer.data.decode("utf-8"))
    assert set(problem) - {"errors"} == {"type", "title", "status", "detail", "request_id"}
    assert problem["type"] == f"/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    return problem


def crash() -> NoReturn:
    raise RuntimeError(f"the database said {SECRET}")


UNKNOWN_ROUTES = {
    "elsewhere": ("GET", "/nowhere"),
    "posted": ("POST", "/nowhere"),
    "below a route": ("GET", "/health/x"),
    "trailing slash": ("GET", "/health/"),
    "another case": ("GET", "/Health"),
    "doubled slash": ("GET", "/docs//init.js"),
    "dots": ("GET", "/x/../health"),
    "NUL": ("GET", "/health%00"),
    "below token": ("POST", "/token/"),
    "the type of a problem": ("GET", "/problems/not-found"),
    "static": ("GET", "/static/x"),
}


@pytest.mark.parametrize(("method", "path"), UNKNOWN_ROUTES.values(), ids=UNKNOWN_ROUTES)
def test_an_unknown_route_is_404(harness: Harness, method: str, path: str) -> None:
    """Where there is no route there is a problem document, and no redirect to one that is spelled alike."""
    assert_problem(harness.http.open(path, method=method), 404, "not-found")


WRONG_METHODS = {
    "/refine": ("GET", {"POST", "OPTIONS"}),
    "/refine-prompt": ("DELETE", {"POST", "OPTIONS"}),
    "/refine/x": ("PUT", {"GET", "HEAD", "OPTIONS"}),
    "/health": ("POST", {"GET", "HEAD", "OPTIONS"}),
    "/ready": ("PATCH", {"GET", "HEAD", "OPTIONS"}),
}


@pytest.mark.parametrize("path", WRONG_METHODS)
def test_a_wrong_method_is_405_and_told_the_right_ones(harness: Harness, path: str) -> None:
    """`Allow` lists what the route takes."""
    method, allowed = WRONG_METHODS[path]
    answer = harness.http.open(path, method=method)
    assert_problem(answer, 405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) == allowed


def test_a_wrong_method_at_the_token_endpoint_is_405_in_its_own_form(harness: Harness) -> None:
    """`/token` keeps to the form of RFC 6749 and to `Allow`."""
    answer = harness.http.get("/token")
    assert answer.status_code == 405
    assert answer.mimetype == JSON
    assert set(answer.get_json()) == {"error", "error_description"}
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize("testing", [False, True], ids=["as served", "as tested"])
def test_a_crash_is_500_and_keeps_its_words_to_itself(harness: Harness, testing: bool) -> None:
    """An unforeseen exception's message is nowhere, neither in the answer nor in the log; its place is in the log."""
    harness.app.testing = testing
    harness.app.add_url_rule("/crash", view_func=crash)
    with logged() as log:
        answer = harness.http.get("/crash")
    assert_problem(answer, 500, "internal-error")
    assert SECRET not in answer.text
    assert "RuntimeError" not in answer.text
    assert not any(SECRET in line for line in log.lines)
    (line,) = log.of("klamala.error")
    assert line["level"] == "error"
    assert line["error"] == "RuntimeError"
    assert line["trace"][-1].startswith(f"{__file__}:")
    assert line["trace"][-1].endswith(" crash")


def test_the_log_line_of_a_crash_is_found_by_the_request_id(harness: Harness) -> None:
    """The answer says that the request id helps to find out why, so the line that says why carries it."""
    harness.app.add_url_rule("/crash", view_func=crash)
    with logged() as log:
        answer = harness.http.get("/crash")
    (line,) = log.of("klamala.error")
    assert line.get("request_id") == answer.headers["X-Request-Id"]


def test_the_cause_of_a_crash_keeps_its_words_too(harness: Harness) -> None:
    """An exception that was raised from another one, or with notes, tells no more."""

    def chained() -> NoReturn:
        try:
            crash()
        except RuntimeError as error:
            error.add_note(SECRET)
            raise KeyError(SECRET) from error

    harness.app.add_url_rule("/crash", view_func=chained)
    with logged() as log:
        answer = harness.http.get("/crash")
    assert_problem(answer, 500, "internal-error")
    assert SECRET not in answer.text
    assert not any(SECRET in line for line in log.lines)
    assert [line["error"] for line in log.of("klamala.error")] == ["KeyError"]


class Failing(SqlStorage):
    """A store whose clients cannot be read, for this reason."""

    failure: Exception = RuntimeError(SECRET)

    def client(self, client_id: str) -> Client | None:
        raise self.failure


def token_answer(folder: Path, failure: Exception) -> TestResponse:
    """What `/token` answers when the look-up of the client fails like that."""
    store = Failing(SqliteDatabase(make_url(f"sqlite:///{folder}/failing.sqlite3")), create=False, clock=utc_now)
    store.failure = failure
    service = create_app(settings_in(folder), storage=store)
    answer = service.test_client().post("/token", json={}, headers={"X-API-Key": "klm_0000000000000000.x"})
    store.close()
    return answer


def test_a_crash_at_the_token_endpoint_is_500_in_its_own_form(tmp_path: Path) -> None:
    """An OAuth client library gets JSON with `error` even then, and no word of the exception."""
    answer = token_answer(tmp_path, RuntimeError(SECRET))
    assert answer.status_code == 500
    assert answer.mimetype == JSON
    assert set(answer.get_json()) == {"error", "error_description"}
    assert answer.get_json()["error"] == "server_error"
    assert SECRET not in answer.text


def test_a_token_endpoint_without_its_storage_is_503_in_its_own_form(tmp_path: Path) -> None:
    """An unreachable storage is temporary, and the answer says when to come again."""
    answer = token_answer(tmp_path, storage.StorageUnavailable("The audit log cannot be reached."))
    assert answer.status_code == 503
    assert answer.mimetype == JSON
    assert answer.get_json()["error"] == "temporarily_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1


WORDS = "What was wrong."
# What each exception means to a caller: status, code, and the headers that come with it.
EXPECTED: dict[type[Exception], tuple[Exception, int, str, dict[str, str]]] = {
    type(error): (error, status, slug, headers)
    for error, status, slug, headers in (
        (problems.OAuthError("invalid_request", WORDS), 400, "invalid-token-request", {}),
        (
            clients.InvalidClient(),
            401,
            "invalid-client",
            {"WWW-Authenticate": 'Basic realm="klamala", charset="UTF-8"'},
        ),
        (problems.OAuthError("invalid_scope", WORDS), 400, "invalid-token-request", {}),
        (
            clients.InvalidClient(),
            401,
            "invalid-client",
            {"WWW-Authenticate": 'Basic realm="klamala", charset="UTF-8"'},
        ),
        (problems.MalformedRequest(WORDS), 400, "malformed-request", {}),
        (clients.AmbiguousCredentials(), 400, "ambiguous-credentials", {}),
        (auth.MissingToken(WORDS), 401, "authentication-required", {"WWW-Authenticate": 'Bearer realm="klamala"'}),
        (
            auth.InvalidToken(WORDS),
            401,
            "invalid-token",
            {"WWW-Authenticate": 'Bearer realm="klamala", error="invalid_token"'},
        ),
        (
            auth.InsufficientScope(WORDS, "refine"),
            403,
            "insufficient-scope",
            {"WWW-Authenticate": 'Bearer realm="klamala", error="insufficient_scope", scope="refine"'},
        ),
        (problems.NotFound(WORDS), 404, "not-found", {}),
        (problems.CallInProgress(6.2), 409, "request-in-progress", {"Retry-After": "7"}),
        (problems.BodyTooLarge(WORDS), 413, "body-too-large", {}),
        (problems.UnsupportedMediaType(WORDS), 415, "unsupported-media-type", {}),
        (problems.InvalidFields(("prompt", WORDS)), 422, "invalid-request", {}),
        (problems.IdempotencyKeyReused(WORDS), 422, "idempotency-key-reused", {}),
        (counters.RateLimited(WORDS, 0.2), 429, "rate-limited", {"Retry-After": "1"}),
        (counters.BudgetExhausted(WORDS, 86_399.001), 429, "budget-exhausted", {"Retry-After": "86400"}),
        (engines.UpstreamRejected(WORDS, upstream_status=401), 502, "upstream-rejected", {}),
        (engines.UnusableAnswer(WORDS), 502, "unusable-answer", {}),
        (engines.ModelRefused(WORDS), 502, "model-refused", {}),
        (engines.NoModel(WORDS), 503, "no-model", {"Retry-After": "5"}),
        (engines.UpstreamUnavailable(WORDS), 503, "upstream-unavailable", {"Retry-After": "5"}),
        (engines.ModelTimeout(WORDS), 504, "model-timeout", {}),
        (storage.StorageError(WORDS), 503, "storage-unavailable", {"Retry-After": "5"}),
    )
}


def test_every_exception_of_the_table_is_expected_below() -> None:
    """No exception has a problem that this file does not check."""
    assert set(EXPECTED) == set(problems._TABLE)


def raised(harness: Harness, error: Exception) -> TestResponse:
    """The answer of a route that raises this."""

    def view() -> NoReturn:
        raise error

    harness.app.add_url_rule("/raise", view_func=view)
    return harness.http.get("/raise")


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_an_exception_becomes_its_problem(harness: Harness, kind: type[Exception]) -> None:
    """Each foreseen exception has its status, code, words and headers, and is no line in the error log."""
    error, status, slug, headers = EXPECTED[kind]
    with logged() as log:
        answer = raised(harness, error)
    problem = assert_problem(answer, status, slug)
    assert str(error) in problem["detail"]
    sent = {name: answer.headers[name] for name in ("Retry-After", "WWW-Authenticate") if name in answer.headers}
    assert sent == headers
    assert not log.of("klamala.error")


SUBCLASSES: dict[type[Exception], int] = {
    storage.StorageUnavailable: 503,
    storage.RecordRejected: 503,
    storage.DuplicateKey: 503,
}


@pytest.mark.parametrize("kind", SUBCLASSES, ids=lambda kind: kind.__name__)
def test_a_subclass_is_its_base_class_problem(harness: Harness, kind: type[Exception]) -> None:
    """An exception without a row of its own means what its base class means."""
    assert_problem(raised(harness, kind(WORDS)), SUBCLASSES[kind], "storage-unavailable")


def test_the_problems_of_flask_itself_have_the_form_too(harness: Harness) -> None:
    """An HTTP exception from below is a problem of its status, with none of werkzeug's page."""
    problem = assert_problem(raised(harness, ImATeapot(SECRET)), 418, "i-m-a-teapot")
    assert SECRET not in problem["detail"]


def test_errors_name_fields_with_their_messages(harness: Harness) -> None:
    """`errors` has one entry a field, in order."""
    problem = assert_problem(
        raised(harness, problems.InvalidFields(("b", "first"), ("a", "second"))), 422, "invalid-request"
    )
    assert problem["errors"] == [{"field": "b", "message": "first"}, {"field": "a", "message": "second"}]


WAITS: dict[str, tuple[Exception, str]] = {
    "in progress": (problems.CallInProgress(1.0), "1"),
    "in progress, over": (problems.CallInProgress(0.0), "1"),
    "in progress, part of a second": (problems.CallInProgress(20.001), "21"),
    "upstream says": (engines.UpstreamUnavailable(WORDS, retry_after=12.5), "13"),
    "upstream says at once": (engines.UpstreamUnavailable(WORDS, retry_after=0.0), "1"),
    "upstream says nothing": (engines.UpstreamUnavailable(WORDS, upstream_status=500), "5"),
}


@pytest.mark.parametrize(("error", "wait"), WAITS.values(), ids=WAITS)
def test_retry_after_is_whole_seconds_and_never_none(harness: Harness, error: Exception, wait: str) -> None:
    """A caller is told to wait for as long as is known, rounded up, and at least a second."""
    assert raised(harness, error).headers["Retry-After"] == wait


DETERMINATE = [
    engines.UpstreamRejected(WORDS, upstream_status=401),
    engines.UnusableAnswer(WORDS),
    engines.ModelRefused(WORDS),
]
RETRYABLE = [engines.UpstreamUnavailable(WORDS, retry_after=2), engines.ModelTimeout(WORDS)]


def by_name(error: object) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", DETERMINATE, ids=by_name)
def test_a_determinate_failure_is_replayed(harness: Harness, error: engines.EngineError) -> None:
    """The same key and body get the same problem again, marked, under a new request id, and no second call."""
    harness.engine.outcomes = [error]
    token = harness.token()
    first, second = (harness.refine(token, {"prompt": "a"}, Idempotency_Key="k") for _ in range(2))
    _, status, slug, _ = EXPECTED[type(error)]
    original, replayed = assert_problem(first, status, slug), assert_problem(second, status, slug)
    assert replayed.pop("request_id") != original.pop("request_id")
    assert replayed == original
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(harness.engine.tasks) == 1


@pytest.mark.parametrize("error", RETRYABLE, ids=by_name)
def test_a_failure_that_may_pass_is_not_replayed(harness: Harness, error: engines.EngineError) -> None:
    """After a 503 or a 504 the same key reaches the model again."""
    harness.engine.outcomes = [error, "better"]
    token = harness.token()
    first, second = (harness.refine(token, {"prompt": "a"}, Idempotency_Key="k") for _ in range(2))
    _, status, slug, headers = EXPECTED[type(error)]
    assert_problem(first, status, slug)
    assert ("Retry-After" in first.headers) == ("Retry-After" in headers)
    assert second.status_code == 200
    assert "Idempotent-Replayed" not in second.headers


def test_a_key_used_for_another_body_is_422(harness: Harness) -> None:
    """A key stands for one request; another body under it is refused, and neither replayed nor done."""
    token = harness.token()
    assert harness.refine(token, {"prompt": "a"}, Idempotency_Key="k").status_code == 200
    answer = harness.refine(token, {"prompt": "b"}, Idempotency_Key="k")
    assert "errors" not in assert_problem(answer, 422, "idempotency-key-reused")
    assert len(harness.engine.tasks) == 1


def test_a_key_in_use_is_409_until_its_deadline(tmp_path: Path) -> None:
    """A retry that overtakes its first request is told to come back, at the latest when that must have ended."""
    harness = build(tmp_path, REQUEST_DEADLINE_SECONDS="9")
    token, answers = harness.token(), list[TestResponse]()
    harness.engine.before_answer = lambda: answers.append(harness.refine(token, {"prompt": "a"}, Idempotency_Key="k"))
    assert harness.refine(token, {"prompt": "a"}, Idempotency_Key="k").status_code == 200
    (second,) = answers
    assert_problem(second, 409, "request-in-progress")
    assert 1 <= int(second.headers["Retry-After"]) <= 9
    assert len(harness.engine.tasks) == 1
    harness.storage.close()


def test_a_stored_problem_has_no_request_id_of_its_own(harness: Harness) -> None:
    """What the record keeps is the problem; the request it is shown to adds its id."""
    problem = problems.problem_for(engines.ModelRefused(WORDS))
    assert set(problem.as_dict()) == {"type", "title", "status", "detail"}
    again = problems.problem_for(problems.ReplayedFailure(problem.as_dict()))
    assert again.as_dict() == problem.as_dict()


def test_a_failed_refinement_shows_its_problem_when_read(harness: Harness) -> None:
    """The record of a failed call answers 200, with the problem in `error`."""
    harness.engine.outcomes = [engines.ModelRefused(WORDS)]
    token = harness.token()
    failed = harness.refine(token, {"prompt": "a"}).get_json()
    with harness.storage._database.engine.connect() as connection:  # type: ignore[attr-defined]
        record_id = connection.exec_driver_sql("SELECT id FROM requests").scalar_one()
    answer = harness.http.get(f"/refine/{record_id}", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    body = answer.get_json()
    assert body["status"] == "failed"
    assert body["error"] == {name: failed[name] for name in ("type", "title", "status", "detail")}
    assert datetime.fromisoformat(body["created_at"]).tzinfo
