"""The engine without a model: rules that tidy a draft, sort it into sections and ask for what it leaves open."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from .deadline import Deadline
from .engines import NO_USAGE, Change, Rewrite, Task
from .integrity import compare, protected_spans, take_inventory
from .offline_rules import (
    MASK_BLOCK,
    MASK_END,
    MASK_INLINE,
    MASKS,
    Ledger,
    clean_whitespace,
    is_english,
    is_question,
    missing_points,
    points_to_raise,
    polish,
    sentences,
    show_change,
    sort_into_sections,
    split_lead,
    starts_with_verb,
)

_PRIVATE = re.compile(f"[{MASK_INLINE}{MASK_BLOCK}{MASK_END}]+")
# A quotation is someone else's words and inline code is nobody's prose: no rule may edit either.
_VERBATIM = re.compile(r'"[^"\n\ue002]{1,300}"|“[^”\n\ue002]{1,300}”|`[^`\n\ue002]{1,300}`')

_BY_RULES = "This was done by built-in rules, not by a language model."
_ENGLISH_ONLY = (
    "The draft does not read as English: the rules for wording and structure only know English, so nothing but white "
    "space was looked at."
)
_NO_INSTRUCTIONS = "The instructions were not applied: following them takes a language model."
_NOTHING = "The rules found nothing to improve: the draft is unchanged."
_LEFT_OUT = (
    "A further edit was dropped, because it would have altered a placeholder, a code block, a URL or the script."
)
_MISSING = {
    "audience": "Audience: the draft does not say who will read the answer.",
    "output format": "Output format: the draft does not say what form the answer should have.",
    "length": "Length: the draft does not say how long the answer should be.",
    "examples": "Examples: the draft gives no example of what is wanted.",
}
_POINTS_SECTION = (
    "# Open points\n\nThe request leaves these open. "
    "Choose what fits the task, and say in one line what you chose for:\n\n"
)
_CHOOSE, _SAY = "Choose the ", ", and say in one line what you chose."


class _Masked:
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
        # Quotations first, as they may hold a token; what a protected part says is never read as one.
        outer = MASKS.sub(lambda m: m[0] if int(m[1]) < self._first_verbatim else self._parts[int(m[1])], text)
        return MASKS.sub(lambda m: self._parts[int(m[1])], outer)


@dataclass(frozen=True, slots=True)
class _Stage:
    text: str
    changes: tuple[Change, ...] = ()


class OfflineEngine:
    """Refines without a model. The same draft always gets the same answer, in time linear in its length."""

    name = "offline"

    def model_for(self, requested: str) -> str:
        return "rules"

    def rewrite(self, task: Task, deadline: Deadline) -> Rewrite:
        """Rewrite `task.draft`; an edit that would not keep every protected part is dropped, and that is said."""
        masked = _Masked(task.draft)
        english = is_english(masked.text)
        stages = _stages(task.draft, masked, english)
        stage = next(stage for stage in reversed(stages) if _keeps_all(task.draft, stage.text))
        said = {
            _BY_RULES: True,
            _NO_INSTRUCTIONS: bool(task.instructions and task.instructions.strip()),
            _ENGLISH_ONLY: not english,
            _LEFT_OUT: stage is not stages[-1],
            _NOTHING: stage is stages[0],
        }
        assumptions = [sentence for sentence, applies in said.items() if applies]
        if english:
            missing = missing_points(_without_own_points(masked.text)[0])
            assumptions += [f"{_MISSING[point]} Nothing was assumed; add it if it matters." for point in missing]
        return Rewrite(stage.text, stage.changes, tuple(assumptions), "rules", NO_USAGE)


def _keeps_all(draft: str, refined: str) -> bool:
    if draft == refined:
        return True
    result = compare(draft, refined)
    same = Counter(take_inventory(draft).must_keep()) == Counter(take_inventory(refined).must_keep())
    return result.ok and same and not result.script_changed


def _stages(draft: str, masked: _Masked, english: bool) -> list[_Stage]:
    """The draft after each kind of rule, from the most cautious text (the draft itself) to the most useful one."""
    stages = [_Stage(draft)]

    def reach(text: str, *told: Change, reason: str = "") -> None:
        before, after = stages[-1], masked.restore(text)
        if after.strip() and after != before.text:
            stages.append(_Stage(after, before.changes + (told or (show_change(reason, before.text, after),))))

    text = clean_whitespace(masked.text)
    reach(text, reason="Surplus white space was removed.")
    if not english:
        return stages
    text, points = _without_own_points(text)
    ledger = Ledger()
    lead, rest = split_lead(text)
    lead = polish(lead, ledger, closed=not rest)
    reach(lead + rest + points, *ledger.changes(masked.restore))
    if points or _has_unclosed_fence(draft):
        return stages
    if not rest:
        lead = sort_into_sections(lead)
        reach(lead, reason="The sentences were sorted into sections, each kept whole.")
    reach(lead + rest + _points(text, lead, rest), reason="What the draft leaves open is now said to be open.")
    return stages


def _has_unclosed_fence(draft: str) -> bool:
    return take_inventory(draft).code_blocks != take_inventory(draft + "\n.").code_blocks


def _without_own_points(text: str) -> tuple[str, str]:
    """Cut off what an earlier run asked at the end, so that it is neither asked nor judged again."""
    start = max(text.rfind(_CHOOSE), text.rfind(_POINTS_SECTION))
    if start < 0 or (not text.endswith(_SAY) and not text.startswith(_POINTS_SECTION, start)):
        return text, ""
    start = len(text[:start].rstrip())
    return text[:start], text[start:]


def _points(text: str, lead: str, rest: str) -> str:
    """What to append to an English draft: a sentence to a short one, a section to a longer one, often nothing."""
    raised = points_to_raise(text, rest)
    parts = [sentence for sentence, _ in sentences(lead)]
    asks = any(map(is_question, parts)) and not any(map(starts_with_verb, parts))
    if (
        not raised
        or "# Open points" in text
        or (asks and not rest and (len(parts) < 3 or all(map(is_question, parts))))
    ):
        return ""
    if len(parts) > 2 or rest.count("\n") > 6 or "\n# " in rest:
        return "\n\n" + _POINTS_SECTION + "\n".join(f"- {point}" for point in raised)
    listed = ", ".join(raised[:-1]) + " and " * (len(raised) > 1) + raised[-1]
    fit = " that fit the task" if len(raised) > 1 else " that fits the task"
    return (" " if lead.endswith((".", "!")) and "\n" not in lead else "\n\n") + _CHOOSE + listed + fit + _SAY
