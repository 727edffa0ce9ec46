"""Rate limit and daily token budget: who is counted for what, what answers say of it, and what a call costs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from werkzeug.test import TestResponse

from app import create_app
from auth import SCOPES, issue_token
from calls.limits import CLIENT_FACTOR, TOKENS, _next_midnight, _quotas, tokens_in
from counters import Counters, Mark, Quota
from edge import LIMIT_HEADERS, _duration
from records import Kind, Owner, Selection, utc_now
from refinery.engines import Change, Engine, Generation, ModelRefused, ModelTimeout, Rewrite, UnusableAnswer, Usage
from refinery.offline import OfflineEngine
from settings import Settings
from storage import Storage, StorageUnavailable, open_storage
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.openapi import Described, operations
from tests.stores import Backend, Clock, on, race
from tests.test_log_request import ENTRY
from tests.test_problems import assert_problem, logged

DRAFT = {"prompt": "greet {{name}}"}
# What is counted of each of these: with its token, its client's key, or its body.
LIMITED: dict[str, Mapping[str, str]] = {
    "/refine": DRAFT,
    "/refine-prompt": DRAFT,
    "/generate": DRAFT,
    "/secure-generate": DRAFT,
    "/log-request": ENTRY,
}
# An hour before midnight, and to come: what ended before today, MongoDB deletes by its own clock.
ELEVEN = datetime(2099, 11, 20, 23, tzinfo=UTC)
BUDGET = 1_000_000
# A prompt of 40 characters, and the room for its answer.
PROMPT = {"prompt": "p" * 40, "max_length": 100}
ESTIMATE = 110


def build(folder: Path, engine: Engine | None = None, **environ: str) -> Harness:
    """The service on a new SQLite file with a scripted engine, the clock of its counters standing still."""
    settings = settings_in(folder, **environ)
    return with_clock(settings, open_storage(settings.database_url), Clock(ELEVEN), engine)


def with_clock(settings: Settings, storage: Storage, clock: Clock, engine: Engine | None = None) -> Harness:
    """A service whose counters, and nothing else, go by this clock."""
    storage.counters._clock = clock
    scripted = ScriptedEngine()
    return Harness(create_app(settings, storage=storage, engine=engine or scripted), settings, storage, scripted)


@pytest.fixture
def clock(backend: Backend) -> Clock:
    """The clock of the counters."""
    return replace(backend.clock, now=ELEVEN)


@pytest.fixture
def build_on(backend: Backend, clock: Clock, tmp_path: Path) -> Callable[..., Harness]:
    """The service on a store of each kind, with a scripted engine, with these settings and the clock."""
    return lambda **environ: with_clock(settings_in(tmp_path, **environ), backend.open(clock=utc_now), clock)


def left(answer: TestResponse, unit: str = "requests") -> tuple[str | None, ...]:
    """Limit, remaining, and the time until the reset, as an answer says them."""
    return tuple(answer.headers.get(name) for name in LIMIT_HEADERS[unit])


def owner_of(harness: Harness) -> Owner:
    """A client that is its own user."""
    client_id = harness.register().client_id
    return Owner(client_id, client_id)


def token_of(harness: Harness, owner: Owner, *scopes: str) -> str:
    return issue_token(harness.policy, owner.client_id, owner.user_id, scopes or SCOPES)


def used(harness: Harness, owner: Owner) -> list[int]:
    """The tokens that are counted for the caller and for its client."""
    taking = harness.storage.counters.take(_quotas(TOKENS, owner, 10**9, _next_midnight), 0)
    return [count.mark.amount for count in taking.counts]


# Requests


def test_answers_count_down_to_429_and_begin_anew(build_on: Callable[..., Harness], clock: Clock) -> None:
    """Each answer says what is left; over the limit it is 429 with the seconds to wait, after which all is there."""
    harness = build_on(RATE_LIMIT="2/minute")
    token = token_of(harness, owner_of(harness))
    assert left(harness.refine(token, DRAFT)) == ("2", "1", "1m0s")
    clock.advance(seconds=18)
    assert left(harness.refine(token, DRAFT)) == ("2", "0", "42s")
    clock.advance(seconds=2)
    refused = harness.refine(token, DRAFT)
    assert assert_problem(refused, 429, "rate-limited")["detail"] == "The limit of 2 requests is reached."
    assert (refused.headers["Retry-After"], left(refused)) == ("40", ("2", "0", "40s"))
    clock.advance(seconds=39)
    assert harness.refine(token, DRAFT).status_code == 429
    clock.advance(seconds=1)
    assert left(harness.refine(token, DRAFT)) == ("2", "1", "1m0s")
    assert len(harness.engine.tasks) == 3


@dataclass
class Sent:
    """A request by a caller whose only scopes are these, its status, and whether it is counted."""

    status: int
    counted: bool
    path: str = "/refine"
    scopes: tuple[str, ...] = ()
    request: Mapping[str, Any] = field(default_factory=lambda: {"json": DRAFT})
    headers: Mapping[str, str] = field(default_factory=dict)


COUNTED = {
    "good": Sent(200, counted=True),
    "good, reported": Sent(201, counted=True, path="/log-request", request={"json": ENTRY}),
    "no JSON": Sent(400, counted=True, request={"data": b"{", "content_type": "application/json"}),
    "a broken key": Sent(400, counted=True, headers={"Idempotency-Key": "a b"}),
    "text": Sent(415, counted=True, request={"data": b"{}", "content_type": "text/plain"}),
    "too large": Sent(413, counted=True, request={"data": b" " * 1025, "content_type": "application/json"}),
    "an unknown field": Sent(422, counted=True, request={"json": {**DRAFT, "colour": "blue"}}),
    "no token": Sent(401, counted=False, headers={"Authorization": ""}),
    "no scope": Sent(403, counted=False, scopes=("generate",)),
    "reading": Sent(405, counted=False, path="/refine-prompt", request={"method": "GET"}),
    "reading records": Sent(200, counted=False, path="/log-request", request={"method": "GET"}),
}


@pytest.mark.parametrize("sent", COUNTED.values(), ids=COUNTED)
def test_what_is_counted(tmp_path: Path, sent: Sent) -> None:
    """Every request that its guard lets in is counted and told so, also one that is refused for what is in it."""
    harness = build(tmp_path, RATE_LIMIT="9/hour", MAX_BODY_BYTES="1024")
    owner = owner_of(harness)
    headers = {"Authorization": f"Bearer {token_of(harness, owner, *sent.scopes)}", **sent.headers}
    answer = harness.http.open(sent.path, **{"method": "POST", **sent.request}, headers=headers)
    assert answer.status_code == sent.status, answer.text
    assert left(answer)[:2] == (("9", "8") if sent.counted else (None, None))
    assert left(harness.refine(token_of(harness, owner), DRAFT))[1] == ("7" if sent.counted else "8")
    harness.storage.close()


def test_all_limited_routes_share_one_count(tmp_path: Path) -> None:
    """A caller has one limit for all of them, with a token or a key, and past it none of them reads a body."""
    harness = build(tmp_path, RATE_LIMIT="6/hour")
    credentials = harness.register()
    token = harness.token(credentials)
    assert [left(harness.post(path, token, body))[1] for path, body in LIMITED.items()] == ["5", "4", "3", "2", "1"]
    by_key = harness.http.post("/refine-prompt", json=DRAFT, headers={"X-API-Key": credentials.api_key})
    assert left(by_key)[1] == "0"
    for path in LIMITED:
        assert_problem(harness.post(path, token, {"no": "such field"}), 429, "rate-limited")
    assert len(harness.engine.tasks) == 3
    harness.storage.close()


def test_a_replay_is_a_request_all_the_same(tmp_path: Path) -> None:
    """An answer that is given again is counted as the first one was."""
    harness = build(tmp_path, RATE_LIMIT="2/hour")
    token = harness.token()
    answers = [harness.refine(token, DRAFT, Idempotency_Key="k") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    harness.storage.close()


def test_each_caller_has_a_limit_and_its_client_ten_times_that(build_on: Callable[..., Harness]) -> None:
    """Users do not use up one another's limit, nor another client's; together they have ten times as much."""
    harness = build_on(RATE_LIMIT="2/hour")
    mine, other = harness.register().client_id, harness.register().client_id
    users = [Owner(mine, f"user-{number}") for number in range(11)]
    for number, user in enumerate(users[:10]):
        answers = [harness.refine(token_of(harness, user), DRAFT) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert left(answers[0])[:2] == ("2", "1"), number
    refused = harness.refine(token_of(harness, users[10]), DRAFT)
    assert_problem(refused, 429, "rate-limited")
    assert left(refused)[:2] == ("20", "0")
    assert harness.refine(token_of(harness, Owner(other, "user-0")), DRAFT).status_code == 200


def test_without_limits_nothing_is_counted_or_said(tmp_path: Path) -> None:
    """With no limit set no counter is asked, and no answer has a header about it."""
    harness = build(tmp_path)
    harness.storage.counters = Down(harness.storage.counters)
    token = harness.token()
    for path, body in LIMITED.items():
        answer = harness.post(path, token, body)
        assert answer.status_code in (200, 201)
        assert not [name for name, _ in answer.headers if "ratelimit" in name.lower()]
    harness.storage.close()


class Down(Counters):
    """Counters that cannot be reached, in some of their uses."""

    def __init__(self, inner: Counters, *, taking: bool = True) -> None:
        super().__init__(inner._clock)
        self._inner = inner
        self._taking = taking

    def _take(self, quotas: Sequence[Quota], amount: int, now: datetime) -> Mapping[str, Mark]:
        if self._taking:
            raise StorageUnavailable("The audit log cannot be reached.")
        return self._inner._take(quotas, amount, now)

    def _add(self, keys: Sequence[str], until: datetime, amount: int) -> None:
        raise StorageUnavailable("The audit log cannot be reached.")

    def _read(self, keys: Sequence[str]) -> Mapping[str, Mark]:
        return self._inner._read(keys)

    def delete_expired(self) -> None:
        self._inner.delete_expired()


@pytest.mark.parametrize("limit", [{"RATE_LIMIT": "9/hour"}, {"DAILY_TOKEN_BUDGET": "999"}], ids=str)
def test_what_cannot_be_counted_is_not_done(tmp_path: Path, limit: dict[str, str]) -> None:
    """Without its counters the service answers 503, and has asked no model and begun no record."""
    harness = build(tmp_path, None, **limit)
    token = harness.token()
    harness.storage.counters = Down(harness.storage.counters)
    assert_problem(harness.refine(token, DRAFT), 503, "storage-unavailable")
    assert harness.engine.tasks == []
    assert list(harness.storage.every(Selection())) == []
    harness.storage.close()


def test_pages_of_other_origins_read_what_is_left(tmp_path: Path) -> None:
    """CORS exposes the headers of both limits."""
    harness = build(tmp_path, CORS_ORIGINS="https://app.example.com", RATE_LIMIT="9/hour")
    answer = harness.refine(harness.token(), DRAFT, Origin="https://app.example.com")
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {name for names in LIMIT_HEADERS.values() for name in names} <= set(exposed)
    harness.storage.close()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (1, "1s"), (59, "59s"), (60, "1m0s"), (360, "6m0s"), (3600, "1h0m0s"), (86_399, "23h59m59s")],
)
def test_durations_are_written_as_go_writes_them(seconds: int, text: str) -> None:
    """What OpenAI's headers hold, and their readers parse."""
    assert _duration(seconds) == text


