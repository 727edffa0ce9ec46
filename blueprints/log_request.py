"""`/log-request`: calls that clients report, and the audit log as its owners may read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from flask import Blueprint, Response, url_for

from auth import Guard, Identity
from calls.audit import Asked, claimed, expiry
from calls.limits import Limits
from edge import arrival, limited
from openapi.operation import Operation, describes
from problems import InvalidFields, NotFound
from records import REPORTED, Kind, Record, Selection, Status, new_id
from schemas import log as schema
from schemas.base import is_record_id
from settings import Settings
from storage import Storage

from .answers import answer, replayable
from .cursor import as_cursor, position_in
from .parsing import idempotency_key, parse_body, parse_query, refuse_query
from .selection import selected_by

# A client's clock may be ahead of ours by this much.
MAX_AHEAD = timedelta(minutes=5)
# A function's answer ends at 6 MB, in which the body is a JSON string
# (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html). Some are left for the rest of it.
MAX_PAGE_BYTES = 5_500_000

LIST = Operation(
    id="listRecords",
    summary="Read the audit log",
    text="The caller's own records, newest first, in pages. Paging neither skips nor repeats a record that was there "
    "when it began. A page of long records may have fewer than `limit`: the end is where `next_cursor` is `null`. With "
    "the scope `log:read:all` the records of all of the client's users.",
    query=schema.LogQuery,
    answers={200: schema.LogPage},
    links={"listRecords": {"cursor": "$response.body#/next_cursor"}},
)
READ = Operation(id="getRecord", summary="Read one record", answers={200: schema.LogRecord})


def _report(body: type[schema.LogEntry]) -> Operation:
    return Operation(
        id="logRequest",
        summary="Report a call that was made elsewhere",
        body=body,
        idempotent=True,
        answers={201: schema.Logged},
        headers={201: ("Location",)},
        links={"getRecord": {"record_id": "$response.body#/id"}},
    )


def log_request_blueprint(settings: Settings, guard: Guard, limits: Limits, storage: Storage) -> Blueprint:
    """The routes, on these collaborators."""
    blueprint = Blueprint("log_request", __name__)
    entry_model = schema.log_entry(settings.max_prompt_chars)

    @blueprint.post("/log-request")
    @guard.token_required("log:write")
    @limited(limits)
    @describes(_report(entry_model))
    def log_request(caller: Identity) -> Response:
        entry = parse_body(entry_model, settings.max_body_bytes)
        asked = Asked(caller.owner, arrival(), idempotency_key(), entry.model_dump(mode="json", exclude_none=True))
        record, replayed = claimed(storage, _reported(settings, asked, entry))
        response = answer(schema.Logged(id=record.id, created_at=record.received_at), 201)
        response.headers["Location"] = url_for("log_request.record", record_id=record.id)
        return replayable(response, replayed)

    @blueprint.get("/log-request")
    @guard.token_required("log:read")
    @describes(LIST)
    def records(caller: Identity) -> Response:
        query = parse_query(schema.LogQuery)
        after = position_in(query.cursor) if query.cursor is not None else None
        found = storage.page(_selection(caller, query), query.limit + 1, after)
        items = _that_fit(_item(record).model_dump_json() for record in found[: query.limit])
        cursor = as_cursor(found[len(items) - 1].position) if len(items) < len(found) else None
        return _page(items, cursor)

    @blueprint.get("/log-request/<record_id>")
    @guard.token_required("log:read")
    @describes(READ)
    def record(caller: Identity, record_id: str) -> Response:
        refuse_query()
        found = storage.read(record_id, caller.readable) if is_record_id(record_id) else None
        if found is None:
            raise NotFound("There is no such record of yours.")
        return answer(_item(found))

    return blueprint


def _reported(settings: Settings, asked: Asked, entry: schema.LogEntry) -> Record:
    received = asked.arrival.received_at
    if entry.timestamp is not None and entry.timestamp > received + MAX_AHEAD:
        raise InvalidFields(("timestamp", "must not be more than 5 minutes ahead"))
    return Record(
        id=new_id(),
        kind=Kind.CLIENT,
        source=REPORTED,
        status=Status.SUCCEEDED,
        user_id=asked.owner.user_id,
        client_id=asked.owner.client_id,
        request_id=asked.arrival.request_id,
        prompt=entry.prompt,
        response=entry.response,
        metadata=entry.metadata,
        detail={},
        model=entry.model,
        engine=None,
        timestamp=entry.timestamp or received,
        completed_at=received,
        expires_at=expiry(settings, received),
        idempotency_key=asked.key,
        body_hash=asked.body_hash,
    )


def _selection(caller: Identity, query: schema.LogQuery) -> Selection:
    return replace(
        selected_by(caller, query), kind=query.kind, status=query.status, parent_id=query.parent_id, model=query.model
    )


def _that_fit(items: Iterable[str]) -> Sequence[str]:
    """As many of these JSON texts as an answer of a function on AWS Lambda holds, and one at least."""
    fitting: list[str] = []
    room = MAX_PAGE_BYTES
    for text in items:
        # As a string inside JSON, these take another byte each.
        room -= len(text.encode()) + text.count('"') + text.count("\\")
        if room < 0 and fitting:
            break
        fitting.append(text)
    return fitting


def _page(items: Sequence[str], cursor: str | None) -> Response:
    """A page of items that are JSON already: they were written to be measured, and are not written again."""
    without = schema.LogPage(items=[], next_cursor=cursor).model_dump_json()
    return Response(without.replace("[]", f"[{','.join(items)}]", 1), mimetype="application/json")


def _item(record: Record) -> schema.LogRecord:
    return schema.LogRecord.model_validate(record, from_attributes=True)
