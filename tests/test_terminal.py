"""The diff that people see."""

from __future__ import annotations

import re

import click
from hypothesis import given
from hypothesis import strategies as st

from terminal import word_diff


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
