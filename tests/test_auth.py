"""Tokens at the door: what lets a caller in, and everything that does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app import create_app
from auth import (
    CLIENT_STATE_SECONDS,
    LEEWAY_SECONDS,
    ClientStates,
    Guard,
    Identity,
    InvalidToken,
    TokenPolicy,
    issue_token,
    verify_token,
)
from clients import Credentials
from storage import open_storage
from tests.harness import FIRST_SECRET, SECOND_SECRET, Harness

VECTORS = Path(__file__).parents[2] / "shared/data/jws_hmac_vectors.json"
NOBODY = "klm_0000000000000000"
OMITTED: Any = object()
HEADER = {"alg": "HS256", "typ": "at+jwt", "kid": "k1"}
TEXTS = ("iss", "aud", "sub", "client_id", "scope", "jti")
TIMES = ("iat", "nbf", "exp")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def as_json(members: object) -> str:
    return b64(json.dumps(members).encode())


def signed(header: object, payload: str, secret: str | bytes = FIRST_SECRET, digest: str = "sha256") -> str:
    """A compact JWS made by hand, so that it can be as wrong as it likes; `payload` is base64url already."""
    text = f"{as_json(header)}.{payload}"
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{text}.{b64(hmac.digest(key, text.encode(), digest))}"


def changed(members: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**members, **changes}.items() if value is not OMITTED}


def claims(client_id: str, /, **changes: Any) -> dict[str, Any]:
    """Claims that are good now, but for the changes."""
    now = int(time.time())
    good = {
        "iss": "klamala",
        "aud": "klamala",
        "sub": "ada",
        "client_id": client_id,
        "scope": "refine",
        "jti": "a-token",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
    }
    return changed(good, changes)


def good_token(client_id: str, /, **changes: Any) -> str:
    return signed(HEADER, as_json(claims(client_id, **changes)))


def parts(token: str) -> tuple[str, str, str]:
    header, payload, signature = token.split(".")
    return header, payload, signature


def with_secrets(harness: Harness, secrets: Mapping[str, str]) -> Harness:
    """The same service, started again with other JWT secrets."""
    settings = replace(harness.settings, jwt_secrets=secrets)
    return replace(harness, app=create_app(settings, storage=harness.storage, engine=harness.engine), settings=settings)


def send(harness: Harness, authorization: str | None) -> TestResponse:
    headers = {} if authorization is None else {"Authorization": authorization}
    return harness.http.post("/refine", json={"prompt": "a draft"}, headers=headers)


def assert_accepted(harness: Harness, token: str) -> None:
    answer = send(harness, f"Bearer {token}")
    assert answer.status_code == 200, answer.text


def assert_problem(harness: Harness, answer: TestResponse, status: int, slug: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    document = answer.get_json()
    assert (document["type"], document["status"]) == (f"/problems/{slug}", status)
    assert harness.engine.tasks == []


def assert_refused(harness: Harness, token: str) -> None:
    answer = send(harness, f"Bearer {token}")
    assert_problem(harness, answer, 401, "invalid-token")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="klamala", error="invalid_token"'


def assert_no_token_seen(harness: Harness, answer: TestResponse) -> None:
    assert_problem(harness, answer, 401, "authentication-required")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="klamala"'


@pytest.fixture
def client(harness: Harness) -> Credentials:
    """A client that may do everything."""
    return harness.register()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_a_token_of_ours_lets_in(harness: Harness, client: Credentials, scheme: str) -> None:
    """A well-made token is accepted, its scheme in any case: the forgeries below differ from it in one thing each."""
    answer = send(harness, f"{scheme} {good_token(client.client_id)}")
    assert answer.status_code == 200, answer.text
    assert len(harness.engine.tasks) == 1


@pytest.mark.parametrize("digest", ["empty", "sha256", "garbage"])
@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
def test_an_unsigned_token_is_refused(harness: Harness, client: Credentials, alg: str, digest: str) -> None:
    """The algorithm `none` is refused in every casing, with no signature, ours, or any."""
    token = signed({**HEADER, "alg": alg}, as_json(claims(client.client_id)))
    header, payload, signature = parts(token)
    assert_refused(harness, f"{header}.{payload}." + {"empty": "", "sha256": signature, "garbage": "AAAA"}[digest])


ALGORITHMS: list[tuple[Any, str]] = [
    ("HS384", "sha384"),
    ("HS512", "sha512"),
    ("HS512", "sha256"),
    ("RS256", "sha256"),
    ("ES256", "sha256"),
    ("EdDSA", "sha256"),
    ("hs256", "sha256"),
    ("", "sha256"),
    (None, "sha256"),
    (["HS256"], "sha256"),
    ({"HS256": 1}, "sha256"),
    (256, "sha256"),
    (OMITTED, "sha256"),
]


@pytest.mark.parametrize(
    ("alg", "digest"),
    ALGORITHMS,
    ids=lambda value: "omitted" if value is OMITTED else str(value) or "empty",
)
def test_another_algorithm_is_refused(harness: Harness, client: Credentials, alg: object, digest: str) -> None:
    """Only HS256 is verified, whatever the header asks for and however well it is signed."""
    header = changed(HEADER, {"alg": alg})
    assert_refused(harness, signed(header, as_json(claims(client.client_id)), digest=digest))


HEADER_CHANGES: dict[str, dict[str, Any]] = {
    "typ missing": {"typ": OMITTED},
    "typ JWT": {"typ": "JWT"},
    "typ AT+JWT": {"typ": "AT+JWT"},
    "typ application/at+jwt": {"typ": "application/at+jwt"},
    "typ id token": {"typ": "id+jwt"},
    "typ empty": {"typ": ""},
    "typ null": {"typ": None},
    "typ list": {"typ": ["at+jwt"]},
    "kid missing": {"kid": OMITTED},
    "kid unknown": {"kid": "k3"},
    "kid empty": {"kid": ""},
    "kid null": {"kid": None},
    "kid number": {"kid": 1},
    "kid bool": {"kid": True},
    "kid list": {"kid": ["k1"]},
    "kid object": {"kid": {"k1": "k1"}},
    "kid in another case": {"kid": "K1"},
    "kid with a space": {"kid": "k1 "},
    "kid as a path": {"kid": "../../dev/null"},
    "kid as SQL": {"kid": "k1' OR '1'='1"},
    "kid with a NUL": {"kid": "k1\0"},
    "kid of the other secret": {"kid": "k2"},
    "crit unknown": {"crit": ["exp"], "exp": 9999999999},
    "crit empty": {"crit": []},
    "crit null": {"crit": None},
    "crit b64": {"crit": ["b64"], "b64": True},
    "b64 true": {"b64": True},
    "b64 false": {"b64": False},
    "jwk": {"jwk": {"kty": "oct", "k": b64(FIRST_SECRET.encode())}},
    "jku": {"jku": "https://keys.example/jwks.json"},
    "x5u": {"x5u": "https://keys.example/cert.pem"},
    "x5c": {"x5c": ["AAAA"]},
    "cty": {"cty": "JWT"},
    "zip": {"zip": "DEF"},
    "enc": {"enc": "A256GCM"},
    "any other member": {"x": 1},
}


@pytest.mark.parametrize("changes", HEADER_CHANGES.values(), ids=HEADER_CHANGES)
def test_another_header_is_refused(harness: Harness, client: Credentials, changes: Mapping[str, Any]) -> None:
    """A token whose header is not ours to the letter is refused, although it is signed with our first secret."""
    assert_refused(harness, signed(changed(HEADER, changes), as_json(claims(client.client_id))))


@pytest.mark.parametrize("header", [[], "HS256", None, 1, [HEADER]], ids=repr)
def test_a_header_that_is_no_object_is_refused(harness: Harness, client: Credentials, header: object) -> None:
    """A header that is JSON and not an object is refused, not a crash."""
    assert_refused(harness, signed(header, as_json(claims(client.client_id))))


@pytest.mark.parametrize(
    ("kid", "secret"),
    [("k1", SECOND_SECRET), ("k2", FIRST_SECRET), ("k1", "another-secret-" + "c" * 32), ("k1", b"")],
    ids=["second secret as k1", "first secret as k2", "a stranger's", "empty"],
)
def test_only_the_secret_that_kid_names_verifies(
    harness: Harness, client: Credentials, kid: str, secret: str | bytes
) -> None:
    """A signature by another key is refused, be it the key that another `kid` names."""
    assert_refused(harness, signed({**HEADER, "kid": kid}, as_json(claims(client.client_id)), secret))


def tampered_payload(token: str) -> str:
    header, payload, signature = parts(token)
    return f"{header}.{as_json({**json.loads(unb64(payload)), 'sub': 'root'})}.{signature}"


def tampered_signature(token: str) -> str:
    header, payload, signature = parts(token)
    raw = bytearray(unb64(signature))
    raw[0] ^= 1
    return f"{header}.{payload}.{b64(bytes(raw))}"


def tampered_header(token: str) -> str:
    _, payload, signature = parts(token)
    return f"{as_json({**HEADER, 'kid': 'k2'})}.{payload}.{signature}"


def shortened_signature(token: str) -> str:
    header, payload, signature = parts(token)
    return f"{header}.{payload}.{b64(unb64(signature)[:16])}"


def non_canonical_signature(token: str) -> str:
    """The same signature bytes in another spelling: two bits of the last character say nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
    assert unb64(parts(other)[2]) == unb64(parts(token)[2])
    return other


