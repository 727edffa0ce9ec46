"""`POST /token`: OAuth 2.0 client credentials (RFC 6749 §4.4)."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from flask import Blueprint, Response, g, request

from auth import Identity, TokenPolicy
from calls.tokens import granted, token_for
from clients import AmbiguousCredentials, InvalidClient, authenticate, parse_api_key, presented_api_key
from openapi.operation import Operation, describes
from problems import OAuthError
from schemas.service import Token, TokenForm, TokenRequest
from storage import Storage

from .answers import answer
from .parsing import json_object, read_body

_CREDENTIAL_PARAMETERS = {"client_id", "client_secret", "api_key", "access_token"}
_FORM = "application/x-www-form-urlencoded"

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
        subject, scopes = granted(client, parameters.get("user_id"), parameters.get("scope", ""))
        g.identity = Identity(client.client_id, subject, frozenset(scopes))
        response = answer(token_for(policy, client.client_id, subject, scopes))
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
