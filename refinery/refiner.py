"""From a draft to a refinement that keeps its promise, or back to the draft itself."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .deadline import Deadline
from .engines import Change, Engine, EngineError, Rejection, Rewrite, Task, Usage
from .integrity import Integrity, compare, take_inventory
from .strategies import Strategy


@dataclass(frozen=True, slots=True)
class Refinement:
    """The outcome. `refined` is false when no attempt kept what must survive: then `refined_prompt` is the draft.

    `integrity` describes the last text that the engine returned; `rejected` is that text where it was not accepted,
    and `corrective_failure` says why a second one never came.
    """

    refined: bool
    refined_prompt: str
    changes: tuple[Change, ...]
    assumptions: tuple[str, ...]
    integrity: Integrity
    attempts: int
    model: str
    usage: Usage
    upstream_ms: int
    rejected: str | None = None
    corrective_failure: dict[str, Any] | None = None


class Refiner:
    """Asks an engine, checks what came back, and asks once more with the exact list of what went wrong."""

    def __init__(
        self, engine: Engine, strategies: Mapping[str, Strategy], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.engine = engine
        self.strategies = strategies
        self._clock = clock

    def refine(
        self, draft: str, *, instructions: str | None, strategy: str, model: str, deadline: Deadline
    ) -> Refinement:
        """Refine `draft` by `deadline`.

        Raises: `EngineError` when the first attempt brings nothing. A corrective attempt that fails does not raise:
        the first one was paid for, and its answer is in the outcome.
        """
        task = Task(draft, instructions, self.strategies[strategy].system, take_inventory(draft).must_keep(), model)
        started = self._clock()
        first = self._attempt(task, deadline)
        took = self._clock() - started
        report = compare(draft, first.refined_prompt, instructions)
        # Another attempt takes about as long as this one did; one that cannot end in time would only cost.
        if report.ok or deadline.remaining() < took:
            return _outcome(draft, first, report, attempts=1)
        return self._correct(task, first, report, deadline)

    def _correct(self, task: Task, first: Rewrite, report: Integrity, deadline: Deadline) -> Refinement:
        rejection = Rejection(first.refined_prompt, report.lost, report.placeholders_added)
        try:
            second = self._attempt(replace(task, rejection=rejection), deadline)
        except EngineError as error:
            usage = first.usage + error.usage if error.usage else first.usage
            outcome = _outcome(task.draft, first, report, attempts=2)
            return replace(outcome, usage=usage, corrective_failure=error.audit_detail())
        report = compare(task.draft, second.refined_prompt, task.instructions)
        return replace(
            _outcome(task.draft, second, report, attempts=2),
            usage=first.usage + second.usage,
            upstream_ms=first.upstream_ms + second.upstream_ms,
        )

    def _attempt(self, task: Task, deadline: Deadline) -> Rewrite:
        rewrite = self.engine.rewrite(task, deadline)
        return replace(rewrite, refined_prompt=_with_line_endings_of(task.draft, rewrite.refined_prompt))


def _outcome(draft: str, rewrite: Rewrite, report: Integrity, attempts: int) -> Refinement:
    return Refinement(
        refined=report.ok,
        refined_prompt=rewrite.refined_prompt if report.ok else draft,
        changes=rewrite.changes if report.ok else (),
        assumptions=rewrite.assumptions if report.ok else (),
        integrity=report,
        attempts=attempts,
        model=rewrite.model,
        usage=rewrite.usage,
        upstream_ms=rewrite.upstream_ms,
        rejected=None if report.ok else rewrite.refined_prompt,
    )


def _with_line_endings_of(draft: str, text: str) -> str:
    """Models answer with `\\n` whatever they were given; a draft from Windows would lose every code block to that."""
    if "\r\n" in draft and not re.search(r"(?<!\r)\n", draft):
        return re.sub(r"\r?\n", "\r\n", text)
    return text
