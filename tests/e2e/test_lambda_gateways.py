"""The same requests through both kinds of API to the artifact, and through serverless-offline to the sources."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from app import VERSION
from tests.artifacts import ROOT, copy_checkout
from tests.e2e.cloud import PROMPT, Caller, Cloud, better, over_http, through
from tests.events import GATEWAYS, Answer
from tests.stores import free_port
from tests.test_artifact_commands import serving

OFFLINE = "serverless-offline"


@pytest.fixture(scope="module", params=[*GATEWAYS, OFFLINE])
def gateway(request: pytest.FixtureRequest, cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A client behind one of the three."""
    with ExitStack() as stack:
        if request.param == OFFLINE:
            checkout = copy_checkout(tmp_path_factory.mktemp("offline") / "checkout")
            port = free_port()
            command = ("offline", "--httpPort", str(port), "--lambdaPort", str(free_port()))
            stack.enter_context(serving(checkout, "Server ready", *command, **cloud.environ_here()))
            send = over_http(f"http://localhost:{port}")
        else:
            send = through(request.getfixturevalue("api"), GATEWAYS[request.param])
        cloud.in_order()
        yield cloud.caller(send)


def assert_problem(answer: Answer, status: int, slug: str) -> None:
    """The answer is a problem document, as text, with the request's id."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.body
    assert not answer.base64
    assert (answer.json["type"], answer.json["status"]) == (f"/problems/{slug}", status)
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


def test_a_prompt_is_refined(gateway: Caller, cloud: Cloud) -> None:
    """With a token; the model is asked with the key of the settings, and the refinement can be read again."""
    answer = gateway.refine()
    assert answer.status == 200, answer.body
    assert (answer.json["refined_prompt"], answer.json["engine"]) == (better(PROMPT), "openai")
    assert answer.json["usage"] == {"input_tokens": 11, "output_tokens": 7}
    assert answer.headers["Cache-Control"] == "no-store"
    assert int(answer.headers["x-ratelimit-remaining-requests"]) < 60
    assert cloud.upstream.requests[-1].headers["authorization"] == f"Bearer {cloud.settings['OPENAI_API_KEY']}"
    assert gateway.get(f"/refine/{answer.json['id']}").json == answer.json


def test_a_call_is_done_once(gateway: Caller, cloud: Cloud) -> None:
    """The same `Idempotency-Key` gets the same answer, and the model is asked once."""
    before = len(cloud.upstream.requests)
    first, again = (gateway.refine(("Idempotency-Key", "one")) for _ in range(2))
    assert (again.status, again.json, again.headers["Idempotent-Replayed"]) == (200, first.json, "true")
    assert len(cloud.upstream.requests) == before + 1


def test_a_request_is_logged(gateway: Caller) -> None:
    """What a client reports has an address, and stands in the pages of the log, whose query arrives as it was sent."""
    metadata = {"$set": {"a.b": [1, None]}, "é": "ü"}
    body = {"prompt": "CANARY prompt", "response": "CANARY response", "metadata": metadata}
    made = gateway.post("/log-request", body)
    assert (made.status, made.headers["Location"].rpartition("/")[2]) == (201, made.json["id"]), made.body
    page = gateway.get("/log-request", "kind=client&limit=1&from=2026-01-01T00%3A00%3A00%2B00%3A00")
    assert page.status == 200, page.body
    (item,) = page.json["items"]
    assert (item["id"], item["response"], item["metadata"]) == (made.json["id"], "CANARY response", metadata)
    assert gateway.get(f"/log-request/{item['id']}").json == item


def test_problems_are_answered(gateway: Caller) -> None:
    """Whatever is wrong with a request, its caller is told in the one form, with the headers that belong to it."""
    nobody = Caller(gateway.send, gateway.credentials)
    refused = nobody.get("/refine/x")
    assert_problem(refused, 401, "authentication-required")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert_problem(gateway.get("/nowhere"), 404, "not-found")
    wrong = gateway.get("/refine")
    assert_problem(wrong, 405, "method-not-allowed")
    assert "POST" in wrong.headers["Allow"]
    invalid = gateway.post("/refine", {"prompt": " ", "other": 1})
    assert_problem(invalid, 422, "invalid-request")
    assert {error["field"] for error in invalid.json["errors"]} == {"prompt", "other"}


def test_a_wrong_key_gets_no_token(gateway: Caller) -> None:
    """It is answered as OAuth wants it."""
    answer = Caller(gateway.send, gateway.credentials).post("/token", {}, ("X-API-Key", "klm_x.y"))
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_the_documentation_is_served(gateway: Caller) -> None:
    """Page, style, icon and description arrive as they are, the icon's bytes too."""
    page = gateway.get("/docs")
    assert (page.status, page.body) == (200, (ROOT / "pages" / "docs" / "index.html").read_bytes())
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    icon = gateway.get("/docs/favicon-32x32.png")
    assert (icon.status, icon.headers["Content-Type"], icon.body[:4]) == (200, "image/png", b"\x89PNG")
    assert gateway.get("/docs/swagger-ui.css").status == 200
    described = gateway.get("/openapi.json").json
    assert (described["openapi"][:3], described["info"]["version"]) == ("3.1", VERSION)