# Tokens


def test_a_call_is_reserved_before_and_settled_after(build_on: Callable[..., Harness]) -> None:
    """While the model works an estimate is counted, for caller and client; then what it used, and that is said."""
    harness = build_on(DAILY_TOKEN_BUDGET="1000")
    owner = owner_of(harness)
    in_flight: list[list[int]] = []
    harness.engine.before_answer = lambda: in_flight.append(used(harness, owner))
    harness.engine.outcomes = [Generation("text", "stop", Usage(30, 12))]
    answer = harness.post("/generate", token_of(harness, owner), PROMPT)
    assert in_flight == [[ESTIMATE, ESTIMATE]]
    assert used(harness, owner) == [42, 42]
    assert left(answer, "tokens") == ("1000", "958", "1h0m0s")
    assert left(answer) == (None, None, None)


def test_a_refinement_is_estimated_by_its_draft(tmp_path: Path) -> None:
    """The draft in and half as much again out, the instructions, and a frame; a parent's text is the draft too."""
    harness = build(tmp_path, DAILY_TOKEN_BUDGET=str(BUDGET))
    owner = owner_of(harness)
    token = token_of(harness, owner)
    seen: list[int] = []
    harness.engine.before_answer = lambda: seen.append(used(harness, owner)[0])
    refined = harness.refine(token, {"prompt": "d" * 400, "instructions": "i" * 40}).get_json()
    harness.refine(token, {"parent_id": refined["id"]})
    assert seen == [1000 + 10 + 250, 1000 + 250]
    harness.storage.close()