def resigned_with_padding(token: str) -> str:
    header, payload, _ = parts(token)
    text = f"{header}{'=' * (-len(header) % 4)}.{payload}{'=' * (-len(payload) % 4)}"
    return f"{text}.{b64(hmac.digest(FIRST_SECRET.encode(), text.encode(), 'sha256'))}"


def json_serialization(token: str) -> str:
    header, payload, signature = parts(token)
    return json.dumps({"protected": header, "payload": payload, "signature": signature})


MUTATIONS: dict[str, Callable[[str], str]] = {
    "tampered payload": tampered_payload,
    "tampered signature": tampered_signature,
    "tampered header": tampered_header,
    "shortened signature": shortened_signature,
    "no signature": lambda token: token.rpartition(".")[0] + ".",
    "no signature and no dot": lambda token: token.rpartition(".")[0],
    "no payload": lambda token: f"{parts(token)[0]}..{parts(token)[2]}",
    "no header": lambda token: f".{parts(token)[1]}.{parts(token)[2]}",
    "padded signature": lambda token: token + "=",
    "padded header and payload": resigned_with_padding,
    "non-canonical last character": non_canonical_signature,
    "one character more": lambda token: token + "A",
    "one segment more": lambda token: token + ".AAAA",
    "one empty segment more": lambda token: token + ".",
    "a word after it": lambda token: token + " x",
    "twice": lambda token: f"{token}, {token}",
    "in quotes": lambda token: f'"{token}"',
    "standard alphabet": lambda token: token + "+/",
    "beyond ASCII": lambda token: token + "é",
    "JSON serialization": json_serialization,
    "dots alone": lambda _: "..",
    "no JWS": lambda _: "nonsense",
    "impossible base64": lambda _: "A.A.A",
    "100 KB of dots": lambda _: "." * 100_000,
    "100 KB of letters": lambda _: "A" * 100_000,
}


@pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS)
def test_a_mutilated_token_is_refused(harness: Harness, client: Credentials, mutate: Callable[[str], str]) -> None:
    """A token that is not, byte for byte, one that we signed is refused."""
    assert_refused(harness, mutate(good_token(client.client_id)))


def test_a_huge_token_is_refused(harness: Harness, client: Credentials) -> None:
    """A token of 100 KB is refused, even with a good signature: nobody makes us hash it."""
    assert_refused(harness, good_token(client.client_id, jti="x" * 75_000))


def test_an_api_key_is_no_bearer_token(harness: Harness, client: Credentials) -> None:
    """`/refine` takes no API key in the place of a token."""
    assert_refused(harness, client.api_key)


NO_CLAIMS = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"\xff",
    b'{"iss": "klamala"} {}',
    b"[" * 2500,
    b'{"sub": "\\ud800"}',
]


@pytest.mark.parametrize(
    "payload",
    NO_CLAIMS,
    ids=["empty", "null", "list", "string", "cut", "no UTF-8", "two", "nested", "surrogate"],
)
def test_a_payload_that_is_no_claims_set_is_refused(harness: Harness, payload: bytes) -> None:
    """Signed bytes that are not one JSON object are refused, not a crash."""
    assert_refused(harness, signed(HEADER, b64(payload)))


