"""One operation: its parameters, body, answers, and who may call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from werkzeug.routing import Rule

from auth import Access
from edge import LIMIT_HEADERS

from .components import API_KEY, BASIC, BEARER, IDEMPOTENCY_KEY, IF_NONE_MATCH, PREFER, header_references
from .errors import error_responses
from .examples import ID, answer_examples, request_examples
from .operation import Operation
from .schemas import Models, never_null

# Whom the guard turns away.
_NOT_COUNTED = ("401", "403")


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path, with what its view says, its guard asks for, and is counted of its requests."""

    rule: Rule
    method: str
    tag: str
    operation: Operation
    access: Access | None
    counted: tuple[str, ...]

    @property
    def path(self) -> str:
        """The path in the spelling of OpenAPI."""
        return self.rule.rule.replace("<", "{").replace(">", "}")

    @property
    def requests(self) -> list[type[BaseModel]]:
        operation = self.operation
        return [model for model in (operation.body, operation.form, operation.query) if model]


def described(route: Route, models: Models) -> dict[str, Any]:
    """The operation object (https://spec.openapis.org/oas/v3.1.0#operation-object)."""
    operation = route.operation
    optional = {
        "description": operation.text,
        "parameters": _parameters(route, models),
        "requestBody": _request_body(operation, models),
    }
    return {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [route.tag],
        **{name: value for name, value in optional.items() if value},
        "security": _security(route),
        "responses": _responses(route, models),
    }


def _security(route: Route) -> list[dict[str, list[str]]]:
    access = route.access
    if route.operation.oauth:
        # The last one is a client that authenticates in the body.
        return [{BASIC: []}, {API_KEY: []}, {}]
    if access is None:
        return []
    scopes = [access.scope] if access.scope else []
    return [{BEARER: scopes}, {API_KEY: scopes}] if access.api_key else [{BEARER: scopes}]


def _parameters(route: Route, models: Models) -> list[dict[str, Any]]:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "The record's id.",
            "schema": {"type": "string"},
            "example": ID,
        }
        for name in sorted(route.rule.arguments)
    ]
    if route.operation.query:
        schema = models.schema(route.operation.query)
        required = schema.get("required", [])
        parameters += [_query(name, field, name in required) for name, field in schema["properties"].items()]
    if route.operation.idempotent:
        parameters.append(IDEMPOTENCY_KEY)
    if route.operation.asynchronous:
        parameters.append(PREFER)
    if HTTPStatus.NOT_MODIFIED in route.operation.answers:
        parameters.append(IF_NONE_MATCH)
    return parameters


def _query(name: str, field: Mapping[str, Any], required: bool) -> dict[str, Any]:
    schema = never_null({key: value for key, value in field.items() if key != "description"})
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": field["description"],
        "schema": schema,
    }


def _request_body(operation: Operation, models: Models) -> dict[str, Any] | None:
    bodies = {"application/x-www-form-urlencoded": operation.form, "application/json": operation.body}
    content = {
        media_type: {"schema": models.reference(model), **request_examples(model)}
        for media_type, model in bodies.items()
        if model
    }
    return {"required": True, "content": content} if content else None


def _responses(route: Route, models: Models) -> dict[str, Any]:
    operation = route.operation
    answers = {str(status): _answer(operation, status, models) for status in operation.answers}
    errors = error_responses(operation, route.access, route.counted, has_id=bool(route.rule.arguments))
    responses = dict(sorted({**answers, **errors}.items()))
    left = header_references(*(name for unit in route.counted for name in LIMIT_HEADERS[unit]))
    for response in (response for status, response in responses.items() if status not in _NOT_COUNTED):
        response["headers"] |= left
    return responses


def _answer(operation: Operation, status: int, models: Models) -> dict[str, Any]:
    model = operation.answers[status]
    headers = [*operation.headers.get(status, ()), *(["Idempotent-Replayed"] if operation.idempotent else [])]
    description = models.schema(model)["description"] if model else HTTPStatus(status).phrase
    response: dict[str, Any] = {"description": description, "headers": header_references(*headers)}
    if model:
        content = {"schema": models.reference(model), **answer_examples(operation, status)}
        response["content"] = {"application/json": content}
    if status in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED) and operation.links:
        response["links"] = {
            name: {"operationId": name, "parameters": dict(parameters)} for name, parameters in operation.links.items()
        }
    return response