@pytest.mark.parametrize(("texts", "tokens"), [([""], 0), (["a"], 1), (["a" * 8, None, "b"], 3)])
def test_four_characters_are_a_token(texts: list[str | None], tokens: int) -> None:
    """The estimate of a text, rounded up."""
    assert tokens_in(*texts) == tokens


REWRITE = Rewrite("better {{name}}", (Change("r", "a", "b"),), (), "m", Usage(100, 20))
COSTS: dict[str, tuple[Any, int, int]] = {
    "known": (Generation("x", "stop", Usage(5, 6)), 200, 11),
    "nothing": (Generation("x", "stop", Usage(0, 0)), 200, 0),
    "more than estimated": (Generation("x", "stop", Usage(500, 100)), 200, 600),
    "unknown": (Generation("x", "stop", Usage(None, None)), 200, ESTIMATE),
    "half known": (Generation("x", "stop", Usage(5, None)), 200, ESTIMATE),
    "a failure": (ModelTimeout("No."), 504, 0),
    "a refusal": (ModelRefused("No."), 502, 0),
    "a failure with its price": (UnusableAnswer("No.", usage=Usage(7, 8)), 502, 15),
    "a failure of unknown price": (UnusableAnswer("No.", usage=Usage(7, None)), 502, ESTIMATE),
}


