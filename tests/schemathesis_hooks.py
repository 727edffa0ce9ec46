"""The rules of the API that JSON Schema cannot say: good requests are made to keep them before they are sent.

Schemathesis loads this by `schemathesis.toml`. Bad requests are sent as they were made.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

import schemathesis

from blueprints.cursor import as_cursor
from openapi.examples import ID
from records import Position

_PAST = datetime(2026, 11, 20, tzinfo=UTC)
_CURSOR = as_cursor(Position(_PAST, ID))
_numbers = count()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.headers:
        _keep_rules_of_headers(case.headers)
    if isinstance(case.body, dict):
        _keep_rules_of_bodies(case.path, case.body)
    if case.query:
        _keep_rules_of_queries(case.query)


def _keep_rules_of_headers(headers: MutableMapping[str, Any]) -> None:
    if headers.get("Idempotency-Key"):
        # A key belongs to one body.
        headers["Idempotency-Key"] = f"key-{next(_numbers)}"
    if "Authorization" in headers:
        # A request authenticates in one way.
        headers.pop("X-API-Key", None)


def _keep_rules_of_bodies(path: str, body: dict[str, Any]) -> None:
    if body.get("parent_id"):
        # It names a succeeded refinement of the caller's own.
        body["parent_id"] = ID
    if isinstance(body.get("max_length"), float):
        # JSON Schema takes 5.0 for an integer, the service does not.
        body["max_length"] = int(body["max_length"])
    if body.get("timestamp"):
        # It is at most 5 minutes ahead.
        body["timestamp"] = min(body["timestamp"], _PAST.isoformat(), key=_moment)
    if body.get("metadata"):
        # No text in it, however deep, has a NUL.
        body["metadata"] = json.loads(json.dumps(body["metadata"]).replace("\\u0000", ""))
    if path == "/token":
        # The client authenticates in one way, which is a header here, and asks for a part of its scopes.
        for name in {"client_id", "client_secret"} & set(body):
            del body[name]
        if body.get("scope"):
            body["scope"] = "refine"
        # In a form these become parameters that are repeated.
        for name in [name for name, value in body.items() if isinstance(value, (dict, list))]:
            del body[name]


def _keep_rules_of_queries(query: MutableMapping[str, Any]) -> None:
    if "cursor" in query:
        # It is one that the service gave.
        query["cursor"] = _CURSOR
    if "from" in query:
        # The time ends after it begins: now, where nothing is said.
        query["from"] = min(query["from"], _PAST.isoformat(), key=_moment)
    if "from" in query and "to" in query:
        query["from"], query["to"] = sorted((query["from"], query["to"]), key=_moment)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.upper())
