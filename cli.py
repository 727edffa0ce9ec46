"""The operator's commands, installed in Flask's own command line."""

from __future__ import annotations

from copy import copy

from flask import Flask

from auth import TokenPolicy
from calls.refinements import Refinements
from commands.base import Parts
from commands.clients import clients
from commands.logs import logs
from commands.outbox import outbox as completions
from commands.refine import refine
from commands.storage import storage as database
from commands.tokens import token
from settings import Settings
from storage import Storage
from stores.outbox import Outbox

COMMANDS = (clients, completions, database, logs, refine, token)


def install(
    app: Flask, settings: Settings, storage: Storage, outbox: Outbox, policy: TokenPolicy, refinements: Refinements
) -> None:
    """Add the commands to an app; each is handed the app's parts."""
    for command in COMMANDS:
        # A process may have several apps.
        installed = copy(command)
        installed.context_settings = {"obj": Parts(settings, storage, outbox, policy, refinements)}
        app.cli.add_command(installed)
