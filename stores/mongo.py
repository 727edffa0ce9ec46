"""Records and clients in MongoDB, through pymongo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pymongo
from pymongo import ASCENDING, MongoClient
from pymongo.errors import ConfigurationError, InvalidURI
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from records import (
    FINISHED_STATES,
    IDEMPOTENCY_WINDOW,
    MODEL_KINDS,
    OPEN_STATES,
    Client,
    Completion,
    DailyUsage,
    Owner,
    Position,
    Record,
    Selection,
    Status,
    abandonment,
)
from storage import BATCH, Storage

from .documents import (
    BY_DAY_AND_MODEL,
    FREE_LONGEST_FIRST,
    NEWEST_FIRST,
    PENDING_JOB,
    Document,
    client_of,
    daily,
    document_of,
    document_of_client,
    free_jobs,
    overdue,
    page_indexes,
    previous_key,
    query_for,
    received_before,
    record_of,
)
from .mongo_counters import MongoCounters
from .mongo_errors import Translated
from .within import seconds_left

DEFAULT_DATABASE = "klamala"
OPERATION_SECONDS = 5.0
# Without a server to choose, the driver looks half a second longer than it may.
PING_SECONDS = 1.0
# All indexes together.
INITIALIZE_SECONDS = 30.0
# One operation deletes so many documents, so that it ends in time.
_DELETED_AT_ONCE = 1000


def open_mongo(url: str, *, create: bool, clock: Callable[[], datetime]) -> MongoStorage:
    """A store on the database that `url` names, `klamala` without a name.

    Durability is set here, so that an option in the URL cannot take it back.

    Raises: `ValueError` for an address that pymongo cannot read; its words are left out, they may hold a password.
    """
    try:
        client: MongoClient[Document] = MongoClient(
            url,
            appname="klamala",
            tz_aware=True,
            connect=False,
            timeoutMS=int(OPERATION_SECONDS * 1000),
            serverSelectionTimeoutMS=3000,
            connectTimeoutMS=2000,
            # While Lambda keeps a process frozen, idle connections are dropped without a word
            # (https://www.mongodb.com/docs/atlas/manage-connections-aws-lambda/).
            maxIdleTimeMS=60_000,
            w="majority",
            journal=True,
            readPreference="primary",
        )
        database = client.get_default_database(DEFAULT_DATABASE)
    except (InvalidURI, ConfigurationError, ValueError, OSError):
        raise ValueError("is not an address that MongoDB's driver can read") from None
    return MongoStorage(database, create=create, clock=clock)


class MongoStorage(Storage):
    """Three collections: `requests`, a document a call, `clients`, and `counters`.

    Indexes of `requests`: `_id`; the idempotency claim, unique over client, user, kind and key; one for each order in
    which pages are read (`page_indexes`); `expires_at`, by which MongoDB deletes
    (https://www.mongodb.com/docs/manual/core/index-ttl/).
    """

    counters: MongoCounters

    def __init__(self, database: Any, *, create: bool, clock: Callable[[], datetime]) -> None:
        super().__init__(clock, create=create)
        self._database = database
        durable = {"write_concern": WriteConcern("majority", j=True), "read_preference": ReadPreference.PRIMARY}
        self._requests = database.get_collection("requests", **durable)
        self._clients = database.get_collection("clients", **durable)
        # Not `durable`: a count that a failover loses is worth less than the wait of every request.
        counted = database.get_collection(
            "counters", write_concern=WriteConcern(1), read_preference=ReadPreference.PRIMARY
        )
        self.counters = MongoCounters(counted, self._operation, clock)

    def initialize(self) -> None:
        # A server that is not there is known for it soon; one that is may take its time to build an index.
        self.ping()
        with Translated(), pymongo.timeout(seconds_left(INITIALIZE_SECONDS)):
            self._requests.create_index(
                [(name, ASCENDING) for name in ("client_id", "user_id", "kind", "idempotency_key")],
                name="idempotency",
                unique=True,
                partialFilterExpression={"idempotency_key": {"$type": "string"}},
            )
            self._requests.create_index("expires_at", name="retention", expireAfterSeconds=0)
            self._requests.create_index(
                "deadline_at", name="overdue", partialFilterExpression={"status": str(Status.PENDING)}
            )
            self._requests.create_index(FREE_LONGEST_FIRST, name="jobs", partialFilterExpression=PENDING_JOB)
            for name, keys in page_indexes().items():
                self._requests.create_index([(key, ASCENDING) for key in keys], name=name)
            self.counters.initialize()

    def ping(self) -> None:
        with Translated(), pymongo.timeout(PING_SECONDS):
            self._database.command("ping")

    def close(self) -> None:
        self._database.client.close()

    def finish(self, record_id: str, completion: Completion) -> bool:
        return self._set({"_id": record_id, "status": {"$in": list(OPEN_STATES)}}, completion.as_update())

    def renew(self, job: Record, until: datetime) -> bool:
        return self._set({**PENDING_JOB, "_id": job.id, "attempt": job.attempt}, {"lease_until": until})

    def _lease(self, job: Record, until: datetime, now: datetime) -> bool:
        free = {**free_jobs(now, job.id), "attempt": job.attempt}
        return self._set(free, {"lease_until": until, "attempt": job.attempt + 1})

    def _free_job(self, now: datetime, record_id: str | None) -> Record | None:
        with self._operation():
            return record_of(self._requests.find_one(free_jobs(now, record_id), sort=FREE_LONGEST_FIRST))

    def lost_jobs(self) -> Sequence[str]:
        lost = {"$and": [free_jobs(self._clock(), None), {"attempt": {"$gt": 0}}]}
        with self._operation():
            found = self._requests.find(lost, {"_id": True}).sort(FREE_LONGEST_FIRST).limit(BATCH)
            return [document["_id"] for document in found]

    def _insert(self, record: Record) -> None:
        with self._operation():
            document = document_of(record)
            # An upsert can be sent again when its reply was lost; an insert would fail on its own first try.
            self._requests.update_one({"_id": record.id}, {"$setOnInsert": document}, upsert=True)

    def _holder_of_key(self, record: Record) -> Record | None:
        with self._operation():
            return record_of(
                self._requests.find_one(
                    {
                        "client_id": record.client_id,
                        "user_id": record.user_id,
                        "kind": record.kind,
                        # A partial index serves a query that repeats its filter; the equality alone is not enough
                        # (https://www.mongodb.com/docs/manual/core/index-partial/#query-coverage).
                        "idempotency_key": {"$eq": record.idempotency_key, "$type": "string"},
                    }
                )
            )

    def _expire_key(self, record_id: str, now: datetime) -> None:
        expiring = {"$and": [{"_id": record_id}, received_before(now - IDEMPOTENCY_WINDOW)]}
        self._set(expiring, {"idempotency_key": None})

    def _abandon(self, record_id: str, now: datetime) -> int:
        return int(self._set({"_id": record_id, **overdue(now)}, abandonment(now)))

    def _set(self, condition: Document, values: Document) -> bool:
        """Set fields of the record that meets the condition. False when there is none such."""
        with self._operation():
            return bool(self._requests.update_one(condition, {"$set": values}).matched_count)

    def abandon_overdue(self) -> int:
        now = self._clock()
        with self._operation():
            return int(self._requests.update_many(overdue(now), {"$set": abandonment(now)}).modified_count)

    def delete_expired(self) -> int:
        return self._delete({"expires_at": {"$lte": self._clock()}})

    def erase(self, owner: Owner) -> int:
        return self._delete({"client_id": owner.client_id, "user_id": owner.user_id})

    def _delete(self, query: Document) -> int:
        total = 0
        while batch := self._ids(query):
            with self._operation():
                total += int(self._requests.delete_many({"_id": {"$in": batch}, **query}).deleted_count)
        return total

    def _ids(self, query: Document) -> list[str]:
        with self._operation():
            return [found["_id"] for found in self._requests.find(query, {"_id": True}).limit(_DELETED_AT_ONCE)]

    def _find(self, record_id: str, owner: Owner | Selection) -> Record | None:
        whose = Selection(client_id=owner.client_id, user_id=owner.user_id)
        with self._operation():
            return record_of(self._requests.find_one({"_id": record_id, **query_for(whose)}))

    def _page(self, selection: Selection, limit: int, after: Position | None) -> Sequence[Record]:
        query = query_for(selection, after)
        with self._operation():
            found = self._requests.find(query).sort(NEWEST_FIRST).limit(limit)
            return [record for document in found if (record := record_of(document))]

    def usage(self, selection: Selection) -> Sequence[DailyUsage]:
        finished = {"kind": {"$in": list(MODEL_KINDS)}, "status": {"$in": list(FINISHED_STATES)}}
        with self._operation():
            groups = list(
                self._requests.aggregate([{"$match": {"$and": [query_for(selection), finished]}}, *BY_DAY_AND_MODEL])
            )
        return [daily(group) for group in groups]

    def add_client(self, client: Client) -> None:
        with self._operation():
            self._clients.insert_one(document_of_client(client))

    def _client(self, client_id: str) -> Client | None:
        with self._operation():
            document = self._clients.find_one({"_id": client_id})
        return client_of(document) if document else None

    def _all_clients(self) -> Sequence[Client]:
        with self._operation():
            return [client_of(document) for document in self._clients.find().sort("_id", ASCENDING)]

    def set_client_key(self, client_id: str, key_hash: str, previous_until: datetime | None = None) -> bool:
        while client := self._client(client_id):
            values = {"key_hash": key_hash, "previous_key": previous_key(client.key_hash, previous_until)}
            # Another rotation may come between.
            if self._set_client({"_id": client_id, "key_hash": client.key_hash}, values):
                return True
        return False

    def set_client_disabled(self, client_id: str, disabled: bool) -> bool:
        return self._set_client({"_id": client_id}, {"disabled": disabled})

    def _set_client(self, condition: Document, values: Document) -> bool:
        with self._operation():
            return bool(self._clients.update_one(condition, {"$set": values}).matched_count)

    @contextmanager
    def _operation(self) -> Iterator[None]:
        self.prepare()
        with Translated(), pymongo.timeout(seconds_left(OPERATION_SECONDS)):
            yield
