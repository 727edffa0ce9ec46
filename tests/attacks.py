"""Texts that make a regular expression slow, made from its own parts, and the measurement that shows it."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from types import FrameType
from typing import Any

# The standard library's own reading of a pattern; it has no public name.
_parser: Any = import_module("re._parser")
_Node = tuple[Any, Any]

# So little time cannot hold the square of some thousand steps, however small they are.
NEGLIGIBLE_SECONDS = 0.0005
# Four times the text: linear work takes 4 times as long, quadratic work 16 times.
GROWTH, MOST_GROWTH = 4, 8
# A virtual machine charges a thread for time that another machine took, for a tenth of a second on end: so long, and
# longer, is a comparison repeated before work counts as slow.
CPU_SECONDS = 2.0

# Openers inside openers, near misses, and what stands in front of or behind a repetition of our patterns.
OPENERS = ("{", "`", "%(", "http://", "{{a")
PIECES = (
    *OPENERS,
    *("{{", "{{a}", "{{a}}", "{{ ", "{{~", "{{{", "${", "${a ", "%(a", "%(a)", "%s", "%%", "% s", "%-", "%1", "%.1"),
    *(
        "{a",
        "{a[",
        "{a[b",
        "{a!",
        "{a:",
        "{a:b",
        "{0",
        "{ a",
        "a{3}",
        "{" + " " * 41,
        "{{" + " " * 41,
        "{{{" + " " * 41,
    ),
    *("{{" + " " * 20 + "#" + " " * 20, "{{a" + "b" * 200, "${a" + "b" * 200, "%(" + "b" * 100, "{a:" + "b" * 30),
    *("```\n", "```a\n", "```a\n```\n", "a ```\n", "~~~", "~~~\n", "a ~~~\n", "\n`", "````\n```\n", "```\n~~~\n"),
    *(
        "http://a",
        "http://a ",
        "http://a)",
        "http://(",
        "http://a.",
        "<http://",
        "://",
        "a://",
        "a:// ",
        "://)",
        "://a)",
    ),
    *("a" * 18 + ":// ", "[](", "[", "(", ")", "]", " ", "\n", "\t", "\r\n", " \n", "\n ", "\u2028", "\\", '"', "'"),
    *(
        '"a',
        "`a",
        "“",
        "”",
        "9",
        "a.",
        "a-",
        "a_",
        "_",
        "--",
        "a b ",
        "a. ",
        "a: ",
        "? ",
        "!",
        "?!",
        "e.g. ",
        "1. ",
        "A",
    ),
    *(
        '{"a":',
        '{"a":1}\n',
        "# ",
        "- ",
        "a;\n",
        "</a",
        "<a",
        "<a>\n",
        "a = ",
        "a+=",
        ";\n",
        "from a import ",
        "A ",
        "A",
    ),
    *("for a bb ccc ", "to a a a ", "1 a ", "Choose the audience, ", "please ", "hey ", "can you ", "thanks, ", "use "),
    *("I want ", "if ", "nt ", "dont ", "i'd ", "write it\nmore ", "\u7528", "é", "\uff20", "\ue000", "\ue0001\ue001"),
    *("\n" + "x" * 300, "word " * 12 + "\n"),
)

_POOL = " \n\ta0_Z-.,:/\"'`~*#<>(){}[]%$\\é\u4e00\0"
_VARIANTS = 8
_ENDS = ("\0", "", "\n!", "  x")
_BOUND = 1_000
_LOOPS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


@dataclass(frozen=True)
class Attack:
    """A text of any length: a beginning, a piece many times over, and an end that lets no match come about."""

    beginning: str
    piece: str
    end: str = ""

    def text(self, length: int, at_most: int) -> str:
        """About so many characters, and no more repetitions than that."""
        return self.beginning + self.piece * min(length // len(self.piece), at_most) + self.end


@dataclass(frozen=True)
class Growing(Attack):
    """The characters of a piece in turn, each time in a longer run, and the end behind each run."""

    def text(self, length: int, at_most: int) -> str:
        text, run = self.beginning, 3
        while len(text) < length:
            text += self.piece[run % len(self.piece)] * run + self.end
            run += 1
        return text


class _OutOfTime(Exception):
    """The CPU time is used up."""


@contextmanager
def _cpu_limit() -> Iterator[None]:
    """End what runs inside after `CPU_SECONDS`, also in the midst of a match, with `_OutOfTime`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def cpu_seconds(run: Callable[[str], object], text: str) -> float:
    """CPU time of this thread: what other processes do does not count."""
    started = time.thread_time()
    run(text)
    return time.thread_time() - started


