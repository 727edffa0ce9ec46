"""`flask token`: an access token by the operator's right, without the client's secret."""

from __future__ import annotations

import click

from calls.tokens import granted, token_for
from problems import OAuthError

from .base import Command, Parts, as_json
from .clients import no_such_client, parse_scopes
from .output import put, put_json


@click.command("token", cls=Command, short_help="Sign an access token for a client.")
@click.option("--client", "client_id", metavar="CLIENT_ID", required=True, help="An enabled client.")
@click.option("--user-id", metavar="U", help="The end user it is for; the client itself without.")
@click.option("--scope", help="Space-separated, of the client's; all of them without.")
@as_json
@click.pass_obj
def token(parts: Parts, client_id: str, user_id: str | None, scope: str | None, as_json: bool) -> None:
    """Sign an access token for a client, without its secret, and print it alone:

    \b
        TOKEN=$(flask token --client klm_...)

    The rules are those of POST /token: a token for an end user never carries log:read:all. It works until it expires
    or its client is disabled.
    """
    # An empty scope would ask for all of them, which a shell's unset variable did not mean.
    asked = "" if scope is None else " ".join(parse_scopes(scope))
    client = parts.storage.client(client_id)
    if client is None:
        raise no_such_client(client_id)
    if client.disabled:
        raise click.ClickException(f"The client {client_id} is disabled.")
    try:
        subject, scopes = granted(client, user_id, asked)
    except OAuthError as error:
        raise click.UsageError(str(error).replace("user_id", "--user-id")) from None
    signed = token_for(parts.policy, client.client_id, subject, scopes)
    put_json(signed.model_dump_json()) if as_json else put(signed.access_token)
