"""The promise that a refined prompt keeps what a program depends on, or is not given out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refinery.deadline import Deadline
from refinery.engines import Change, EngineError, ModelTimeout, Rewrite, UnusableAnswer, Usage
from refinery.integrity import take_inventory
from refinery.offline import OfflineEngine
from refinery.refiner import Refinement, Refiner
from refinery.strategies import load_strategies
from tests.harness import ScriptedEngine

CORPUS = Path(__file__).parents[2] / "shared/data/prompts.jsonl"
DRAFT = "Tell {{name}} about https://a.example:\n```\ncode\n```"
GOOD = "Please tell {{name}} about https://a.example:\n```\ncode\n```"


def refine(
    engine: ScriptedEngine, draft: str = DRAFT, instructions: str | None = None, seconds: float = 25
) -> Refinement:
    return Refiner(engine, load_strategies()).refine(
        draft, instructions=instructions, strategy="general", model="m", deadline=Deadline.after(seconds)
    )


def rewrite(text: str, cost: int = 5) -> Rewrite:
    return Rewrite(text, (Change("r", "b", "a"),), ("s",), "m", Usage(cost, cost), upstream_ms=7)


def test_a_good_answer_is_taken_at_once() -> None:
    """One attempt, its changes, assumptions, usage and model."""
    engine = ScriptedEngine([rewrite(GOOD)])
    outcome = refine(engine)
    assert (outcome.refined, outcome.refined_prompt, outcome.attempts) == (True, GOOD, 1)
    assert (outcome.changes, outcome.assumptions) == ((Change("r", "b", "a"),), ("s",))
    assert (outcome.usage, outcome.model, outcome.upstream_ms, outcome.rejected) == (Usage(5, 5), "m", 7, None)


def test_the_engine_is_told_what_must_be_kept() -> None:
    """Strategy, instructions and the protected strings reach the engine."""
    engine = ScriptedEngine([GOOD])
    refine(engine, instructions="shorter")
    task = engine.tasks[0]
    assert task.draft == DRAFT
    assert task.instructions == "shorter"
    assert task.must_keep == ("{{name}}", "https://a.example", "```\ncode\n```")
    assert task.system == load_strategies()["general"].system
    assert task.rejection is None


def test_a_loss_is_corrected_once() -> None:
    """The second attempt gets the rejected text with the exact lists; both are paid for."""
    bad = "Tell {{name}} {{extra}} about https://a.example"
    engine = ScriptedEngine([rewrite(bad), rewrite(GOOD)])
    outcome = refine(engine)
    assert (outcome.refined, outcome.refined_prompt, outcome.attempts) == (True, GOOD, 2)
    assert (outcome.usage, outcome.upstream_ms) == (Usage(10, 10), 14)
    rejection = engine.tasks[1].rejection
    assert rejection is not None
    assert (rejection.text, rejection.lost, rejection.added) == (bad, ("```\ncode\n```",), ("{{extra}}",))


def test_a_second_loss_gives_the_draft_back() -> None:
    """A refined prompt that would break a program is never returned; the audit keeps what was rejected."""
    engine = ScriptedEngine([rewrite("first"), rewrite("second")])
    outcome = refine(engine)
    assert (outcome.refined, outcome.refined_prompt) == (False, DRAFT)
    assert (outcome.changes, outcome.assumptions) == ((), ())
    assert (outcome.integrity.ok, outcome.attempts, outcome.rejected) == (False, 2, "second")
    assert outcome.integrity.placeholders_lost == ("{{name}}",)
    assert len(engine.tasks) == 2


@pytest.mark.parametrize("error", [ModelTimeout("late"), UnusableAnswer("html", usage=Usage(1, 2))])
def test_a_failing_corrective_attempt_gives_the_draft_back(error: EngineError) -> None:
    """The first attempt was paid for: its failure to keep is the answer, and the second's reason is kept."""
    engine = ScriptedEngine([rewrite("first"), error])
    outcome = refine(engine)
    assert (outcome.refined, outcome.refined_prompt, outcome.rejected, outcome.attempts) == (False, DRAFT, "first", 2)
    assert outcome.corrective_failure is not None
    assert outcome.corrective_failure["failure"] == type(error).__name__
    assert outcome.usage == (Usage(6, 7) if error.usage else Usage(5, 5))


def test_a_failing_first_attempt_raises() -> None:
    """Without any answer there is nothing to give back."""
    with pytest.raises(ModelTimeout):
        refine(ScriptedEngine([ModelTimeout("late")]))


def test_no_second_attempt_without_the_time_for_it() -> None:
    """A corrective attempt that could not end in time is not begun."""
    now = [0.0]
    engine = ScriptedEngine(["first", GOOD], before_answer=lambda: now.__setitem__(0, now[0] + 15))
    deadline = Deadline(at=25, clock=lambda: now[0])
    outcome = Refiner(engine, load_strategies(), clock=lambda: now[0]).refine(
        DRAFT, instructions=None, strategy="general", model="m", deadline=deadline
    )
    assert (outcome.refined, outcome.attempts, len(engine.tasks)) == (False, 1, 1)


def test_line_endings_of_windows_survive_a_model_that_drops_them() -> None:
    """A draft that ends its lines with CRLF gets its code blocks back with them."""
    draft = DRAFT.replace("\n", "\r\n")
    outcome = refine(ScriptedEngine([GOOD]), draft)
    assert outcome.refined
    assert outcome.refined_prompt == GOOD.replace("\n", "\r\n")


def test_mixed_line_endings_are_not_guessed() -> None:
    """Where the draft mixes line endings, nothing is rewritten behind the model's back."""
    draft = "a\r\nb\n{x}"
    assert refine(ScriptedEngine(["a\nb\n{x}"]), draft).refined_prompt == "a\nb\n{x}"


def test_the_corpus_keeps_its_promise_offline() -> None:
    """Forty real prompts come back from the offline engine with everything that is protected."""
    if not CORPUS.exists():
        pytest.skip(f"the corpus is not here: {CORPUS.name}")
    refiner = Refiner(OfflineEngine(), load_strategies())
    prompts = [json.loads(line)["prompt"] for line in CORPUS.read_text("utf-8").splitlines()]
    assert len(prompts) == 40
    for prompt in prompts:
        outcome = refiner.refine(prompt, instructions=None, strategy="general", model="m", deadline=Deadline.after(25))
        assert outcome.refined
        assert sorted(take_inventory(outcome.refined_prompt).must_keep()) == sorted(take_inventory(prompt).must_keep())
