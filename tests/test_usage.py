"""`GET /usage`: what the calls came to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from records import Kind, Owner, Status, rfc3339, utc_now
from tests.harness import Harness
from tests.test_log_request import ENTRY, keep

DAY = datetime(2026, 3, 1, tzinfo=UTC)
MARCH = {"from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"}


def test_calls_are_summed_by_day_and_model(harness: Harness) -> None:
    """Finished refinements and generations count; pending, abandoned and reported ones do not; unknown tokens are 0."""
    credentials = harness.register()
    owner = Owner(credentials.client_id, credentials.client_id)
    tokens = {"input_tokens": 10, "output_tokens": 5}
    keep(harness, owner, model="a", timestamp=DAY, usage=tokens, latency_ms=100)
    keep(harness, owner, model="a", timestamp=DAY, usage=tokens, latency_ms=101, kind=Kind.GENERATE)
    unknown = {"input_tokens": None, "output_tokens": 1}
    last = DAY + timedelta(days=1) - timedelta(milliseconds=1)
    keep(harness, owner, model="a", timestamp=last, usage=unknown, latency_ms=400, status=Status.FAILED)
    keep(harness, owner, model="b", timestamp=DAY + timedelta(days=1), usage=None, latency_ms=7)
    keep(harness, owner, model="a", timestamp=DAY, status=Status.PENDING)
    keep(harness, owner, model="a", timestamp=DAY, status=Status.ABANDONED)
    keep(harness, owner, model="a", timestamp=DAY, kind=Kind.CLIENT, source="client")
    answer = harness.get("/usage", harness.token(credentials), MARCH)
    assert answer.get_json() == {
        "from": "2026-03-01T00:00:00.000Z",
        "to": "2026-04-01T00:00:00.000Z",
        "items": [
            {
                "day": "2026-03-01",
                "model": "a",
                "calls": 3,
                "succeeded": 2,
                "failed": 1,
                "input_tokens": 20,
                "output_tokens": 11,
                "latency_ms": {"mean": 200.3, "max": 400},
            },
            {
                "day": "2026-03-02",
                "model": "b",
                "calls": 1,
                "succeeded": 1,
                "failed": 0,
                "input_tokens": 0,
                "output_tokens": 0,
                "latency_ms": {"mean": 7.0, "max": 7},
            },
        ],
    }


def test_the_last_thirty_days_unless_asked_otherwise(harness: Harness) -> None:
    """Without `from` it is thirty days before `to`, without `to` it is now."""
    credentials = harness.register()
    owner, now = Owner(credentials.client_id, credentials.client_id), utc_now()
    for days in (1, 29, 31):
        keep(harness, owner, timestamp=now - timedelta(days=days), latency_ms=1)
    token = harness.token(credentials)
    body = harness.get("/usage", token).get_json()
    assert sum(item["calls"] for item in body["items"]) == 2
    since, until = (datetime.fromisoformat(body[name]) for name in ("from", "to"))
    assert until - since == timedelta(days=30)
    assert until >= now
    earlier = harness.get("/usage", token, {"to": rfc3339(now - timedelta(days=15))}).get_json()
    assert sum(item["calls"] for item in earlier["items"]) == 2
    everything = harness.get("/usage", token, {"from": "2020-01-01T00:00:00Z"}).get_json()
    assert sum(item["calls"] for item in everything["items"]) == 3


def test_real_calls_are_counted(harness: Harness) -> None:
    """What the service did today is there at once, under the model's name, and a report is not."""
    token = harness.token()
    harness.refine(token, {"prompt": "x"})
    harness.post("/generate", token, {"prompt": "x"})
    harness.post("/log-request", token, ENTRY)
    (item,) = harness.get("/usage", token).get_json()["items"]
    assert (item["model"], item["calls"], item["succeeded"]) == ("gpt-4.1", 2, 2)


def test_usage_is_the_caller_s(harness: Harness) -> None:
    """A user sees their own calls, a reader of all those of the client's users or of one of them."""
    mine, other = harness.register(), harness.register()
    for credentials, user, calls in ((mine, "ann", 1), (mine, "bob", 2), (other, "ann", 4)):
        for _ in range(calls):
            keep(harness, Owner(credentials.client_id, user), timestamp=DAY, latency_ms=1)

    def calls_of(token: str, **query: str) -> int:
        items = harness.get("/usage", token, {**MARCH, **query}).get_json()["items"]
        return sum(item["calls"] for item in items)

    assert calls_of(harness.token(mine, user_id="ann")) == 1
    assert calls_of(harness.token(other, user_id="ann")) == 4
    assert calls_of(harness.token(mine)) == 3
    assert calls_of(harness.token(mine), user_id="bob") == 2
    assert calls_of(harness.token(mine, scope="log:read")) == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-03-01", "from"),
        ("to=now", "to"),
        ("limit=5", "limit"),
        ("to=0001-01-02T00:00:00Z", "to"),
        ("from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z", "from"),
        ("from=9999-01-01T00:00:00Z", "from"),
        ("user_id=", "user_id"),
    ],
)
def test_a_wrong_query_is_refused(harness: Harness, query: str, field: str) -> None:
    """The wrong parameter is named."""
    answer = harness.get(f"/usage?{query}", harness.token())
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]
