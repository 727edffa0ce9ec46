"""API Gateway as the tests play it: the events that it makes of a request, and what it makes of a function's answer.

Documented at https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html and
https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from werkzeug.datastructures import Headers

OWN_DOMAIN = "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"
CUSTOM_DOMAIN = "api.example.com"
REQUEST_ID = "JKJaXmPLvHcESHA="
ABSENT = object()
Event = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A request as it is sent. The path is percent-encoded, and begins below stage and base path."""

    method: str = "GET"
    path: str = "/"
    query: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    domain: str = OWN_DOMAIN

    def with_json(self, value: object) -> Call:
        """The same with a JSON body."""
        headers = (*self.headers, ("Content-Type", "application/json"))
        return Call(self.method, self.path, self.query, headers, json.dumps(value).encode(), self.domain)


def http_api(call: Call, stage: str = "$default", **changes: Any) -> Event:
    """The event of an HTTP API with payload 2.0: the path decoded, below a named stage.

    `changes` replace what is in `requestContext`, or else on top; `ABSENT` takes a name away.
    """
    path = ("" if stage == "$default" else f"/{stage}") + unquote(call.path)
    joined: dict[str, str] = {}
    cookies = [part for name, value in call.headers if name.lower() == "cookie" for part in value.split("; ")]
    for name, value in _received(call):
        key = name.lower()
        joined[key] = f"{joined[key]},{value}" if key in joined else value
    joined.pop("cookie", None)
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": call.query,
        "headers": joined,
        "requestContext": {
            **_context(call, stage),
            "http": {
                "method": call.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "agent",
            },
            "routeKey": "$default",
            "time": "20/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1795521600000,
        },
        "isBase64Encoded": False,
        **({"cookies": cookies} if cookies else {}),
        **_body(call.body),
    }
    return _changed(event, changes)


def rest_api(call: Call, stage: str = "prod", base_path: str = "", **changes: Any) -> Event:
    """The event of a REST API's proxy integration: the path as it was sent, below a custom domain's base path.

    `changes` replace what is in `requestContext`, or else on top; `ABSENT` takes a name away.
    """
    path = (f"/{base_path}" if base_path else "") + call.path
    headers, query = _lists(_received(call)), _lists(parse_qsl(call.query, keep_blank_values=True))
    event = {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": call.method,
        "headers": _last(headers),
        "multiValueHeaders": headers,
        "queryStringParameters": _last(query) or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": path[1:]},
        "stageVariables": None,
        "requestContext": {
            **_context(call, stage),
            "resourcePath": "/{proxy+}",
            "httpMethod": call.method,
            "path": path if base_path else f"/{stage}{path}",
            "protocol": "HTTP/1.1",
            "identity": {"sourceIp": "203.0.113.7", "userAgent": "agent", "apiKey": None},
        },
        "body": None,
        "isBase64Encoded": False,
        **_body(call.body),
    }
    return _changed(event, changes)


GATEWAYS: dict[str, Callable[..., Event]] = {"HTTP API": http_api, "REST API": rest_api}


@dataclass(frozen=True)
class Answer:
    """What the caller gets."""

    status: int
    headers: Headers
    body: bytes
    base64: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def answered(response: Mapping[str, Any]) -> Answer:
    """What API Gateway makes of a function's answer, which must be one that Lambda can send."""
    response = json.loads(json.dumps(response))
    assert set(response) <= {"statusCode", "headers", "multiValueHeaders", "cookies", "body", "isBase64Encoded"}
    headers = Headers(list(response.get("headers", {}).items()))
    for name, values in response.get("multiValueHeaders", {}).items():
        headers.setlist(name, values)
    for cookie in response.get("cookies", []):
        headers.add("Set-Cookie", cookie)
    encoded = response["isBase64Encoded"]
    body = base64.b64decode(response["body"], validate=True) if encoded else response["body"].encode("utf-8")
    return Answer(response["statusCode"], headers, body, encoded)


def _received(call: Call) -> Iterable[tuple[str, str]]:
    yield "Host", call.domain
    yield from call.headers
    if call.body:
        yield "Content-Length", str(len(call.body))
    yield "X-Forwarded-For", "203.0.113.7"
    yield "X-Forwarded-Port", "443"
    yield "X-Forwarded-Proto", "https"


def _context(call: Call, stage: str) -> Event:
    return {
        "accountId": "123456789012",
        "apiId": "a1b2c3d4e5",
        "domainName": call.domain,
        "domainPrefix": call.domain.partition(".")[0],
        "requestId": REQUEST_ID,
        "stage": stage,
    }


def _body(body: bytes) -> Event:
    if not body:
        return {}
    try:
        return {"body": body.decode("utf-8"), "isBase64Encoded": False}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode("ascii"), "isBase64Encoded": True}


def _lists(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value)
    return lists


def _last(lists: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: values[-1] for name, values in lists.items()}


def _changed(event: Event, changes: Mapping[str, Any]) -> Event:
    for name, value in changes.items():
        inside = event["requestContext"] if name in (*event["requestContext"], "authorizer") else event
        inside[name] = value
        if value is ABSENT:
            del inside[name]
    return event
