"""`flask outbox`: the completions that wait for the audit log."""

from __future__ import annotations

import click

from .base import Group, Parts, as_json
from .output import note, put_members


@click.command("drain", short_help="Apply what waits, and offer again what was refused.")
@as_json
@click.pass_context
def _drain(context: click.Context, as_json: bool) -> None:
    """Apply what waits in the outbox to the audit log, and offer again what it refused.

    applied: completed their record. obsolete: it was complete, or erased. waiting, refused: left, because the audit log
    could not be reached or does not take them. elsewhere: left, because they belong to another DATABASE_URL.

    Ends with 1 when something is left. The running service does the same by itself, but for what was refused.
    """
    parts: Parts = context.obj
    applied = parts.outbox.apply(parts.storage, again=True)
    left = parts.outbox.held()
    result = {
        "applied": applied.applied,
        "obsolete": applied.obsolete,
        "waiting": left.waiting,
        "refused": left.refused,
        "elsewhere": left.elsewhere,
    }
    put_members(result, as_json)
    if left:
        note("Something is left in the outbox.")
        context.exit(1)


outbox = Group("outbox", "Apply completed calls that the audit log did not take.", (_drain,))
