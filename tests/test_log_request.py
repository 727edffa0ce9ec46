"""`/log-request`: what clients report, and the log as its owners may read it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from records import Kind, Owner, Record, Status, new_id, utc_now
from refinery.engines import ModelRefused
from schemas.log import LogPage
from tests.harness import Harness, build
from tests.stores import pending

ENTRY = {"prompt": "What is 2 + 2?", "response": "4"}
ITEM = {
    "id",
    "kind",
    "source",
    "status",
    "user_id",
    "client_id",
    "request_id",
    "prompt",
    "response",
    "metadata",
    "detail",
    "model",
    "engine",
    "usage",
    "error",
    "latency_ms",
    "timestamp",
    "completed_at",
}


def pages(harness: Harness, token: str, **query: Any) -> list[list[dict[str, Any]]]:
    """Every page of the log, from the first to the last."""
    found, cursor = [], None
    while True:
        answer = harness.get("/log-request", token, {**query, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        body = answer.get_json()
        assert set(body) == {"items", "next_cursor"}
        found.append(body["items"])
        cursor = body["next_cursor"]
        if cursor is None:
            return found


def log(harness: Harness, token: str, **query: Any) -> list[dict[str, Any]]:
    return [item for page in pages(harness, token, **query) for item in page]


def keep(harness: Harness, owner: Owner, **fields: Any) -> Record:
    """A record in the log as it is, without a request."""
    values = {"status": Status.SUCCEEDED, "client_id": owner.client_id, "user_id": owner.user_id, "detail": {}}
    record = pending(utc_now(), **{**values, "deadline_at": None, **fields})
    harness.storage.begin(record)
    return record


def test_a_report_is_stored_and_read_again(harness: Harness) -> None:
    """What a client reports comes back whole, under the address that the answer names."""
    token = harness.token(user_id="ann")
    report = {**ENTRY, "model": "llama3", "timestamp": "2024-02-29T23:59:59.1239+02:00", "metadata": {"a.b": [1]}}
    answer = harness.post("/log-request", token, report, X_Request_Id="req-1")
    body = answer.get_json()
    assert (answer.status_code, body["message"]) == (201, "Request logged successfully")
    assert set(body) == {"message", "id", "created_at"}
    assert answer.headers["Location"] == f"/log-request/{body['id']}"
    item = harness.get(answer.headers["Location"], token).get_json()
    assert item == log(harness, token)[0]
    assert item.pop("client_id").startswith("klm_")
    assert item == {
        **ENTRY,
        "id": body["id"],
        "kind": "client",
        "source": "client",
        "status": "succeeded",
        "user_id": "ann",
        "request_id": "req-1",
        "metadata": {"a.b": [1]},
        "detail": {},
        "model": "llama3",
        "engine": None,
        "usage": None,
        "error": None,
        "latency_ms": None,
        "timestamp": "2024-02-29T21:59:59.123Z",
        "completed_at": body["created_at"],
    }


def test_a_report_of_now_needs_two_fields(harness: Harness) -> None:
    """Without a timestamp it happened when it came in."""
    token = harness.token()
    body = harness.post("/log-request", token, ENTRY).get_json()
    (item,) = log(harness, token)
    assert item["timestamp"] == item["completed_at"] == body["created_at"]
    assert (item["model"], item["metadata"]) == (None, None)


METADATA = {
    "$set": {"$where": "1", "a.b": {"c..d": [1, [2, {"$": None}]]}},
    "": {"": "empty names"},
    "_id": "not the record's",
    "z": [2**53 + 1, 2**63, -(2**200), 0.1, 1.0, -0.0, 1e300, 5e-324, True, False, None],
    "a": "Grüße, 世界 🦊 \u2028 \x7f \x01",
    "deep": [[[[{"x": [[]]}]]]],
}


def test_metadata_comes_back_exactly(harness: Harness) -> None:
    """Any names, any order, and each number as it was, in a page and alone."""
    token = harness.token()
    body = harness.post("/log-request", token, {**ENTRY, "metadata": METADATA}).get_json()
    for answer in (harness.get(f"/log-request/{body['id']}", token), harness.get("/log-request", token)):
        value = json.loads(answer.text)
        item = value["items"][0] if "items" in value else value
        assert json.dumps(item["metadata"]) == json.dumps(METADATA)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def test_metadata_has_a_size_and_a_depth(harness: Harness) -> None:
    """16 KB as JSON and 64 levels are taken, one byte or level more is refused."""
    token = harness.token()
    full = {"x": "é" * 8186}
    assert len(json.dumps(full, ensure_ascii=False, separators=(",", ":")).encode()) == 16 * 1024 - 4
    for metadata, status in (
        ({"x": "é" * 8186 + "four"}, 201),
        ({"x": "é" * 8186 + "fiver"}, 422),
        (nested(64), 201),
        (nested(65), 422),
        ({}, 201),
    ):
        answer = harness.post("/log-request", token, {**ENTRY, "metadata": metadata})
        assert answer.status_code == status, answer.text


WRONG = {
    "no prompt": ('{"response": "4"}', "prompt"),
    "no response": ('{"prompt": "x"}', "response"),
    "blank prompt": ('{"prompt": " ", "response": "4"}', "prompt"),
    "blank response": ('{"prompt": "x", "response": "\\n"}', "response"),
    "NUL in the response": ('{"prompt": "x", "response": "a\\u0000"}', "response"),
    "surrogate in the prompt": ('{"prompt": "\\ud800", "response": "a"}', "prompt"),
    "prompt too long": (json.dumps({"prompt": "x" * 100_001, "response": "a"}), "prompt"),
    "response is a number": ('{"prompt": "x", "response": 4}', "response"),
    "unknown field": ('{"prompt": "x", "response": "4", "user_id": "bob"}', "user_id"),
    "model too long": (json.dumps({**ENTRY, "model": "x" * 257}), "model"),
    "metadata is a list": (json.dumps({**ENTRY, "metadata": [1]}), "metadata"),
    "metadata is text": (json.dumps({**ENTRY, "metadata": "{}"}), "metadata"),
    "infinite number": ('{"prompt": "x", "response": "4", "metadata": {"a": [1e400]}}', "metadata"),
    "number without end": ('{"prompt": "x", "response": "4", "metadata": {"a": 1e-99999999999999999999}}', "metadata"),
    "too many digits": ('{"prompt": "x", "response": "4", "metadata": {"a": 0.12345678901234567891}}', "metadata"),
    "endless integer": ('{"prompt": "x", "response": "4", "metadata": {"a": ' + "9" * 5000 + "}}", "metadata"),
    "NUL in metadata": ('{"prompt": "x", "response": "4", "metadata": {"a": "\\u0000"}}', "metadata"),
    "NUL in a name": ('{"prompt": "x", "response": "4", "metadata": {"\\u0000": 1}}', "metadata"),
    "surrogate in metadata": ('{"prompt": "x", "response": "4", "metadata": {"a": ["\\udfff"]}}', "metadata"),
    **{
        f"timestamp {value!r}": (json.dumps({**ENTRY, "timestamp": value}), "timestamp")
        for value in (
            "",
            "yesterday",
            "2024-02-30T00:00:00Z",
            "2024-02-29",
            "2024-02-29T00:00:00",
            "2024-02-29T24:00:01Z",
            "2024-02-29T00:00:60Z",
            "20240229T000000Z",
            "2024-02-29T00:00:00.Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "\uff12024-02-29T00:00:00Z",
            1709164800,
        )
    },
}


@pytest.mark.parametrize(("body", "field"), WRONG.values(), ids=WRONG)
def test_a_wrong_report_is_refused(harness: Harness, body: str, field: str) -> None:
    """The answer names the field, and nothing is stored."""
    token = harness.token()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = harness.http.post("/log-request", data=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]
    assert log(harness, token) == []


def test_nothing_happens_later_than_in_five_minutes(harness: Harness) -> None:
    """A client's clock may be ahead a little; how far back it happened does not matter."""
    token = harness.token()
    now = datetime.now(UTC)
    ahead = {"near": timedelta(minutes=4), "far": timedelta(minutes=6), "past": timedelta(days=-20_000)}
    statuses = {
        name: harness.post("/log-request", token, {**ENTRY, "timestamp": (now + delta).isoformat()}).status_code
        for name, delta in ahead.items()
    }
    assert statuses == {"near": 201, "far": 422, "past": 201}


