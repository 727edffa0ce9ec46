"""Counters in MongoDB: one document each, one conditional update a use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument

from counters import Counters, Mark, Quota
from storage import DuplicateKey

from .documents import Document


class MongoCounters(Counters):
    """The collection `counters`. What has ended is deleted by MongoDB, by a TTL index; until then it is void."""

    def __init__(
        self, collection: Any, operation: Callable[[], AbstractContextManager[None]], clock: Callable[[], datetime]
    ) -> None:
        super().__init__(clock)
        self._counters = collection
        self._operation = operation

    def initialize(self) -> None:
        """Create the index."""
        self._counters.create_index("expires_at", name="expiry", expireAfterSeconds=0)

    def _take(self, quotas: Sequence[Quota], amount: int, now: datetime) -> Mapping[str, Mark]:
        marks: dict[str, Mark] = {}
        for quota in quotas:
            mark = self._increment(quota, amount, now) or self._begin(quota, amount, now)
            # Somebody else may have begun it just before.
            mark = mark or self._increment(quota, amount, now)
            if mark is None:
                break
            marks[quota.key] = mark
        return marks

    def _increment(self, quota: Quota, amount: int, now: datetime) -> Mark | None:
        """Count on a counter that has not ended, unless it is at its limit."""
        below = {"_id": quota.key, "expires_at": {"$gt": now}, "amount": {"$lt": quota.limit}}
        with self._operation():
            found = self._counters.find_one_and_update(
                below, {"$inc": {"amount": amount}}, return_document=ReturnDocument.AFTER
            )
        return None if found is None else _mark(found)

    def _begin(self, quota: Quota, amount: int, now: datetime) -> Mark | None:
        """Begin a counter that is not there, or has ended."""
        mark = Mark(amount, quota.ends(now))
        with suppress(DuplicateKey), self._operation():
            # Whoever comes second finds none that has ended, tries to insert one, and meets the first one's.
            self._counters.replace_one(
                {"_id": quota.key, "expires_at": {"$lte": now}},
                {"_id": quota.key, "amount": mark.amount, "expires_at": mark.until},
                upsert=True,
            )
            return mark
        return None

    def _add(self, keys: Sequence[str], until: datetime, amount: int) -> None:
        same = {"_id": {"$in": list(keys)}, "expires_at": {"$lte": until}}
        with self._operation():
            self._counters.update_many(same, {"$inc": {"amount": amount}})

    def _read(self, keys: Sequence[str]) -> Mapping[str, Mark]:
        with self._operation():
            return {found["_id"]: _mark(found) for found in self._counters.find({"_id": {"$in": list(keys)}})}

    def delete_expired(self) -> None:
        with self._operation():
            self._counters.delete_many({"expires_at": {"$lte": self._clock()}})


def _mark(document: Document) -> Mark:
    return Mark(document["amount"], document["expires_at"])
