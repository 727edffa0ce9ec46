"""`GET /openapi.json`: the description of the API, made from the app that serves it."""

from __future__ import annotations

import json

from flask import Blueprint, Response, current_app, request

from openapi.operation import Operation, describes
from schemas.service import Description

DESCRIBE = Operation(
    id="getDescription",
    summary="The description of the API",
    answers={200: Description, 304: None},
    headers={200: ("ETag",), 304: ("ETag",)},
)


def openapi_blueprint(version: str) -> Blueprint:
    """The route. The description is made at its first request: most processes are never asked for it."""
    blueprint = Blueprint("openapi", __name__)
    made: list[str] = []

    @blueprint.get("/openapi.json")
    @describes(DESCRIBE)
    def description() -> Response:
        if not made:
            from openapi.document import describe

            # Two first requests at once make it twice, and both are right.
            made.append(json.dumps(describe(current_app, version), ensure_ascii=False))
        response = Response(made[0], mimetype="application/json")
        response.add_etag()
        response.make_conditional(request)
        return response

    return blueprint
