"""How results and notes are printed: exactly where a program reads them, harmlessly where a person does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click

from terminal import is_terminal, visible, visible_json, wants_colour


def put(text: str) -> None:
    """Print a result on lines of its own: as it is, or with control characters made visible on a terminal."""
    _write(visible(text) if is_terminal(sys.stdout) else text)


def put_styled(text: str) -> None:
    """Print a result whose escape sequences are ours."""
    _write(text)


def put_json(text: str) -> None:
    """Print a result that is JSON already."""
    _write(visible_json(text) if is_terminal(sys.stdout) else text)


def _write(text: str) -> None:
    # As bytes, because click takes escape sequences out of a text that is not for a terminal.
    encoding = sys.stdout.encoding if is_terminal(sys.stdout) else "utf-8"
    click.echo(text.encode(encoding, "replace"), nl=not text.endswith("\n"))


def put_members(result: Mapping[str, Any], as_json: bool) -> None:
    """Print a result of a few members: as a JSON object, or a line for each."""
    if as_json:
        put_json(as_line(result))
    else:
        put("\n".join(f"{name}: {value}" for name, value in result.items()))


def as_line(value: object) -> str:
    """A JSON value on one line."""
    return json.dumps(value, ensure_ascii=False)


def note(text: str = "") -> None:
    """Tell a person something beside the result."""
    click.echo(visible(text), err=True)


def note_all(heading: str, items: Iterable[str]) -> None:
    """Tell a person of several things, if there are any."""
    lines = [f"- {item}" for item in items]
    if lines:
        shown = click.style(heading, bold=True) if wants_colour(sys.stderr) else heading
        click.echo(f"\n{shown}", err=True)
        note("\n".join(lines))
