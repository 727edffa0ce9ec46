"""A refinement taken further: by `parent_id`, with feedback, from any strategy to any other."""

from __future__ import annotations

from itertools import product

import pytest

from refinery.strategies import load_strategies
from tests.harness import Harness

STRATEGIES = load_strategies()
DRAFT = "say hi to {{name}}, see https://a.example"
FIRST = "Greet {{name}} and point to https://a.example."
SECOND = "Greet {{name}} warmly; link https://a.example."


@pytest.mark.parametrize(("strategy", "following"), [*product(STRATEGIES, STRATEGIES)])
def test_feedback_goes_on_from_any_strategy_to_any(harness: Harness, strategy: str, following: str) -> None:
    """The engine gets the strategy asked for, the parent's refined prompt as its draft, and the feedback."""
    harness.engine.outcomes = [FIRST, SECOND]
    token = harness.token()
    parent = harness.refine(token, {"prompt": DRAFT, "strategy": strategy}).get_json()
    child = harness.refine(
        token, {"parent_id": parent["id"], "strategy": following, "instructions": "Warmer."}
    ).get_json()

    first, second = harness.engine.tasks
    assert (first.system, first.draft, first.instructions) == (STRATEGIES[strategy].system, DRAFT, None)
    assert (second.system, second.draft, second.instructions) == (STRATEGIES[following].system, FIRST, "Warmer.")
    assert second.must_keep == ("{{name}}", "https://a.example")
    assert (parent["strategy"], parent["refined_prompt"]) == (strategy, FIRST)
    assert (child["strategy"], child["parent_id"]) == (following, parent["id"])
    assert (child["original_prompt"], child["refined_prompt"]) == (FIRST, SECOND)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_chain_comes_back_to_what_it_began_with(harness: Harness, strategy: str) -> None:
    """A link that lost a placeholder hands on its draft: the next one starts from what a program can still use."""
    harness.engine.outcomes = ["Greet them.", "Greet them.", FIRST]
    token = harness.token()
    parent = harness.refine(token, {"prompt": DRAFT, "strategy": strategy}).get_json()
    child = harness.refine(
        token, {"parent_id": parent["id"], "strategy": strategy, "instructions": "Keep the name."}
    ).get_json()
    assert (parent["refined"], child["refined"]) == (False, True)
    assert (harness.engine.tasks[-1].draft, child["refined_prompt"]) == (DRAFT, FIRST)
