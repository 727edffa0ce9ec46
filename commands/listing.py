"""Audit records as a person reads them: a table that fits the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from records import Record
from terminal import cut, on_one_line, width

_TITLES = ("ID", "TIME", "KIND", "STATUS", "CLIENT", "USER", "MODEL", "PROMPT")
# What people copy or compare comes first, and is cut on the narrowest terminals only.
_HEAD = 4
# The names behind it are cut where they are longer; the rest of the line is the prompt's.
_NAME_CELLS = 20
_PROMPT_CELLS = 60
_ENOUGH_OF_A_PROMPT = 30
_GAP = "  "


def listing(records: Sequence[Record], cells: int | None) -> Iterator[str]:
    """Lines of at most so many cells, with a heading: one line a record, or two where one has no room for the prompt.

    Without a number, for a program that reads lines: one line a record, nothing cut but the prompt, no heading.
    """
    rows = [_row(record) for record in records]
    if cells is None:
        for *names, prompt in _aligned(rows):
            yield _GAP.join([*names, cut(prompt, _PROMPT_CELLS)])
        return
    for *head, prompt in _aligned([_TITLES, *map(_with_short_names, rows)]):
        line = _GAP.join(head)
        if width(line) + len(_GAP) + _ENOUGH_OF_A_PROMPT <= cells:
            yield cut(f"{line}{_GAP}{prompt}", cells)
        else:
            yield cut(_GAP.join(head[:_HEAD]).rstrip(), cells)
            yield cut(_GAP.join(["", *head[_HEAD:], prompt]), cells)


def _row(record: Record) -> Sequence[str]:
    return (
        record.id,
        record.timestamp.strftime("%Y-%m-%d %H:%M:%SZ"),
        record.kind,
        record.status,
        on_one_line(record.client_id),
        on_one_line(record.user_id),
        on_one_line(record.model or "-"),
        on_one_line(record.prompt),
    )


def _with_short_names(row: Sequence[str]) -> Sequence[str]:
    return (*row[:_HEAD], *(cut(name, _NAME_CELLS) for name in row[_HEAD:-1]), row[-1])


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    """The rows with each column but the last as wide as its widest cell."""
    rows = list(rows)
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield [*(cell + " " * (wide - width(cell)) for cell, wide in zip(row[:-1], widths, strict=False)), row[-1]]
