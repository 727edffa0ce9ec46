"""Published forgeries as requests: Wycheproof's HMAC vectors, read from beside the checkout where they are present."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from threading import Thread
from typing import Any, cast

import pytest
from werkzeug.serving import make_server

from app import create_app
from tests.e2e.door import ALL_SCOPES, NO_TOKEN, TIMEOUT, Door, assert_refusal, bearer, opened
from tests.harness import FIRST_SECRET, build
from tests.test_auth import (
    HEADER,
    VECTORS,
    as_json,
    claims,
    signed,
    unb64,
)


@pytest.fixture(scope="module")
def vectors() -> list[dict[str, Any]]:
    """Wycheproof's groups of HMAC vectors, each with its key."""
    if not VECTORS.exists():
        pytest.skip(f"{VECTORS} is not here: the published vectors are left out")
    groups: list[dict[str, Any]] = json.loads(VECTORS.read_text("utf-8"))["testGroups"]
    return groups


@pytest.fixture(scope="module")
def door_of_vectors(tmp_path_factory: pytest.TempPathFactory, vectors: list[dict[str, Any]]) -> Iterator[Door]:
    """A server whose secrets are the vectors' keys, under their own `kid`.

    The keys are bytes that no environment variable can hold, so that this service is built with them and runs in here.
    """
    harness = build(tmp_path_factory.mktemp("vectors"))
    secrets = cast("dict[str, str]", {group["private"]["kid"]: key_of(group) for group in vectors})
    secrets["k1"] = FIRST_SECRET
    settings = replace(harness.settings, jwt_secrets=secrets)
    app = create_app(settings, storage=harness.storage, engine=harness.engine)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield opened(replace(harness, app=app), f"127.0.0.1:{server.server_port}", lambda: len(harness.engine.deadlines))
    server.shutdown()
    thread.join(TIMEOUT)
    server.server_close()
    harness.storage.close()


def key_of(group: Mapping[str, Any]) -> bytes:
    return unb64(group["private"]["k"])


def test_no_published_vector_opens_a_route(door_of_vectors: Door, vectors: list[dict[str, Any]]) -> None:
    """Each vector is refused, the validly signed ones too: they are no access tokens."""
    tokens = {f"vector {test['tcId']}": test["jws"] for group in vectors for test in group["tests"] if test["jws"]}
    assert len(tokens) > 30
    door_of_vectors.refuses(tokens)
    # An empty vector is a request without a token.
    for route in door_of_vectors.routes:
        answer = door_of_vectors.send(route, bearer(""))
        assert_refusal(answer, "the empty vector", challenge=NO_TOKEN, slug="authentication-required")


def test_the_vectors_keys_open_with_a_token_of_ours(door_of_vectors: Door, vectors: list[dict[str, Any]]) -> None:
    """The keys are in use: a well-made token under each is accepted, and each valid vector is signed with its own."""
    for group in vectors:
        payload = as_json(claims(door_of_vectors.client_id, scope=ALL_SCOPES))
        assert door_of_vectors.accepts(signed({**HEADER, "kid": group["private"]["kid"]}, payload, key_of(group)))
        for jws in (test["jws"] for test in group["tests"] if test["result"] == "valid" and "?" not in test["jws"]):
            text, _, signature = jws.rpartition(".")
            assert hmac.compare_digest(unb64(signature), hmac.digest(key_of(group), text.encode(), "sha256"))
