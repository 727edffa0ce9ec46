"""What counts as protected, and how a refined prompt is held against its draft."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.integrity import _PLACEHOLDER, _matches, compare, protected_spans, take_inventory
from refinery.writing_system import main_script

PLACEHOLDERS = {
    "double braces": ("Hi {{name}}!", ["{{name}}"]),
    "double braces with spaces": ("Hi {{ name }}!", ["{{ name }}"]),
    "hyphens and dots": ("{{user-name}} {{order.id}}", ["{{user-name}}", "{{order.id}}"]),
    "filters and tags": ("{{ x | upper }} {{#each xs}} {{/each}}", ["{{ x | upper }}", "{{#each xs}}", "{{/each}}"]),
    "triple braces": ("{{{raw}}}", ["{{{raw}}}"]),
    "dollar": ("${HOME} ${user.name}", ["${HOME}", "${user.name}"]),
    "single braces": ("{name} {user.name} {items[0]}", ["{name}", "{user.name}", "{items[0]}"]),
    "format specs": ("{price:.2f} {name!r} {id:>10}", ["{price:.2f}", "{name!r}", "{id:>10}"]),
    "positions": ("{0} and {1}", ["{0}", "{1}"]),
    "named percent": ("%(name)s %(price).2f", ["%(name)s", "%(price).2f"]),
    "percent": ("Dear %s, you owe %d or %.2f", ["%s", "%d", "%.2f"]),
    "percent behind punctuation": ("(%s), '%s'", ["%s", "%s"]),
    "other alphabets": ("{имя} {{名前}} ${größe}", ["{имя}", "{{名前}}", "${größe}"]),
    "twice": ("{x} {x}", ["{x}", "{x}"]),
    "in a URL": ("https://a.example/{id}", ["{id}"]),
    "in JSON": ('{"user": "{name}", "n": {count}}', ["{name}", "{count}"]),
}


@pytest.mark.parametrize(("text", "expected"), PLACEHOLDERS.values(), ids=PLACEHOLDERS)
def test_placeholders_are_found(text: str, expected: list[str]) -> None:
    """Each notation that templates use counts, as often as it stands there."""
    assert list(take_inventory(text).placeholders) == expected


NO_PLACEHOLDERS = {
    "JSON": '{"a": {"b": [1, {}]}, "c": "}"}',
    "JSON on lines": '{\n  "a": 1\n}',
    "escaped JSON": '{{"a": 1}}',
    "empty braces": "{} {{}} ${} { } {{ }}",
    "a percentage": "save 50% of it, 100% sure, 5 % done",
    "an escaped percent": "100%% sure, %%s",
    "percent-encoding": "a%20data%C3%BC",
    "a quantifier": r"\d{3} [a-z]{2} (ab){4}",
    "code": "if (x) { return y; }",
    "unclosed": "{name {{name} } ${name %(name",
    "across lines": "{{a\nb}}",
}


@pytest.mark.parametrize("text", NO_PLACEHOLDERS.values(), ids=NO_PLACEHOLDERS)
def test_other_braces_and_percents_are_no_placeholders(text: str) -> None:
    """Braces of JSON and code, percentages and what is not closed do not count."""
    found = [name for name in take_inventory(text).placeholders if name != "{name}"]
    assert found == []


BLOCKS = {
    "backticks": ("a\n```py\nx\n```\nb", ["```py\nx\n```"]),
    "tildes": ("~~~\nx\n~~~\n", ["~~~\nx\n~~~"]),
    "longer fence around a shorter": ("````\n```\nx\n```\n````", ["````\n```\nx\n```\n````"]),
    "other fence inside": ("~~~\n```\n~~~", ["~~~\n```\n~~~"]),
    "unclosed to the end": ("a\n```\nx {y}\n", ["```\nx {y}\n"]),
    "closing fence with words does not close": ("```\nx\n``` y\nz", ["```\nx\n``` y\nz"]),
    "indented": ("- item\n  ```\n  x\n  ```\n", ["```\n  x\n  ```"]),
    "behind a sentence": ("Fix: ```py\nx\n```\nThanks", ["```py\nx\n```"]),
    "two": ("```\na\n```\n\n```\nb\n```", ["```\na\n```", "```\nb\n```"]),
    "empty": ("```\n```", ["```\n```"]),
    "CRLF": ("```\r\nx\r\n```\r\n", ["```\r\nx\r\n```"]),
    "inline is none": ("Use ```x``` and `y`", []),
    "a fence behind words that nothing closes is none": ("I like ```js\nbut not this", []),
}


@pytest.mark.parametrize(("text", "expected"), BLOCKS.values(), ids=BLOCKS)
def test_fenced_blocks_are_found(text: str, expected: list[str]) -> None:
    """A block reaches from its opening fence to its closing one, byte for byte."""
    assert list(take_inventory(text).code_blocks) == expected


URLS = {
    "plain": ("see https://a.example/b?c=d#e", ["https://a.example/b?c=d#e"]),
    "end of sentence": ("Go to https://a.example/b. Now!", ["https://a.example/b"]),
    "in parentheses": ("(see https://a.example/b)", ["https://a.example/b"]),
    "balanced parentheses": ("https://a.example/Foo_(bar)", ["https://a.example/Foo_(bar)"]),
    "Markdown link": ("[a](https://a.example/b)", ["https://a.example/b"]),
    "Markdown bold": ("**https://a.example/b**", ["https://a.example/b"]),
    "angle brackets": ("<https://a.example/b>", ["https://a.example/b"]),
    "quotes": ("\"https://a.example/b\" 'https://a.example/c'", ["https://a.example/b", "https://a.example/c"]),
    "Chinese around": ("请看https://a.example/b。谢谢", ["https://a.example/b"]),
    "umlauts": ("https://a.example/Köln", ["https://a.example/Köln"]),
    "other schemes": ("s3://bucket/key postgres://h/db", ["s3://bucket/key", "postgres://h/db"]),
    "placeholder inside": ("https://a.example/{id}?q={{q}}", ["https://a.example/{id}?q={{q}}"]),
    "not without a scheme": ("://x 1://y www.a.example", []),
}


@pytest.mark.parametrize(("text", "expected"), URLS.values(), ids=URLS)
def test_urls_are_found(text: str, expected: list[str]) -> None:
    """A URL ends where the sentence around it goes on."""
    assert list(take_inventory(text).urls) == expected


def test_a_block_owns_what_stands_in_it() -> None:
    """Placeholders and URLs inside a fenced block are not counted again."""
    inventory = take_inventory("{a}\n```\n{b} https://x.example\n```\n")
    assert (inventory.placeholders, inventory.urls) == (("{a}",), ())


def test_a_lost_duplicate_is_noticed() -> None:
    """Protected strings are multisets: twice in the draft is twice in the refined prompt."""
    report = compare("{x} {x} {y}", "{x} {y}")
    assert (report.placeholders_kept, report.placeholders_lost) == (("{x}", "{y}"), ("{x}",))
    assert not report.ok


def test_an_added_placeholder_breaks_the_promise() -> None:
    """A placeholder that the draft does not have would reach the reader unfilled."""
    report = compare("Hi {x}", "Hi {x} {y} {x}")
    assert report.placeholders_added == ("{y}", "{x}")
    assert not report.ok


@pytest.mark.parametrize("refined", ["{{ name }}", "{{Name}}", "{name}", "{{name }}", "${name}", "{{nom}}"])
def test_a_placeholder_must_come_back_letter_for_letter(refined: str) -> None:
    """Another spelling is a loss and an addition."""
    report = compare("Hi {{name}}", f"Hi {refined}")
    assert (report.placeholders_lost, report.placeholders_added) == (("{{name}}",), (refined,))


def test_code_blocks_are_kept_byte_for_byte() -> None:
    """One more space in a block is a lost block, told once."""
    draft = "Run {x}:\n```\nprint('{y}')\n```"
    changed = compare(draft, "Run {x}:\n```\nprint( '{y}')\n```")
    assert (changed.code_blocks_kept, changed.code_blocks_lost) == (0, ("```\nprint('{y}')\n```",))
    assert changed.placeholders_added == ()
    assert compare(draft, f"Please.\n\n{draft}\n").ok


def test_a_new_url_is_allowed_and_a_lost_one_is_not() -> None:
    """Only placeholders can be added; a URL that is gone is told."""
    assert compare("x", "x https://new.example").ok
    report = compare("https://a.example https://b.example", "https://a.example")
    assert (report.urls_kept, report.urls_lost, report.ok) == (1, ("https://b.example",), False)


def test_a_placeholder_moved_into_a_new_block_is_kept() -> None:
    """Setting the input apart in a fence loses nothing."""
    assert compare("Summarise {text}", "Summarise:\n```\n{text}\n```").ok


def test_a_placeholder_made_up_in_a_new_block_is_added() -> None:
    """An example with an invented placeholder would break the program that fills the prompt."""
    assert compare("Summarise", "Summarise:\n```\n{text}\n```").placeholders_added == ("{text}",)


SCRIPTS = {
    "Latin": ("Write a poem about {x}", "LATIN"),
    "Cyrillic": ("Напиши стихотворение", "CYRILLIC"),
    "Chinese": ("写一首诗", "CJK"),
    "Japanese": ("詩を書いてください", "KANA"),
    "Korean": ("시를 써 주세요", "HANGUL"),
    "Arabic": ("اكتب قصيدة", "ARABIC"),
    "mostly Chinese": ("请用 Python 写一个关于排序算法的详细教程", "CJK"),
    "none": ("1234 !?", None),
}


@pytest.mark.parametrize(("text", "expected"), SCRIPTS.values(), ids=SCRIPTS)
def test_the_main_script(text: str, expected: str | None) -> None:
    """The writing system that most letters belong to."""
    assert main_script(text) == expected


def test_a_switched_language_is_reported_and_no_more() -> None:
    """A change of the writing system is information, unless the instructions asked for it."""
    draft, refined = "写一首诗", "Write a poem"
    assert compare(draft, refined).script_changed
    assert compare(draft, refined).ok
    assert compare(draft, refined, "make it shorter").script_changed
    assert not compare(draft, refined, "Translate it into English").script_changed
    assert not compare(draft, "请写一首诗").script_changed
    assert not compare("写 {x}:\n```\nprint('a long piece of English code')\n```", "请写 {x}").script_changed


PIECES = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            ["{{a}}", "{b}", "${c}", "%(d)s", "%s", "{", "}", "`", "```", "~~~", "\n", "\r\n", "https://x.example/{e}"]
        ),
    ),
    max_size=30,
).map("".join)


@given(PIECES)
@settings(deadline=None)
def test_a_text_keeps_what_it_has(text: str) -> None:
    """Whatever it is, a text compared with itself loses and adds nothing."""
    report = compare(text, text)
    assert report.ok
    assert report.script_changed is False


@given(PIECES)
@settings(deadline=None)
def test_protected_spans_are_sorted_and_apart(text: str) -> None:
    """The spans cover each code block and URL, in order and without overlap."""
    spans = protected_spans(text)
    assert spans == sorted(spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    covered = [text[start:end] for start, end in spans]
    inventory = take_inventory(text)
    assert set(inventory.code_blocks) <= set(covered)


_PIECES = st.sampled_from(
    ("{", "}", "{{x}}", "{y}", "${z}", "%s", "%%", "%(n)s", "%d%", "$", "%( }} {{a)s", "a" * 700, "word ", "\n", "é")
)


@given(st.lists(_PIECES, max_size=60).map("".join))
@settings(deadline=None)
def test_hopping_from_sign_to_sign_finds_what_a_scan_finds(prose: str) -> None:
    """In long prose placeholders are found another way, and they are the same."""
    assert [match.span() for match in _matches(prose)] == [match.span() for match in _PLACEHOLDER.finditer(prose)]


@pytest.mark.parametrize("wrap", [str, "x".__add__, "é".__add__])
def test_prose_without_other_letters_is_latin(wrap: Callable[[str], str]) -> None:
    """However the letters are looked at, the main script is the same."""
    assert [main_script(wrap(text)) for text in ("Hello", "a 1", "привет мир")] == ["LATIN", "LATIN", "CYRILLIC"]
    assert main_script("12 !?") is None
