"""Access tokens: whom one may be issued for, and with which scopes."""

from __future__ import annotations

import re

from auth import TokenPolicy, grantable, issue_token
from clients import CLIENT_ID
from problems import OAuthError
from records import Client
from schemas.log import MAX_USER_ID_CHARS
from schemas.service import Token

# Readable in a log line, a header and every store: no control characters, no unpaired surrogates.
_USER_ID = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{MAX_USER_ID_CHARS}}}")


def is_user_id(text: str) -> bool:
    """Whether an end user may be named so."""
    return bool(_USER_ID.fullmatch(text)) and not text.isspace() and not CLIENT_ID.fullmatch(text)


def granted(client: Client, user_id: str | None, scope: str) -> tuple[str, tuple[str, ...]]:
    """Subject and scopes of a token for this client, or for its end user; an empty `scope` asks for all there are.

    Raises: `OAuthError`, `invalid_request` for the user and `invalid_scope` for the scope.
    """
    if user_id is not None and not is_user_id(user_id):
        raise OAuthError(
            "invalid_request",
            f"user_id must be 1 to {MAX_USER_ID_CHARS} characters, none of them a control character, "
            "and not a client's id.",
        )
    allowed = grantable(client.scopes, for_user=user_id is not None)
    asked = [name for name in scope.split(" ") if name]
    if not set(asked) <= set(allowed) or not allowed:
        raise OAuthError("invalid_scope", "The scope is more than this client may have.")
    return user_id or client.client_id, tuple(name for name in allowed if not asked or name in asked)


def token_for(policy: TokenPolicy, client_id: str, subject: str, scopes: tuple[str, ...]) -> Token:
    """A signed token, as the API gives it out."""
    return Token(
        access_token=issue_token(policy, client_id, subject, scopes),
        expires_in=policy.ttl_seconds,
        scope=" ".join(scopes),
    )
