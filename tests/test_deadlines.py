"""One budget of time for a whole request, from whichever door it comes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge import HAND_OVER_SECONDS
from records import Record, Selection
from stores.within import seconds_left, time_is_up, within
from tests.harness import Harness, build


@dataclass
class Invocation:
    """What Lambda hands to a handler, as far as time goes."""

    milliseconds: int

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def refine_on_lambda(harness: Harness, milliseconds: int) -> tuple[int, Record]:
    """The status of a refinement in an invocation that has so much time left, and its record."""
    answer = harness.http.post(
        "/refine",
        json={"prompt": "a draft"},
        headers={"Authorization": f"Bearer {harness.token()}"},
        environ_overrides={"serverless.context": Invocation(milliseconds)},
    )
    return answer.status_code, harness.storage.page(Selection(), 1)[0]


@pytest.mark.parametrize(("milliseconds", "seconds"), [(8000, 8 - HAND_OVER_SECONDS), (60_000, 25)])
def test_on_lambda_the_smaller_time_counts(harness: Harness, milliseconds: int, seconds: float) -> None:
    """A request ends with the invocation, less what handing the answer over takes, or at the setting's deadline."""
    status, record = refine_on_lambda(harness, milliseconds)
    assert status == 200
    assert record.deadline_at is not None
    assert (record.deadline_at - record.timestamp).total_seconds() == seconds
    assert seconds - 5 < harness.engine.deadlines[0].remaining() <= seconds - 2


def test_an_invocation_that_is_nearly_over_asks_no_model(harness: Harness) -> None:
    """With less time left than it takes to complete a record, the model's time is over before it begins."""
    refine_on_lambda(harness, 1500)
    assert harness.engine.deadlines[0].remaining() == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [("/refine", {"prompt": "a draft"}), ("/generate", {"prompt": "a prompt"})],
)
def test_all_that_stores_are_asked_is_bounded(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    """While a request is worked on, no store is waited for beyond its deadline; afterwards that bound is gone."""
    seen = []
    harness = build(tmp_path, REQUEST_DEADLINE_SECONDS="9")
    harness.engine.before_answer = lambda: seen.append(seconds_left(math.inf))
    assert harness.post(path, harness.token(), body).status_code == 200
    assert 0 < seen[0] <= 9
    assert seconds_left(math.inf) == math.inf
    harness.storage.close()


def test_a_step_may_be_granted_time_that_is_not_left() -> None:
    """What must be tried in any case has its least time, whatever those around it have used up; other steps do not."""
    with within(0):
        assert time_is_up()
        with within(0, at_least=3):
            assert 2 < seconds_left(10) <= 3
            with within(1):
                assert seconds_left(10) <= 1
        with within(5):
            assert time_is_up()
