"""`POST /refine`, its first name `/refine-prompt`, and `GET /refine/<id>`."""

from __future__ import annotations

import math

from flask import Blueprint, Response

from auth import Guard, Identity
from calls.audit import seconds_until
from calls.refinements import Refinements, as_answer
from edge import arrival
from records import Owner, Status
from settings import Settings

from .answers import answer, replayable
from .parsing import idempotency_key, parse_body, refuse_query


def refine_blueprint(settings: Settings, guard: Guard, refinements: Refinements) -> Blueprint:
    """The routes, on these collaborators."""
    blueprint = Blueprint("refine", __name__)

    @blueprint.post("/refine")
    @guard.token_required("refine")
    def refine(caller: Identity) -> Response:
        return create(caller.owner)

    @blueprint.post("/refine-prompt")
    @guard.token_or_key_required("refine")
    def refine_prompt(caller: Identity) -> Response:
        return create(caller.owner)

    def create(owner: Owner) -> Response:
        body = parse_body(refinements.request_model, settings.max_body_bytes)
        record, replayed = refinements.create(body, owner, arrival(), idempotency_key())
        return replayable(answer(as_answer(record)), replayed)

    @blueprint.get("/refine/<record_id>")
    @guard.token_required("refine")
    def refinement(caller: Identity, record_id: str) -> Response:
        refuse_query()
        record = refinements.find(record_id, caller.owner)
        response = answer(as_answer(record))
        if record.status is Status.PENDING:
            response.headers["Retry-After"] = str(math.ceil(seconds_until(record.deadline_at)))
        return response

    return blueprint