def with_header_text(client_id: str, header: bytes) -> str:
    """A good payload under a header of exactly these bytes, signed with our first secret."""
    text = f"{b64(header)}.{as_json(claims(client_id))}"
    return f"{text}.{b64(hmac.digest(FIRST_SECRET.encode(), text.encode(), 'sha256'))}"


AMBIGUOUS: dict[str, Callable[[str], str]] = {
    "alg twice": lambda client: with_header_text(client, b'{"alg":"none","alg":"HS256","typ":"at+jwt","kid":"k1"}'),
    "kid twice": lambda client: with_header_text(client, b'{"alg":"HS256","typ":"at+jwt","kid":"k2","kid":"k1"}'),
    "kid twice, escaped": lambda client: with_header_text(
        client, rb'{"alg":"HS256","typ":"at+jwt","\u006bid":"k2","kid":"k1"}'
    ),
    "sub twice": lambda client: signed(
        HEADER, b64(json.dumps(claims(client)).replace('"sub"', '"sub": "root", "sub"').encode())
    ),
    "name twice inside another claim": lambda client: signed(
        HEADER, b64(json.dumps({**claims(client), "x": 0}).replace('"x": 0', '"x": {"a": 1, "a": 2}').encode())
    ),
    "header in UTF-16": lambda client: with_header_text(client, json.dumps(HEADER).encode("utf-16")),
    "header behind a byte order mark": lambda client: with_header_text(client, json.dumps(HEADER).encode("utf-8-sig")),
    "header nested without end": lambda client: with_header_text(client, b"[" * 2000),
}


@pytest.mark.parametrize("made", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_token_that_two_readers_read_differently_is_refused(
    harness: Harness, client: Credentials, made: Callable[[str], str]
) -> None:
    """A name that stands twice, or another encoding than UTF-8, is refused although it is signed with our secret."""
    assert_refused(harness, made(client.client_id))


@pytest.mark.parametrize("name", TEXTS + TIMES)
def test_every_claim_is_required(harness: Harness, client: Credentials, name: str) -> None:
    """A token without one of the nine claims is refused."""
    assert_refused(harness, good_token(client.client_id, **{name: OMITTED}))


WRONG_TEXTS: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "number": lambda _: 7,
    "zero": lambda _: 0,
    "bool": lambda _: True,
    "list": lambda value: [value],
    "empty list": lambda _: [],
    "object": lambda value: {value: value},
    "empty": lambda _: "",
}


@pytest.mark.parametrize("wrong", WRONG_TEXTS.values(), ids=WRONG_TEXTS)
@pytest.mark.parametrize("name", TEXTS)
def test_a_text_claim_must_be_text(
    harness: Harness, client: Credentials, name: str, wrong: Callable[[str], Any]
) -> None:
    """A claim that names something must be a string with something in it; so `aud` and `scope` are no lists."""
    value = claims(client.client_id)[name]
    assert_refused(harness, good_token(client.client_id, **{name: wrong(value)}))


WRONG_TIMES: dict[str, Callable[[int], str]] = {
    "null": lambda _: "null",
    "numeric string": lambda value: f'"{value}"',
    "date": lambda _: '"2026-11-20T12:00:00Z"',
    "empty string": lambda _: '""',
    "true": lambda _: "true",
    "false": lambda _: "false",
    "list": lambda value: f"[{value}]",
    "object": lambda value: f'{{"n": {value}}}',
    "NaN": lambda _: "NaN",
    "Infinity": lambda _: "Infinity",
    "-Infinity": lambda _: "-Infinity",
    "1e999": lambda _: "1e999",
    "-1e999": lambda _: "-1e999",
    "400 digits": lambda _: "9" * 400,
    "negative": lambda value: f"-{value}",
}


