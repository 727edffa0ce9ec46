"""`GET /health`, `GET /ready`: for load balancers and people on call."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from storage import Storage, StorageError


def health_blueprint(version: str, storage: Storage) -> Blueprint:
    """The routes, on these collaborators."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/health")
    def health() -> Response:
        return jsonify(status="ok", version=version)

    @blueprint.get("/ready")
    def ready() -> tuple[Response, int]:
        try:
            storage.ping()
        except StorageError:
            return jsonify(status="unavailable", checks={"storage": "unreachable"}), 503
        return jsonify(status="ok", checks={"storage": "ok"}), 200

    return blueprint
