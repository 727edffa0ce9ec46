"""The strategies: files that tell the model what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from refinery.strategies import DEFAULT, load_strategies


def test_the_default_comes_first() -> None:
    """`general` is there, first, with a description and the common instructions."""
    strategies = load_strategies()
    assert next(iter(strategies)) == DEFAULT == "general"
    general = strategies["general"]
    assert general.description
    assert general.system.startswith("You are a prompt editor.")
    assert "# How to improve this draft" in general.system


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