@pytest.mark.parametrize("wrong", WRONG_TIMES.values(), ids=WRONG_TIMES)
@pytest.mark.parametrize("name", TIMES)
def test_a_time_claim_must_be_a_number(
    harness: Harness, client: Credentials, name: str, wrong: Callable[[int], str]
) -> None:
    """A time is a finite JSON number: nothing that could be read as one, and nothing without an end."""
    assert_refused(harness, with_time(client.client_id, name, wrong))


def with_time(client_id: str, name: str, wrong: Callable[[int], str]) -> str:
    """A token with one of its times written in another way."""
    members = claims(client_id)
    text = json.dumps(members)
    changed_text = text.replace(f'"{name}": {members[name]}', f'"{name}": {wrong(members[name])}')
    assert changed_text != text
    return signed(HEADER, b64(changed_text.encode()))


@pytest.mark.parametrize("changes", [{"iat": True}, {"nbf": True}, {"exp": True, "iat": 0}], ids=TIMES)
def test_true_is_not_one_second_past_the_epoch(changes: Mapping[str, Any]) -> None:
    """Where `true` read as 1 would be in time, it is still refused."""
    policy = at(1.0)
    members = claims("c", iat=1, nbf=1, exp=60)
    assert verify_token(policy, signed(HEADER, as_json(members))).sub == "ada"
    with pytest.raises(InvalidToken):
        verify_token(policy, signed(HEADER, as_json({**members, **changes})))


def at(moment: float) -> TokenPolicy:
    """The harness's policy at a moment of our choice."""
    return TokenPolicy({"k1": FIRST_SECRET}, "klamala", "klamala", 3600, clock=lambda: moment)


def verifies(moment: float, **times: float) -> bool:
    try:
        verify_token(at(moment), signed(HEADER, as_json(claims("c", **times))))
    except InvalidToken:
        return False
    return True


def test_a_fraction_of_a_second_is_a_time() -> None:
    """RFC 7519 lets a NumericDate have a fraction."""
    assert verifies(1000.0, iat=999.5, nbf=999.5, exp=1060.25)


@pytest.mark.parametrize(
    ("times", "last_good", "first_bad"),
    [
        ({"iat": 1000, "nbf": 1000, "exp": 2000}, 2029.9, 2030.0),
        ({"iat": 1000, "nbf": 1000, "exp": 2000}, 970.0, 969.9),
        ({"iat": 1000, "nbf": 1500, "exp": 2000}, 1470.0, 1469.9),
        ({"iat": 1500, "nbf": 1000, "exp": 2000}, 1470.0, 1469.9),
    ],
    ids=["expired", "not issued yet", "not valid yet", "issued in the future"],
)
def test_clocks_may_differ_by_thirty_seconds(times: Mapping[str, float], last_good: float, first_bad: float) -> None:
    """Thirty seconds of leeway are given on either side, and no more."""
    assert verifies(last_good, **times)
    assert not verifies(first_bad, **times)


@pytest.mark.parametrize(
    ("lifetime", "good"),
    [(1, True), (86_400, True), (86_401, False), (86_400.5, False), (3_155_760_000, False), (0, False), (-10, False)],
)
def test_a_token_lives_a_day_at_most(lifetime: float, good: bool) -> None:
    """A lifetime is above zero and at most 24 hours, also where the leeway would hide that."""
    assert verifies(1000.0, iat=1000, nbf=1000, exp=1000 + lifetime) is good


@pytest.mark.parametrize(
    ("times", "good"),
    [
        ({"iat": -3600, "nbf": -3600, "exp": -31}, False),
        ({"iat": -3600, "nbf": -3600, "exp": -15}, True),
        ({"nbf": 120}, False),
        ({"nbf": 15}, True),
        ({"iat": 120}, False),
        ({"iat": 15}, True),
        ({"exp": 86_400}, True),
        ({"exp": 86_401}, False),
        ({"exp": 0}, False),
        ({"iat": 5, "exp": 0}, False),
    ],
    ids=str,
)
def test_times_count_at_the_door_too(
    harness: Harness, client: Credentials, times: Mapping[str, int], good: bool
) -> None:
    """The service checks each of the three times against its own clock."""
    now = int(time.time())
    base = {"iat": now, "nbf": now, **{name: now + offset for name, offset in times.items()}}
    token = good_token(client.client_id, **{"exp": now + 3600, **base})
    (assert_accepted if good else assert_refused)(harness, token)