def test_a_retry_is_one_report(harness: Harness) -> None:
    """The same key and body is stored once, however old the call is that it tells of; another body is refused."""
    token = harness.token()
    report = {**ENTRY, "timestamp": "2020-01-01T00:00:00Z", "metadata": {"a": None}}
    first = harness.post("/log-request", token, report, Idempotency_Key="k")
    again = harness.post("/log-request", token, report, Idempotency_Key="k")
    assert (again.status_code, again.get_json()) == (201, first.get_json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    other = harness.post("/log-request", token, {**report, "metadata": {}}, Idempotency_Key="k")
    assert (other.status_code, other.get_json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert len(log(harness, token)) == 1


def test_every_call_is_in_the_log(harness: Harness) -> None:
    """Refinements, generations, failures and reports stand in one list, newest first, each with every field."""
    harness.engine.outcomes = ["refined", "generated", ModelRefused("no")]
    token = harness.token()
    harness.refine(token, {"prompt": "one", "instructions": "shorter"})
    harness.post("/generate", token, {"prompt": "two"})
    harness.refine(token, {"prompt": "three"})
    harness.post("/log-request", token, ENTRY)
    items = log(harness, token)
    assert [(item["kind"], item["status"], item["response"]) for item in items] == [
        ("client", "succeeded", "4"),
        ("refine", "failed", None),
        ("generate", "succeeded", "generated"),
        ("refine", "succeeded", "refined"),
    ]
    assert all(set(item) == ITEM for item in items)
    assert items[1]["error"]["type"] == "/problems/model-refused"
    assert items[3]["detail"]["instructions"] == "shorter"


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_hold_each_record_once(harness: Harness, limit: int) -> None:
    """Whatever the size of a page, also where all share one moment, nothing is skipped or repeated."""
    credentials = harness.register()
    owner, moment = Owner(credentials.client_id, credentials.client_id), utc_now()
    kept = {keep(harness, owner, timestamp=moment).id for _ in range(7)}
    found = pages(harness, harness.token(credentials), limit=limit)
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
    identifiers = [item["id"] for page in found for item in page]
    assert identifiers == sorted(kept, reverse=True)


def test_a_page_is_twenty_and_at_most_a_hundred(harness: Harness) -> None:
    """The default and the bound of `limit`."""
    credentials = harness.register()
    owner = Owner(credentials.client_id, credentials.client_id)
    for _ in range(101):
        keep(harness, owner)
    token = harness.token(credentials)
    assert len(pages(harness, token)[0]) == 20
    assert [len(page) for page in pages(harness, token, limit=100)] == [100, 1]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_page_is_written_as_its_schema_is(harness: Harness, count: int) -> None:
    """The answer has the fields of a page in their order, and each item its own, with and without a next page."""
    credentials = harness.register()
    for _ in range(count):
        keep(harness, Owner(credentials.client_id, credentials.client_id), prompt='[], "next_cursor": \\ 語')
    for limit in (1, 100):
        text = harness.get("/log-request", harness.token(credentials), {"limit": limit}).text
        page = LogPage.model_validate_json(text)
        assert text == page.model_dump_json()
        assert (len(page.items), page.next_cursor is None) == (min(count, limit), count <= limit)


@pytest.mark.parametrize("text", ["x" * 900_000, '"' * 300_000, "語" * 300_000], ids=["ascii", "quotes", "cjk"])
def test_long_records_make_short_pages(harness: Harness, text: str) -> None:
    """A page fits into an answer of AWS Lambda, 6 MB with its body as a JSON string; none is skipped or repeated."""
    credentials = harness.register()
    owner, moment = Owner(credentials.client_id, credentials.client_id), utc_now()
    kept = {keep(harness, owner, timestamp=moment, prompt=text).id for _ in range(12)}
    found = pages(harness, harness.token(credentials), limit=100)
    assert [item["id"] for page in found for item in page] == sorted(kept, reverse=True)
    for page in found:
        body = json.dumps({"items": page, "next_cursor": "c" * 80}, ensure_ascii=False)
        assert len(json.dumps(body, ensure_ascii=False).encode()) < 6_000_000
    assert 1 < len(found) < 12


def test_filters_narrow(harness: Harness) -> None:
    """Each filter alone and all together; `from` is inclusive and `to` exclusive."""
    credentials = harness.register()
    owner = Owner(credentials.client_id, credentials.client_id)
    parent, day = new_id(), datetime(2026, 1, 2, tzinfo=UTC)
    a = keep(harness, owner, kind=Kind.REFINE, model="a", timestamp=day, detail={"parent_id": parent}).id
    b = keep(harness, owner, kind=Kind.GENERATE, model="b", timestamp=day + timedelta(milliseconds=1)).id
    c = keep(harness, owner, status=Status.FAILED, model="a", timestamp=day + timedelta(days=1)).id
    token = harness.token(credentials)
    expected: list[tuple[dict[str, str], list[str]]] = [
        ({}, [c, b, a]),
        ({"kind": "refine"}, [c, a]),
        ({"kind": "client"}, []),
        ({"status": "failed"}, [c]),
        ({"model": "a"}, [c, a]),
        ({"parent_id": parent}, [a]),
        ({"from": "2026-01-02T00:00:00.001Z"}, [c, b]),
        ({"to": "2026-01-02T00:00:00.001Z"}, [a]),
        ({"from": "2026-01-02T01:00:00+01:00", "to": "2026-01-03T00:00:00Z"}, [b, a]),
        (
            {"kind": "refine", "status": "succeeded", "model": "a", "parent_id": parent, "to": "2026-02-01T00:00:00Z"},
            [a],
        ),
        ({"kind": "generate", "model": "a"}, []),
    ]
    for query, identifiers in expected:
        assert [item["id"] for item in log(harness, token, **query)] == identifiers, query
        assert [item["id"] for item in log(harness, token, **query, limit=1)] == identifiers, query


WRONG_QUERIES: list[tuple[str, list[str]]] = [
    ("limit=0", ["limit"]),
    ("limit=101", ["limit"]),
    ("limit=", ["limit"]),
    ("limit=1.0", ["limit"]),
    ("limit=%2B5", ["limit"]),
    ("limit=%EF%BC%91", ["limit"]),
    ("limit=1&limit=2", ["limit"]),
    ("cursor=", ["cursor"]),
    ("cursor=x", ["cursor"]),
    ("cursor=%F0%9F%A6%8A", ["cursor"]),
    ("cursor=OTk5OTk5OTk5OTk5OTk5LjAxYTFmYWM3LTJjMDgtN2NkNi04ZjUzLTUzZmI2MGQyMzY3YQ", ["cursor"]),
    ("kind=other", ["kind"]),
    ("kind=", ["kind"]),
    ("status=done", ["status"]),
    ("parent_id=1", ["parent_id"]),
    ("parent_id=", ["parent_id"]),
    ("model=", ["model"]),
    ("model=%00", ["model"]),
    ("from=2026-01-01", ["from"]),
    ("from=2026-01-01T00:00:00 00:00", ["from"]),
    ("to=", ["to"]),
    ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", ["from"]),
    ("user=ann", ["user"]),
    ("since=2026-01-01T00:00:00Z", ["since"]),
    ("limit=0&kind=other&x=1", ["kind", "limit", "x"]),
]


@pytest.mark.parametrize(("query", "fields"), WRONG_QUERIES)
def test_a_wrong_query_is_refused(harness: Harness, query: str, fields: list[str]) -> None:
    """Each wrong parameter is named."""
    answer = harness.get(f"/log-request?{query}", harness.token())
    assert answer.status_code == 422, answer.text
    assert sorted(error["field"] for error in answer.get_json()["errors"]) == fields


def test_a_cursor_gives_nobody_more(harness: Harness) -> None:
    """A cursor of somebody else's log leads into one's own."""
    mine, theirs = harness.register(), harness.register()
    for owner in (theirs, mine):
        for _ in range(3):
            keep(harness, Owner(owner.client_id, owner.client_id))
    cursor = harness.get("/log-request", harness.token(mine), {"limit": 1}).get_json()["next_cursor"]
    items = harness.get("/log-request", harness.token(theirs), {"cursor": cursor}).get_json()["items"]
    assert {item["client_id"] for item in items} == {theirs.client_id}


def test_a_user_reads_their_own(harness: Harness) -> None:
    """Records of another user, and of another client's user of the same name, are not found."""
    clients = harness.register(), harness.register()
    tokens = {(c, u): harness.token(clients[c], user_id=u) for c in (0, 1) for u in ("ann", "bob")}
    kept = {who: harness.post("/log-request", token, ENTRY).get_json()["id"] for who, token in tokens.items()}
    for who, token in tokens.items():
        assert [item["id"] for item in log(harness, token)] == [kept[who]]
        statuses = {other: harness.get(f"/log-request/{kept[other]}", token).status_code for other in tokens}
        assert statuses == {other: 200 if other == who else 404 for other in tokens}


def test_a_reader_of_all_sees_the_client_s_users(harness: Harness) -> None:
    """`log:read:all` reads every user of that client, narrowed by `user_id`, and nobody else's."""
    mine, other = harness.register(), harness.register()
    kept = {}
    for credentials, user in ((mine, "ann"), (mine, "bob"), (other, "ann")):
        token = harness.token(credentials, user_id=user)
        kept[credentials, user] = harness.post("/log-request", token, ENTRY).get_json()["id"]
    auditor = harness.token(mine, scope="log:read:all")
    assert {item["id"] for item in log(harness, auditor)} == {kept[mine, "ann"], kept[mine, "bob"]}
    assert [item["id"] for item in log(harness, auditor, user_id="bob")] == [kept[mine, "bob"]]
    assert log(harness, auditor, user_id="nobody") == []
    assert harness.get(f"/log-request/{kept[mine, 'ann']}", auditor).status_code == 200
    assert harness.get(f"/log-request/{kept[other, 'ann']}", auditor).status_code == 404


def test_another_user_needs_the_scope(harness: Harness) -> None:
    """Asking for another user is 403 without `log:read:all`; asking for oneself is fine."""
    credentials = harness.register()
    ann = harness.token(credentials, user_id="ann")
    refused = harness.get("/log-request", ann, {"user_id": "bob"})
    assert (refused.status_code, refused.get_json()["type"]) == (403, "/problems/insufficient-scope")
    assert 'scope="log:read:all"' in refused.headers["WWW-Authenticate"]
    assert harness.get("/log-request", ann, {"user_id": "ann"}).status_code == 200
    assert harness.get("/usage", ann, {"user_id": "bob"}).status_code == 403


SCOPES = [
    ("POST", "/log-request", {"log:write"}),
    ("GET", "/log-request", {"log:read", "log:read:all"}),
    ("GET", f"/log-request/{new_id()}", {"log:read", "log:read:all"}),
    ("GET", "/usage", {"log:read", "log:read:all"}),
]


@pytest.mark.parametrize(
    ("method", "path", "enough"), SCOPES, ids=[f"{method} {path[:12]}" for method, path, _ in SCOPES]
)
def test_each_route_needs_its_scope(harness: Harness, method: str, path: str, enough: set[str]) -> None:
    """Only a token with the right scope comes through; none at all is 401."""
    for scope in ("refine", "generate", "log:write", "log:read", "log:read:all"):
        headers = {"Authorization": f"Bearer {harness.token(harness.register(scope))}"}
        body = ENTRY if method == "POST" else None
        status = harness.http.open(path, method=method, json=body, headers=headers).status_code
        assert (status == 403) == (scope not in enough), (scope, status)
    assert harness.http.open(path, method=method).status_code == 401


@pytest.mark.parametrize("record_id", ["x", "0" * 36, "01a1fac7-2c08-7cd6-8f53-53fb60d2367a", "%00", "a%2Fb", "%F0%9F"])
def test_what_is_not_there_is_404(harness: Harness, record_id: str) -> None:
    """An unknown id, and what is no id, are not found."""
    answer = harness.get(f"/log-request/{record_id}", harness.token())
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_an_overdue_call_reads_as_abandoned(harness: Harness) -> None:
    """A call whose process died is closed by whoever reads it, also by looking for abandoned ones."""
    credentials = harness.register()
    owner, past = Owner(credentials.client_id, credentials.client_id), utc_now() - timedelta(seconds=1)
    token = harness.token(credentials)
    for query in ({}, {"status": "abandoned"}):
        keep(harness, owner, status=Status.PENDING, deadline_at=past)
        assert {(item["status"], item["error"]["type"]) for item in log(harness, token, **query)} == {
            ("abandoned", "/problems/abandoned")
        }
    keep(harness, owner, status=Status.PENDING, deadline_at=past)
    assert log(harness, token, status="pending") == []


def test_retention_is_counted_from_receipt(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An old call that is reported today expires as if it had been made today."""
    limited = build(tmp_path_factory.mktemp("retention"), LOG_RETENTION_DAYS="10")
    credentials = limited.register()
    report = {**ENTRY, "timestamp": "2001-01-01T00:00:00Z"}
    body = limited.post("/log-request", limited.token(credentials), report).get_json()
    record = limited.storage.read(body["id"], Owner(credentials.client_id, credentials.client_id))
    assert record is not None
    assert record.completed_at is not None
    assert record.expires_at == record.completed_at + timedelta(days=10)
    limited.storage.close()
