"""The results for people: a row a draft, and the figures of all of them. Fits a hundred columns."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, takewhile
from statistics import quantiles
from typing import get_args

import click

from refinery.engines import Usage

from .judge import Verdict
from .measure import Result

_HEADINGS = ("draft", "refined", "integrity", "length", "language", "judged", "tokens", "ms")
_WIDTHS = (24, 7, 9, 6, 8, 10, 11, 6)
_NAME_WIDTH = _WIDTHS[0]
_RIGHT = {"length", "tokens", "ms"}
_BAD = {"no", "no (2)", "FAILED", "BROKEN", "changed", "answer", "refusal", "other"}
_VERDICTS = (*get_args(Verdict), "unjudged")
_NONE = "-"


def table(results: Sequence[Result], *, judged: bool) -> Iterator[str]:
    """Headings and rows, styled; `judged` says whether there was a judge."""
    headings = [heading if judged or heading != "language" else "script" for heading in _HEADINGS]
    yield click.style("  #  " + _joined(headings), bold=True)
    for result in results:
        yield f"{result.number:>3}  {_joined(_cells(result, judged))}"


def summary(results: Sequence[Result], *, judged: bool) -> Iterator[str]:
    """The figures of all results, a subject a line. Lengths are of the drafts that were refined."""
    refined = [result for result in results if result.refined]
    failures = Counter(result.failure.kind for result in results if result.failure)
    back = len(results) - len(refined) - failures.total()
    unchanged = sum(result.unchanged for result in results)
    yield _line(
        "refined",
        f"{len(refined)} of {len(results)} ({unchanged} unchanged); draft given back: {back}; "
        f"failed: {failures.total()}",
    )
    yield _line("integrity", _integrity(results))
    yield _line("length", f"{_spread([result.ratio for result in results], '.2f')} of the draft")
    yield from _language(refined, judged)
    yield _line("judged", _verdicts(results) if judged else "not judged: no model is configured")
    yield _line("tokens", _tokens(result.usage for result in results))
    if judged:
        yield _line("judge", _tokens(result.judgement.usage for result in results if result.judgement))
    yield _line("latency", f"{_spread([result.latency_ms for result in results], '.0f')} ms")
    if failures:
        yield _line("failures", ", ".join(f"{kind} {count}" for kind, count in failures.most_common()))


def _joined(cells: Sequence[str]) -> str:
    placed = zip(_HEADINGS, cells, _WIDTHS, strict=False)
    padded = (_pad(cell, width, heading) for heading, cell, width in placed)
    return "  ".join(padded).rstrip()


def _cells(result: Result, judged: bool) -> list[str]:
    name = [_name(result)]
    if result.failure:
        # The reason takes the place of the figures that there are not.
        return [*name, "FAILED", result.failure.kind]
    usage = f"{_count(result.usage.input_tokens)}/{_count(result.usage.output_tokens)}"
    ratio = _NONE if result.ratio is None else f"{result.ratio:.2f}"
    figures = [_integrity_cell(result), ratio, _language_cell(result), _judged_cell(result, judged)]
    return [*name, _refined_cell(result), *figures, usage, str(result.latency_ms)]


def _refined_cell(result: Result) -> str:
    if result.broken:
        return "BROKEN"
    again = " (2)" if result.refinement and result.refinement.attempts > 1 else ""
    return ("yes" if result.refined else "no") + again


def _integrity_cell(result: Result) -> str:
    if result.refinement is None or result.refinement.integrity.ok:
        return "ok"
    integrity = result.refinement.integrity
    return f"-{len(integrity.lost)} +{len(integrity.placeholders_added)}"


def _language_cell(result: Result) -> str:
    if not result.refined:
        return _NONE
    if result.script_changed:
        return "changed"
    if result.judgement is None:
        return "kept"
    return {True: "kept", False: "changed", None: "?"}[result.judgement.language_kept]


def _judged_cell(result: Result, judged: bool) -> str:
    if result.judgement:
        return result.judgement.verdict
    if not result.refined:
        return _NONE
    return "unchanged" if result.unchanged else "not judged" if not judged else _NONE


def _name(result: Result) -> str:
    """The source's end, which tells files of one folder apart, or else the draft's beginning; never a control."""
    text = result.draft.source or result.draft.prompt
    printable = (character for character in " ".join(text.split()) if character.isprintable())
    shown = "".join(reversed([*printable]) if result.draft.source else printable)
    if _width(shown) > _NAME_WIDTH:
        shown = f"{shown[: _fitting(shown, _NAME_WIDTH - 1)]}…"
    return shown[::-1] if result.draft.source else shown


def _fitting(text: str, width: int) -> int:
    """How many characters of a text fit into that many columns."""
    return sum(1 for _ in takewhile(lambda taken: taken <= width, accumulate(map(_width, text))))


def _width(text: str) -> int:
    """Columns on a terminal."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def _pad(cell: str, width: int, heading: str) -> str:
    space = " " * (width - _width(cell))
    bad = heading != "draft" and (cell in _BAD or (cell.startswith("-") and cell != _NONE))
    styled = click.style(cell, fg="red", bold=True) if bad else cell
    return space + styled if heading in _RIGHT else styled + space


def _integrity(results: Iterable[Result]) -> str:
    outcomes = [result.refinement for result in results if result.refinement]
    kept = sum(outcome.integrity.ok for outcome in outcomes)
    again = sum(outcome.attempts > 1 for outcome in outcomes)
    lost = sum(len(outcome.integrity.lost) for outcome in outcomes)
    added = sum(len(outcome.integrity.placeholders_added) for outcome in outcomes)
    broken = sum(result.broken for result in results)
    text = f"ok in {kept} of {len(outcomes)}; second attempts: {again}; lost: {lost}; added: {added}"
    return f"{text}; BROKEN BUT GIVEN OUT AS GOOD: {broken}" if broken else text


def _language(refined: Sequence[Result], judged: bool) -> Iterator[str]:
    scripts = sum(not result.script_changed for result in refined)
    by_rule = f"writing system kept in {scripts} of {len(refined)}"
    if not judged:
        yield _line("language", f"{by_rule}; a switch within one (German to English) takes a judge")
        return
    said = Counter(result.judgement.language_kept for result in refined if result.judgement)
    yield _line(
        "language", f"{by_rule}; the judge says kept: {said[True]}, changed: {said[False]}, nothing: {said[None]}"
    )


def _verdicts(results: Iterable[Result]) -> str:
    counted = Counter[str](result.judgement.verdict for result in results if result.judgement)
    return ", ".join(f"{verdict} {counted[verdict]}" for verdict in _VERDICTS)


def _tokens(usages: Iterable[Usage]) -> str:
    """The sum of what is known, and how often it is not."""
    spent = list(usages)
    known_in = sum(usage.input_tokens or 0 for usage in spent)
    known_out = sum(usage.output_tokens or 0 for usage in spent)
    unknown = sum(usage.input_tokens is None or usage.output_tokens is None for usage in spent)
    return f"{known_in:,} in, {known_out:,} out" + (f"; unknown for {unknown}" if unknown else "")


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)


def _spread(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "unknown"
    # One value is its own median; `quantiles` wants two.
    lower, median, upper = quantiles(known * 2 if len(known) == 1 else known, n=4, method="inclusive")
    return f"median {median:{form}}, quartiles {lower:{form}} to {upper:{form}}, most {max(known):{form}}"


def _line(subject: str, text: str) -> str:
    return f"{click.style(f'{subject:<10}', bold=True)} {text}"
