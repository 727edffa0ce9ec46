"""Forged tokens as requests, over real sockets, to each guarded route: refused, challenged, without any effect."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from urllib.parse import quote, urlsplit

import pytest

from auth import SCOPES
from clients import register
from scripts.service import Service
from tests import upstream as fake
from tests.e2e.door import ALL_SCOPES, NO_TOKEN, Door, Headers, assert_refusal, bearer, opened
from tests.e2e.test_service import environment
from tests.harness import FIRST_SECRET, SECOND_SECRET, build
from tests.test_auth import (
    ALGORITHMS,
    AMBIGUOUS,
    ELSEWHERE,
    HEADER,
    HEADER_CHANGES,
    MUTATIONS,
    NO_CLAIMS,
    OMITTED,
    TEXTS,
    TIMES,
    WRONG_TEXTS,
    WRONG_TIMES,
    as_json,
    b64,
    changed,
    claims,
    good_token,
    parts,
    signed,
    with_time,
)
from tests.upstream import Handler, Reply, Upstream

# A token that is too long for its header line never reaches the service: gunicorn refuses the request.
TOO_LONG_FOR_A_HEADER = {"100 KB of dots", "100 KB of letters"}


def answering() -> Reply:
    """A model that refines what comes with instructions, and answers a prompt that stands alone."""

    def send(handler: Handler) -> None:
        refining = len(handler.received.body["messages"]) > 1
        (fake.echo() if refining else fake.completion("A poem.")).send(handler)

    return Reply(send)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """gunicorn with two secrets, a model's server beside it, and a client that may do everything."""
    folder = tmp_path_factory.mktemp("forged")
    listed = build(folder, RATE_LIMIT="1000000/hour")
    with Upstream() as upstream, closing(listed.storage):
        environ = environment(
            folder,
            DATABASE_URL=listed.settings.database_url,
            JWT_SECRETS=f"k1:{FIRST_SECRET},k2:{SECOND_SECRET}",
            OPENAI_BASE_URL=upstream.url,
            RATE_LIMIT="1000000/hour",
        )
        upstream.script(answering())
        with Service(environ, folder / "service.log") as service:
            yield opened(listed, urlsplit(service.url).netloc, lambda: len(upstream.requests))


def test_a_good_token_opens_every_route(door: Door) -> None:
    """What the forgeries below are made from is accepted everywhere: each is refused for what is wrong with it."""
    assert {(route.method, route.path.partition("/")[2].partition("/")[0]) for route in door.routes} >= {
        ("POST", "refine"),
        ("GET", "refine"),
        ("POST", "generate"),
        ("POST", "log-request"),
        ("GET", "log-request"),
        ("GET", "usage"),
        ("GET", "models"),
    }
    before = door.asked()
    assert door.accepts(good_token(door.client_id, scope=ALL_SCOPES))
    assert door.asked() > before


def test_the_second_secret_opens_too(door: Door) -> None:
    """The `kid` names the secret, and each is good under its own."""
    token = signed({**HEADER, "kid": "k2"}, as_json(claims(door.client_id, scope=ALL_SCOPES)), SECOND_SECRET)
    assert door.accepts(token)


def forged_headers(client_id: str) -> dict[str, str]:
    payload = as_json(claims(client_id, scope=ALL_SCOPES))
    tokens = {
        f"alg {alg!r}, {digest}": signed(changed(HEADER, {"alg": alg}), payload, digest=digest)
        for alg, digest in ALGORITHMS
    }
    for alg, ending in product(("none", "None", "NONE", "nOnE"), ("", "AAAA")):
        head = as_json({**HEADER, "alg": alg})
        tokens[f"alg {alg}, signature {ending!r}"] = f"{head}.{payload}.{ending}"
        tokens[f"alg {alg}, our signature"] = signed({**HEADER, "alg": alg}, payload)
    for name, changes in HEADER_CHANGES.items():
        tokens[name] = signed(changed(HEADER, changes), payload)
    for header in ([], "HS256", None, 1, [HEADER]):
        tokens[f"header {header!r}"] = signed(header, payload)
    return tokens


def forged_signatures(client_id: str) -> dict[str, str]:
    payload, good = as_json(claims(client_id, scope=ALL_SCOPES)), good_token(client_id, scope=ALL_SCOPES)
    keys: list[tuple[str, str | bytes]] = [
        ("k1", SECOND_SECRET),
        ("k2", FIRST_SECRET),
        ("k1", "another-secret-" + "c" * 32),
        ("k1", b""),
    ]
    tokens = {f"{kid}, key {n}": signed({**HEADER, "kid": kid}, payload, key) for n, (kid, key) in enumerate(keys)}
    header, _, signature = parts(good)
    tokens["an old signature under another payload"] = f"{header}.{as_json(claims(client_id, sub='root'))}.{signature}"
    tokens["encrypted, five parts"] = f"{as_json({**HEADER, 'enc': 'A256GCM'})}.AAAA.AAAA.AAAA.AAAA"
    tokens["longer than any of ours"] = good_token(client_id, jti="x" * 4000)
    tokens["white space inside"] = good.replace(".", ". ")
    for name, mutate in MUTATIONS.items():
        if name not in TOO_LONG_FOR_A_HEADER:
            tokens[name] = mutate(good)
    return tokens


