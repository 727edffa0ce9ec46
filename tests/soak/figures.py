"""What happened in a soak run, in figures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from records import Record, Status
from tests.soak.faults import MARKER
from tests.soak.run import Evidence

Figures = dict[str, int]


def figures(evidence: Evidence) -> Figures:
    """By name, in the order in which they are shown."""
    attempts = [attempt for case in evidence.cases for attempt in case.attempts]
    outcomes = Counter(attempt.outcome for attempt in attempts)
    lines = list(_lines(evidence.log))
    return {
        "seconds": round(evidence.seconds),
        "requests asked for": len(evidence.cases),
        "HTTP requests, with retries and repetitions": len(attempts),
        **{f"  {outcome}": count for outcome, count in sorted(outcomes.items())},
        "  of them replays of an earlier answer": sum(attempt.replayed for attempt in attempts),
        "workers killed": evidence.kills,
        **evidence.storage_faults,
        **_of_the_model(evidence),
        "completions put into the outbox": _count(lines, "completion put into the outbox"),
        "completions lost, their callers told 503": _count(lines, "completion lost"),
        "records": len(evidence.records),
        **{f"  {status}": sum(record.status is status for record in evidence.records) for status in Status},
        "  of them abandoned by the last sweep": evidence.swept,
        **_of_keys(evidence),
    }


def total(rounds: Sequence[Figures]) -> Figures:
    """The figures of several runs together."""
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: sum(one.get(name, 0) for one in rounds) for name in names}


def faults(evidence: Evidence) -> dict[str, int]:
    """How often each of the three kinds of fault happened: a run without one of them shows nothing."""
    return {
        "workers killed": evidence.kills,
        "faults of the model": sum(evidence.model.faults.values()),
        "faults of the storage": list(evidence.storage_faults.values())[-1],
    }


def _of_the_model(evidence: Evidence) -> Figures:
    model = evidence.model
    return {
        "upstream calls": sum(model.asked.values()),
        "  answered": sum(model.answered.values()),
        **{f"  {fault}": count for fault, count in sorted(model.faults.items())},
    }


def _of_keys(evidence: Evidence) -> Figures:
    keyed = {case.marker for case in evidence.cases if case.kind.keyed and case.kind.reaches_the_model}
    answered = Counter({marker: evidence.model.answered[marker] for marker in keyed})
    extra = sum(max(0, times - 1) for times in answered.values())
    freed = [record for record in evidence.records if _marker(record) in keyed and record.idempotency_key is None]
    return {
        "keys for calls of the model": len(keyed),
        "  answers of the model beyond one a key": extra,
        "  calls that freed their key: abandoned": sum(record.status is Status.ABANDONED for record in freed),
        "  calls that freed their key: 503 or 504": sum(record.status is Status.FAILED for record in freed),
    }


def _marker(record: Record) -> str:
    found = MARKER.search(record.prompt)
    return found[0] if found else ""


def _lines(log: str) -> Iterator[Mapping[str, object]]:
    """The service's own lines, not gunicorn's; a worker that is killed may leave half of one."""
    for line in log.splitlines():
        with suppress(json.JSONDecodeError):
            if line.startswith("{"):
                yield json.loads(line)


def _count(lines: list[Mapping[str, object]], message: str) -> int:
    return sum(line["message"] == message for line in lines)
