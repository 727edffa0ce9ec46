"""`GET /health`, `GET /ready`: for load balancers and people on call."""

from __future__ import annotations

from flask import Blueprint, Response

from openapi.operation import Operation, describes
from schemas.service import Checks, Health, Readiness
from storage import Storage, StorageError

from .answers import answer


def health_blueprint(version: str, storage: Storage) -> Blueprint:
    """The routes, on these collaborators."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/health")
    @describes(Operation(id="getHealth", summary="Is the process there?", answers={200: Health}))
    def health() -> Response:
        return answer(Health(version=version))

    @blueprint.get("/ready")
    @describes(
        Operation(
            id="getReadiness",
            summary="Can the service answer?",
            text="Answers within 2 seconds, also when the storage is silent.",
            answers={200: Readiness, 503: Readiness},
        )
    )
    def ready() -> Response:
        try:
            storage.ping()
        except StorageError:
            return answer(Readiness(status="unavailable", checks=Checks(storage="unreachable")), 503)
        return answer(Readiness(status="ok", checks=Checks(storage="ok")))

    return blueprint
