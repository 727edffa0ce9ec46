"""Each regular expression of the product takes time in proportion to its text, whatever the text is."""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from refinery import integrity
from scripts.evaluation import judge as judging
from tests.attacks import PIECES, Attack, attacks_on, is_linear

ROOT = Path(__file__).parents[1]
NO_PRODUCT = {"tests", "bench", "node_modules", "data", "build"}
SOURCES = {
    str(path.relative_to(ROOT)): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.relative_to(ROOT).parts[0] not in NO_PRODUCT and not path.relative_to(ROOT).parts[0].startswith(".")
}
WITH_PATTERNS = [
    name for name, path in SOURCES.items() if re.search(r"^\s*(import re\b|from re\b)", path.read_text("utf-8"), re.M)
]
FROM_ONE_PLACE = {"match", "fullmatch"}
METHODS = FROM_ONE_PLACE | {"search", "sub", "subn", "split", "findall", "finditer"}


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(SOURCES[name].read_text("utf-8"))


@cache
def uses() -> dict[str, set[str]]:
    """By which methods each name is used, anywhere in the product."""
    found: dict[str, set[str]] = {}
    for name in SOURCES:
        for call in (node for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute):
                owner = ast.unparse(call.func.value).rpartition(".")[2]
                found.setdefault(owner, set()).add(call.func.attr)
    return {name: methods & METHODS for name, methods in found.items()}


def patterns_in(name: str) -> Iterator[tuple[str, re.Pattern[str], set[str]]]:
    """Each pattern of a module: where it stands, and the methods that it is used by (none: unknown).

    Raises: `AssertionError` for one that cannot be found from outside.
    """
    scope = vars(import_module(name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")))
    calls = [node for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call) and _of_re(node)]
    for statement in tree_of(name).body:
        inside = set(ast.walk(statement))
        compiled = [call for call in calls if call in inside and ast.unparse(call.func) == "re.compile"]
        if not compiled:
            continue
        assert isinstance(statement, ast.Assign), f"{name}:{statement.lineno}: compile patterns where a module begins"
        (target,) = statement.targets
        for pattern in _compiled_in(scope[ast.unparse(target)]):
            yield f"{name}:{statement.lineno}", pattern, uses().get(ast.unparse(target), set())
    for call in calls:
        if ast.unparse(call.func) != "re.compile":
            flags = [keyword.value for keyword in call.keywords if keyword.arg == "flags"]
            text, flag = (_value(expression, scope) for expression in [call.args[0], *flags, ast.Constant(0)][:2])
            yield f"{name}:{call.lineno}", re.compile(text, flag), {ast.unparse(call.func).removeprefix("re.")}


def _value(expression: ast.expr, scope: dict[str, Any]) -> Any:
    code = compile(ast.fix_missing_locations(ast.Expression(expression)), "<pattern>", "eval")
    return eval(code, scope)  # noqa: S307 - the project's own source


def _of_re(call: ast.Call) -> bool:
    return ast.unparse(call.func) in {f"re.{method}" for method in METHODS | {"compile"}}


def _compiled_in(value: object) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _compiled_in(part)


def slow_attack(pattern: re.Pattern[str], methods: set[str]) -> Attack | None:
    """The first attack whose cost grows faster than its length, if there is one."""
    runs: Sequence[Callable[[str], object]] = (
        [getattr(pattern, method) for method in sorted(methods)]
        if methods and methods <= FROM_ONE_PLACE
        else [lambda text: deque(pattern.finditer(text), maxlen=0)]
    )
    attacks = [*attacks_on(pattern), *(Attack("", piece) for piece in PIECES)]
    return next((attack for run in runs for attack in attacks if not is_linear(run, attack)), None)


@pytest.mark.parametrize("name", WITH_PATTERNS)
def test_every_pattern_is_linear(name: str) -> None:
    """No attack made from a pattern's own parts, or from the pieces above, costs more than its length."""
    found = list(patterns_in(name))
    slow = {place: attack for place, pattern, methods in found if (attack := slow_attack(pattern, methods))}
    assert found
    assert slow == {}


def test_every_use_of_the_module_is_seen() -> None:
    """Patterns are used as `re.…` or by their name, never under another name of the module."""
    for name in WITH_PATTERNS:
        for node in ast.walk(tree_of(name)):
            assert not (isinstance(node, ast.ImportFrom) and node.module == "re"), name
            assert not (isinstance(node, ast.alias) and node.name == "re" and node.asname), name


SLOW = (r"(a+)+$", r"\s*\n*\s*x", r" +$", r"\A```(?:json)?\s*(.*?)\s*```\Z")


@pytest.mark.parametrize("pattern", SLOW)
def test_a_slow_pattern_is_noticed(pattern: str) -> None:
    """Exponential, cubic and quadratic patterns fail the check that the product's patterns pass."""
    assert slow_attack(re.compile(pattern), {"match"} if pattern.startswith(r"\A") else set())


@pytest.mark.parametrize("pattern", [r"(?<!a)a+b", r"(?:a{1,20}b)*", r"\{[^{}]{0,200}\}", r"[\w-]+"])
def test_a_linear_pattern_is_not_accused(pattern: str) -> None:
    """A bounded repetition, and one that a look-behind lets begin once, pass."""
    assert slow_attack(re.compile(pattern), set()) is None


EARLY_ENDS = {
    r"(?: \s{0,20}+ [\#/>^&!] \s{0,20}+ | \s{0,40}+ )": r"\s{0,20} [\#/>^&!]? \s{0,20}",
    r"\s{0,20}+": r"\s{0,20}",
    r"(?!\{)": "",
}
BRACED = st.lists(
    st.one_of(
        st.sampled_from(
            ["{", "{{", "{{{", "}", "}}", "}}}", "$", "${", "a", "é", "1", "_", "~", "-", "#", "/", "!", "."]
        ),
        st.sampled_from([" ", "\n", "\t", " " * 19, " " * 20, " " * 21, " " * 39, " " * 40, " " * 41, "x" * 200]),
        st.sampled_from(
            ["{{name}}", "{x}", "{0}", "a{3}", "{x!r:>10}", "${y}", "%(z)s", "%s", "%%", "[0]", ":", '"', "%"]
        ),
        st.text(max_size=3),
    ),
    max_size=25,
).map("".join)


def plain_placeholder() -> re.Pattern[str]:
    text = integrity._PLACEHOLDER.pattern
    for early, plain in EARLY_ENDS.items():
        assert early in text
        text = text.replace(early, plain)
    return re.compile(text, re.VERBOSE)


PLAIN_PLACEHOLDER = plain_placeholder()


@given(BRACED)
@hypothesis_settings(deadline=None, max_examples=500)
def test_placeholders_are_those_of_the_plain_pattern(text: str) -> None:
    """What ends a search early leaves no placeholder out and lets none in."""
    found, expected = (
        [match.span() for match in pattern.finditer(text)] for pattern in (integrity._PLACEHOLDER, PLAIN_PLACEHOLDER)
    )
    assert found == expected


PLAIN_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
FENCED = st.lists(st.sampled_from(["```", "`", "json", " ", "\n", "\t", "\u2003", "{", '"a"', "}"]), max_size=12).map(
    "".join
)


@given(FENCED)
@hypothesis_settings(deadline=None, max_examples=500)
def test_a_fenced_judgement_is_that_of_the_plain_pattern(text: str) -> None:
    """White space that is stripped behind the pattern is the white space that stood in it."""
    found, expected = judging._CODE_FENCE.match(text), PLAIN_FENCE.match(text)
    assert (found and found[1].strip()) == (expected and expected[1])
