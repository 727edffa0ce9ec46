"""A call to the model with its audit: recorded before it begins, completed after, and replayed to a retry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from problems import CallInProgress, IdempotencyKeyReused, ReplayedFailure, problem_for
from records import OBSERVED, Completion, Kind, Owner, Record, Status, new_id, utc_now
from refinery.engines import EngineError, Usage
from settings import Settings
from storage import Storage, StorageError
from stores.within import within

from .arrival import Arrival
from .ledger import Ledger

# After these the same request may well succeed, so that a retry with its key must reach the model.
_RETRYABLE = {503, 504}


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, when, and with which idempotency key; `key` and `body` are what a retry must repeat."""

    owner: Owner
    arrival: Arrival
    key: str | None
    body: Mapping[str, Any]

    @property
    def body_hash(self) -> str:
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()


def pending_record(
    settings: Settings, asked: Asked, kind: Kind, *, prompt: str, detail: dict[str, Any], model: str, engine: str
) -> Record:
    """The record of a call that is about to begin."""
    received = asked.arrival.received_at
    return Record(
        id=new_id(),
        kind=kind,
        source=OBSERVED,
        status=Status.PENDING,
        user_id=asked.owner.user_id,
        client_id=asked.owner.client_id,
        request_id=asked.arrival.request_id,
        prompt=prompt,
        detail=detail,
        model=model,
        engine=engine,
        timestamp=received,
        expires_at=expiry(settings, received),
        deadline_at=asked.arrival.due_at,
        idempotency_key=asked.key,
        body_hash=asked.body_hash,
    )


def expiry(settings: Settings, received: datetime) -> datetime | None:
    """When a record's retention ends; `None` where records are kept."""
    keep = settings.log_retention_days
    return None if keep is None else received + timedelta(days=keep)


def audited(ledger: Ledger, pending: Record, arrival: Arrival, work: Callable[[], Completion]) -> tuple[Record, bool]:
    """Record the call, do it, complete the record. Returns the completed record, and whether it is a replay.

    Raises: as `opened` and `carried_out`.
    """
    record, replayed = opened(ledger, pending, arrival)
    return (record, True) if replayed else (carried_out(ledger, pending, arrival, work), False)


def opened(ledger: Ledger, pending: Record, arrival: Arrival) -> tuple[Record, bool]:
    """`claimed`, in the time that there is before the model's is over, and not by what still waits in the outbox.

    Raises: as `claimed`.
    """
    with within(ledger.model_deadline(arrival.deadline).remaining()):
        if pending.idempotency_key is not None:
            ledger.catch_up()
        return claimed(ledger.storage, pending)


def carried_out(ledger: Ledger, pending: Record, arrival: Arrival, work: Callable[[], Completion]) -> Record:
    """Do a call that is recorded, and complete its record. Returns the completed record.

    Raises: what `work` raises; `StorageError` when neither the audit log nor the outbox takes the completion.
    """
    began_ms = arrival.elapsed_ms()
    arrival.notes.update(engine=pending.engine, model=pending.model)
    try:
        completion = work()
    except EngineError as error:
        # Only a first attempt fails a call: what becomes of a corrective one is part of the outcome.
        arrival.notes.update(upstream_ms=arrival.elapsed_ms() - began_ms, attempts=1, failed=1)
        ledger.finish(pending, failed(pending, error, arrival), arrival.deadline)
        raise
    arrival.notes.update(failed=0)
    ledger.finish(pending, completion, arrival.deadline)
    return completion.applied_to(pending)


def claimed(storage: Storage, record: Record) -> tuple[Record, bool]:
    """Begin the record, or find the one that its idempotency key got before. Returns it, and whether it is a replay.

    Raises: `IdempotencyKeyReused` for another body, `CallInProgress`, `ReplayedFailure`, `StorageError`.
    """
    held = storage.begin(record)
    if held.id == record.id:
        return held, False
    if held.body_hash != record.body_hash:
        raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
    if record.is_job and held.is_job:
        return held, True
    if held.status is Status.PENDING:
        raise CallInProgress(seconds_until(held.deadline_at))
    if held.error is not None:
        raise ReplayedFailure(held.error)
    return held, True


def failed(pending: Record, error: EngineError | StorageError, arrival: Arrival) -> Completion:
    """What the record of a call says that ended in this error."""
    problem = problem_for(error)
    engine_error = error if isinstance(error, EngineError) else None
    usage = usage_as_dict(engine_error.usage) if engine_error and engine_error.usage else None
    detail = engine_error.audit_detail() if engine_error else {}
    arrival.notes.update(**detail, **(usage or {}))
    return Completion(
        status=Status.FAILED,
        detail={**pending.detail, **detail},
        usage=usage,
        error=problem.as_dict(),
        latency_ms=arrival.elapsed_ms(),
        completed_at=utc_now(),
        frees_key=problem.status in _RETRYABLE,
    )


def usage_as_dict(usage: Usage) -> dict[str, int | None]:
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}


def seconds_until(moment: datetime | None) -> float:
    """Seconds to wait for a moment: at least one."""
    return 1.0 if moment is None else max(1.0, (moment - utc_now()).total_seconds())