ELSEWHERE: list[dict[str, Any]] = [
    {"iss": "someone"},
    {"iss": "KLAMALA"},
    {"iss": "klamala/"},
    {"aud": "someone"},
    {"aud": "Klamala"},
    {"aud": "klamala other"},
    {"aud": ["klamala", "other"]},
    {"client_id": NOBODY},
    {"client_id": "nobody"},
    {"client_id": "' OR 1=1 --"},
]


@pytest.mark.parametrize("changes", ELSEWHERE, ids=str)
def test_a_token_for_elsewhere_or_from_nobody_is_refused(
    harness: Harness, client: Credentials, changes: Mapping[str, Any]
) -> None:
    """Issuer and audience must be ours, and the client one that is registered."""
    assert_refused(harness, good_token(client.client_id, **changes))


def authorizations(token: str) -> dict[str, str | None]:
    basic = base64.b64encode(f"Bearer:{token}".encode()).decode()
    return {
        "none": None,
        "empty": "",
        "Basic": f"Basic {basic}",
        "Token": f"Token {token}",
        "DPoP": f"DPoP {token}",
        "bare token": token,
        "scheme alone": "Bearer",
        "empty token": "Bearer ",
        "blank token": "Bearer     ",
        "no space": f"Bearer{token}",
        "colon": f"Bearer:{token}",
    }


@pytest.mark.parametrize("way", authorizations(""))
def test_without_a_bearer_token_the_challenge_names_no_error(harness: Harness, client: Credentials, way: str) -> None:
    """Who sends no bearer token learns how to authenticate and nothing else (RFC 6750 §3.1)."""
    answer = send(harness, authorizations(good_token(client.client_id))[way])
    assert_no_token_seen(harness, answer)


def test_a_token_in_the_query_is_not_seen(harness: Harness, client: Credentials) -> None:
    """A token in `?access_token=`, where logs and histories keep it, lets nobody in."""
    query = {"access_token": good_token(client.client_id)}
    assert_no_token_seen(harness, harness.http.post("/refine", json={"prompt": "a draft"}, query_string=query))


def test_a_token_in_the_body_is_not_seen(harness: Harness, client: Credentials) -> None:
    """A token in the body, as JSON or as a form, lets nobody in."""
    token = good_token(client.client_id)
    assert_no_token_seen(harness, harness.http.post("/refine", json={"prompt": "a draft", "access_token": token}))
    assert_no_token_seen(harness, harness.http.post("/refine", data={"prompt": "a draft", "access_token": token}))


@pytest.mark.parametrize("name", ["X-API-Key", "Access-Token", "X-Access-Token", "Proxy-Authorization"])
def test_a_token_in_another_header_is_not_seen(harness: Harness, client: Credentials, name: str) -> None:
    """`/refine` looks for a token in `Authorization` only."""
    headers = {name: good_token(client.client_id)}
    assert_no_token_seen(harness, harness.http.post("/refine", json={"prompt": "a draft"}, headers=headers))


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/refine"), ("POST", "/refine-prompt"), ("GET", "/refine/00000000-0000-7000-8000-000000000000")],
)
def test_every_route_of_refinements_is_guarded(harness: Harness, client: Credentials, method: str, path: str) -> None:
    """No token, a forged one and one without the scope are turned away before the route looks at anything else."""

    def answer(token: str | None) -> TestResponse:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return harness.http.open(path, method=method, json={"prompt": "a draft"}, headers=headers)

    assert_problem(harness, answer(None), 401, "authentication-required")
    assert_problem(harness, answer(tampered_signature(good_token(client.client_id))), 401, "invalid-token")
    assert_problem(harness, answer(good_token(client.client_id, scope="generate")), 403, "insufficient-scope")


