"""Metrics: lines of the log that CloudWatch counts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import ValidationError

from app import create_app
from logs import JsonFormatter
from metrics import NAMESPACE, UNITS, declaration
from records import Record, Selection
from refinery.engines import ModelRefused, Rewrite, Usage
from storage import Storage
from tests import emf
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.stores import Backend, pending
from tests.test_outbox import DOWN, Faulty

FUNCTION = "klamala-dev-api"


class Lines(logging.Handler):
    """Keeps what the service's log says, as it is printed on AWS Lambda or elsewhere."""

    def __init__(self, function_name: str | None) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter(function_name))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def metrics(self) -> list[dict[str, float]]:
        """Those of each line that has some, by name."""
        found = emf.metrics_of(self.lines)
        assert {function for line in found for function, _ in line} <= {FUNCTION}
        return [{name: value for (_, name), value in line.items()} for line in found]


@contextmanager
def printed(function_name: str | None = FUNCTION) -> Iterator[Lines]:
    lines, logger = Lines(function_name), logging.getLogger("klamala")
    logger.addHandler(lines)
    try:
        yield lines
    finally:
        logger.removeHandler(lines)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Faulty]:
    with closing(Faulty(tmp_path / "store.sqlite3")) as opened:
        yield opened


def serving(tmp_path: Path, store: Storage, *outcomes: Any) -> Harness:
    settings, engine = settings_in(tmp_path, OPENAI_API_KEY="sk-x"), ScriptedEngine(list(outcomes))
    return Harness(create_app(settings, storage=store, engine=engine), settings, store, engine)


def test_a_call_to_the_model_is_counted(tmp_path: Path, store: Faulty) -> None:
    """A refinement's line says how long the model took, its tokens, that it did not fail, and that it was refined."""
    service = serving(tmp_path, store, Rewrite("better", (), (), "gpt-4.1", Usage(11, 22), upstream_ms=33))
    token = service.token()
    with printed() as log:
        assert service.refine(token, {"prompt": "p"}).status_code == 200
    counted = {"upstream_ms": 33, "input_tokens": 11, "output_tokens": 22, "failed": 0, "unrefined": 0}
    assert log.metrics() == [counted]


def test_a_failed_call_is_counted(tmp_path: Path, store: Faulty) -> None:
    """A call that the model refused is one that failed, and says nothing of what it did not get to."""
    service = serving(tmp_path, store, ModelRefused("The model refused to answer."))
    token = service.token()
    with printed() as log:
        assert service.refine(token, {"prompt": "p"}).status_code == 502
    (metrics,) = log.metrics()
    assert metrics.keys() == {"upstream_ms", "failed"}
    assert metrics["failed"] == 1


def test_a_broken_promise_is_counted(tmp_path: Path, store: Faulty) -> None:
    """When no attempt keeps a placeholder, the draft that comes back is one that was not refined."""
    service = serving(tmp_path, store, "lost it", "lost it again")
    token = service.token()
    with printed() as log:
        assert service.refine(token, {"prompt": "greet {{name}}"}).get_json()["refined"] is False
    (metrics,) = log.metrics()
    assert (metrics["failed"], metrics["unrefined"]) == (0, 1)


def test_a_replay_is_no_call(tmp_path: Path, store: Faulty) -> None:
    """What is answered from an earlier record, or without the model, counts as nothing."""
    service = serving(tmp_path, store, "better")
    token = service.token()
    service.refine(token, {"prompt": "p"}, Idempotency_Key="k")
    with printed() as log:
        assert service.refine(token, {"prompt": "p"}, Idempotency_Key="k").status_code == 200
        assert service.http.get("/health").status_code == 200
        assert service.refine(token, {}).status_code == 422
    assert len(log.lines) == 3
    assert log.metrics() == []


def test_the_outbox_is_counted(tmp_path: Path, store: Faulty) -> None:
    """A completion that the storage did not take is one more in the outbox."""
    service = serving(tmp_path, store, "better")
    service.app.extensions["courier"].stop()
    token = service.token()
    store.failure = DOWN
    with printed() as log:
        assert service.refine(token, {"prompt": "p"}).status_code == 200
    assert {"outbox_puts": 1} in log.metrics()


def test_what_is_lost_is_counted(tmp_path: Path, store: Faulty) -> None:
    """A completion that the outbox did not take either is one that is lost."""
    service = serving(tmp_path, store, "better")
    service.app.extensions["courier"].stop()
    token = service.token()
    store.failure = DOWN
    (tmp_path / "outbox.sqlite3").mkdir()
    with printed() as log:
        assert service.refine(token, {"prompt": "p"}).status_code == 503
    assert {"completions_lost": 1} in log.metrics()


def test_who_meets_an_abandoned_record_counts_it(backend: Backend) -> None:
    """On every store what is closed on reading, in a page or by a retry is counted once, whoever else looks."""
    with closing(backend.open()) as store:
        meetings: dict[str, Callable[[Record], object]] = {
            "read": lambda record: store.read(record.id, record.owner),
            "page": lambda record: store.page(Selection(), 10),
            "retry": lambda record: store.begin(pending(backend.clock(), idempotency_key="k")),
        }
        for name, meet in meetings.items():
            record = store.begin(pending(backend.clock() - timedelta(hours=1), idempotency_key="k"))
            with printed() as log:
                meet(record)
                store.read(record.id, record.owner)
                store.sweep()
            assert log.metrics() == [{"abandoned": 1}], name
            store.erase(record.owner)


def test_elsewhere_nothing_is_declared(tmp_path: Path, store: Faulty) -> None:
    """Off AWS Lambda a line has the same fields, and no word of CloudWatch."""
    service = serving(tmp_path, store, "better")
    token = service.token()
    with printed(None) as log:
        service.refine(token, {"prompt": "p"})
    (line,) = map(json.loads, log.lines)
    assert (line["failed"], line["unrefined"], line["model"]) == (0, 0, "gpt-4.1")
    assert not {"_aws", "FunctionName"} & line.keys()


def test_a_metric_has_one_dimension() -> None:
    """Which function it was, and nothing else: each value of another would be a metric that is paid for."""
    everything = dict.fromkeys(UNITS, 1)
    line: dict[str, Any] = {"user": "ann", **everything, **declaration(FUNCTION, everything, 1_764_000_000_000)}
    assert emf.metrics_in(json.dumps(line)) == {(FUNCTION, name): 1 for name in UNITS}
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == (NAMESPACE, [["FunctionName"]])


WRONG: dict[str, dict[str, Any]] = {
    "no such field": {"expired": None},
    "a boolean": {"expired": True},
    "a text": {"expired": "1"},
    "no function": {"FunctionName": None},
    "another member": {"_aws": {"Timestamp": 1_764_000_000_000, "CloudWatchMetrics": [], "More": 1}},
    "a moment in seconds": {"_aws": {"Timestamp": 1_764_000_000, "CloudWatchMetrics": []}},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_cloudwatch_would_not_take_is_seen(change: dict[str, Any]) -> None:
    """The check by which these tests judge a line finds what the specification forbids."""
    line = {"expired": 1, **declaration(FUNCTION, {"expired": 1}, 1_764_000_000_000)}
    assert emf.metrics_in(json.dumps(line))
    with pytest.raises((ValidationError, AssertionError)):
        emf.metrics_in(json.dumps(line | change))
