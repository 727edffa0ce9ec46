"""`POST /token`: OAuth 2.0 client credentials (RFC 6749 §4.4)."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from flask import Blueprint, Response, g, request

from auth import Identity, TokenPolicy, grantable, issue_token
from clients import (
    CLIENT_ID,
    AmbiguousCredentials,
    InvalidClient,
    authenticate,
    parse_api_key,
    presented_api_key,
)
from openapi.operation import Operation, describes
from problems import OAuthError
from records import Client
from schemas.log import MAX_USER_ID_CHARS
from schemas.service import Token, TokenForm, TokenRequest
from storage import Storage

from .answers import answer
from .parsing import json_object, read_body

_CREDENTIAL_PARAMETERS = {"client_id", "client_secret", "api_key", "access_token"}
_FORM = "application/x-www-form-urlencoded"
# Readable in a log line, a header and every store: no control characters, no unpaired surrogates.
_USER_ID = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{MAX_USER_ID_CHARS}}}")

ISSUE = Operation(
    id="issueToken",
    summary="Get an access token",
    text="OAuth 2.0 client credentials (RFC 6749 §4.4). The client authenticates in exactly one way: by HTTP Basic, by "
    "`client_id` and `client_secret` in the body, or by an API key in `X-API-Key`.",
    body=TokenRequest,
    form=TokenForm,
    oauth=True,
    answers={200: Token},
)


def tokens_blueprint(policy: TokenPolicy, storage: Storage, max_body_bytes: int) -> Blueprint:
    """The route, on these collaborators."""
    blueprint = Blueprint("tokens", __name__)

    @blueprint.post("/token")
    @describes(ISSUE)
    def token() -> Response:
        if _CREDENTIAL_PARAMETERS & set(request.args):
            raise OAuthError("invalid_request", "Credentials must not be sent in the query.")
        parameters = _parameters(max_body_bytes)
        client = authenticate(storage, *_credentials(parameters))
        _check_grant_type(parameters)
        user_id = _user_id(parameters)
        scopes = _scopes(client, parameters, for_user=user_id is not None)
        identity = Identity(client.client_id, user_id or client.client_id, frozenset(scopes))
        g.identity = identity
        response = answer(
            Token(
                access_token=issue_token(policy, identity.client_id, identity.sub, scopes),
                expires_in=policy.ttl_seconds,
                scope=" ".join(scopes),
            )
        )
        response.headers["Pragma"] = "no-cache"  # RFC 6749 §5.1 asks for it
        return response

    return blueprint


def _parameters(max_body_bytes: int) -> dict[str, str]:
    raw = read_body(max_body_bytes)
    if not raw:
        raise OAuthError("invalid_request", "The body is missing.")
    if request.mimetype == _FORM:
        return _form(raw)
    if request.mimetype == "application/json":
        return _json(raw)
    raise OAuthError("invalid_request", f"The body must be {_FORM} or application/json.")


def _form(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise OAuthError("invalid_request", "The body is not a valid form.") from error
    names = dict(pairs)
    if len(names) < len(pairs):
        raise OAuthError("invalid_request", "A parameter is repeated.")
    return _without_empty(names)


def _json(raw: bytes) -> dict[str, str]:
    names: dict[str, Any] = json_object(raw)
    for name in TokenRequest.model_fields:
        if not isinstance(names.get(name, ""), str):
            raise OAuthError("invalid_request", f"{name} must be a string.")
    return {"grant_type": "client_credentials", **_without_empty(names)}


def _without_empty(names: dict[str, str]) -> dict[str, str]:
    """RFC 6749 §3.2 treats a parameter without a value as left out; an empty user is refused all the same."""
    return {name: value for name, value in names.items() if value or name == "user_id"}


def _credentials(parameters: Mapping[str, str]) -> tuple[str, str]:
    """Client id and secret, from the one place where the request has them."""
    api_key = presented_api_key(request.headers)
    authorization = request.headers.get("Authorization")
    ways = [bool(authorization), "client_secret" in parameters, api_key is not None]
    if sum(ways) > 1:
        raise AmbiguousCredentials
    if authorization:
        credentials = _basic(authorization)
    elif api_key is not None:
        credentials = parse_api_key(api_key)
    else:
        credentials = parameters.get("client_id", ""), parameters.get("client_secret", "")
    if parameters.get("client_id", credentials[0]) != credentials[0]:
        raise OAuthError("invalid_request", "client_id names another client than the credentials.")
    return credentials


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        text = b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise InvalidClient from error
    if scheme.lower() != "basic":
        raise InvalidClient
    client_id, _, client_secret = text.partition(":")
    return unquote(client_id), unquote(client_secret)


def _check_grant_type(parameters: Mapping[str, str]) -> None:
    grant_type = parameters.get("grant_type", "")
    if not grant_type:
        raise OAuthError("invalid_request", "grant_type is missing.")
    if grant_type != "client_credentials":
        raise OAuthError("unsupported_grant_type", "grant_type must be client_credentials.")


def _user_id(parameters: Mapping[str, str]) -> str | None:
    user_id = parameters.get("user_id")
    if user_id is None:
        return None
    if not _USER_ID.fullmatch(user_id) or not user_id.strip() or CLIENT_ID.fullmatch(user_id):
        raise OAuthError(
            "invalid_request",
            f"user_id must be 1 to {MAX_USER_ID_CHARS} characters, none of them a control character, "
            "and not a client's id.",
        )
    return user_id


def _scopes(client: Client, parameters: Mapping[str, str], *, for_user: bool) -> tuple[str, ...]:
    allowed = grantable(client.scopes, for_user=for_user)
    asked = [scope for scope in parameters.get("scope", "").split(" ") if scope]
    if not set(asked) <= set(allowed) or not allowed:
        raise OAuthError("invalid_scope", "The scope is more than this client may have.")
    return tuple(scope for scope in allowed if not asked or scope in asked)
