"""The operator's commands, as part of Flask's own command line. Results go to standard output, the rest to error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from flask import Flask
from flask.cli import AppGroup

from auth import SCOPES
from clients import Credentials, new_credentials, register
from records import Client, rfc3339
from storage import Storage, StorageError

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def install(app: Flask, storage: Storage) -> None:
    """Add the command groups to an app; each command is handed the app's storage."""
    app.cli.add_command(_group("clients", "Register and manage the clients that may ask for tokens.", storage, CLIENTS))
    app.cli.add_command(_group("storage", "Manage the audit log's database.", storage, STORAGE))


class _Group(AppGroup):
    """A group whose commands end with one line and exit code 1 when the storage fails."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except StorageError as error:
            raise click.ClickException(str(error)) from error


def _group(name: str, text: str, storage: Storage, commands: Sequence[click.Command]) -> AppGroup:
    group = _Group(name, help=text, context_settings={"obj": storage})
    for command in commands:
        group.add_command(command)
    return group


@click.command("create")
@click.argument("name")
@click.option("--scope", required=True, help=f"Space-separated, of: {', '.join(SCOPES)}.")
@_as_json
@click.pass_obj
def _create(storage: Storage, name: str, scope: str, as_json: bool) -> None:
    """Register a client and print its credentials, once."""
    scopes = _parse_scopes(scope)
    if not name.strip() or len(name) > 256 or not name.isprintable():
        raise click.UsageError("NAME must be 1 to 256 printable characters")
    _print(_shown_once(register(storage, name, scopes)), as_json)


@click.command("list")
@_as_json
@click.pass_obj
def _list(storage: Storage, as_json: bool) -> None:
    """List the clients, without their credentials."""
    clients = [_summary(client) for client in storage.clients()]
    if as_json:
        click.echo(json.dumps(clients, ensure_ascii=False))
    for client in [] if as_json else clients:
        state = "disabled" if client["disabled"] else "enabled"
        click.echo(f"{client['client_id']}  {state:8}  {client['name']}  ({client['scope']})")


@click.command("rotate")
@click.argument("client_id")
@_as_json
@click.pass_obj
def _rotate(storage: Storage, client_id: str, as_json: bool) -> None:
    """Replace a client's secret and print the new one, once. The old one stops at once."""
    credentials = new_credentials(client_id)
    _found(client_id, storage.set_client_key(client_id, credentials.key_hash))
    _print(_shown_once(credentials), as_json)


def _switch(name: str, text: str, *, disabled: bool) -> click.Command:
    @click.command(name, help=text)
    @click.argument("client_id")
    @_as_json
    @click.pass_obj
    def switch(storage: Storage, client_id: str, as_json: bool) -> None:
        _found(client_id, storage.set_client_disabled(client_id, disabled))
        _print({"client_id": client_id, "disabled": disabled}, as_json)

    return switch


@click.command("init")
@_as_json
@click.pass_obj
def _init(storage: Storage, as_json: bool) -> None:
    """Create the tables, collections and indexes that are missing. May be repeated."""
    storage.initialize()
    _print({"storage": "ready"}, as_json)


CLIENTS = (
    _create,
    _list,
    _rotate,
    _switch("disable", "Refuse a client new tokens, and within 60 seconds the ones it has.", disabled=True),
    _switch("enable", "Let a disabled client in again.", disabled=False),
)
STORAGE = (_init,)


def _parse_scopes(text: str) -> tuple[str, ...]:
    asked = text.split()
    unknown = [scope for scope in asked if scope not in SCOPES]
    if unknown or not asked:
        raise click.UsageError(f"--scope takes some of: {' '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in asked)


def _shown_once(credentials: Credentials) -> dict[str, str]:
    return {
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
        "api_key": credentials.api_key,
    }


def _summary(client: Client) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "scope": " ".join(client.scopes),
        "disabled": client.disabled,
        "created_at": rfc3339(client.created_at),
    }


def _found(client_id: str, found: bool) -> None:
    if not found:
        raise click.ClickException(f"There is no client {client_id}.")


def _print(result: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    for name, value in {} if as_json else result.items():
        click.echo(f"{name}: {value}")
