"""`flask refine`: a refinement from the command line, recorded as the client `local`."""

from __future__ import annotations

import getpass
import os
import sys
import uuid

import click

from calls.arrival import Arrival
from calls.refinements import as_answer
from calls.tokens import is_user_id
from problems import InvalidFields
from records import Owner
from schemas.refine import IntegrityReport, Refinement, RefineRequest
from terminal import is_terminal, waiting, wants_colour, word_diff

from .base import Command, Parts, as_json, checked, wrong
from .output import note, note_all, put, put_json, put_styled

LOCAL_CLIENT = "local"

_TEXT = "TEXT"
_OPTIONS = {
    "prompt": _TEXT,
    "instructions": "--instructions",
    "strategy": "--strategy",
    "model": "--model",
    "parent_id": "--parent",
}
_MAX_UTF8_BYTES = 4


@click.command("refine", cls=Command, short_help="Refine a prompt, and record it.")
@click.argument("text", required=False, metavar="[TEXT | -]")
@click.option("--instructions", help="What to change.")
@click.option("--strategy", help="One of those installed; general without.")
@click.option("--model", help="One of OPENAI_MODELS; OPENAI_MODEL without.")
@click.option("--parent", "parent_id", metavar="ID", help="Refine the outcome of this refinement, instead of TEXT.")
@as_json
@click.pass_context
def refine(context: click.Context, /, text: str | None, as_json: bool, **options: str | None) -> None:
    """Refine TEXT, or standard input, and print the refined prompt.

    On a terminal it is shown as a diff with the draft, in colour; a pipe gets it alone, and NO_COLOR does the same for
    a terminal. The reasons go to standard error. The call is recorded as the client "local" and the system's user.

    Ends with 1 when what a program depends on would have been lost: then the draft is printed unchanged. Ctrl-C ends
    with 130; the call's record stays pending, and is closed as abandoned at its deadline.
    """
    parts: Parts = context.obj
    values = {**options, "prompt": _draft(parts, text, needed=options["parent_id"] is None)}
    body = checked(parts.refinements.request_model, values, _OPTIONS)
    refinement = _refined(parts, body)
    if as_json:
        put_json(refinement.model_dump_json())
    else:
        _show(refinement)
    if not refinement.refined:
        context.exit(1)


def _refined(parts: Parts, body: RefineRequest) -> Refinement:
    arrival = Arrival.now(uuid.uuid4().hex, parts.settings.request_deadline_seconds)
    try:
        with arrival.bounded(), waiting("refining", sys.stderr):
            record, _ = parts.refinements.create(body, Owner(LOCAL_CLIENT, system_user()), arrival, None)
    except InvalidFields as error:
        name, message = error.errors[0]
        raise wrong(_OPTIONS[name], message) from None
    return as_answer(record)


def system_user() -> str:
    """The system's name of who runs this, or `uid-` and the number where it has none that the log takes."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    return name if is_user_id(name) else f"uid-{os.getuid()}"


def _draft(parts: Parts, text: str | None, *, needed: bool) -> str | None:
    """The draft from the argument or, with `-` or where one is needed and none given, from standard input."""
    if text is None and not needed:
        return None
    if not needed:
        raise click.UsageError("TEXT must be left out when --parent is given.")
    if text is None and (sys.stdin is None or is_terminal(sys.stdin)):
        raise click.UsageError("TEXT is missing: give it, pipe it in, or name a refinement with --parent.")
    try:
        if text is None or text == "-":
            return _standard_input(parts.settings.max_prompt_chars)
        text.encode("utf-8")  # Python has put bytes of an argument that are no UTF-8 into surrogates
    except UnicodeError:
        raise wrong(_TEXT, "must be UTF-8") from None
    return text


def _standard_input(max_chars: int) -> str:
    """All of it. Raises: `UnicodeDecodeError`; `click.BadParameter` for more than any draft may take."""
    most = max_chars * _MAX_UTF8_BYTES
    data: bytes = sys.stdin.buffer.read(most + 1)
    if len(data) > most:
        raise wrong(_TEXT, f"must be at most {max_chars} characters")
    return data.decode("utf-8")


def _show(refinement: Refinement) -> None:
    refined = refinement.refined_prompt or ""
    if wants_colour(sys.stdout):
        put_styled(word_diff(refinement.original_prompt, refined, colour=True))
    else:
        put(refined)
    note_all("Why", (change.reason for change in refinement.changes))
    note_all("Assumptions", refinement.assumptions)
    if refinement.integrity:
        _show_integrity(refinement.integrity)


def _show_integrity(report: IntegrityReport) -> None:
    if report.script_changed:
        note("\nThe writing system is another than the draft's.")
    if report.ok:
        return
    note("\nNot refined: the model's text would have broken a program, so this is the draft unchanged.")
    blocks = [f"{report.code_blocks.lost} fenced code block(s)"] if report.code_blocks.lost else []
    note_all("Lost", [*report.placeholders.lost, *report.urls.lost, *blocks])
    note_all("Added", report.placeholders.added)