def forged_claims(client_id: str) -> dict[str, str]:
    now = int(time.time())
    good = claims(client_id, scope=ALL_SCOPES)
    tokens = {f"no {name}": good_token(client_id, **{name: OMITTED}) for name in TEXTS + TIMES}
    for name, (kind, wrong) in product(TEXTS, WRONG_TEXTS.items()):
        tokens[f"{name}: {kind}"] = good_token(client_id, **{name: wrong(good[name])})
    for name, (kind, write) in product(TIMES, WRONG_TIMES.items()):
        tokens[f"{name}: {kind}"] = with_time(client_id, name, write)
    for name in TEXTS:
        tokens[f"{name}: NaN"] = signed(HEADER, b64(json.dumps({**good, name: float("nan")}).encode()))
    for changes in ELSEWHERE:
        tokens[str(changes)] = good_token(client_id, **changes)
    for times in (
        {"iat": now - 3600, "nbf": now - 3600, "exp": now - 60},
        {"nbf": now + 600},
        {"iat": now + 600, "nbf": now},
        {"exp": now + 86_400 + 600},
        {"exp": now + 10**9},
        {"iat": now, "exp": now - 5},
        {"exp": 10**30},
    ):
        tokens[f"times {times}"] = good_token(client_id, scope=ALL_SCOPES, **times)
    for payload in NO_CLAIMS:
        tokens[f"payload {payload[:20]!r}"] = signed(HEADER, b64(payload))
    return tokens


FAMILIES: dict[str, Callable[[str], dict[str, str]]] = {
    "headers": forged_headers,
    "signatures": forged_signatures,
    "claims": forged_claims,
    "ambiguous": lambda client_id: {name: made(client_id) for name, made in AMBIGUOUS.items()},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_forged_tokens_are_refused_everywhere(door: Door, family: str) -> None:
    """Each forgery gets 401 and `invalid_token` at each guarded route, stores nothing and asks no model."""
    door.refuses(FAMILIES[family](door.client_id))
    assert door.accepts(good_token(door.client_id, scope=ALL_SCOPES)), "the service refuses everything"


def test_a_token_elsewhere_than_in_its_header_is_not_seen(door: Door) -> None:
    """In the query, a cookie, the body or another header a good token opens nothing; the challenge names no error."""
    token = good_token(door.client_id, scope=ALL_SCOPES)
    others = ("X-Access-Token", "Proxy-Authorization", "X-Authorization", "Cookie")
    ways: dict[str, tuple[Headers, str, dict[str, str]]] = {
        "nowhere": ([], "", {}),
        "query": ([], f"?access_token={quote(token)}", {}),
        "body": ([], "", {"access_token": token}),
        "cookie": ([("Cookie", f"access_token={token}; Authorization=Bearer {token}")], "", {}),
        **{name: ([(name, f"Bearer {token}")], "", {}) for name in others},
        **{scheme: ([("Authorization", f"{scheme} {token}")], "", {}) for scheme in ("Basic", "DPoP", "JWT", "")},
        "scheme alone": ([("Authorization", "Bearer")], "", {}),
    }
    with door.untouched():
        for (name, (headers, query, members)), route in product(ways.items(), door.routes):
            answer = door.send(route, headers, query, **members)
            assert_refusal(answer, f"{name} at {route}", challenge=NO_TOKEN, slug="authentication-required")


def test_two_authorization_headers_are_refused(door: Door) -> None:
    """Two headers are not one token, be both of them good, or the first, or the last."""
    good = good_token(door.client_id, scope=ALL_SCOPES)
    forged = MUTATIONS["tampered signature"](good)
    with door.untouched():
        for first, last in ((good, good), (good, forged), (forged, good)):
            for route in door.routes:
                assert_refusal(door.send(route, [*bearer(first), *bearer(last)]), str(route))


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
def test_the_scheme_has_any_case(door: Door, scheme: str) -> None:
    """An authentication scheme's name is read in any case (RFC 9110 §11.1)."""
    headers = [("Authorization", f"{scheme} {good_token(door.client_id, scope=ALL_SCOPES)}")]
    assert all(door.send(route, headers).status in (200, 201) for route in door.routes)


def test_a_token_without_the_scope_opens_no_route_that_asks_for_one(door: Door) -> None:
    """403 names the scope that is missing, whatever other scopes the token has."""
    with door.untouched():
        for route in (route for route in door.routes if route.scope):
            others = [name for name in SCOPES if not name.startswith(str(route.scope))]
            for scope in (" ".join(others), str(route.scope).upper(), f"{route.scope}:x", f"{route.scope},x", "none"):
                answer = door.send(route, bearer(good_token(door.client_id, scope=scope)))
                challenge = f'Bearer realm="klamala", error="insufficient_scope", scope="{route.scope}"'
                assert_refusal(answer, f"{route}", challenge=challenge, slug="insufficient-scope", status=403)


def test_a_disabled_clients_token_is_refused(door: Door) -> None:
    """The token of a client that was disabled is refused like a forged one, and has no effect."""
    client_id = register(door.storage, "disabled", SCOPES).client_id
    door.storage.set_client_disabled(client_id, True)
    door.refuses({"disabled": good_token(client_id, scope=ALL_SCOPES)})
