"""`flask storage`: the audit log's database."""

from __future__ import annotations

import click

from .base import Group, Parts, as_json
from .output import put_members


@click.command("init")
@as_json
@click.pass_obj
def _init(parts: Parts, as_json: bool) -> None:
    """Create the tables, collections and indexes that are missing. May be repeated."""
    parts.storage.initialize()
    put_members({"storage": "ready"}, as_json)


storage = Group("storage", "Manage the audit log's database.", (_init,))
