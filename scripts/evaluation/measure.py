"""One draft's way through a strategy, and every figure about it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from refinery.deadline import Deadline
from refinery.engines import EngineError, Usage
from refinery.integrity import compare
from refinery.refiner import Refinement, Refiner

from .drafts import Draft
from .judge import Judge, Judgement


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no refinement, in the service's words; `kind` is the error's class."""

    kind: str
    message: str
    upstream_status: int | None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one draft: a refinement or a failure, never both. `number` counts the drafts from 1.

    `judgement` is `None` where nobody was asked: without a model, and where the draft came back as it was.
    """

    number: int
    draft: Draft
    strategy: str
    refinement: Refinement | None
    failure: Failure | None
    judgement: Judgement | None
    usage: Usage
    latency_ms: int

    @property
    def refined(self) -> bool:
        return self.refinement is not None and self.refinement.refined

    @property
    def unchanged(self) -> bool:
        """Whether the engine found nothing to improve."""
        return self.refined and self._text == self.draft.prompt

    @property
    def ratio(self) -> float | None:
        """Characters of the refined prompt for each of the draft; `None` where there is none."""
        return len(self._text) / len(self.draft.prompt) if self.refined else None

    @property
    def broken(self) -> bool:
        """Whether the prompt that was given out as good would break a program: counted anew, on the text itself."""
        return self.refined and not compare(self.draft.prompt, self._text, self.draft.instructions).ok

    @property
    def script_changed(self) -> bool:
        return self.refinement is not None and self.refined and self.refinement.integrity.script_changed

    @property
    def _text(self) -> str:
        return self.refinement.refined_prompt if self.refinement else ""

    def as_dict(self) -> dict[str, Any]:
        """Everything, for a line of NDJSON."""
        return {
            "number": self.number,
            "source": self.draft.source,
            "draft": self.draft.prompt,
            "instructions": self.draft.instructions,
            "strategy": self.strategy,
            "refined": self.refined,
            **_told(self.refinement),
            "unchanged": self.unchanged,
            "broken": self.broken,
            "length_ratio": self.ratio,
            "judgement": asdict(self.judgement) if self.judgement else None,
            "failure": asdict(self.failure) if self.failure else None,
            "usage": asdict(self.usage),
            "latency_ms": self.latency_ms,
        }


def _told(refinement: Refinement | None) -> dict[str, Any]:
    names = ("refined_prompt", "rejected", "changes", "assumptions", "model", "attempts", "integrity")
    if refinement is None:
        return dict.fromkeys(names)
    told = asdict(refinement)
    integrity = {
        "ok": refinement.integrity.ok,
        "lost": refinement.integrity.lost,
        "added": refinement.integrity.placeholders_added,
        "script_changed": refinement.integrity.script_changed,
    }
    return {name: told[name] for name in names} | {"integrity": integrity}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How each draft is refined and judged: by one strategy and model, within `seconds` as in the service."""

    refiner: Refiner
    judge: Judge | None
    strategy: str
    model: str
    seconds: float

    def run(self, number: int, draft: Draft) -> Result:
        """Refine and judge one draft. An engine's failure is a result too."""
        started = time.monotonic()
        refinement, failure = None, None
        try:
            refinement = self.refiner.refine(
                draft.prompt,
                instructions=draft.instructions,
                strategy=self.strategy,
                model=self.model,
                deadline=Deadline.after(self.seconds),
            )
            usage = refinement.usage
        except EngineError as error:
            failure = Failure(type(error).__name__, str(error), error.upstream_status)
            usage = error.usage or Usage(None, None)
        latency_ms = round((time.monotonic() - started) * 1000)
        judgement = self._judge(draft, refinement) if refinement else None
        return Result(number, draft, self.strategy, refinement, failure, judgement, usage, latency_ms)

    def _judge(self, draft: Draft, refinement: Refinement) -> Judgement | None:
        text = refinement.refined_prompt
        # A draft that came back as it was, whatever the reason, is no answer: asking would only cost.
        if self.judge is None or text == draft.prompt:
            return None
        return self.judge.judge(draft.prompt, draft.instructions, text)
