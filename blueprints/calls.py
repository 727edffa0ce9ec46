"""A call to the model with its audit: recorded before it begins, completed after, and replayed to a retry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from edge import elapsed_ms, log_call, received_at, request_id
from problems import CallInProgress, IdempotencyKeyReused, ReplayedFailure, problem_for
from records import Completion, Kind, Owner, Record, Status, new_id, utc_now
from refinery.engines import EngineError, Usage
from settings import Settings
from storage import Storage

# After these the same request may well succeed, so that a retry with its key must reach the model.
_RETRYABLE = {503, 504}


def pending_record(
    settings: Settings,
    owner: Owner,
    kind: Kind,
    *,
    prompt: str,
    detail: dict[str, Any],
    model: str,
    engine: str,
    key: str | None,
    body: Mapping[str, Any],
) -> Record:
    """The record of a call that is about to begin; `body` is what a retry with the same key must repeat."""
    received = received_at()
    keep = settings.log_retention_days
    return Record(
        id=new_id(),
        kind=kind,
        source="server",
        status=Status.PENDING,
        user_id=owner.user_id,
        client_id=owner.client_id,
        request_id=request_id(),
        prompt=prompt,
        detail=detail,
        model=model,
        engine=engine,
        timestamp=received,
        expires_at=None if keep is None else received + timedelta(days=keep),
        deadline_at=received + timedelta(seconds=settings.request_deadline_seconds),
        idempotency_key=key,
        body_hash=hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest(),
    )


def audited(storage: Storage, pending: Record, work: Callable[[], Completion]) -> tuple[Record, bool]:
    """Record the call, do it, complete the record. Returns the completed record, and whether it is a replay.

    Raises: what `work` raises; `StorageError` when the audit log takes no record; `IdempotencyKeyReused`,
    `CallInProgress` or `ReplayedFailure` where the idempotency key belongs to another record.
    """
    record = storage.begin(pending)
    if record.id != pending.id:
        return _replay(record, pending), True
    began_ms = elapsed_ms()
    try:
        completion = work()
    except EngineError as error:
        storage.finish(pending.id, _failure(pending, error, elapsed_ms() - began_ms))
        raise
    storage.finish(pending.id, completion)
    return completion.applied_to(pending), False


def _replay(held: Record, pending: Record) -> Record:
    if held.body_hash != pending.body_hash:
        raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
    if held.status is Status.PENDING:
        raise CallInProgress(seconds_until(held.deadline_at))
    if held.error is not None:
        raise ReplayedFailure(held.error)
    return held


def _failure(pending: Record, error: EngineError, upstream_ms: int) -> Completion:
    problem = problem_for(error)
    usage = usage_as_dict(error.usage) if error.usage else None
    # Only a first attempt fails a call: what becomes of a corrective one is part of the outcome.
    log_call(engine=pending.engine, attempts=1, upstream_ms=upstream_ms, **error.audit_detail(), **(usage or {}))
    return Completion(
        status=Status.FAILED,
        detail={**pending.detail, **error.audit_detail()},
        usage=usage,
        error=problem.as_dict(),
        latency_ms=elapsed_ms(),
        completed_at=utc_now(),
        frees_key=problem.status in _RETRYABLE,
    )


def usage_as_dict(usage: Usage) -> dict[str, int | None]:
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}


def seconds_until(moment: datetime | None) -> float:
    return 1.0 if moment is None else max(1.0, (moment - utc_now()).total_seconds())
