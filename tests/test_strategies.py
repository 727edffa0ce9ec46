"""The strategies: files that tell the model what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refinery.chat import Answer, ChangeAnswer
from refinery.strategies import DEFAULT, Strategy, load_strategies

COMMON = (Path(__file__).parents[1] / "refinery/instructions.md").read_text("utf-8").strip()
# A strategy is paid for with every call, and a model follows a page better than a handbook.
OWN_CHARACTERS = range(1_000, 4_500)
STRATEGIES = load_strategies()
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


def test_the_default_comes_first() -> None:
    """`general` is there, first, with a description and the common instructions."""
    strategies = load_strategies()
    assert next(iter(strategies)) == DEFAULT == "general"
    general = strategies["general"]
    assert general.description
    assert general.system.startswith("You are a prompt editor.")
    assert "# How to improve this draft" in general.system


def test_the_strategies_that_there_are() -> None:
    """Four ways to improve a draft, told apart by their descriptions."""
    assert list(STRATEGIES) == ["general", "agent", "concise", "structured"]
    assert len({strategy.description for strategy in STRATEGIES.values()}) == 4


@each_strategy
def test_the_description_is_a_line_for_a_list(strategy: Strategy) -> None:
    """What the API shows is a phrase without a period that fits a line."""
    assert strategy.description[0].isupper()
    assert not strategy.description.endswith(".")
    assert len(strategy.description) <= 100


@each_strategy
def test_a_strategy_adds_its_own_part_to_the_common_one(strategy: Strategy) -> None:
    """The common part comes first, the strategy's own under a heading of its own, at a length worth its price."""
    common, own = strategy.system[: len(COMMON)], strategy.system[len(COMMON) :].strip()
    assert common == COMMON
    assert own.startswith("# How to ")
    assert len(own) in OWN_CHARACTERS
    assert not any(line in COMMON.splitlines() for line in own.splitlines() if line)


@each_strategy
def test_a_strategy_speaks_of_nothing_that_is_not_there(strategy: Strategy) -> None:
    """What it calls by a field's name is a field of the question or of the answer."""
    own = strategy.system[len(COMMON) :]
    asked = {"draft", "instructions", "must_keep", "rejected", "lost", "added"}
    assert set(re.findall(r"`([^`\n]+)`", own)) <= asked | set(Answer.model_fields) | set(ChangeAnswer.model_fields)


def test_adding_a_strategy_is_adding_a_file(tmp_path: Path) -> None:
    """A Markdown file in the folder is a strategy by its name."""
    (tmp_path / "pirate.md").write_text("# Talks like a pirate\n\nArr.\n", "utf-8")
    (tmp_path / "general.md").write_text("# General\n\nImprove.\n", "utf-8")
    strategies = load_strategies(tmp_path)
    assert list(strategies) == ["general", "pirate"]
    assert strategies["pirate"].description == "Talks like a pirate"
    assert strategies["pirate"].system.endswith("Arr.\n")


@pytest.mark.parametrize("text", ["", "# Only a description\n", "No description\n\nText.", "# \n\nText."])
def test_a_file_without_its_parts_stops_the_start(tmp_path: Path, text: str) -> None:
    """A strategy needs a description and instructions."""
    (tmp_path / "bad.md").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"bad\.md"):
        load_strategies(tmp_path)