def is_linear(run: Callable[[str], object], attack: Attack, length: int = 8_000, at_most: int = 2_500) -> bool:
    """Whether four times the attack takes about four times the CPU time.

    Each size counts with its best of several runs, so that only work which is always slow fails.
    """
    short_text = attack.text(length, at_most)
    long_text = attack.text(GROWTH * length, GROWTH * at_most)
    try:
        short, long, spent = _limited(run, short_text), float("inf"), 0.0
        if short < NEGLIGIBLE_SECONDS:
            return True
        while spent < CPU_SECONDS:
            again, longer = _limited(run, short_text), _limited(run, long_text)
            short, long, spent = min(short, again), min(long, longer), spent + again + longer
            if long < MOST_GROWTH * short:
                return True
    except _OutOfTime:
        pass
    return False


def _limited(run: Callable[[str], object], text: str) -> float:
    with _cpu_limit():
        return cpu_seconds(run, text)


def attacks_on(pattern: re.Pattern[str]) -> Iterable[Attack]:
    """For each repetition in a pattern: what leads to it and then what it repeats, without an end; and all that again
    and again from the start."""
    found: dict[Attack, None] = {}
    for head, bodies, ends in _repetitions(_parser.parse(pattern.pattern, pattern.flags), ""):
        for body in bodies:
            for end in ends:
                found[Attack(head, body, end)] = None
                found[Attack("", head + body, end)] = None
    return found


def _repetitions(nodes: Iterable[_Node], head: str) -> Iterator[tuple[str, list[str], Sequence[str]]]:
    """Each repetition's beginning, the texts that it repeats, and ends for them; nested ones included."""
    for code, argument in nodes:
        if str(code) in _LOOPS:
            bodies = [text for text in _texts(argument[2]) if text]
            pairs = [left + right for left in bodies[:3] for right in bodies[:3] if left != right]
            # One that has a bound costs no more than a constant, unless several of them multiply.
            yield (head, bodies[:2], _ENDS[:1]) if argument[1] <= _BOUND else (head, bodies + pairs, _ENDS)
        for inner in _inside(code, argument):
            yield from _repetitions(inner, head)
        head += _texts([(code, argument)])[0]


def _inside(code: object, argument: Any) -> list[Iterable[_Node]]:
    """The sequences of nodes that a node holds."""
    name = str(code)
    if name in _LOOPS:
        return [argument[2]]
    if name == "BRANCH":
        return list(argument[1])
    if name in ("SUBPATTERN", "ASSERT", "ASSERT_NOT"):
        return [argument[-1]]
    return [argument] if name == "ATOMIC_GROUP" else []


def _texts(nodes: Iterable[_Node]) -> list[str]:
    """Some texts that a sequence of nodes takes, at least one; a look-around may not be content with them."""
    texts = [""]
    for code, argument in nodes:
        first, *others = texts
        parts = _parts(code, argument)
        texts = [*(first + part for part in parts), *(text + parts[0] for text in others)][:_VARIANTS]
    return texts


def _parts(code: object, argument: Any) -> list[str]:
    name = str(code)
    if name in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
        return _characters(name, argument) or [""]
    # A look-ahead's text comes later, and what must not stand there is left out.
    if name == "ASSERT_NOT" or (name == "ASSERT" and argument[0] > 0):
        return [""]
    times = max(argument[0], 1) if name in _LOOPS else 1
    inner = [text * times for sequence in _inside(code, argument) for text in _texts(sequence)]
    return inner or [""]


def _characters(name: str, argument: Any) -> list[str]:
    if name == "LITERAL":
        return [chr(argument)]
    items = argument if name == "IN" else [(name, argument)]
    own = [chr(item[1] if str(item[0]) == "LITERAL" else item[1][0]) for item in items if str(item[0]) in _OWN]
    return list(islice((char for char in dict.fromkeys([*_POOL, *own]) if _takes(items, char)), _VARIANTS))


_OWN = ("LITERAL", "RANGE")
_CLASSES = {"SPACE": r"\s", "DIGIT": r"\d", "WORD": r"\w"}


def _takes(items: Iterable[_Node], char: str) -> bool:
    tests: Mapping[str, Callable[[Any], bool]] = {
        "LITERAL": lambda code: code == ord(char),
        "NOT_LITERAL": lambda code: code != ord(char),
        "RANGE": lambda ends: ends[0] <= ord(char) <= ends[1],
        "CATEGORY": lambda category: _in_category(str(category), char),
        "ANY": lambda _: char != "\n",
        "NEGATE": lambda _: False,
    }
    negated = any(str(code) == "NEGATE" for code, _ in items)
    return negated != any(tests[str(code)](argument) for code, argument in items)


def _in_category(category: str, char: str) -> bool:
    inside = re.match(_CLASSES[category.rpartition("_")[2]], char) is not None
    return inside != ("_NOT_" in category)
