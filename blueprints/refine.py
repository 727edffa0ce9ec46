"""`POST /refine`, its first name `/refine-prompt`, and `GET /refine/<id>`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from flask import Blueprint, Response, jsonify
from pydantic import Field, create_model

from auth import Guard, Identity
from edge import elapsed_ms, log_call, request_deadline
from problems import InvalidFields, NotFound
from records import Completion, Kind, Owner, Record, Status, rfc3339, utc_now
from refinery.integrity import Integrity
from refinery.refiner import Refinement, Refiner
from refinery.strategies import DEFAULT
from settings import Settings
from storage import Storage

from .calls import audited, pending_record, seconds_until, usage_as_dict
from .parsing import STORABLE, Body, Text, idempotency_key, parse_body, refuse_query

MAX_INSTRUCTIONS_CHARS = 4_000
# Kept from the model's time for completing the record; a tenth of the deadline where that is less.
STORAGE_RESERVE_SECONDS = 2.0

_RECORD_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RefineRequest(Body):
    """The body of `POST /refine`; the limits come from the settings."""

    prompt: Text | None = None
    instructions: Annotated[str, Field(max_length=MAX_INSTRUCTIONS_CHARS), STORABLE] | None = None
    strategy: str | None = None
    parent_id: Text | None = None
    model: str | None = None


def refine_request(settings: Settings, strategies: Iterable[str]) -> type[RefineRequest]:
    """The request's model for these settings and strategies."""
    fields: dict[str, Any] = {
        "prompt": (Annotated[str, Field(max_length=settings.max_prompt_chars), STORABLE] | None, None),
        "strategy": (Literal[*strategies] | None, None),
        "model": (Literal[*settings.openai_models] | None, None),
    }
    return create_model("RefineRequest", __base__=RefineRequest, **fields)


def refine_blueprint(settings: Settings, guard: Guard, storage: Storage, refiner: Refiner) -> Blueprint:
    """The routes, on these collaborators."""
    blueprint = Blueprint("refine", __name__)
    refinements = _Refinements(settings, storage, refiner)

    @blueprint.post("/refine")
    @guard.token_required("refine")
    def refine(caller: Identity) -> Response:
        return refinements.create(caller.owner)

    @blueprint.post("/refine-prompt")
    @guard.token_or_key_required("refine")
    def refine_prompt(caller: Identity) -> Response:
        return refinements.create(caller.owner)

    @blueprint.get("/refine/<record_id>")
    @guard.token_required("refine")
    def refinement(caller: Identity, record_id: str) -> Response:
        return refinements.show(caller.owner, record_id)

    return blueprint


class _Refinements:
    """What the routes do, whoever guards them."""

    def __init__(self, settings: Settings, storage: Storage, refiner: Refiner) -> None:
        self._settings = settings
        self._storage = storage
        self._refiner = refiner
        self._request_model = refine_request(settings, refiner.strategies)

    def create(self, owner: Owner) -> Response:
        body = parse_body(self._request_model, self._settings.max_body_bytes)
        pending = self._pending(body, idempotency_key(), owner)
        record, replayed = audited(self._storage, pending, lambda: _refine(self._refiner, self._settings, pending))
        response = jsonify(refinement_body(record))
        if replayed:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    def show(self, owner: Owner, record_id: str) -> Response:
        refuse_query()
        record = _find(self._storage, record_id, owner)
        if record is None:
            raise NotFound("There is no such refinement of yours.")
        response = jsonify(refinement_body(record))
        if record.status is Status.PENDING:
            response.headers["Retry-After"] = str(math.ceil(seconds_until(record.deadline_at)))
        return response

    def _pending(self, body: RefineRequest, key: str | None, owner: Owner) -> Record:
        engine = self._refiner.engine
        return pending_record(
            self._settings,
            owner,
            Kind.REFINE,
            prompt=_draft(self._storage, body, owner),
            detail={
                "strategy": body.strategy or DEFAULT,
                "instructions": body.instructions,
                "parent_id": body.parent_id,
            },
            model=engine.model_for(body.model or self._settings.openai_model),
            engine=engine.name,
            key=key,
            body=body.model_dump(exclude_none=True),
        )