@pytest.mark.parametrize(
    "scope",
    ["generate", "generate log:write log:read log:read:all", "REFINE", "refined", "refine:all", "refine,generate", " "],
)
def test_a_token_without_the_scope_is_told_which(harness: Harness, client: Credentials, scope: str) -> None:
    """A good token that lacks the scope gets 403 and the name of the scope."""
    answer = send(harness, f"Bearer {good_token(client.client_id, scope=scope)}")
    assert_problem(harness, answer, 403, "insufficient-scope")
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer ")
    assert 'error="insufficient_scope", scope="refine"' in challenge


@pytest.mark.parametrize("scope", ["refine", "generate refine", "refine log:read"])
def test_one_scope_of_several_is_enough(harness: Harness, client: Credentials, scope: str) -> None:
    """The scope may stand anywhere in the list."""
    assert_accepted(harness, good_token(client.client_id, scope=scope))


def test_what_a_token_says_is_what_the_service_knows() -> None:
    """An issued token verifies to the client, the subject and the scopes that it was issued for."""
    token = issue_token(at(1000.0), "c", "ada", ("refine", "log:read"))
    assert verify_token(at(1000.0), token) == Identity("c", "ada", frozenset({"refine", "log:read"}))


def test_the_longest_user_id_makes_a_usable_token(harness: Harness, client: Credentials) -> None:
    """The longest token that is issued is not too long to be accepted."""
    assert_accepted(harness, harness.token(client, user_id="🙂" * 128))


def test_a_token_signed_with_the_second_secret_verifies(harness: Harness, client: Credentials) -> None:
    """Every configured secret verifies under its own `kid`."""
    assert_accepted(harness, signed({**HEADER, "kid": "k2"}, as_json(claims(client.client_id)), SECOND_SECRET))


def test_secrets_rotate_without_a_refused_token(harness: Harness, client: Credentials) -> None:
    """Old tokens live on while their secret is listed, new ones take the first, and a dropped secret ends its own."""
    before = with_secrets(harness, {"k1": FIRST_SECRET})
    during = with_secrets(harness, {"k2": SECOND_SECRET, "k1": FIRST_SECRET})
    after = with_secrets(harness, {"k2": SECOND_SECRET})
    old, new = before.token(client), during.token(client)

    for token, kid, secret in [(old, "k1", FIRST_SECRET), (new, "k2", SECOND_SECRET)]:
        header, payload, signature = parts(token)
        assert json.loads(unb64(header))["kid"] == kid
        assert unb64(signature) == hmac.digest(secret.encode(), f"{header}.{payload}".encode(), "sha256")

    assert_refused(before, new)
    assert_refused(after, old)
    for service, token in [(before, old), (during, old), (during, new), (after, new)]:
        assert_accepted(service, token)


def test_a_disabled_client_is_noticed_in_time(harness: Harness, client: Credentials) -> None:
    """What is known of a client is asked again after `CLIENT_STATE_SECONDS`, which is within the promised 60."""
    assert 0 < CLIENT_STATE_SECONDS <= 60
    now = 1000.0
    states = ClientStates(harness.storage, clock=lambda: now)
    assert states.is_enabled(client.client_id)
    harness.storage.set_client_disabled(client.client_id, True)
    now += CLIENT_STATE_SECONDS - 0.1
    assert states.is_enabled(client.client_id), "the storage is not asked at every call"
    now += 0.1
    assert not states.is_enabled(client.client_id)
    harness.storage.set_client_disabled(client.client_id, False)
    now += CLIENT_STATE_SECONDS
    assert states.is_enabled(client.client_id)


def test_steady_traffic_does_not_keep_a_disabled_client_alive(harness: Harness, client: Credentials) -> None:
    """The time runs from the last look at the storage, not from the last call."""
    now = 0.0
    states = ClientStates(harness.storage, clock=lambda: now)
    assert states.is_enabled(client.client_id)
    harness.storage.set_client_disabled(client.client_id, True)
    enabled = True
    for _ in range(60):
        now += 1
        enabled = states.is_enabled(client.client_id)
    assert not enabled


