"""`flask logs`: the audit log of all clients, as only the operator may read, export and erase it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from records import Owner, Record, Selection
from schemas.base import Text
from schemas.log import DEFAULT_PAGE, MAX_PAGE, LogQuery, LogRecord
from terminal import is_terminal, visible, visible_json

from .base import Group, Parts, as_json, checked, wrong
from .listing import listing
from .output import note, put, put_json, put_members


class _Filters(LogQuery):
    """What the API's query narrows, and the client, which there is always the caller."""

    client: Text | None = None


_OPTIONS = {
    "client": ("ID", "Only this client's."),
    "user_id": ("U", "Only this user's."),
    "kind": ("KIND", "refine, generate, or client for what a client reported."),
    "status": ("STATUS", "pending, succeeded, failed or abandoned."),
    "parent_id": ("ID", "Only refinements of this refinement."),
    "model": ("NAME", "Only calls to this model."),
    "from": ("TIME", "Not before; RFC 3339, or a date for its beginning in UTC."),
    "to": ("TIME", "Before; RFC 3339, or a date for its beginning in UTC."),
}
_FLAGS = {name: f"--{name.replace('_', '-')}" for name in (*_OPTIONS, "limit")} | {"parent_id": "--parent"}
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

Callback = Callable[..., None]


def _filtering(callback: Callback) -> Callback:
    for name, (metavar, text) in reversed(_OPTIONS.items()):
        callback = click.option(_FLAGS[name], name, metavar=metavar, help=text)(callback)
    return callback


def _filters(values: dict[str, str | None]) -> _Filters:
    moments = {
        name: f"{value}T00:00:00Z" for name in ("from", "to") if (value := values.get(name)) and _DATE.fullmatch(value)
    }
    filters = checked(_Filters, {**values, **moments}, _FLAGS)
    if filters.since and filters.until and filters.until < filters.since:
        raise wrong("--to", "must not be before --from")
    return filters


def _selection(filters: _Filters) -> Selection:
    return Selection(
        client_id=filters.client,
        user_id=filters.user_id,
        kind=filters.kind,
        status=filters.status,
        parent_id=filters.parent_id,
        model=filters.model,
        since=filters.since,
        until=filters.until,
    )


def _shown(record: Record) -> str:
    return LogRecord.model_validate(record, from_attributes=True).model_dump_json()


@click.command("list")
@_filtering
@click.option("--limit", default=str(DEFAULT_PAGE), metavar="N", help=f"At most so many: 1 to {MAX_PAGE}, default 20.")
@as_json
@click.pass_obj
def _list(parts: Parts, /, as_json: bool, **values: str | None) -> None:
    """Show the newest records, of all clients unless told otherwise.

    On a terminal names and prompts are cut to its width. --json shows the records whole, in one array.
    """
    filters = _filters(values)
    records = parts.storage.page(_selection(filters), filters.limit)
    if as_json:
        put_json(f"[{', '.join(map(_shown, records))}]")
        return
    cells = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    if not records:
        note("There are no such records.")
    for line in listing(records, cells) if records else ():
        put(line)


@click.command("export", short_help="Print all records, one JSON object a line.")
@_filtering
@click.option("--out", metavar="FILE", help="Write there instead; a new file is readable by its owner alone.")
@click.option("--json", "as_json", is_flag=True, help="Changes nothing: the export is JSON.")
@click.pass_obj
def _export(parts: Parts, /, out: str | None, as_json: bool, **values: str | None) -> None:
    """Print all records, newest first: one JSON object a line (NDJSON), as GET /log-request shows it.

    However many there are, only a page of them is in memory at a time.
    """
    selection = _selection(_filters(values))
    exported = 0
    with _destination(out) as (stream, prepared):
        for record in parts.storage.every(selection):
            stream.write(f"{prepared(_shown(record))}\n".encode())
            exported += 1
    if out is not None:
        note(f"Exported {exported} records to {out}.")


@contextmanager
def _destination(out: str | None) -> Iterator[tuple[BinaryIO, Callable[[str], str]]]:
    """Where to write, and what must become of a line before."""
    if out is None:
        stream = sys.stdout.buffer
        yield stream, visible_json if is_terminal(sys.stdout) else _unchanged
        stream.flush()
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise wrong("--out", f"cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        yield file, _unchanged


def _unchanged(text: str) -> str:
    return text


@click.command("erase")
@click.option("--client", metavar="ID", required=True, help='A client\'s id, or "local" for the command line.')
@click.option("--user-id", metavar="U", required=True, help="The user; a client's own records bear its id here.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@click.pass_obj
def _erase(parts: Parts, client: str, user_id: str, yes: bool, as_json: bool) -> None:
    """Erase all records of one user of one client, whatever their state. Nothing brings them back."""
    filters = checked(_Filters, {"client": client, "user_id": user_id}, _FLAGS)
    if not yes:
        if not is_terminal(sys.stdin):
            raise click.UsageError("Without a terminal to ask on, this needs --yes.")
        question = f"Erase all records of the user {visible(user_id)} of the client {visible(client)}, for ever?"
        click.confirm(question, abort=True, err=True)
    erased = parts.storage.erase(Owner(client, user_id))
    put_members({"client_id": filters.client, "user_id": filters.user_id, "erased": erased}, as_json)


@click.command("sweep", short_help="Close overdue calls, delete what need not be kept.")
@as_json
@click.pass_obj
def _sweep(parts: Parts, as_json: bool) -> None:
    """Close calls past their deadline as abandoned, and delete records at the end of their retention."""
    swept = parts.storage.sweep()
    put_members({"abandoned": swept.abandoned, "expired": swept.expired}, as_json)


logs = Group("logs", "Read, export, erase and sweep the audit log of all clients.", (_list, _export, _erase, _sweep))
