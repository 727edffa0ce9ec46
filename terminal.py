"""What people see of a refinement on a terminal."""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import SequenceMatcher
from itertools import cycle
from threading import Event, Thread
from typing import TextIO

import click

FRAME_SECONDS = 0.1

# Control characters but tab and line feed, and those that turn the direction of what follows (CVE-2021-42574).
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

_WORD = re.compile(r"\S+\s*|\s+")
# Fewer equal words than this between two changes are chance: "the" that two other sentences share.
_SHORTEST_COMMON_RUN = 3
# So many pairs of equal words are compared in a second or two; beyond them the frequent words are passed over.
_MOST_PAIRS = 10_000_000

Mark = Callable[[str], str]


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at what is written there; a closed standard stream is `None`."""
    return stream is not None and stream.isatty()


def wants_colour(stream: TextIO | None) -> bool:
    """Whether to write colours there (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and not _is_dumb()


def _is_dumb() -> bool:
    return os.environ.get("TERM") == "dumb"


def visible(text: str) -> str:
    """The text with its control characters shown as Python writes them, so that no terminal obeys them."""
    return _UNSAFE.sub(lambda match: _escaped(match[0], "\\x"), text.replace("\r\n", "\n"))


def visible_json(text: str) -> str:
    """JSON that says the same, without a character that a terminal obeys; JSON itself escapes those below U+0020."""
    return _UNSAFE.sub(lambda match: _escaped(match[0], "\\u00"), text)


def _escaped(character: str, short: str) -> str:
    code = ord(character)
    return f"{short}{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def on_one_line(text: str) -> str:
    """The visible text with each run of white space as one space."""
    return " ".join(visible(text).split())


def cut(line: str, cells: int) -> str:
    """The line, or what fits of it into so many cells of a terminal."""
    if width(line) <= cells:
        return line
    end, taken = 0, 0
    while (taken := taken + _width(line[end])) < cells:
        end += 1
    return line[:end].rstrip() + "…"


def width(text: str) -> int:
    """How many cells of a terminal the text takes at most."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "FW" else 1


@contextmanager
def waiting(text: str, stream: TextIO | None) -> Iterator[None]:
    """Show on a terminal that something goes on, and for how long; write nothing to what is none."""
    if stream is None or not is_terminal(stream) or _is_dumb():
        yield
        return
    done = Event()
    spinner = Thread(target=_spin, args=(text, stream, done), daemon=True)
    spinner.start()
    try:
        yield
    finally:
        done.set()
        spinner.join()


def _spin(text: str, stream: TextIO, done: Event) -> None:
    started, frames, clearing = time.monotonic(), cycle("|/-\\"), ""
    # A terminal may go away at any time.
    with suppress(OSError):
        while not done.wait(FRAME_SECONDS):
            stream.write(f"\r{next(frames)} {text} {time.monotonic() - started:.0f} s\x1b[K")
            stream.flush()
            clearing = "\r\x1b[K"
        stream.write(clearing)
        stream.flush()


def word_diff(before: str, after: str, *, colour: bool) -> str:
    """The two texts as one: what was taken out and what is new is marked, in colour or as `git diff --word-diff` does.

    Lines that both have are matched first, so that a text which was put into another order stays readable. In colour
    the texts' own control characters are shown, not obeyed.
    """
    if colour:
        before, after = visible(before), visible(after)
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
    counted = Counter(bare_new)
    pairs = sum(counted[token] for token in bare_old)
    return SequenceMatcher(None, bare_old, bare_new, autojunk=pairs > _MOST_PAIRS).get_matching_blocks()


def _red(text: str) -> str:
    return _by_line(text, lambda line: click.style(line, fg="red", strikethrough=True))


def _green(text: str) -> str:
    return _by_line(text, lambda line: click.style(line, fg="green", bold=True))


def _bracketed(opening: str, closing: str) -> Mark:
    return lambda text: _by_line(text, lambda line: f"{opening}{line}{closing}")


def _by_line(text: str, mark: Mark) -> str:
    """Mark each line by itself, without the white space around it: a mark across lines colours a whole screen."""
    return re.sub(r"\S(?:[^\n]*\S)?", lambda match: mark(match[0]), text)
