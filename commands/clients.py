"""`flask clients`: who may ask for tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from auth import SCOPES
from clients import Credentials, new_credentials, register
from records import Client, rfc3339, utc_now
from terminal import visible

from .base import Group, Parts, as_json
from .output import as_line, put, put_json, put_members

MAX_GRACE_HOURS = 720


@click.command("create")
@click.argument("name")
@click.option("--scope", required=True, help=f"Space-separated, of: {', '.join(SCOPES)}.")
@as_json
@click.pass_obj
def _create(parts: Parts, name: str, scope: str, as_json: bool) -> None:
    """Register a client and print its credentials, once."""
    scopes = parse_scopes(scope)
    if not name.strip() or len(name) > 256 or not name.isprintable():
        raise click.UsageError("NAME must be 1 to 256 printable characters")
    put_members(_shown_once(register(parts.storage, name, scopes)), as_json)


@click.command("list")
@as_json
@click.pass_obj
def _list(parts: Parts, as_json: bool) -> None:
    """List the clients, without their credentials."""
    found = [_summary(client) for client in parts.storage.clients()]
    if as_json:
        put_json(as_line(found))
    for client in [] if as_json else found:
        state = "disabled" if client["disabled"] else "enabled"
        until = client["previous_key_expires_at"]
        grace = f"  previous key until {until}" if until else ""
        put(f"{client['client_id']}  {state:8}  {client['name']}  ({client['scope']}){grace}")


@click.command("rotate")
@click.argument("client_id")
@click.option(
    "--grace-period",
    metavar="HOURS",
    type=click.IntRange(0, MAX_GRACE_HOURS),
    default=0,
    show_default=True,
    help=f"For how long the old secret works beside the new one, at most {MAX_GRACE_HOURS} hours.",
)
@as_json
@click.pass_obj
def _rotate(parts: Parts, client_id: str, grace_period: int, as_json: bool) -> None:
    """Replace a client's secret and print the new one, once. The old one stops after the grace period.

    Only one old secret works beside the new one: that of an earlier rotation stops at once.
    """
    credentials = new_credentials(client_id)
    until = utc_now() + timedelta(hours=grace_period) if grace_period else None
    _found(client_id, parts.storage.set_client_key(client_id, credentials.key_hash, until))
    grace = {"previous_key_expires_at": rfc3339(until)} if until else {}
    put_members({**_shown_once(credentials), **grace}, as_json)


def _switch(name: str, text: str, summary: str, *, disabled: bool) -> click.Command:
    @click.command(name, help=text, short_help=summary)
    @click.argument("client_id")
    @as_json
    @click.pass_obj
    def switch(parts: Parts, client_id: str, as_json: bool) -> None:
        _found(client_id, parts.storage.set_client_disabled(client_id, disabled))
        put_members({"client_id": client_id, "disabled": disabled}, as_json)

    return switch


def parse_scopes(text: str) -> tuple[str, ...]:
    """Known scopes, at least one, in their order. Raises: `click.UsageError`."""
    asked = text.split()
    unknown = [scope for scope in asked if scope not in SCOPES]
    if unknown or not asked:
        raise click.UsageError(f"--scope takes some of: {' '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in asked)


def no_such_client(client_id: str) -> click.ClickException:
    return click.ClickException(f"There is no client {visible(client_id)}.")


def _shown_once(credentials: Credentials) -> dict[str, str]:
    return {
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
        "api_key": credentials.api_key,
    }


def _summary(client: Client) -> dict[str, Any]:
    until = client.previous_key_expires_at
    return {
        "client_id": client.client_id,
        "name": client.name,
        "scope": " ".join(client.scopes),
        "disabled": client.disabled,
        "created_at": rfc3339(client.created_at),
        "previous_key_expires_at": until and rfc3339(until),
    }


def _found(client_id: str, found: bool) -> None:
    if not found:
        raise no_such_client(client_id)


clients = Group(
    "clients",
    "Register and manage the clients that may ask for tokens.",
    (
        _create,
        _list,
        _rotate,
        _switch(
            "disable",
            "Refuse a client new tokens, and within 60 seconds the ones it has.",
            "Refuse a client new tokens, and the ones it has.",
            disabled=True,
        ),
        _switch("enable", "Let a disabled client in again.", "Let a disabled client in again.", disabled=False),
    ),
)
