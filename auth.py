"""Who is calling: tokens issued and verified, and the guards in front of the routes.

Tokens follow RFC 9068 (JWT profile for access tokens) and RFC 8725 (JWT best current practices).
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial, wraps
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

import jwt
from flask import g, request
from jwt.utils import base64url_decode
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clients import AmbiguousCredentials, InvalidClient, authenticate, parse_api_key, presented_api_key
from records import Owner, Selection
from schemas.base import unique_names
from settings import MAX_TOKEN_TTL_SECONDS
from storage import Storage

ALGORITHM = "HS256"
TOKEN_TYPE = "at+jwt"
LEEWAY_SECONDS = 30
MAX_TOKEN_CHARS = 4096
# At 4 KB each, 4 MB at most.
KNOWN_TOKENS = 1000
CLIENT_STATE_SECONDS = 30

READ_ALL = "log:read:all"
SCOPES = ("refine", "generate", "log:write", "log:read", READ_ALL)
_IMPLIED = {READ_ALL: "log:read"}

# RFC 7515 §3.1, without the padding that PyJWT would take.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


_JWS = jwt.PyJWS(algorithms=[ALGORITHM])


class AuthError(Exception):
    """A request may not do what it asks. `error` and `scope` fill the challenge (RFC 6750 §3)."""

    error: str | None = None

    def __init__(self, message: str, scope: str | None = None) -> None:
        super().__init__(message)
        self.scope = scope


class MissingToken(AuthError):
    """The request carries no bearer token."""


class InvalidToken(AuthError):
    """The token, or the API key in its place, does not verify."""

    error = "invalid_token"


class InsufficientScope(AuthError):
    """The token is good, and not for this."""

    error = "insufficient_scope"


@dataclass(frozen=True, slots=True)
class Identity:
    """The verified caller: client, subject (an end user, or the client itself) and scopes."""

    client_id: str
    sub: str
    scopes: frozenset[str]

    @property
    def owner(self) -> Owner:
        return Owner(self.client_id, self.sub)

    @property
    def readable(self) -> Selection:
        """The records that the caller may read: their own, or with `log:read:all` those of all the client's users."""
        return Selection(client_id=self.client_id, user_id=None if READ_ALL in self.scopes else self.sub)


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """What tokens are signed with and say. The first secret signs, each verifies under its own `kid`."""

    secrets: Mapping[str, str]
    issuer: str
    audience: str
    ttl_seconds: int
    clock: Callable[[], float] = time.time