@pytest.mark.parametrize(("outcome", "status", "tokens"), COSTS.values(), ids=COSTS)
def test_what_a_call_costs(tmp_path: Path, outcome: Any, status: int, tokens: int) -> None:
    """What the model's server counted; the estimate where it did not say; nothing for a failure without a price."""
    harness = build(tmp_path, DAILY_TOKEN_BUDGET=str(BUDGET))
    owner = owner_of(harness)
    harness.engine.outcomes = [outcome]
    answer = harness.post("/generate", token_of(harness, owner), PROMPT)
    assert answer.status_code == status
    assert used(harness, owner) == [tokens, tokens]
    assert left(answer, "tokens")[:2] == (str(BUDGET), str(BUDGET - tokens))
    harness.storage.close()


def test_both_attempts_of_a_refinement_cost(tmp_path: Path) -> None:
    """A corrective attempt is paid for too."""
    harness = build(tmp_path, DAILY_TOKEN_BUDGET=str(BUDGET))
    owner = owner_of(harness)
    harness.engine.outcomes = [Rewrite("lost", (), (), "m", Usage(100, 20)), REWRITE]
    assert harness.refine(token_of(harness, owner), DRAFT).get_json()["integrity"]["attempts"] == 2
    assert used(harness, owner) == [240, 240]
    harness.storage.close()


def test_a_spent_budget_is_429_until_midnight(build_on: Callable[..., Harness], clock: Clock) -> None:
    """Who has nothing left is told when the next day begins, nothing is recorded, and then all of it is there again."""
    harness = build_on(DAILY_TOKEN_BUDGET="100")
    owner = owner_of(harness)
    token = token_of(harness, owner)
    harness.engine.outcomes = [Generation("x", "stop", Usage(60, 39))]
    assert left(harness.post("/generate", token, PROMPT), "tokens") == ("100", "1", "1h0m0s")
    # The last call may pass the limit: what it will use is not known before.
    assert left(harness.post("/generate", token, PROMPT), "tokens") == ("100", "0", "1h0m0s")
    clock.advance(minutes=30)
    refused = harness.post("/generate", token, PROMPT)
    assert assert_problem(refused, 429, "budget-exhausted")["detail"] == "The budget of 100 tokens a day is used up."
    assert (refused.headers["Retry-After"], left(refused, "tokens")) == ("1800", ("100", "0", "30m0s"))
    assert harness.refine(token, DRAFT).status_code == 429
    assert harness.post("/log-request", token, ENTRY).status_code == 201
    assert len(harness.engine.prompts) == 2
    assert len(list(harness.storage.every(Selection(kind=Kind.GENERATE)))) == 2
    clock.advance(minutes=30)
    assert left(harness.post("/generate", token, PROMPT), "tokens") == ("100", "1", "24h0m0s")


