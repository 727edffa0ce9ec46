"""What the rules know about any text: which parts are not theirs, where sentences end, is it English, what is layout.

Every pattern of this package is linear: a repetition is bounded, or a literal or a lookbehind says where it begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from refinery.integrity import protected_spans, take_inventory
from refinery.writing_system import main_script

# A number between one of these and `MASK_END` stands for a part that no rule may read or edit.
MASK_INLINE, MASK_BLOCK, MASK_END = "\ue000", "\ue002", "\ue001"
_TOKENS = re.compile(f"[{MASK_INLINE}{MASK_BLOCK}]([0-9]+){MASK_END}")
# A draft that has such characters itself must not be mistaken for a masked one.
_PRIVATE = re.compile(f"[{MASK_INLINE}{MASK_BLOCK}{MASK_END}]+")
# A quotation is someone else's words and inline code is nobody's prose.
_VERBATIM = re.compile(r'"[^"\n\ue002]{1,300}"|“[^”\n\ue002]{1,300}”|`[^`\n\ue002]{1,300}`')


def word_set(spaced: str) -> frozenset[str]:
    """The words of a list written as one string."""
    return frozenset(spaced.split())


TELLING_VERBS = word_set(
    "write explain summarize summarise describe tell give list translate suggest help show create generate draft "
    "rewrite proofread review analyze analyse compare outline improve provide recommend brainstorm compose"
)
VERBS = TELLING_VERBS | word_set(
    "ask make fix find build design edit extract classify plan develop debug refactor optimize check answer act "
    "calculate define discuss evaluate identify prepare research simplify solve teach turn add remove change choose "
    "convert look read rank sort format paraphrase shorten expand correct name estimate predict do reply run parse port"
)
FUNCTION_WORDS = word_set(
    "the and of this that these with you your my our please what how why who should would could can from are it we "
    "they which not have has is be about for i i'm i've i'd to when where does do don't into like there hi hey if must "
    "only need want some good more by using thanks"
)
# The few that other languages need in nearly every sentence: they outvote what looks English by chance.
_FOREIGN_WORDS = word_set(
    "der die das und ist ein le la les des et une un el los y en por con de il che do da um een het och att på w na"
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

_COLUMNS = re.compile(r"(?<=\S) {3,}(?=\S)")
_SPACES = re.compile(r"(?<=[^\s*+>#-]) {2,}(?=\S)")
_BLANK_LINES = re.compile(r"\n{3,}")
_BREAK = re.compile(r"(?<=[.!?])[ \t]+|(?<=[.!?][\"')\]”])[ \t]+|\n\s*")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|approx|mrs?|ms|dr|prof|[a-z]|\d{1,2})\.$", re.IGNORECASE)


class Masked:
    """A draft whose protected and verbatim parts are tokens, and the way back from any text made of it."""

    def __init__(self, draft: str) -> None:
        self._parts: list[str] = []
        blocks = set(take_inventory(draft).code_blocks)
        pieces, position = [], 0
        for start, end in protected_spans(draft):
            pieces.append(_PRIVATE.sub(self._hide, draft[position:start]))
            part, position = draft[start:end], end
            pieces.append(self._token(part, MASK_BLOCK if part in blocks else MASK_INLINE))
        pieces.append(_PRIVATE.sub(self._hide, draft[position:]))
        self._first_verbatim = len(self._parts)
        self.text = _VERBATIM.sub(self._hide, "".join(pieces))

    def _token(self, part: str, mark: str) -> str:
        self._parts.append(part)
        return f"{mark}{len(self._parts) - 1}{MASK_END}"

    def _hide(self, match: re.Match[str]) -> str:
        return self._token(match[0], MASK_INLINE)

    def restore(self, text: str) -> str:
        """Put every part back in the place of its token."""
        # Quotations first, as they may hold a token; what a protected part says is never read as one.
        outer = _TOKENS.sub(lambda m: m[0] if int(m[1]) < self._first_verbatim else self._parts[int(m[1])], text)
        return _TOKENS.sub(lambda m: self._parts[int(m[1])], outer)


def words(masked: str) -> list[str]:
    """The words of a text in lower case, with straight apostrophes."""
    return [word.lower().replace("’", "'") for word in _WORD.findall(masked)]


def is_english(masked: str) -> bool:
    """Whether a text, and its beginning by itself, reads as English; in doubt it does not."""
    found = words(masked)
    return main_script(masked) == "LATIN" and _mostly_english(found[:12]) and _mostly_english(found)


def _mostly_english(found: list[str]) -> bool:
    english = sum(word in FUNCTION_WORDS or word in VERBS for word in found)
    foreign = sum(word in _FOREIGN_WORDS or not word.isascii() for word in found)
    return english > foreign and english * 10 >= len(found)


def clean_whitespace(masked: str) -> str:
    """Drop trailing spaces, surplus blank lines and runs of spaces in prose; indentation and columns stay.

    A text that ends in a colon keeps what follows it: a program will append its input there.
    """
    unix = masked.replace("\r\n", "\n")
    text = _BLANK_LINES.sub("\n\n", "\n".join(map(_clean_line, unix.split("\n")))).strip("\n")
    text = re.sub(r"\A {1,3}(?=\w)", "", text)
    return text + unix[len(unix.rstrip()) :] if text.endswith(":") else text


def _clean_line(line: str) -> str:
    line = line.rstrip(" \t")
    layout = line.startswith("    ") or any(mark in line for mark in "\t|`")
    return line if layout or len(_COLUMNS.findall(line)) > 1 else _SPACES.sub(" ", line)


def sentences(prose: str) -> Iterator[tuple[str, str]]:
    """Each sentence with the white space behind it: joined, they are the text again."""
    start = 0
    for match in _BREAK.finditer(prose):
        ends = not _wraps(prose, match) if match[0].startswith("\n") else _ends_sentence(prose, start, match)
        if ends:
            yield prose[start : match.start()], match[0]
            start = match.end()
    if start < len(prose):
        yield prose[start:], ""


def _wraps(prose: str, gap: re.Match[str]) -> bool:
    """Whether a line break is an editor's: the line is long, and a small letter goes on in the next one."""
    long = gap.start() - prose.rfind("\n", 0, gap.start()) > 60 and prose[gap.start() - 1] not in ".!?:"
    return gap[0].count("\n") == 1 and long and prose[gap.end() : gap.end() + 1].islower()


def _ends_sentence(prose: str, start: int, gap: re.Match[str]) -> bool:
    before, following = prose[max(start, gap.start() - 12) : gap.start()], prose[gap.end() : gap.end() + 1]
    return not _ABBREVIATION.search(before) and not (before.endswith("...") and following.islower())
