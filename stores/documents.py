"""What is in MongoDB: how records and clients stand in their documents, and how they are found there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING

from records import MAX_JOB_ATTEMPTS, REPORTED, Client, DailyUsage, Position, Record, Selection, Status

Document = dict[str, Any]
FREE_LONGEST_FIRST = [("lease_until", ASCENDING), ("id", ASCENDING)]
NEWEST_FIRST = [("timestamp", DESCENDING), ("id", DESCENDING)]


def page_indexes() -> dict[str, tuple[str, ...]]:
    """The indexes by name whose order is that of a page, for each single filter, of a client's records or a user's."""
    owners = {"client": ("client_id",), "user": ("client_id", "user_id")}
    filters = {"": (), "_kind": ("kind",), "_status": ("status",), "_model": ("model",)}
    order = ("timestamp", "id")
    indexes = {
        f"{owner}{name}": (*keys, *key, *order) for owner, keys in owners.items() for name, key in filters.items()
    }
    return {"time": order, "parent": ("detail.parent_id", *order), **indexes}


def query_for(selection: Selection, after: Position | None = None) -> Document:
    """The filter that finds the selected records, from behind `after` on."""
    values = {name: getattr(selection, name) for name in ("client_id", "user_id", "kind", "status", "model")}
    query: Document = {name: value for name, value in values.items() if value is not None}
    if selection.parent_id is not None:
        query["detail.parent_id"] = selection.parent_id
    bounds = {"$gte": selection.since, "$lt": selection.until, "$lte": after and after.timestamp}
    timestamp = {operator: bound for operator, bound in bounds.items() if bound is not None}
    if timestamp:
        query["timestamp"] = timestamp
    if after is None:
        return query
    earlier, same = {"timestamp": {"$lt": after.timestamp}}, {"timestamp": after.timestamp, "id": {"$lt": after.id}}
    return {"$and": [query, either(earlier, same)]}


def either(*alternatives: Document) -> Document:
    """The filter that any of these meets. Join it to others with `$and`: nx-27017 0.8.1 lets a bare `$or` escape."""
    return {"$or": list(alternatives)}


def overdue(now: datetime) -> Document:
    """The filter that finds the pending records past their deadline."""
    return {"status": str(Status.PENDING), "deadline_at": {"$lte": now}}


# What a partial index asks for, which serves only a query that repeats it; other calls have null in the lease's place
# (https://www.mongodb.com/docs/manual/core/index-partial/#query-coverage).
_ANY_LEASE = {"$gte": datetime.fromtimestamp(0, UTC)}
PENDING_JOB: Document = {"status": str(Status.PENDING), "lease_until": _ANY_LEASE}


def free_jobs(now: datetime, record_id: str | None) -> Document:
    """The filter that finds the jobs that are free, or this one if it is."""
    free = {"deadline_at": {"$gt": now}, "attempt": {"$lt": MAX_JOB_ATTEMPTS}}
    query = {**PENDING_JOB, "lease_until": {**_ANY_LEASE, "$lte": now}, **free}
    return query if record_id is None else {"_id": record_id, **query}


def received_before(moment: datetime) -> Document:
    """The filter that finds the records received at that moment or before it, as `Record.received_at` has it."""
    before = {"$lte": moment}
    reported_then = {"source": REPORTED, "completed_at": before}
    observed_then, never_completed = {"source": {"$ne": REPORTED}}, {"completed_at": None}
    return either(reported_then, {**observed_then, "timestamp": before}, {**never_completed, "timestamp": before})


def _times(status: Status) -> Document:
    return {"$sum": {"$cond": [{"$eq": ["$status", str(status)]}, 1, 0]}}


_DAY = {"$dateToString": {"format": "%Y-%m-%d", "date": "$timestamp"}}
BY_DAY_AND_MODEL: list[Document] = [
    {
        "$group": {
            # One text, in the order of days and models: nx-27017 0.8.1 does not evaluate a document here.
            "_id": {"$concat": [_DAY, {"$ifNull": ["$model", ""]}]},
            "calls": {"$sum": 1},
            "succeeded": _times(Status.SUCCEEDED),
            "failed": _times(Status.FAILED),
            "input_tokens": {"$sum": "$usage.input_tokens"},
            "output_tokens": {"$sum": "$usage.output_tokens"},
            "latency_mean": {"$avg": "$latency_ms"},
            "latency_max": {"$max": "$latency_ms"},
        }
    },
    {"$sort": {"_id": ASCENDING}},
]


def daily(group: Document) -> DailyUsage:
    """What a group of `BY_DAY_AND_MODEL` says. A sum beyond 64 bits is a float."""
    key: str = group.pop("_id")
    day = len("YYYY-MM-DD")
    tokens = {name: int(group[name]) for name in ("input_tokens", "output_tokens")}
    latencies = {name: group[name] or 0 for name in ("latency_mean", "latency_max")}
    return DailyUsage(**{**group, **tokens, **latencies}, day=key[:day], model=key[day:])


def document_of(record: Record) -> Document:
    """The document of a record. Its metadata is JSON text: names may begin with `$`, integers may exceed 64 bits."""
    metadata = None if record.metadata is None else json.dumps(record.metadata, ensure_ascii=False)
    return {"_id": record.id, **record.as_dict(), "metadata": metadata}


def record_of(document: Document | None) -> Record | None:
    """The record in a document, if there is one."""
    if document is None:
        return None
    metadata = document["metadata"]
    return Record.from_dict({**document, "metadata": None if metadata is None else json.loads(metadata)})


def document_of_client(client: Client) -> Document:
    """The document of a client."""
    return {
        "_id": client.client_id,
        "name": client.name,
        "scopes": list(client.scopes),
        "key_hash": client.key_hash,
        "previous_key": previous_key(client.previous_key_hash, client.previous_key_expires_at),
        "disabled": client.disabled,
        "created_at": client.created_at,
    }


def previous_key(key_hash: str | None, expires_at: datetime | None) -> Document | None:
    """What stands in the document of a client for the key before its own."""
    return None if expires_at is None else {"hash": key_hash, "expires_at": expires_at}


def client_of(document: Document) -> Client:
    """The client in a document. One of an earlier day has no member for a key before."""
    previous = document.get("previous_key") or {}
    return Client(
        client_id=document["_id"],
        name=document["name"],
        scopes=tuple(document["scopes"]),
        key_hash=document["key_hash"],
        previous_key_hash=previous.get("hash"),
        previous_key_expires_at=previous.get("expires_at"),
        disabled=document["disabled"],
        created_at=document["created_at"],
    )