_NonEmpty = Annotated[str, Field(min_length=1)]
_Moment = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Claims(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    iss: _NonEmpty
    aud: _NonEmpty
    sub: _NonEmpty
    client_id: _NonEmpty
    scope: _NonEmpty
    jti: _NonEmpty
    iat: _Moment
    nbf: _Moment
    exp: _Moment


def issue_token(policy: TokenPolicy, client_id: str, sub: str, scopes: tuple[str, ...]) -> str:
    """Sign an access token for `sub` at `client_id`, valid from now for the policy's lifetime."""
    kid, secret = next(iter(policy.secrets.items()))
    now = int(policy.clock())
    claims = {
        "iss": policy.issuer,
        "aud": policy.audience,
        "sub": sub,
        "client_id": client_id,
        "scope": " ".join(scopes),
        "iat": now,
        "nbf": now,
        "exp": now + policy.ttl_seconds,
        "jti": uuid.uuid4().hex,
    }
    return jwt.encode(claims, secret, algorithm=ALGORITHM, headers={"typ": TOKEN_TYPE, "kid": kid})


def verify_token(policy: TokenPolicy, token: str) -> Identity:
    """Check a token whole: form, header, signature, each claim's type and value, and its times.

    Raises: `InvalidToken`, whose message does not say which check failed.
    """
    return _identity(policy, _signed_claims(policy, token))


def _signed_claims(policy: TokenPolicy, token: str) -> _Claims:
    """What is the same whenever it is asked: the token is ours, and says what a token of ours says."""
    try:
        payload = _verified_payload(policy, token)
        return _Claims.model_validate_json(payload)
    except (jwt.PyJWTError, ValidationError, ValueError, RecursionError) as error:
        raise InvalidToken("The access token is not valid.") from error


def _identity(policy: TokenPolicy, claims: _Claims) -> Identity:
    now, leeway = policy.clock(), LEEWAY_SECONDS
    in_time = max(claims.nbf, claims.iat) <= now + leeway and now - leeway < claims.exp
    short_lived = 0 < claims.exp - claims.iat <= MAX_TOKEN_TTL_SECONDS
    if not (in_time and short_lived and claims.iss == policy.issuer and claims.aud == policy.audience):
        raise InvalidToken("The access token is not valid, or no longer.")
    return Identity(claims.client_id, claims.sub, frozenset(claims.scope.split(" ")))


def _verified_payload(policy: TokenPolicy, token: str) -> bytes:
    if len(token) > MAX_TOKEN_CHARS or not _COMPACT.fullmatch(token):
        raise ValueError("not a compact JWS")
    header = _unambiguous(base64url_decode(token.partition(".")[0]))
    # We are the only issuer, so the header is ours to the letter. That leaves no room for `alg` none or another,
    # `crit`, `jwk`, `jku`, `x5u` or whatever comes next (RFC 8725 §3.1, §3.11).
    kid = str(header.get("kid")) if isinstance(header, dict) else ""
    if header != {"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": kid} or kid not in policy.secrets:
        raise ValueError("not a header of ours")
    decoded = _JWS.decode_complete(token, policy.secrets[kid], algorithms=[ALGORITHM])
    payload = bytes(decoded["payload"])
    _unambiguous(payload)
    return payload


def _unambiguous(raw: bytes) -> Any:
    """JSON in UTF-8 that no two readers read differently, as RFC 7515 §4 and RFC 7519 §4 have it: each name once."""
    return json.loads(raw.decode("utf-8"), object_pairs_hook=unique_names)


class ClientStates:
    """Whether clients are enabled, asked of the storage at most every `CLIENT_STATE_SECONDS` for each.

    So a disabled client's tokens stop working within that time, and a call rarely costs another round trip.
    """

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self._clock = clock
        self._known: dict[str, tuple[float, bool]] = {}

    def is_enabled(self, client_id: str) -> bool:
        checked_at, enabled = self._known.get(client_id, (float("-inf"), False))
        if self._clock() - checked_at < CLIENT_STATE_SECONDS:
            return enabled
        client = self._storage.client(client_id)
        enabled = client is not None and not client.disabled
        self._known[client_id] = (self._clock(), enabled)
        return enabled


@dataclass(frozen=True, slots=True)
class Access:
    """What a guard asks of a caller: a scope, where it names one, in a token or, with `api_key`, in a key's client."""

    scope: str | None
    api_key: bool


def access_to(view: Callable[..., Any]) -> Access | None:
    """What the guard in front of a view asks for, if there is one."""
    access: Access | None = vars(view).get("access")
    return access


P = ParamSpec("P")
R = TypeVar("R")
View = Callable[Concatenate[Identity, P], R]


class Guard:
    """Makes the decorators that let only the right callers into a view; the view gets the identity first."""

    def __init__(self, policy: TokenPolicy, storage: Storage) -> None:
        self._policy = policy
        self._storage = storage
        self._states = ClientStates(storage)
        # A token comes again with each request of its holder. One that does not verify is never kept.
        self._signed_claims = lru_cache(KNOWN_TOKENS)(partial(_signed_claims, policy))

    def token_required(self, scope: str | None = None) -> Callable[[View[P, R]], Callable[P, R]]:
        """Let in who carries a bearer token, with `scope` where one is named.

        Raises: `MissingToken`, `InvalidToken`, `InsufficientScope`; `StorageError` when the client cannot be checked.
        """
        return self._guarding(Access(scope, api_key=False), self._from_token)

    def token_or_key_required(self, scope: str) -> Callable[[View[P, R]], Callable[P, R]]:
        """The same, or who carries an API key: then the subject is the client itself."""
        return self._guarding(Access(scope, api_key=True), self._from_token_or_key)

    def _guarding(self, access: Access, identify: Callable[[], Identity]) -> Callable[[View[P, R]], Callable[P, R]]:
        def decorate(view: View[P, R]) -> Callable[P, R]:
            @wraps(view)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
                identity = identify()
                g.identity = identity
                if access.scope is not None and access.scope not in _with_implied(identity.scopes):
                    raise InsufficientScope(f"This needs the scope {access.scope}.", access.scope)
                return view(identity, *args, **kwargs)

            vars(guarded)["access"] = access
            return guarded

        return decorate

    def _from_token(self) -> Identity:
        scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise MissingToken("This needs an access token: Authorization: Bearer <token>.")
        identity = _identity(self._policy, self._signed_claims(token.strip()))
        if not self._states.is_enabled(identity.client_id):
            raise InvalidToken("The access token is not valid, or no longer.")
        return identity

    def _from_token_or_key(self) -> Identity:
        api_key = presented_api_key(request.headers)
        if api_key is None:
            return self._from_token()
        if request.headers.get("Authorization"):
            raise AmbiguousCredentials
        try:
            client = authenticate(self._storage, *parse_api_key(api_key))
        except InvalidClient as error:
            raise InvalidToken("The API key is not valid.") from error
        return Identity(client.client_id, client.client_id, frozenset(client.scopes))


def _with_implied(scopes: frozenset[str]) -> frozenset[str]:
    return scopes | {_IMPLIED[scope] for scope in scopes if scope in _IMPLIED}


def grantable(scopes: tuple[str, ...], *, for_user: bool) -> tuple[str, ...]:
    """The scopes that a token of such a client may carry: an end user's never reads other users' records."""
    return tuple(scope for scope in scopes if not (for_user and scope == READ_ALL))


def current_identity() -> Identity | None:
    """The caller of the request at hand, once a guard let it in."""
    identity: Identity | None = g.get("identity")
    return identity
