"""A model's opinion on what a refinement is: a prompt, or an answer or a refusal in its place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from refinery.deadline import Deadline
from refinery.engines import Engine, EngineError, Usage

Verdict = Literal["refinement", "answer", "refusal", "other"]

_INSTRUCTIONS = Path(__file__).with_name("judge.md")
# The answer is two lines, but a reasoning model's thoughts count too.
_MAX_TOKENS = 2_000
# White space is stripped later: looked for on both sides of the text in here, it would cost its length to the third.
_CODE_FENCE = re.compile(r"\A```(?:json)?(.*)```\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge found: `unjudged` where it gave no usable answer, and then `reason` says why.

    `language_kept` is `None` where the judge did not say.
    """

    verdict: Verdict | Literal["unjudged"]
    language_kept: bool | None
    reason: str
    usage: Usage


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True)
    verdict: Verdict
    language_kept: bool | None = None
    reason: str


class Judge:
    """Asks `model` on `engine`, for at most `seconds` a judgement."""

    def __init__(self, engine: Engine, model: str, seconds: float) -> None:
        self._engine = engine
        self.model = model
        self._seconds = seconds
        self._instructions = _INSTRUCTIONS.read_text("utf-8")

    def judge(self, draft: str, instructions: str | None, candidate: str) -> Judgement:
        """What `candidate` is, as a refinement of `draft`."""
        material = {"draft": draft, "instructions": instructions, "candidate": candidate}
        prompt = f"{self._instructions}\n{json.dumps(material, ensure_ascii=False)}\n"
        try:
            answer = self._engine.generate(
                prompt, model=self.model, max_tokens=_MAX_TOKENS, deadline=Deadline.after(self._seconds)
            )
        except EngineError as error:
            return _unjudged(f"{type(error).__name__}: {error}", error.usage or Usage(None, None))
        return _parse(answer.text, answer.usage)


def _parse(text: str, usage: Usage) -> Judgement:
    """Only an answer that is a judgement as a whole counts: one quoted inside other words may be the candidate's."""
    fenced = _CODE_FENCE.match(text.strip())
    try:
        answer = _Answer.model_validate_json(fenced[1].strip() if fenced else text)
    except ValidationError:
        return _unjudged("The judge's answer is not a judgement of the agreed shape.", usage)
    return Judgement(answer.verdict, answer.language_kept, answer.reason, usage)


def _unjudged(reason: str, usage: Usage) -> Judgement:
    return Judgement("unjudged", None, reason, usage)
