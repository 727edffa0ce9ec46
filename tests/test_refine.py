"""`/refine`, `/refine-prompt` and `GET /refine/<id>`, from the caller's side."""

from __future__ import annotations

from tests.harness import Harness


def test_a_draft_becomes_a_refinement(harness: Harness) -> None:
    """A refinement answers with every field of the contract."""
    harness.engine.outcomes = ["Better: {{name}}"]
    answer = harness.refine(harness.token(), {"prompt": "do {{name}}"})
    assert answer.status_code == 200, answer.text
