"""`POST /generate`, also under its first guarded name `/secure-generate`."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, Response

from auth import Guard, Identity
from calls.generations import Generations, as_answer
from calls.limits import Limits
from edge import arrival, limited
from openapi.operation import Operation, describes
from problems import CallInProgress
from refinery.engines import EngineError
from schemas.generate import Generation
from settings import Settings

from .answers import answer, replayable
from .parsing import idempotency_key, parse_body


def generate_blueprint(settings: Settings, guard: Guard, limits: Limits, generations: Generations) -> Blueprint:
    """The route under its two names, on these collaborators."""
    blueprint = Blueprint("generate", __name__)

    operation = Operation(
        id="generateText",
        summary="Get a text from a prompt",
        text="The prompt goes to the model as it is. Text that is cut at `max_length` has `finish_reason` `length`.",
        body=generations.request_model,
        idempotent=True,
        answers={200: Generation},
        raises=(EngineError, CallInProgress),
        links={"getRecord": {"record_id": "$response.body#/id"}},
    )

    @blueprint.post("/generate")
    @guard.token_required("generate")
    @limited(limits, with_tokens=True)
    @describes(operation)
    def generate(caller: Identity) -> Response:
        return create(caller)

    @blueprint.post("/secure-generate")
    @guard.token_required("generate")
    @limited(limits, with_tokens=True)
    @describes(replace(operation, id="secureGenerateText", summary="Get a text from a prompt, under the first name"))
    def secure_generate(caller: Identity) -> Response:
        return create(caller)

    def create(caller: Identity) -> Response:
        body = parse_body(generations.request_model, settings.max_body_bytes)
        record, replayed = generations.create(body, caller.owner, arrival(), idempotency_key())
        return replayable(answer(as_answer(record)), replayed)

    return blueprint
