"""What people see of a refinement on a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher

import click

_WORD = re.compile(r"\S+\s*|\s+")
# Fewer equal words than this between two changes are chance: "the" that two other sentences share.
_SHORTEST_COMMON_RUN = 3

Mark = Callable[[str], str]


def word_diff(before: str, after: str, *, colour: bool) -> str:
    """The two texts as one: what was taken out and what is new is marked, in colour or as `git diff --word-diff` does.

    Lines that both have are matched first, so that a text which was put into another order stays readable.
    """
    removed: Mark = _red if colour else _bracketed("[-", "-]")
    added: Mark = _green if colour else _bracketed("{+", "+}")
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    parts: list[str] = []
    for equal, old_lines, new_lines in _runs(old, new, shortest=1):
        if equal:
            parts += new_lines
        else:
            parts += _words("".join(old_lines), "".join(new_lines), removed, added)
    return _joined(parts)


def _joined(parts: Iterable[str]) -> str:
    """Parts are whole words: two of them never touch, also where one stood at the end of its text."""
    text = ""
    for part in parts:
        touching = text and not text[-1].isspace() and not part[:1].isspace()
        text += f" {part}" if touching else part
    return text


def _words(before: str, after: str, removed: Mark, added: Mark) -> Iterator[str]:
    old, new = _WORD.findall(before), _WORD.findall(after)
    for equal, gone, come in _runs(old, new, shortest=_SHORTEST_COMMON_RUN):
        if equal:
            yield "".join(come)
        else:
            yield from (mark("".join(words)) for mark, words in ((removed, gone), (added, come)) if words)


def _runs(old: Sequence[str], new: Sequence[str], shortest: int) -> Iterator[tuple[bool, Sequence[str], Sequence[str]]]:
    """Runs that are equal and runs that are not, in turn; equal ones below `shortest` count as not."""
    old_at = new_at = 0
    for start, new_start, size in _matches(old, new):
        if 0 < size < shortest and (start, new_start) != (0, 0) and start + size < len(old):
            continue
        if old_at < start or new_at < new_start:
            yield False, old[old_at:start], new[new_at:new_start]
        if size:
            yield True, old[start : start + size], new[new_start : new_start + size]
        old_at, new_at = start + size, new_start + size


def _matches(old: Sequence[str], new: Sequence[str]) -> Sequence[tuple[int, int, int]]:
    # The white space behind a word or line belongs to it, and makes no difference.
    bare_old, bare_new = ([token.rstrip() for token in tokens] for tokens in (old, new))
    return SequenceMatcher(None, bare_old, bare_new, autojunk=False).get_matching_blocks()


def _red(text: str) -> str:
    return _by_line(text, lambda line: click.style(line, fg="red", strikethrough=True))


def _green(text: str) -> str:
    return _by_line(text, lambda line: click.style(line, fg="green", bold=True))


def _bracketed(opening: str, closing: str) -> Mark:
    return lambda text: _by_line(text, lambda line: f"{opening}{line}{closing}")


def _by_line(text: str, mark: Mark) -> str:
    """Mark each line by itself, without the white space around it: a mark across lines colours a whole screen."""
    return re.sub(r"\S(?:[^\n]*\S)?", lambda match: mark(match[0]), text)