def test_users_share_ten_budgets_of_their_client(tmp_path: Path) -> None:
    """A client's users may use ten times as much together, and another client's are not asked to pay for them."""
    harness = build(tmp_path, DAILY_TOKEN_BUDGET="100")
    mine, other = harness.register().client_id, harness.register().client_id
    harness.engine.outcomes = [Generation("x", "stop", Usage(100, 0))]
    statuses = [
        harness.post("/generate", token_of(harness, Owner(client_id, f"user-{number}")), PROMPT).status_code
        for client_id, number in [*((mine, number) for number in range(CLIENT_FACTOR + 1)), (other, 0)]
    ]
    assert statuses == [200] * CLIENT_FACTOR + [429, 200]
    harness.storage.close()


@on("sqlite", "postgresql", "nx", "mongodb")
def test_a_burst_does_not_pass_a_budget(build_on: Callable[..., Harness]) -> None:
    """Calls that begin at once are counted before they are made: one that uses up the budget keeps all others out."""
    harness = build_on(DAILY_TOKEN_BUDGET="100")
    token = token_of(harness, owner_of(harness))
    harness.engine.outcomes = [Generation("x", "stop", Usage(100, 0))]
    answers = race([lambda: harness.post("/generate", token, PROMPT)] * 20)
    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 19
    assert len(harness.engine.prompts) == 1


def test_a_replay_costs_nothing_and_needs_no_budget(build_on: Callable[..., Harness]) -> None:
    """An answer that was paid for is given again, also when the budget is spent; no other key opens it."""
    harness = build_on(DAILY_TOKEN_BUDGET="100")
    owner = owner_of(harness)
    token = token_of(harness, owner)
    harness.engine.outcomes = [Generation("x", "stop", Usage(40, 2))]
    first, again = (harness.post("/generate", token, PROMPT, Idempotency_Key="k") for _ in range(2))
    assert (again.get_json(), again.headers["Idempotent-Replayed"]) == (first.get_json(), "true")
    assert used(harness, owner) == [42, 42]
    harness.engine.outcomes = [Generation("x", "stop", Usage(100, 0))]
    assert harness.post("/generate", token, PROMPT).status_code == 200
    again = harness.post("/generate", token, PROMPT, Idempotency_Key="k")
    assert (again.status_code, again.get_json()) == (200, first.get_json())
    assert left(again, "tokens")[1] == "0"
    assert harness.post("/generate", token, {"prompt": "b"}, Idempotency_Key="k").status_code == 422
    assert harness.post("/generate", token, PROMPT, Idempotency_Key="other").status_code == 429
    assert used(harness, owner) == [142, 142]


def test_a_key_in_use_costs_nothing(tmp_path: Path) -> None:
    """A retry that overtakes its first request gives its reservation back."""
    harness = build(tmp_path, DAILY_TOKEN_BUDGET=str(BUDGET))
    owner = owner_of(harness)
    token, answers = token_of(harness, owner), list[TestResponse]()
    harness.engine.outcomes = [Generation("x", "stop", Usage(1, 2))]
    harness.engine.before_answer = lambda: answers.append(harness.post("/generate", token, PROMPT, Idempotency_Key="k"))
    assert harness.post("/generate", token, PROMPT, Idempotency_Key="k").status_code == 200
    assert [answer.status_code for answer in answers] == [409]
    assert used(harness, owner) == [3, 3]
    harness.storage.close()


def test_a_settlement_that_is_lost_fails_no_call(tmp_path: Path) -> None:
    """A storage that goes away after the answer costs the caller the estimate, and neither answer nor record."""
    harness = build(tmp_path, DAILY_TOKEN_BUDGET=str(BUDGET))
    owner = owner_of(harness)
    token, inner = token_of(harness, owner), harness.storage.counters
    harness.storage.counters = Down(inner, taking=False)
    with logged() as log:
        answer = harness.post("/generate", token, PROMPT)
    assert (answer.status_code, left(answer, "tokens")[1]) == (200, str(BUDGET - ESTIMATE))
    (line,) = log.of("klamala.limits")
    assert (line["level"], line["request_id"]) == ("warning", answer.headers["X-Request-Id"])
    harness.storage.counters = inner
    assert used(harness, owner) == [ESTIMATE, ESTIMATE]
    harness.storage.close()


