"""The diff that people see."""

from __future__ import annotations

import io
import json
import re

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal import cut, on_one_line, visible, visible_json, waiting, wants_colour, width, word_diff


def test_words_are_marked() -> None:
    """Without colours the marks are those of `git diff --word-diff`."""
    assert word_diff("write a mail now", "Write a mail now", colour=False) == "[-write-] {+Write+} a mail now"


def test_lines_that_moved_together_stay_whole() -> None:
    """A line that both texts have is not torn apart."""
    marked = word_diff("one two\nkeep this line\n", "three\nkeep this line\nfour\n", colour=False)
    assert marked == "[-one two-]\n{+three+}\nkeep this line\n{+four+}\n"


def test_colours_say_the_same() -> None:
    """On a terminal, red and struck is gone, green is new, and no mark spans a line."""
    coloured = word_diff("a b c d", "a b c\ne\nf", colour=True)
    assert click.unstyle(coloured).split() == ["a", "b", "c", "d", "e", "f"]
    assert "\x1b[31m" in coloured
    for line in coloured.split("\n"):
        assert line.count("\x1b[31m") + line.count("\x1b[32m") == line.count("\x1b[0m")


@given(st.text("ab \n", max_size=60), st.text("ab \n", max_size=60))
def test_the_new_text_can_be_read_out_of_the_diff(before: str, after: str) -> None:
    """What is not marked as gone is the new text, white space apart."""
    marked = word_diff(before, after, colour=False)
    new = re.sub(r"\[-.*?-\]", "", marked).replace("{+", "").replace("+}", "")
    old = re.sub(r"\{\+.*?\+\}", "", marked).replace("[-", "").replace("-]", "")
    assert new.split() == after.split()
    assert old.split() == before.split()


# --- Text that nobody vouches for


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n日本 👨‍👩‍👧 שלום", "plain\ttext\n日本 👨‍👩‍👧 שלום"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J\x7f\x00", r"\x9b2J\x7f\x00"),
        ("a\u202eb\u2066c\u2028d", r"a\u202eb\u2066c\u2028d"),
        ("Windows\r\nlines\r\n", "Windows\nlines\n"),
        ("over\rwritten", r"over\x0dwritten"),
    ],
    ids=ascii,
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    """What a terminal would obey is written out; all else, tabs, line feeds and joiners included, stays."""
    assert visible(text) == shown


@given(st.text())
def test_harmless_json_is_the_same_json(text: str) -> None:
    """A program reads out of it what was put in, and a terminal finds nothing to obey."""
    shown = visible_json(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(shown) == {text: text}
    assert visible(shown) == shown


@given(st.text(), st.text())
def test_a_coloured_diff_sends_our_sequences_only(before: str, after: str) -> None:
    """Whatever the texts hold, the diff of a terminal has no escape sequences but colours."""
    shown = re.sub(r"\x1b\[\d+m", "", word_diff(before, after, colour=True))
    assert visible(shown) == shown


def test_a_plain_diff_is_exact() -> None:
    """Without colours the texts are as they are: nobody's terminal is meant."""
    assert word_diff("a\x1b[2J", "a\x1b[2J", colour=False) == "a\x1b[2J"


def test_a_diff_of_very_repetitive_texts_ends() -> None:
    """Comparing each word with each of its equals would take minutes here."""
    marked = word_diff("a " * 30_000, "b " + "a " * 30_000 + "c", colour=False)
    assert marked.startswith("[-a")
    assert marked.endswith("c+}")


@given(st.text(), st.integers(1, 30))
def test_a_cut_line_fits(text: str, cells: int) -> None:
    """It takes no more cells than there are, and is whole where it fits."""
    line = on_one_line(text)
    assert width(cut(line, cells)) <= cells
    assert cut(line, width(line) + 1) == line


@pytest.mark.parametrize(("text", "cells"), [("", 0), ("abc", 3), ("日本", 4), ("ｶ", 1), ("e\u0301", 1), ("🙂", 2)])
def test_wide_characters_take_two_cells(text: str, cells: int) -> None:
    """East Asian wide characters and emoji count twice, combining ones not at all."""
    assert width(text) == cells


def test_nothing_spins_where_nobody_looks() -> None:
    """What is no terminal gets not a byte of the spinner, and no colours."""
    stream = io.StringIO()
    with waiting("refining", stream), waiting("refining", None):
        pass
    assert stream.getvalue() == ""
    assert not wants_colour(stream)
    assert not wants_colour(None)
