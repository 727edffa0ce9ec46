"""`POST /refine`, its first name `/refine-prompt`, and `GET /refine/<id>`."""

from __future__ import annotations

import math
from dataclasses import replace

from flask import Blueprint, Response, url_for

from auth import Guard, Identity
from calls.audit import seconds_until
from calls.jobs import POLL_SECONDS, Submissions
from calls.limits import Limits
from calls.refinements import Refinements, as_answer
from edge import arrival, limited
from openapi.operation import Operation, describes
from problems import CallInProgress
from records import Owner, Record, Status
from refinery.engines import ModelRefused, ModelTimeout, UnusableAnswer, UpstreamRejected, UpstreamUnavailable
from schemas.prefer import RESPOND_ASYNC
from schemas.refine import Accepted, Refinement, RefineRequest
from settings import Settings

from .answers import answer, replayable
from .parsing import idempotency_key, parse_body, prefers_async, refuse_query

# Rules refine too, so that `NoModel` cannot happen here.
_MODEL_ERRORS = (UpstreamRejected, UnusableAnswer, ModelRefused, UpstreamUnavailable, ModelTimeout)

READ = Operation(
    id="getRefinement",
    summary="Read a refinement",
    text="One of the caller's own, whatever its status.",
    answers={200: Refinement},
    headers={200: ("Retry-After.pending",)},
)


def _create(body: type[RefineRequest]) -> Operation:
    return Operation(
        id="createRefinement",
        summary="Refine a prompt",
        text="Takes a draft, or the `parent_id` of an earlier refinement to go on from, and returns a better prompt "
        "with each change explained.",
        body=body,
        idempotent=True,
        asynchronous=True,
        answers={200: Refinement, 202: Accepted},
        headers={202: ("Location", "Preference-Applied", "Retry-After")},
        raises=(*_MODEL_ERRORS, CallInProgress),
        links={"getRefinement": {"record_id": "$response.body#/id"}},
    )


def refine_blueprint(
    settings: Settings, guard: Guard, limits: Limits, refinements: Refinements, submissions: Submissions
) -> Blueprint:
    """The routes, on these collaborators."""
    blueprint = Blueprint("refine", __name__)
    operation = _create(refinements.request_model)

    @blueprint.post("/refine")
    @guard.token_required("refine")
    @limited(limits, with_tokens=True)
    @describes(operation)
    def refine(caller: Identity) -> Response:
        return create(caller.owner)

    @blueprint.post("/refine-prompt")
    @guard.token_or_key_required("refine")
    @limited(limits, with_tokens=True)
    @describes(replace(operation, id="refinePrompt", summary="Refine a prompt, also with an API key"))
    def refine_prompt(caller: Identity) -> Response:
        return create(caller.owner)

    def create(owner: Owner) -> Response:
        in_background = prefers_async()
        body = parse_body(refinements.request_model, settings.max_body_bytes)
        make = submissions.submit if in_background else refinements.create
        record, replayed = make(body, owner, arrival(), idempotency_key())
        response = _accepted(record) if in_background and record.is_job else answer(as_answer(record))
        return replayable(response, replayed)

    @blueprint.get("/refine/<record_id>")
    @guard.token_required("refine")
    @describes(READ)
    def refinement(caller: Identity, record_id: str) -> Response:
        refuse_query()
        record = refinements.find(record_id, caller.owner)
        response = answer(as_answer(record))
        if record.status is Status.PENDING:
            response.headers["Retry-After"] = _look_again_after(record)
        return response

    return blueprint


def _accepted(job: Record) -> Response:
    response = answer(Accepted(id=job.id), 202)
    response.headers["Location"] = url_for("refine.refinement", record_id=job.id)
    response.headers["Preference-Applied"] = RESPOND_ASYNC
    response.headers["Retry-After"] = _look_again_after(job)
    return response


def _look_again_after(record: Record) -> str:
    return str(POLL_SECONDS if record.is_job else math.ceil(seconds_until(record.deadline_at)))