def test_a_late_call_does_not_wait_to_be_settled(tmp_path: Path) -> None:
    """Past the deadline of the request the estimate stays: another wait for the storage would outlast the caller's."""
    harness = build(tmp_path, DAILY_TOKEN_BUDGET=str(BUDGET), REQUEST_DEADLINE_SECONDS="1")
    owner = owner_of(harness)

    def dawdle() -> None:
        # An engine that takes no notice of its deadline, which is a little earlier than the request's.
        sleep(harness.engine.deadlines[-1].minus(-1).remaining())

    harness.engine.before_answer = dawdle
    assert harness.post("/generate", token_of(harness, owner), PROMPT).status_code == 200
    assert used(harness, owner) == [ESTIMATE, ESTIMATE]
    harness.storage.close()


def test_the_built_in_rules_use_no_tokens(tmp_path: Path) -> None:
    """Without a model nothing is reserved, so that nobody waits for a budget that nobody uses."""
    harness = build(tmp_path, OfflineEngine(), DAILY_TOKEN_BUDGET="1")
    token = harness.token()
    for _ in range(3):
        assert left(harness.refine(token, DRAFT), "tokens")[:2] == ("1", "1")
    harness.storage.close()


def test_the_operators_own_refinements_are_not_limited(tmp_path: Path) -> None:
    """`flask refine` asks no counter."""
    harness = build(tmp_path, RATE_LIMIT="1/day", DAILY_TOKEN_BUDGET="1")
    harness.storage.counters = Down(harness.storage.counters)
    for _ in range(2):
        result = harness.app.test_cli_runner().invoke(args=["refine", "--json", "a draft"])
        assert (result.exit_code, json.loads(result.stdout)["status"]) == (0, "succeeded"), result.stderr
    harness.storage.close()


def test_nothing_of_a_user_is_in_a_counter(tmp_path: Path) -> None:
    """A counter's key tells neither user nor client, so that erasing a user's records leaves no name behind."""
    harness = build(tmp_path, RATE_LIMIT="9/hour", DAILY_TOKEN_BUDGET="999")
    credentials = harness.register()
    harness.refine(harness.token(credentials, user_id="zoe-canary"), DRAFT)
    harness.storage.close()
    content = b"".join(path.read_bytes() for path in tmp_path.glob("test.sqlite3*"))
    assert content.count(b"zoe-canary") > 0
    with sqlite3.connect(tmp_path / "test.sqlite3") as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM counters")]
    assert len(set(keys)) == 4
    assert not [key for key in keys if len(key) != 64 or "zoe" in key or credentials.client_id in key]


# The description


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Harness, list[Described]]]:
    """A service with room for one request and one call, and what its description says of its limited operations."""
    folder = tmp_path_factory.mktemp("limits")
    harness = build(folder, RATE_LIMIT="2/hour", DAILY_TOKEN_BUDGET="1")
    document = harness.http.get("/openapi.json").get_json()
    yield harness, [each for each in operations(document) if each.path in LIMITED and each.method == "post"]
    harness.storage.close()


def test_what_is_answered_at_a_limit_is_described(described: tuple[Harness, list[Described]]) -> None:
    """Answers below, at and over both limits are those of the description, headers included."""
    harness, limited = described
    harness.engine.outcomes = []
    assert {each.path for each in limited} == set(LIMITED)
    for operation in limited:
        body, token = LIMITED[operation.path], harness.token()
        harness.engine.outcomes = [Generation("x", "stop", Usage(1, 1)) if "generate" in operation.path else REWRITE]
        answers = [harness.post(operation.path, token, body) for _ in range(3)]
        for answer in answers:
            operation.check(answer)
        spendable = operation.path != "/log-request"
        codes = {"rate-limited", "budget-exhausted"} if spendable else {"rate-limited"}
        assert set(operation.codes(429)) == codes
        statuses = [answer.status_code for answer in answers]
        assert statuses == ([200, 429, 429] if spendable else [201, 201, 429])


def test_limits_are_described_where_there_are_any(described: tuple[Harness, list[Described]], tmp_path: Path) -> None:
    """Only limited operations have a 429 and the headers, and without a limit none has; nor has who is turned away."""
    harness, limited = described
    assert refusing(harness) == {each.id for each in limited}
    for operation in limited:
        said = operation.says["responses"]
        told = {status for status, each in said.items() if LIMIT_HEADERS["requests"][0] in each["headers"]}
        assert told == set(said) - {"401", "403"}
    plain = build(tmp_path)
    assert refusing(plain) == set()
    plain.storage.close()


def refusing(harness: Harness) -> set[str]:
    """The operations of which its description says that they may answer 429."""
    document = harness.http.get("/openapi.json").get_json()
    return {each.id for each in operations(document) if "429" in each.says["responses"]}
