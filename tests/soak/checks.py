"""What a soak run must not leave behind: for each rule, what breaks it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from records import FINISHED_STATES, Record, Status
from tests.soak.faults import MARKER
from tests.soak.load import ACKNOWLEDGED, BROKEN, INDETERMINATE, TAKEN_ON, Attempt, Case, expected_of
from tests.soak.run import Evidence

# A call's first attempt at the model, and two retries.
ATTEMPTS_A_CALL: Final = 3
# What a caller may be told, beside what it asked for.
EXPECTED: Final = ACKNOWLEDGED | {TAKEN_ON, "409", "502", "503", "504", BROKEN}
# What a service that knows what it is doing never prints.
ALARMS: Final = ("unexpected error", "Traceback", "WORKER TIMEOUT", "Exception in worker")


class Findings:
    """The evidence, with its records by id, by request and by what they are about."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.by_id = {record.id: record for record in evidence.records}
        self.by_request = {record.request_id: record for record in evidence.records}
        self.by_marker: dict[str, list[Record]] = defaultdict(list)
        for record in evidence.records:
            self.by_marker[_marker(record)].append(record)

    def attempts(self) -> Iterator[tuple[Case, Attempt]]:
        for case in self.evidence.cases:
            for attempt in case.attempts:
                yield case, attempt


def _marker(record: Record) -> str:
    found = MARKER.search(record.prompt)
    return found[0] if found else ""


def _lost(found: Findings) -> Iterator[str]:
    for case, attempt in found.attempts():
        if not attempt.acknowledged:
            continue
        record = found.by_id.get(attempt.body["id"])
        if (
            record is None
            or record.status is not Status.SUCCEEDED
            or record.prompt != case.prompt
            or record.response != case.kind.response(case, attempt.body)
            or not (attempt.replayed or record.request_id == attempt.request_id)
        ):
            yield f"{attempt.request_id} got {attempt.body['id']}, which is {_state(record)}"


def _jobs_lost(found: Findings) -> Iterator[str]:
    """What was taken on is done, and seen as it is recorded; only a silent model may keep it from that."""
    for case, attempt in found.attempts():
        if attempt.outcome != TAKEN_ON:
            continue
        record = found.by_id.get(attempt.body["id"])
        seen = case.seen[-1] if case.seen else {}
        ended = record is not None and (
            record.status in FINISHED_STATES
            or (record.status is Status.ABANDONED and found.evidence.model.is_silent(case.marker))
        )
        if (
            not ended
            or record is None
            or (seen.get("status"), seen.get("refined_prompt"))
            != (
                record.status,
                record.response,
            )
        ):
            yield f"{attempt.request_id} took on {attempt.body['id']}, seen {seen.get('status')}, is {_state(record)}"


def _failures_not_recorded(found: Findings) -> Iterator[str]:
    """502 and 504 are the model's: what a caller was told of it stands in the record too."""
    for _, attempt in found.attempts():
        if attempt.outcome not in ("502", "504") or attempt.replayed:
            continue
        record = found.by_request.get(attempt.request_id)
        if record is None or record.error is None or record.error["type"] != attempt.body["type"]:
            yield f"{attempt.request_id} got {attempt.outcome}, and its record is {_state(record)}"


def _pending(found: Findings) -> Iterator[str]:
    for number in range(found.evidence.pending):
        yield f"record {number + 1}"


def _wrong(found: Findings) -> Iterator[str]:
    expected = {case.marker: expected_of(case) for case in found.evidence.cases}
    for record in found.evidence.records:
        if record.status is Status.SUCCEEDED and record.response != expected.get(_marker(record)):
            yield f"{record.id} of {record.request_id}"


def _unrecorded(found: Findings) -> Iterator[str]:
    """A call makes three attempts at the most, so that so many of them explain one record, and no more."""
    for marker, times in found.evidence.model.asked.items():
        if times > ATTEMPTS_A_CALL * _tries(found.by_marker[marker]):
            yield f"{marker}: {times} upstream calls, {len(found.by_marker[marker])} records"


def _crashes(found: Findings) -> Iterator[str]:
    for _, attempt in found.attempts():
        if attempt.outcome == "500":
            yield attempt.request_id
    for line in found.evidence.log.splitlines():
        if any(alarm in line for alarm in ALARMS):
            yield line


