"""What the service really answers is what its description says, and what the description says does happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
from werkzeug.test import TestResponse

from app import create_app
from auth import SCOPES, issue_token
from clients import Credentials, register
from records import Completion, Record, Status, new_id, utc_now
from refinery.engines import (
    EngineError,
    ModelRefused,
    ModelTimeout,
    NoModel,
    UnusableAnswer,
    UpstreamRejected,
    UpstreamUnavailable,
)
from storage import Storage, StorageUnavailable, open_storage
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.openapi import Described, code_of, operations, values
from tests.stores import pending

SMALL_BODY = 2048
KEY = {"Idempotency-Key": "drift-1"}


class Faulty:
    """A store that does what the real one does, until it is told to fail."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.fault: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        if self.fault:
            raise self.fault
        return getattr(self._storage, name)


@dataclass
class Caller:
    """A client with every scope, a token, and a refinement of its own, at a service whose parts can be made to fail."""

    harness: Harness
    store: Faulty
    credentials: Credentials
    record_id: str

    def send(self, operation: Described, **changes: Any) -> TestResponse:
        """A good request, but for the changes: `token`, `headers`, `id`, and what werkzeug's client takes."""
        headers = self._credentials(operation, changes.pop("token", None)) | changes.pop("headers", {})
        path = operation.path.format(record_id=changes.pop("id", self.record_id))
        request = {**_good_body(operation), **changes}
        if "data" in request:
            request.pop("json", None)
        return self.harness.http.open(path, method=operation.method.upper(), headers=headers, **request)

    def _credentials(self, operation: Described, token: str | None) -> dict[str, str]:
        if operation.id == "issueToken":
            return {"X-API-Key": self.credentials.api_key if token is None else token}
        if token is None:
            token = self.token(*SCOPES)
        return {"Authorization": f"Bearer {token}"} if token and operation.says["security"] else {}

    def token(self, *scopes: str) -> str:
        client_id = self.credentials.client_id
        return issue_token(self.harness.policy, client_id, client_id, scopes)


def _good_body(operation: Described) -> dict[str, Any]:
    content = operation.says.get("requestBody", {}).get("content", {})
    return {"json": values(content["application/json"])[0]} if content else {}


Send = Callable[[Caller, Described], TestResponse]


@dataclass(frozen=True)
class Case:
    """What to send, to each operation or to some, and the status and codes that it gets where they are documented."""

    name: str
    status: int
    codes: tuple[str, ...]
    send: Send
    only: tuple[str, ...] = ()


def changed(**changes: Any) -> Send:
    return lambda caller, operation: caller.send(operation, **changes)


def without_scope(caller: Caller, operation: Described) -> TestResponse:
    return caller.send(operation, token=caller.token("none"))


def with_store_failing(fault: Exception) -> Send:
    def send(caller: Caller, operation: Described) -> TestResponse:
        caller.store.fault = fault
        try:
            return caller.send(operation)
        finally:
            caller.store.fault = None

    return send


def with_engine_failing(error: EngineError, *, times: int = 1) -> Send:
    def send(caller: Caller, operation: Described) -> TestResponse:
        caller.harness.engine.outcomes = [error]
        try:
            return [caller.send(operation, headers=KEY) for _ in range(times)][-1]
        finally:
            caller.harness.engine.outcomes = []

    return send


def repeated(caller: Caller, operation: Described) -> TestResponse:
    caller.send(operation, headers=KEY)
    return caller.send(operation, headers=KEY)


def repeated_with_another_body(caller: Caller, operation: Described) -> TestResponse:
    caller.send(operation, headers=KEY)
    return caller.send(operation, headers=KEY, json={"prompt": "another", **_needed(operation)})


def _needed(operation: Described) -> dict[str, str]:
    return {"response": "another"} if operation.id == "logRequest" else {}


def repeated_too_early(caller: Caller, operation: Described) -> TestResponse:
    """The answer to the same request, sent while the model works on the first."""
    inner: list[TestResponse] = []

    def again() -> None:
        caller.harness.engine.before_answer = None
        inner.append(caller.send(operation, headers=KEY))

    caller.harness.engine.before_answer = again
    outer = caller.send(operation, headers=KEY)
    caller.harness.engine.before_answer = None
    return inner[0] if inner else outer


def in_background(caller: Caller, operation: Described, times: int = 1) -> TestResponse:
    answers = [caller.send(operation, headers={**KEY, "Prefer": "respond-async"}) for _ in range(times)]
    # What is at work must not meet the faults of other cases.
    caller.harness.app.extensions["jobs"].stop()
    return answers[-1]


def in_background_again(caller: Caller, operation: Described) -> TestResponse:
    return in_background(caller, operation, times=2)


def with_known_version(caller: Caller, operation: Described) -> TestResponse:
    version = caller.send(operation).headers.get("ETag", "")
    return caller.send(operation, headers={"If-None-Match": version})


def of_a_pending_refinement(caller: Caller, operation: Described) -> TestResponse:
    return caller.send(operation, id=refinement(caller.harness.storage, caller.credentials, Status.PENDING).id)


JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
REFINING = ("createRefinement", "refinePrompt")
GENERATING = ("generateText", "secureGenerateText")
CASES = (
    Case("good", 200, ("",), changed()),
    Case("good, new", 201, ("",), changed()),
    Case("good form", 200, ("",), changed(data="grant_type=client_credentials", content_type=FORM), ("issueToken",)),
    Case("pending", 200, ("",), of_a_pending_refinement),
    Case("repeated", 200, ("",), repeated),
    Case("repeated, new", 201, ("",), repeated),
    Case("in background", 202, ("",), in_background),
    Case("in background, repeated", 202, ("",), in_background_again),
    Case("known version", 304, ("",), with_known_version),
    Case(
        "broken JSON",
        400,
        ("malformed-request", "invalid_request"),
        changed(data=b"{", content_type=JSON),
    ),
    Case("bad key", 400, ("malformed-request",), changed(headers={"Idempotency-Key": "a b"})),
    Case("bad preference", 400, ("malformed-request",), changed(headers={"Prefer": "respond async"}), REFINING),
    Case("token and key", 400, ("ambiguous-credentials",), changed(headers={"X-API-Key": "klm_a.b"})),
    Case("another grant", 400, ("unsupported_grant_type",), changed(json={"grant_type": "password"})),
    Case("unknown scope", 400, ("invalid_scope",), changed(json={"scope": "everything"})),
    Case("no token", 401, ("authentication-required", "invalid_client"), changed(token="")),
    Case("bad token", 401, ("invalid-token", "invalid_client"), changed(token="e30.e30.e30")),
    Case("no scope", 403, ("insufficient-scope",), without_scope),
    Case("unknown id", 404, ("not-found",), changed(id=new_id())),
    Case("impossible id", 404, ("not-found",), changed(id="%00")),
    Case("in progress", 409, ("request-in-progress",), repeated_too_early),
    Case(
        "too large",
        413,
        ("body-too-large", "invalid_request"),
        changed(data=b" " * (SMALL_BODY + 1), content_type=JSON),
    ),
    Case("text", 415, ("unsupported-media-type",), changed(data=b"{}", content_type="text/plain")),
    Case("unknown parameter", 422, ("invalid-request",), changed(query_string="colour=blue")),
    Case("key used again", 422, ("idempotency-key-reused",), repeated_with_another_body),
    Case("crash", 500, ("internal-error", "server_error"), with_store_failing(RuntimeError("a secret"))),
    Case("rejected", 502, ("upstream-rejected",), with_engine_failing(UpstreamRejected("No."))),
    Case("unusable", 502, ("unusable-answer",), with_engine_failing(UnusableAnswer("No."))),
    Case("refused", 502, ("model-refused",), with_engine_failing(ModelRefused("No."))),
    Case("refused, repeated", 502, ("model-refused",), with_engine_failing(ModelRefused("No."), times=2)),
    Case(
        "store down",
        503,
        ("storage-unavailable", "temporarily_unavailable", ""),
        with_store_failing(StorageUnavailable("The audit log cannot be reached.")),
    ),
    Case("overloaded", 503, ("upstream-unavailable",), with_engine_failing(UpstreamUnavailable("No.", retry_after=7))),
    Case("no model", 503, ("no-model",), with_engine_failing(NoModel("No.")), GENERATING),
    Case("too late", 504, ("model-timeout",), with_engine_failing(ModelTimeout("No."))),
)

# Documented, and not provoked: by operation, status and code, with the reason.
NOT_PROVOKED = {
    ("getHealth", 500, "internal-error"): "nothing in it can fail",
    ("getDescription", 500, "internal-error"): "nothing in it can fail that would not fail each time",
}


DETAIL = {"strategy": "general", "instructions": None, "parent_id": None}


def refinement(storage: Storage, credentials: Credentials, status: Status) -> Record:
    """A record of the client's own."""
    now = utc_now()
    owner = {"client_id": credentials.client_id, "user_id": credentials.client_id}
    record = pending(now, deadline_at=None, detail=DETAIL, **owner)
    storage.begin(record)
    if status is not Status.PENDING:
        done = Completion(status=status, response="better", detail=record.detail, latency_ms=1, completed_at=now)
        storage.finish(record.id, done)
    return record


@dataclass
class Service:
    """The service under test, shared; each request comes from a client of its own."""

    harness: Harness
    store: Faulty
    operations: list[Described]

    def caller(self) -> Caller:
        credentials = register(self.harness.storage, "drift", SCOPES)
        record = refinement(self.harness.storage, credentials, Status.SUCCEEDED)
        return Caller(self.harness, self.store, credentials, record.id)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = settings_in(tmp_path_factory.mktemp("drift"), MAX_BODY_BYTES=str(SMALL_BODY))
    storage = open_storage(settings.database_url)
    store, engine = Faulty(storage), ScriptedEngine()
    app = create_app(settings, storage=cast("Storage", store), engine=engine)
    harness = Harness(app, settings, storage, engine)
    document = harness.http.get("/openapi.json").get_json()
    yield Service(harness, store, list(operations(document)))
    storage.close()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_is_answered_is_described(service: Service, case: Case) -> None:
    """Whatever is sent to an operation, its answer is described, and where this one is described it is this one."""
    for operation in service.operations:
        if case.only and operation.id not in case.only:
            continue
        answer = case.send(service.caller(), operation)
        operation.check(answer)
        code = code_of(answer.get_json(silent=True))
        documented = operation.codes(answer.status_code)
        assert code in documented, f"{operation.id}: {answer.status_code} {code}"
        expected = {each for each in case.codes if each in operation.codes(case.status)}
        if expected and not expected & {each for name, _, each in NOT_PROVOKED if name == operation.id}:
            assert (answer.status_code, code) == (case.status, *expected), operation.id


def test_what_is_described_is_provoked(service: Service) -> None:
    """Each status and code of each operation is answered by a case above, or is named with the reason why not."""
    described = {
        (operation.id, int(status), code)
        for operation in service.operations
        for status in operation.says["responses"]
        for code in operation.codes(int(status))
    }
    provoked = {
        (name, status, code)
        for name, status, code in described
        for case in CASES
        if status == case.status and code in case.codes and (not case.only or name in case.only)
    }
    assert described - provoked - set(NOT_PROVOKED) == set()
    assert set(NOT_PROVOKED) <= described
