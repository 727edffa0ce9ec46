"""What must survive a refinement: placeholders, fenced code blocks and URLs, counted as multisets.

A prompt is part of a program: a template engine fills its placeholders, a parser reads what its code blocks ask for.
Everything here is a pure function of two texts, and linear in their length: each repetition in a pattern is bounded or
cannot overlap what follows it.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .writing_system import script_changed

Span = tuple[int, int]

# A fence per CommonMark 0.31 §4.5, found anywhere in a line: drafts often open one behind a sentence.
_FENCE = re.compile(r"^(?P<lead>[^\n`~]*)(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)", re.MULTILINE)
_INFO_WORD = re.compile(r"[\w+#.-]*[ \t\r]*")

# Each alternative begins with a literal, so that the scan skips to the next brace, dollar or percent sign. In a run of
# braces, each is the beginning of two alternatives: `(?!\{)` ends them at once.
_PLACEHOLDER = re.compile(
    r"""
      \{ (?:
          \{ (?:
              \{ \s{0,20}+ [^\W\d] [^{}\n]{0,200} \}\}\}                     # {{{x}}}: Mustache, unescaped
            | (?!\{) [~-]? (?: \s{0,20}+ [\#/>^&!] \s{0,20}+ | \s{0,40}+ )   # {{ x }}: Mustache, Handlebars, Jinja
              [^\W\d] [^{}\n]{0,200} \}\}
          )
        | (?!\{) (?:
              [^\W\d] [\w.-]{0,100} (?:\[\w{1,50}\])? (?:![rsa])? (?::[^{}\s"',]{1,30})? \}  # {x}: str.format
            | (?<![\w\])}\\]\{) \d{1,2} \}                                   # {0}, but not a regex's a{3}
          )
      )
    | \$\{ \s{0,20}+ [^\W\d] [^{}\n]{0,200} \}                               # ${x}: shell, JavaScript
    | % (?:
          (?P<literal>%)                                                     # printf's escaped percent sign
        | \( [^()\n]{1,100} \) [-+\ \#0]{0,3} \d{0,3} (?:\.\d{1,3})? [diouxXeEfFgGcrsa]
        | (?<!\d%) s
        | [-+\#0]{0,2} \d{0,3} (?:\.\d{1,3})? [sdifgxXr] (?![A-Za-z0-9])
      )
    """,
    re.VERBOSE,
)

# What each of them begins with.
_SIGNS = "{$%"
# So many characters are scanned in the time of one hop.
_HOP = 500
_NOWHERE = sys.maxsize

# Han, kana, hangul and their punctuation end a URL: those scripts are written without a space behind it.
_URL_REST = re.compile(
    r"://[^\s<>\"`|\\\u2000-\u206f\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef]+"
)
_URL_SCHEME = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,19}\Z")
_URL_TAIL = ".,;:!?'*_~"
_BRACKETS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Inventory:
    """The protected strings of a text, in their order, each as often as it stands there."""

    placeholders: tuple[str, ...]
    code_blocks: tuple[str, ...]
    urls: tuple[str, ...]

    def must_keep(self) -> tuple[str, ...]:
        return self.placeholders + self.urls + self.code_blocks


@dataclass(frozen=True, slots=True)
class Integrity:
    """How a refined prompt compares with its draft; `ok` says whether a program can rely on it."""

    placeholders_kept: tuple[str, ...]
    placeholders_lost: tuple[str, ...]
    placeholders_added: tuple[str, ...]
    code_blocks_kept: int
    code_blocks_lost: tuple[str, ...]
    urls_kept: int
    urls_lost: tuple[str, ...]
    script_changed: bool

    @property
    def lost(self) -> tuple[str, ...]:
        return self.placeholders_lost + self.urls_lost + self.code_blocks_lost

    @property
    def ok(self) -> bool:
        return not self.lost and not self.placeholders_added


def take_inventory(text: str) -> Inventory:
    """List what is protected in `text`; what stands inside a fenced block belongs to the block."""
    return _read(text)[0]


def compare(draft: str, refined: str, instructions: str | None = None) -> Integrity:
    """Compare a refined prompt with its draft.

    A block of the refined prompt that the draft does not have is read as text: a placeholder that was moved into it
    is still there, and one that was made up in it would still break a program. `instructions` only matter to
    `script_changed`: a change of language that they speak of was asked for.
    """
    before, draft_prose = _read(draft)
    blocks, refined_prose = _without_kept_blocks(refined, Counter(before.code_blocks))
    blocks_lost = _missing(before.code_blocks, blocks)
    placeholders, urls = tuple(_placeholders(refined_prose)), tuple(_urls(refined_prose))
    # A placeholder inside a block that was changed is that block's loss, told once.
    inside_lost_blocks = tuple(_placeholders("\n".join(blocks_lost)))
    return Integrity(
        placeholders_kept=_common(before.placeholders, placeholders),
        placeholders_lost=_missing(before.placeholders, placeholders),
        placeholders_added=_missing(placeholders, before.placeholders + inside_lost_blocks),
        code_blocks_kept=len(before.code_blocks) - len(blocks_lost),
        code_blocks_lost=blocks_lost,
        urls_kept=len(_common(before.urls, urls)),
        urls_lost=_missing(before.urls, urls),
        script_changed=script_changed(draft_prose, refined_prose, instructions),
    )


def _read(text: str) -> tuple[Inventory, str]:
    blocks = _code_block_spans(text)
    prose = _without(text, blocks)
    inventory = Inventory(
        placeholders=tuple(_placeholders(prose)),
        code_blocks=tuple(text[start:end] for start, end in blocks),
        urls=tuple(_urls(prose)),
    )
    return inventory, prose


def protected_spans(text: str) -> list[Span]:
    """Where the protected strings stand: sorted spans that do not overlap (a placeholder in a URL is the URL's)."""
    blocks = _code_block_spans(text)
    masked = list(blocks)
    for start, end in _gaps(text, blocks):
        masked += [(start + a, start + b) for a, b in _prose_spans(text[start:end])]
    return sorted(masked)


def _prose_spans(prose: str) -> Iterator[Span]:
    urls = list(_url_spans(prose))
    yield from urls
    for start, end in _gaps(prose, urls):
        for match in _placeholder_matches(prose[start:end]):
            yield start + match.start(), start + match.end()


def _code_block_spans(text: str) -> list[Span]:
    """Fenced blocks, from the first character of the opening fence to the last of the closing one.

    An unclosed fence at a line's start reaches to the end. A fence behind other text counts only when it is closed.
    """
    spans: list[Span] = []
    if "```" not in text and "~~~" not in text:
        return spans
    opened: re.Match[str] | None = None
    firm = False
    for match in _FENCE.finditer(text):
        at_line_start = not match["lead"].strip(" \t")
        if opened and _closes(match, opened, at_line_start):
            spans.append((opened.start("fence"), match.end("fence")))
            opened, firm = None, False
        elif not firm and (opened is None or at_line_start) and _can_open(match, at_line_start):
            opened, firm = match, at_line_start
    if opened and firm:
        spans.append((opened.start("fence"), len(text)))
    return spans


def _can_open(match: re.Match[str], at_line_start: bool) -> bool:
    if match["fence"][0] == "`" and "`" in match["info"]:
        return False
    return at_line_start or _INFO_WORD.fullmatch(match["info"]) is not None


def _closes(match: re.Match[str], opened: re.Match[str], at_line_start: bool) -> bool:
    same = match["fence"][0] == opened["fence"][0] and len(match["fence"]) >= len(opened["fence"])
    return same and at_line_start and not match["info"].strip()


def _gaps(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    position = 0
    for start, end in spans:
        yield position, start
        position = end
    yield position, len(text)


def _without(text: str, spans: Iterable[Span]) -> str:
    return "\n".join(text[start:end] for start, end in _gaps(text, spans))


def _without_kept_blocks(text: str, wanted: Counter[str]) -> tuple[tuple[str, ...], str]:
    kept: list[Span] = []
    for start, end in _code_block_spans(text):
        if wanted[text[start:end]] > 0:
            wanted[text[start:end]] -= 1
            kept.append((start, end))
    return tuple(text[start:end] for start, end in kept), _without(text, kept)


def _placeholder_matches(prose: str) -> Iterator[re.Match[str]]:
    return (match for match in _matches(prose) if not match["literal"])


def _matches(prose: str) -> Iterator[re.Match[str]]:
    """What `_PLACEHOLDER.finditer` finds. Where signs are few, `str.find` is ten times as fast."""
    ahead = dict.fromkeys(_SIGNS, -1)
    position = 0
    for _ in range(len(prose) // _HOP):
        for sign, found in ahead.items():
            if found < position:
                ahead[sign] = prose.find(sign, position) % _NOWHERE
        position = min(ahead.values())
        if position >= len(prose):
            return
        match = _PLACEHOLDER.match(prose, position)
        position = match.end() if match else position + 1
        if match:
            yield match
    yield from _PLACEHOLDER.finditer(prose, position)


def _placeholders(prose: str) -> Iterator[str]:
    return (match[0] for match in _placeholder_matches(prose))


def _urls(prose: str) -> Iterator[str]:
    return (prose[start:end] for start, end in _url_spans(prose))


def _url_spans(prose: str) -> Iterator[Span]:
    for rest in _URL_REST.finditer(prose):
        scheme = _URL_SCHEME.search(prose, max(0, rest.start() - 21), rest.start())
        if scheme:
            yield scheme.start(), scheme.start() + _url_length(prose[scheme.start() : rest.end()])


def _url_length(url: str) -> int:
    """Length of a URL without the punctuation of the sentence around it, as GitHub's autolinks cut it (GFM §6.9)."""
    surplus = {closing: url.count(closing) - url.count(opening) for closing, opening in _BRACKETS.items()}
    end = len(url)
    while end:
        last = url[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in _URL_TAIL:
            break
        end -= 1
    return end


def _missing(wanted: tuple[str, ...], present: tuple[str, ...]) -> tuple[str, ...]:
    if wanted == present:
        return ()
    left = Counter(present)
    missing = []
    for item in wanted:
        left[item] -= 1
        if left[item] < 0:
            missing.append(item)
    return tuple(missing)


def _common(wanted: tuple[str, ...], present: tuple[str, ...]) -> tuple[str, ...]:
    if wanted == present:
        return wanted
    left = Counter(present)
    common = []
    for item in wanted:
        left[item] -= 1
        if left[item] >= 0:
            common.append(item)
    return tuple(common)
