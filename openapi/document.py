"""The whole description, from the routes of an app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask

from auth import access_to
from edge import counted_by

from .components import HEADERS, SECURITY_SCHEMES, TAGS
from .errors import ERROR_MODELS, check_examples
from .operation import operation_of
from .routes import Route, described
from .schemas import Models

# Pages for people, with what lies below them: they are no operations.
PAGES = ("/", "/console", "/docs")
# What Flask answers by itself.
_IMPLIED_METHODS = {"HEAD", "OPTIONS"}
_INTRODUCTION = Path(__file__).with_name("introduction.md")


def describe(app: Flask, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an app.

    Raises: `LookupError` for a route that is not described and is no page, for one that belongs to no tag, and for an
    error without an example.
    """
    check_examples()
    routes = list(_routes(app))
    queries = {route.operation.query for route in routes}
    models = Models(
        requests=[model for route in routes for model in route.requests],
        answers=[*(model for route in routes for model in route.operation.answers.values() if model), *ERROR_MODELS],
    )
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = described(route, models)
    used = {route.tag for route in routes}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "klamala",
            "version": version,
            "summary": "From the rough draft of a prompt to a better one, with everything a program depends on kept.",
            "description": _INTRODUCTION.read_text("utf-8"),
        },
        # Where this document is, so that a prefix in front of it counts for the operations too.
        "servers": [{"url": "."}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.values() if name in used],
        "paths": paths,
        "components": {
            "schemas": models.without(queries),
            "headers": HEADERS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _routes(app: Flask) -> Iterator[Route]:
    for rule in app.url_map.iter_rules():
        if any(rule.rule == page or rule.rule.startswith(f"{page}/") for page in PAGES):
            continue
        view = app.view_functions[rule.endpoint]
        operation, blueprint = operation_of(view), rule.endpoint.partition(".")[0]
        if operation is None:
            raise LookupError(f"{rule.rule} is not described")
        if blueprint not in TAGS:
            raise LookupError(f"{rule.rule} belongs to no tag: {blueprint}")
        for method in sorted((rule.methods or set()) - _IMPLIED_METHODS):
            yield Route(rule, method, TAGS[blueprint][0], operation, access_to(view), counted_by(view))
