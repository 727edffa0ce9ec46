"""What is made of measurements: medians with their quartiles, and the same of ratios within a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import quantiles
from typing import Any

PEER = "fastapi"


def in_rounds(measured: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Any]:
    """Measure each once in a round, so that whatever else the machine does meets all alike, in turning order."""
    taken: dict[str, list[float]] = {name: [] for name in measured}
    order = list(measured)
    for _ in range(rounds):
        for name in order:
            taken[name].append(measured[name]())
        order.reverse()
    return summaries(taken)


def summaries(taken: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Of each: `median` and `quartiles`, and `ratio` to the peer, which is the median of the rounds', with its own."""
    return {
        name: {**_spread(values), "ratio": _spread([a / b for a, b in zip(values, taken[PEER], strict=True)])}
        for name, values in taken.items()
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    lower, middle, upper = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": middle, "quartiles": [lower, upper]}