def _draft(storage: Storage, body: RefineRequest, owner: Owner) -> str:
    if body.parent_id is None:
        if body.prompt is None:
            raise InvalidFields(("prompt", "is required, unless parent_id is given"))
        return body.prompt
    if body.prompt is not None:
        raise InvalidFields(("prompt", "must be left out when parent_id is given"))
    parent = _find(storage, body.parent_id, owner)
    if parent is None or parent.status is not Status.SUCCEEDED or parent.response is None:
        raise InvalidFields(("parent_id", "is not the id of a succeeded refinement of yours"))
    return parent.response


def _find(storage: Storage, record_id: str, owner: Owner) -> Record | None:
    record = storage.read(record_id, owner) if _RECORD_ID.fullmatch(record_id) else None
    return record if record is not None and record.kind is Kind.REFINE else None


def _refine(refiner: Refiner, settings: Settings, pending: Record) -> Completion:
    reserve = min(STORAGE_RESERVE_SECONDS, settings.request_deadline_seconds / 10)
    refinement = refiner.refine(
        pending.prompt,
        instructions=pending.detail["instructions"],
        strategy=pending.detail["strategy"],
        model=pending.model or settings.openai_model,
        deadline=request_deadline().minus(reserve),
    )
    log_call(
        engine=pending.engine,
        attempts=refinement.attempts,
        upstream_ms=refinement.upstream_ms,
        refined=refinement.refined,
        **usage_as_dict(refinement.usage),
    )
    return Completion(
        status=Status.SUCCEEDED,
        response=refinement.refined_prompt,
        detail={**pending.detail, **_outcome(refinement)},
        usage=usage_as_dict(refinement.usage),
        latency_ms=elapsed_ms(),
        completed_at=utc_now(),
    )


def _outcome(refinement: Refinement) -> dict[str, Any]:
    return {
        "refined": refinement.refined,
        "changes": [asdict(change) for change in refinement.changes],
        "assumptions": list(refinement.assumptions),
        "integrity": integrity_report(refinement.integrity, refinement.attempts),
        "rejected": refinement.rejected,
        "corrective_failure": refinement.corrective_failure,
    }


def integrity_report(integrity: Integrity, attempts: int) -> dict[str, Any]:
    """The `integrity` object of an answer."""
    return {
        "ok": integrity.ok,
        "attempts": attempts,
        "placeholders": {
            "kept": list(integrity.placeholders_kept),
            "lost": list(integrity.placeholders_lost),
            "added": list(integrity.placeholders_added),
        },
        "code_blocks": {"kept": integrity.code_blocks_kept, "lost": len(integrity.code_blocks_lost)},
        "urls": {"kept": integrity.urls_kept, "lost": list(integrity.urls_lost)},
        "script_changed": integrity.script_changed,
    }


def refinement_body(record: Record) -> dict[str, Any]:
    """A refinement as the API shows it, built from its record alone: what is not known yet is null or empty."""
    detail = record.detail
    body = {
        "id": record.id,
        "status": record.status,
        "refined": detail.get("refined"),
        "original_prompt": record.prompt,
        "refined_prompt": record.response,
        "changes": detail.get("changes", []),
        "assumptions": detail.get("assumptions", []),
        "integrity": detail.get("integrity"),
        "model": record.model,
        "engine": record.engine,
        "strategy": detail["strategy"],
        "parent_id": detail["parent_id"],
        "usage": record.usage,
        "latency_ms": record.latency_ms,
        "created_at": rfc3339(record.timestamp),
    }
    return body if record.error is None else {**body, "error": record.error}
