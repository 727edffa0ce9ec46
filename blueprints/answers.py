"""From a typed answer to a response."""

from __future__ import annotations

from flask import Response

from schemas.base import Answer


def answer(body: Answer, status: int = 200) -> Response:
    """The answer as JSON."""
    return Response(body.model_dump_json(), status, mimetype="application/json")


def replayable(response: Response, replayed: bool) -> Response:
    """Say of an answer that it was given before."""
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response
