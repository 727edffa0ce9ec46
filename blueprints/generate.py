"""`POST /generate`, also under its first guarded name `/secure-generate`."""

from __future__ import annotations

from flask import Blueprint, Response

from auth import Guard, Identity
from calls.generations import Generations, as_answer
from edge import arrival
from settings import Settings

from .answers import answer, replayable
from .parsing import idempotency_key, parse_body


def generate_blueprint(settings: Settings, guard: Guard, generations: Generations) -> Blueprint:
    """The route under its two names, on these collaborators."""
    blueprint = Blueprint("generate", __name__)

    @blueprint.post("/generate")
    @blueprint.post("/secure-generate")
    @guard.token_required("generate")
    def generate(caller: Identity) -> Response:
        body = parse_body(generations.request_model, settings.max_body_bytes)
        record, replayed = generations.create(body, caller.owner, arrival(), idempotency_key())
        return replayable(answer(as_answer(record)), replayed)

    return blueprint
