"""Where the app is to be found behind API Gateway, and the events that are no requests."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lambda_events
from tests.events import GATEWAYS, Call, Event, answered, http_api, rest_api
from tests.test_lambda_mends import BASE, ELSEWHERE, OWN, THERE, location, seen, set_only

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# Where the caller sees the API.

HOME = f"/there {OWN}/there /there"
ADDRESSES = {
    "HTTP API": (http_api(THERE), {}, HOME),
    "HTTP API, named stage": (http_api(THERE, "dev"), {}, f"/dev/there {OWN}/dev/there /there"),
    "REST API": (rest_api(THERE), {}, f"/prod/there {OWN}/prod/there /there"),
    "HTTP API, custom domain": (http_api(ELSEWHERE), {}, "/there https://api.example.com/there /there"),
    "HTTP API, custom domain, named stage": (
        http_api(ELSEWHERE, "dev"),
        {},
        "/there https://api.example.com/there /there",
    ),
    "HTTP API, base path": (
        http_api(ELSEWHERE, "dev"),
        {BASE: "v1/api"},
        "/v1/api/there https://api.example.com/v1/api/there /there",
    ),
    "REST API, custom domain": (rest_api(ELSEWHERE), {}, "/there https://api.example.com/there /there"),
    "REST API, base path": (
        rest_api(ELSEWHERE, base_path="v1/api"),
        {BASE: "v1/api"},
        "/v1/api/there https://api.example.com/v1/api/there /there",
    ),
    "REST API, behind a CDN": (rest_api(THERE), {"STRIP_STAGE_PATH": "true"}, HOME),
    "REST API, behind a CDN, below a path": (
        rest_api(THERE, base_path="api"),
        {"STRIP_STAGE_PATH": "true", BASE: "api"},
        f"/api/there {OWN}/api/there /there",
    ),
    "HTTP API, no domain": (http_api(THERE, domainName=None), {}, HOME),
    "HTTP API, no stage": (
        {**http_api(THERE), "requestContext": {**http_api(THERE)["requestContext"], "stage": None}},
        {},
        HOME,
    ),
}


@pytest.mark.parametrize(("event", "variables", "expected"), ADDRESSES.values(), ids=ADDRESSES)
def test_addresses_are_those_that_the_caller_sees(
    monkeypatch: pytest.MonkeyPatch, event: Event, variables: dict[str, str], expected: str
) -> None:
    """A route is found, and `url_for` leads back to it, at a stage, at none, on a custom domain and below its path."""
    set_only(monkeypatch, variables)
    assert location(event)(lambda_events.answer) == expected


# What is no request.

WARM_UPS: dict[str, Any] = {
    "serverless-plugin-warmup": {"source": "serverless-plugin-warmup"},
    "serverless-plugin-lambda-warmup": {"source": "serverless-plugin-lambda-warmup"},
    "EventBridge's rule": {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
    "EventBridge's scheduler": {"version": "0", "source": "aws.scheduler", "detail-type": "Scheduled Event"},
    "lambda-warmer": {"warmer": True, "concurrency": 3},
    "a payload of one's own": {"warmup": True},
}
UNKNOWN: dict[str, Any] = {
    "code": {"_serverless-wsgi": {"command": "exec", "data": "open('run', 'w')"}},
    "shell": {"_serverless-wsgi": {"command": "command", "data": "touch run"}},
    "flask": {"_serverless-wsgi": {"command": "flask", "data": "clients list"}},
    "queue": {"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": "{}"}]},
    "load balancer": rest_api(THERE) | {"requestContext": {"elb": {"targetGroupArn": "arn"}}},
    "WebSocket": {"requestContext": {"routeKey": "$connect", "connectionId": "1"}},
    "another source": {"source": "aws.s3"},
    "not warming": {"warmer": False},
    "empty": {},
    "null": None,
    "list": [],
    "text": "warmup",
    "null context": {"requestContext": None, "httpMethod": "GET", "path": "/"},
    "another payload": http_api(THERE) | {"version": "3.0"},
}


@pytest.mark.parametrize("event", WARM_UPS.values(), ids=WARM_UPS)
def test_warm_ups_are_known(event: Any) -> None:
    """They come from schedules, with what each plugin sends."""
    assert lambda_events.is_warm_up(event)


@pytest.mark.parametrize("event", [*UNKNOWN.values(), http_api(THERE), rest_api(THERE)])
def test_nothing_else_is_a_warm_up(event: Any) -> None:
    """A request is none, also where its sender adds what a warm-up has."""
    assert not lambda_events.is_warm_up(event)
    if isinstance(event, dict) and event.get("requestContext"):
        assert not lambda_events.is_warm_up({**event, "source": "aws.events", "warmer": True})


@pytest.mark.parametrize("event", UNKNOWN.values(), ids=UNKNOWN)
def test_an_event_that_is_no_request_is_refused(event: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app is not asked, nothing is run, and what is in the event is not repeated."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(lambda_events.UnknownEvent) as caught:
        seen(event, "REQUEST_METHOD")(lambda_events.answer)
    assert not list(tmp_path.iterdir())
    assert str(caught.value) == "neither an HTTP API's request (payload 2.0) nor a REST API's"


def test_the_app_sees_event_and_context() -> None:
    """Whoever looks for what API Gateway or Lambda says finds it, as it came."""
    for event in (http_api(THERE, authorizer=None), rest_api(THERE, multiValueHeaders=None)):
        given = deepcopy(event)
        assert seen(event, "serverless.event", "serverless.context")(
            lambda app, event, _: lambda_events.answer(app, event, "context")
        ) == (given, "context")
        assert event == given


BODIES = {
    "compressed": gzip.compress(b"{}" * 1000),
    "large": bytes(range(256)) * 4096 * 4,
    "large text": b"a" * 5_000_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("gateway", GATEWAYS.values(), ids=GATEWAYS)
def test_large_and_compressed_bodies_arrive(gateway: Callable[..., Event], body: bytes) -> None:
    """Byte for byte, there and back, in Base64 where they are no text."""

    def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Encoding", "gzip")])
        return [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]

    answer = answered(lambda_events.answer(echo, gateway(Call("POST", body=body)), None))
    assert answer.body == body
    assert answer.base64 == (not body.isascii())