def test_each_client_has_its_own_state(harness: Harness, client: Credentials) -> None:
    """What is known of one client says nothing of another, nor of one that does not exist."""
    other = harness.register()
    harness.storage.set_client_disabled(other.client_id, True)
    states = ClientStates(harness.storage, clock=lambda: 0.0)
    assert states.is_enabled(client.client_id)
    assert not states.is_enabled(other.client_id)
    assert not states.is_enabled(NOBODY)


def test_a_token_of_a_disabled_client_is_refused(harness: Harness, client: Credentials) -> None:
    """A token that was issued before its client was disabled is refused like a forged one, and works again after."""
    token = harness.token(client)
    harness.storage.set_client_disabled(client.client_id, True)
    assert_refused(harness, token)
    harness.storage.set_client_disabled(client.client_id, False)
    assert_accepted(with_secrets(harness, harness.settings.jwt_secrets), token)


def test_a_forged_token_costs_no_look_up(harness: Harness, client: Credentials, tmp_path: Path) -> None:
    """While the storage is down a good token gets 503 and a forged one 401: signatures are checked first."""
    down = open_storage(f"sqlite:///{tmp_path / 'no-such-folder' / 'x.sqlite3'}")
    app = create_app(harness.settings, storage=down, engine=harness.engine)
    without_storage = replace(harness, app=app, storage=down)
    token = good_token(client.client_id)
    assert_refused(without_storage, tampered_signature(token))
    answer = send(without_storage, f"Bearer {token}")
    assert_problem(without_storage, answer, 503, "storage-unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("configured", [False, True], ids=["keys unknown", "keys configured"])
def test_no_published_vector_lets_in(harness: Harness, client: Credentials, configured: bool) -> None:
    """None of Wycheproof's JWS vectors is accepted, the valid ones included: they are no access tokens."""
    if not VECTORS.exists():
        pytest.skip(f"{VECTORS} is not here")
    groups = json.loads(VECTORS.read_text("utf-8"))["testGroups"]
    keys = {group["private"]["kid"]: unb64(group["private"]["k"]) for group in groups}
    # These keys are no text. PyJWT takes bytes as well, so that they can be secrets all the same.
    service = with_secrets(harness, cast("Mapping[str, str]", keys)) if configured else harness

    answers = [send(service, f"Bearer {test['jws']}") for group in groups for test in group["tests"]]
    assert len(answers) > 30
    assert {answer.status_code for answer in answers} == {401}
    assert harness.engine.tasks == []

    for kid, key in keys.items():
        token = signed({**HEADER, "kid": kid}, as_json(claims(client.client_id)), key)
        assert send(service, f"Bearer {token}").status_code == (200 if configured else 401)


def test_the_vectors_signatures_are_known_to_be_good() -> None:
    """Our hand-made signature agrees with the published one, so that the forgeries above are signed as they claim."""
    secret = base64.urlsafe_b64decode("-ebuDNsVZ2iJtoZ-akfXTSCt4UO2cruLCsbWlBinggE=")
    text = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImtpZC1hZXMtc2lnbiJ9.Zm9v"
    published = "TD37p4c_0jmreSrBSDmE0F3mYSPtkZ3WrSyI5wb_KTg"
    assert b64(hmac.new(secret, text.encode(), hashlib.sha256).digest()) == published


def test_a_token_that_was_good_is_refused_once_it_has_expired(harness: Harness, client: Credentials) -> None:
    """What is known of a token spares its signature's check, and never that of its times."""
    now = [1_000_000.0]
    policy = TokenPolicy({"k1": FIRST_SECRET}, "klamala", "klamala", 60, clock=lambda: now[0])
    app = Flask(__name__)
    app.get("/")(Guard(policy, harness.storage).token_required("refine")(lambda caller: caller.sub))
    app.register_error_handler(InvalidToken, lambda error: (str(error), 401))
    headers = {"Authorization": f"Bearer {issue_token(policy, client.client_id, 'user-1', ('refine',))}"}
    statuses = []
    for later in (0, 0, 60 + LEEWAY_SECONDS, -61):
        now[0] += later
        statuses.append(app.test_client().get("/", headers=headers).status_code)
    assert statuses == [200, 200, 401, 200]