def _unexpected(found: Findings) -> Iterator[str]:
    for case, attempt in found.attempts():
        good = attempt.acknowledged or attempt.outcome == TAKEN_ON
        if attempt.outcome not in EXPECTED or (good and attempt.outcome != case.kind.success):
            yield f"{attempt.request_id}: {attempt.outcome}"


def _several_answers(found: Findings) -> Iterator[str]:
    """Whoever asks with one key gets one answer, byte for byte but for the request's own id."""
    for case in found.evidence.cases:
        if case.kind.keyed:
            kept = [attempt for attempt in case.attempts if attempt.outcome not in INDETERMINATE]
            answers = {(attempt.outcome, _without_request_id(attempt)) for attempt in kept}
            firsts = sum(not attempt.replayed for attempt in kept)
            if len(answers) != 1 or len(kept) != 2 or firsts > 1:
                yield f"{case.marker}: {[(attempt.outcome, attempt.replayed) for attempt in case.attempts]}"


def _without_request_id(attempt: Attempt) -> str:
    return json.dumps({name: value for name, value in attempt.body.items() if name != "request_id"}, sort_keys=True)


def _paid_again(found: Findings) -> Iterator[str]:
    """A record is paid for once, a job's once for each worker that leased it, and a key has one that succeeded.

    So each answer beyond the first belongs to an earlier call that was abandoned, or ended in 503 or 504.
    """
    for case in found.evidence.cases:
        records = found.by_marker[case.marker]
        succeeded = sum(record.status is Status.SUCCEEDED for record in records)
        if found.evidence.model.answered[case.marker] > _tries(records) or succeeded > 1:
            paid = found.evidence.model.answered[case.marker]
            yield f"{case.marker}: answered {paid} times, records {[_state(record) for record in records]}"


def _abandoned_unasked(found: Findings) -> Iterator[str]:
    """Only a call whose caller got no answer, or 503, may be abandoned."""
    outcomes = {attempt.request_id: attempt.outcome for _, attempt in found.attempts()}
    for record in found.evidence.records:
        outcome = outcomes.get(record.request_id)
        if record.status is Status.ABANDONED and outcome not in (BROKEN, "503", TAKEN_ON):
            yield f"{record.id} of {record.request_id}: {outcome}"


def _of_no_request(found: Findings) -> Iterator[str]:
    sent = {attempt.request_id for _, attempt in found.attempts()}
    counts = Counter(record.request_id for record in found.evidence.records)
    for request_id, count in counts.items():
        if request_id not in sent or count > 1:
            yield f"{request_id}: {count} records"


def _broken_unkilled(found: Findings) -> Iterator[str]:
    """A kill breaks the connections of one worker, and no caller has more than one."""
    broken = Counter(attempt.outcome for _, attempt in found.attempts())[BROKEN]
    callers = found.evidence.plan.concurrency
    if broken > found.evidence.kills * callers:
        yield f"{broken} connections, {found.evidence.kills} kills, {callers} callers"


def _waiting(found: Findings) -> Iterator[str]:
    for name, count in found.evidence.waiting.items():
        for _ in range(count):
            yield name


def _tries(records: Sequence[Record]) -> int:
    return sum(max(1, record.attempt) for record in records)


def _state(record: Record | None) -> str:
    return "not there" if record is None else str(record.status)


CHECKS: Final[Mapping[str, Callable[[Findings], Iterator[str]]]] = {
    "acknowledged answers without a completed record": _lost,
    "jobs taken on and not done": _jobs_lost,
    "records pending after the sweep": _pending,
    "upstream calls without a record": _unrecorded,
    "unhandled 500s, or alarms in the service's log": _crashes,
    "answers that nobody may get": _unexpected,
    "broken connections that no kill explains": _broken_unkilled,
    "keys without one answer, the same for all": _several_answers,
    "calls paid again without a reason": _paid_again,
    "abandoned records of a caller that was answered": _abandoned_unasked,
    "failures of the model that are not recorded": _failures_not_recorded,
    "records with another response than the model's": _wrong,
    "records that no request, or one request twice, made": _of_no_request,
    "completions left in the outbox": _waiting,
}


def broken_rules(evidence: Evidence) -> dict[str, list[str]]:
    """For each rule what breaks it: nothing, when all is well."""
    found = Findings(evidence)
    return {rule: list(check(found)) for rule, check in CHECKS.items()}
