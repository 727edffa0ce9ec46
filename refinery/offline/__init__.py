"""The engine without a model: rules that tidy a draft, sort it into sections and name what it leaves open.

The rule above all others: when in doubt, leave the text alone.
"""

from __future__ import annotations

from collections import Counter

from refinery.deadline import Deadline
from refinery.engines import NO_USAGE, OFFLINE, Change, Generation, NoModel, Rewrite, Task
from refinery.integrity import compare, take_inventory

from .sections import cut_open_points, missing_points, open_points, sort_into_sections, split_lead
from .text import MASK_END, Masked, clean_whitespace, is_english
from .wording import polish

__all__ = ["OfflineEngine"]

_BY_RULES = "This was done by built-in rules, not by a language model: the strategy made no difference."
_ENGLISH_ONLY = "The draft does not read as English: the rules only know English, so only white space was looked at."
_NO_INSTRUCTIONS = "The instructions were not applied: following them takes a language model."
_LEFT_OUT = "A further edit was dropped: it would have altered a placeholder, a code block, a URL or the script."
_NOTHING = "The rules found nothing to improve: the draft is unchanged."
_MISSING = "{}: not given in the draft. Nothing was assumed; add it if it matters."

_Stage = tuple[str, tuple[Change, ...]]


class OfflineEngine:
    """Refines without a model. The same draft always gets the same answer, in time linear in its length."""

    name = OFFLINE

    def model_for(self, requested: str) -> str:
        return "rules"

    def rewrite(self, task: Task, deadline: Deadline) -> Rewrite:
        """Rewrite `task.draft`; an edit that would not keep every protected part is dropped, and that is said."""
        masked = Masked(task.draft)
        english = is_english(masked.text)
        stages = _stages(task.draft, masked, english)
        text, changes = stage = next(stage for stage in reversed(stages) if _keeps_all(task.draft, stage[0]))
        said = {
            _BY_RULES: True,
            _NO_INSTRUCTIONS: bool(task.instructions and task.instructions.strip()),
            _ENGLISH_ONLY: not english,
            _LEFT_OUT: stage is not stages[-1],
            _NOTHING: not changes,
        }
        assumptions = [sentence for sentence, applies in said.items() if applies]
        if english:
            missing = missing_points(cut_open_points(masked.text)[0])
            assumptions += [_MISSING.format(point.capitalize()) for point in missing]
        return Rewrite(text, changes, tuple(assumptions), "rules", NO_USAGE)

    def generate(self, prompt: str, *, model: str, max_tokens: int, deadline: Deadline) -> Generation:
        """Raises: `NoModel`, always: rules know no answers."""
        raise NoModel("Generating text takes a language model, and none is configured.")


def _keeps_all(draft: str, refined: str) -> bool:
    result = compare(draft, refined)
    same = Counter(take_inventory(draft).must_keep()) == Counter(take_inventory(refined).must_keep())
    return result.ok and same and not result.script_changed


def _stages(draft: str, masked: Masked, english: bool) -> list[_Stage]:
    """The draft after each kind of rule, from the most cautious text (the draft itself) to the most useful one."""
    stages: list[_Stage] = [(draft, ())]

    def reach(text: str, reason: str) -> None:
        (before, changes), after = stages[-1], masked.restore(text)
        if after.strip() and after != before:
            stages.append((after, (*changes, _show_change(reason, before, after))))

    text = clean_whitespace(masked.text)
    reach(text, "Surplus white space was removed.")
    if not english:
        return stages
    text, own_points = cut_open_points(text)
    lead, rest = split_lead(text)
    for polished, reason in polish(lead, closed=not rest):
        lead = polished
        reach(lead + rest + own_points, reason)
    if rest or own_points or lead.rstrip().endswith((":", MASK_END)):
        return stages  # It has a form already, or ends in the input that it is about.
    points = open_points(lead)
    lead = sort_into_sections(lead)
    reach(lead, "The sentences were sorted into sections, each kept whole.")
    reach(lead + points, "What the draft leaves open is now said to be open.")
    return stages


def _show_change(reason: str, before: str, after: str) -> Change:
    """A change with an excerpt of both texts around their first difference, in whole words where they are short."""
    pairs = enumerate(zip(before, after, strict=False))
    same = next((index for index, (old, new) in pairs if old != new), min(len(before), len(after)))
    near = max(0, same - 60)
    start = max(before.rfind("\n", near, same), before.rfind(" ", near, max(near, same - 30)), near - 1) + 1
    return Change(reason, before[start : start + 180], after[start : start + 180])
