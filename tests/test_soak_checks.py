"""The rules of the soak run: each sees what breaks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from records import Completion, Record, Status, utc_now
from tests.soak.checks import CHECKS, broken_rules
from tests.soak.faults import Model, better
from tests.soak.load import BROKEN, KINDS, TAKEN_ON, UNANSWERED, Attempt, Case
from tests.soak.run import Evidence, Plan
from tests.stores import completion, pending

MARKER = "soak-000000"
KEYED = next(kind for kind in KINDS if kind.keyed and kind.path == "/refine")
Breach = Callable[[Evidence], Evidence]


def well() -> Evidence:
    """One caller whose first call was killed, whose second was answered, and which asked again for the same."""
    case = Case(MARKER, KEYED)
    killed = replace(_record(case, 1, completion(utc_now())), status=Status.ABANDONED, response=None)
    answered = _record(case, 2, completion(utc_now(), response=better(case.prompt)))
    body = {"id": answered.id, "refined_prompt": answered.response}
    case.attempts.extend(
        [
            Attempt(f"{MARKER}.1", BROKEN, {}),
            Attempt(f"{MARKER}.2", "200", body),
            Attempt(f"{MARKER}.3", "200", body, replayed=True),
        ]
    )
    model = Model(1)
    model.asked[MARKER] = model.answered[MARKER] = 2
    return Evidence(
        plan=Plan(requests=1, concurrency=1),
        cases=[case],
        model=model,
        records=[answered, killed],
        kills=1,
        storage_faults={"of them failed": 1},
        waiting={"waiting": 0, "refused": 0, "elsewhere": 0},
        swept=1,
        pending=0,
        log='{"message": "request"}\n',
        seconds=1.0,
    )


def _record(case: Case, number: int, outcome: Completion) -> Record:
    return outcome.applied_to(pending(utc_now(), prompt=case.prompt, request_id=f"{case.marker}.{number}"))


def _with_record(**changes: Any) -> Breach:
    """The answered call's record is another than it should be."""
    return lambda well: replace(well, records=[replace(well.records[0], **changes), well.records[1]])


def _with_attempt(outcome: str, request_id: str = "another", **body: object) -> Breach:
    """The caller asked once more, and was told this."""

    def told(well: Evidence) -> Evidence:
        well.cases[0].attempts.append(Attempt(request_id, outcome, body))
        return well

    return told


def _with_repetition(**changes: Any) -> Breach:
    """The caller's repetition with its key got something else."""

    def repeated(well: Evidence) -> Evidence:
        attempts = well.cases[0].attempts
        attempts[-1] = replace(attempts[-1], **changes)
        return well

    return repeated


def _asked(marker: str, *, asked: int = 0, answered: int = 0) -> Breach:
    """The model was asked, and answered, so much more often."""

    def more(well: Evidence) -> Evidence:
        well.model.asked[marker] += asked
        well.model.answered[marker] += answered
        return well

    return more


def _taken_on(seen: str = "succeeded", response: str | None = None, *, record_id: str = "", **changes: Any) -> Breach:
    """The answered call was a job, whose record is another than it should be, or which was seen so."""

    def job(well: Evidence) -> Evidence:
        record, case = well.records[0], well.cases[0]
        case.attempts.append(Attempt(f"{MARKER}.2", TAKEN_ON, {"id": record_id or record.id}))
        case.seen.append({"status": seen, "refined_prompt": response or record.response})
        return replace(well, records=[replace(record, **changes), well.records[1]])

    return job


def _twice(well: Evidence) -> Evidence:
    """The answered call has two records."""
    return replace(well, records=[replace(well.records[0], id="another"), *well.records])


BREACHES: Mapping[str, Sequence[Breach]] = {
    "acknowledged answers without a completed record": [
        lambda well: replace(well, records=well.records[1:]),
        _with_record(status=Status.PENDING),
        _with_record(response="other"),
        _with_record(prompt=f"{MARKER} other"),
        _with_record(request_id="another"),
    ],
    "jobs taken on and not done": [
        _taken_on(record_id="another"),
        _taken_on("pending", status=Status.PENDING),
        _taken_on("abandoned", status=Status.ABANDONED),
        _taken_on("failed"),
        _taken_on(response="another"),
    ],
    "records pending after the sweep": [lambda well: replace(well, pending=1)],
    "upstream calls without a record": [_asked("soak-000001", asked=1), _asked(MARKER, asked=5)],
    "unhandled 500s, or alarms in the service's log": [
        _with_attempt("500"),
        lambda well: replace(well, log='{"message": "unexpected error"}'),
        lambda well: replace(well, log="Traceback (most recent call last):"),
    ],
    "answers that nobody may get": [
        _with_attempt("429"),
        _with_attempt(UNANSWERED),
        _with_repetition(outcome="201"),
    ],
    "broken connections that no kill explains": [lambda well: replace(well, kills=0)],
    "keys without one answer, the same for all": [
        _with_repetition(body={"id": "another"}),
        _with_repetition(replayed=False),
        _with_repetition(outcome=BROKEN),
    ],
    "calls paid again without a reason": [_asked(MARKER, answered=1), _twice],
    "abandoned records of a caller that was answered": [_with_record(status=Status.ABANDONED)],
    "failures of the model that are not recorded": [
        _with_attempt("502", f"{MARKER}.2", type="/problems/unusable-answer"),
        _with_attempt("504", type="/problems/model-timeout"),
    ],
    "records with another response than the model's": [_with_record(response="other")],
    "records that no request, or one request twice, made": [_with_record(request_id="another"), _twice],
    "completions left in the outbox": [lambda well: replace(well, waiting={"refused": 1})],
}


def test_a_run_without_a_breach_has_none() -> None:
    """A killed call that was asked for again, answered, and repeated breaks no rule."""
    assert {rule: breaches for rule, breaches in broken_rules(well()).items() if breaches} == {}


def test_a_job_that_is_done_breaks_no_rule_of_jobs() -> None:
    """Done, failed and seen so, or given up because the model was silent, it is as it should be."""
    rule = "jobs taken on and not done"
    assert not broken_rules(_taken_on()(well()))[rule]
    assert not broken_rules(_taken_on("failed", status=Status.FAILED)(well()))[rule]
    given_up = _taken_on("abandoned", status=Status.ABANDONED)(well())
    silent = next(seed for seed in range(10_000) if Model(seed).is_silent(MARKER))
    assert not broken_rules(replace(given_up, model=Model(silent)))[rule]


@pytest.mark.parametrize("rule", CHECKS)
def test_a_rule_sees_what_breaks_it(rule: str) -> None:
    """Whatever a rule forbids is found."""
    found = [broken_rules(breach(well()))[rule] for breach in BREACHES[rule]]
    assert found
    assert all(found)
