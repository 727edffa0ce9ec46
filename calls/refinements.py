"""Refinements: a draft, or an earlier refinement and what to change in it, becomes an audited refinement."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from problems import InvalidFields, NotFound
from records import Completion, Kind, Owner, Record, Status, utc_now
from refinery.integrity import Integrity
from refinery.refiner import Refinement, Refiner
from refinery.strategies import DEFAULT
from schemas import refine as schema
from schemas.base import is_record_id
from settings import Settings

from .arrival import Arrival
from .audit import Asked, audited, pending_record, usage_as_dict
from .ledger import Ledger
from .limits import Call, Limits, tokens_in

# Tokens of a call beside the draft: the strategy's instructions, the form of the answer, and what explains it.
_FRAME_TOKENS = 1000
# A refined prompt is longer than its draft.
_GROWTH = 1.5


class Refinements:
    """Makes refinements and finds them again."""

    def __init__(self, settings: Settings, ledger: Ledger, refiner: Refiner, limits: Limits) -> None:
        self._settings = settings
        self._ledger = ledger
        self._refiner = refiner
        self._limits = limits
        self.request_model = schema.refine_request(
            settings.max_prompt_chars, settings.openai_models, refiner.strategies
        )

    def create(
        self, body: schema.RefineRequest, owner: Owner, arrival: Arrival, key: str | None
    ) -> tuple[Record, bool]:
        """Refine. Returns the completed record, and whether it is an earlier one with the same idempotency key.

        Raises: `InvalidFields`, `BudgetExhausted`, `EngineError`, and as `audited`.
        """
        pending = self.pending(body, owner, arrival, key)
        return self.within_budget(
            pending,
            arrival,
            lambda: audited(self._ledger, pending, arrival, lambda: self.refine(pending, arrival)),
        )

    def pending(self, body: schema.RefineRequest, owner: Owner, arrival: Arrival, key: str | None) -> Record:
        """The record of a refinement that is about to begin. Raises: `InvalidFields`; `StorageError`."""
        engine = self._refiner.engine
        return pending_record(
            self._settings,
            Asked(owner, arrival, key, body.model_dump(exclude_none=True)),
            Kind.REFINE,
            prompt=self._draft(body, owner),
            detail={
                "strategy": body.strategy or DEFAULT,
                "instructions": body.instructions,
                "parent_id": body.parent_id,
            },
            model=engine.model_for(body.model or self._settings.openai_model),
            engine=engine.name,
        )

    def within_budget(self, pending: Record, arrival: Arrival, call: Call) -> tuple[Record, bool]:
        """`Limits.within_budget`, for the tokens of a refinement."""
        return self._limits.within_budget(pending, _estimate(pending), arrival, call)

    def settled(self, job: Record, arrival: Arrival, work: Callable[[], Record]) -> None:
        """`Limits.settled`, for the tokens of a refinement."""
        self._limits.settled(job, _estimate(job), arrival, lambda: (work(), False))

    def find(self, record_id: str, owner: Owner) -> Record:
        """One of the owner's refinements. Raises: `NotFound`."""
        record = self._find(record_id, owner)
        if record is None:
            raise NotFound("There is no such refinement of yours.")
        return record

    def _draft(self, body: schema.RefineRequest, owner: Owner) -> str:
        if body.parent_id is None:
            if body.prompt is None:
                raise InvalidFields(("prompt", "is required, unless parent_id is given"))
            return body.prompt
        if body.prompt is not None:
            raise InvalidFields(("prompt", "must be left out when parent_id is given"))
        parent = self._find(body.parent_id, owner)
        if parent is None or parent.status is not Status.SUCCEEDED or parent.response is None:
            raise InvalidFields(("parent_id", "is not the id of a succeeded refinement of yours"))
        return parent.response

    def _find(self, record_id: str, owner: Owner) -> Record | None:
        record = self._ledger.storage.read(record_id, owner) if is_record_id(record_id) else None
        return record if record is not None and record.kind is Kind.REFINE else None

    def refine(self, pending: Record, arrival: Arrival) -> Completion:
        """Ask the engine for what the record says. Raises: `EngineError`."""
        refinement = self._refiner.refine(
            pending.prompt,
            instructions=pending.detail["instructions"],
            strategy=pending.detail["strategy"],
            model=pending.model or self._settings.openai_model,
            deadline=self._ledger.model_deadline(arrival.deadline),
        )
        usage = usage_as_dict(refinement.usage)
        arrival.notes.update(
            attempts=refinement.attempts,
            upstream_ms=refinement.upstream_ms,
            unrefined=int(not refinement.refined),
            **usage,
        )
        return Completion(
            status=Status.SUCCEEDED,
            response=refinement.refined_prompt,
            detail={**pending.detail, **_outcome(refinement)},
            usage=usage,
            latency_ms=arrival.elapsed_ms(),
            completed_at=utc_now(),
        )


def _estimate(pending: Record) -> int:
    draft = math.ceil((1 + _GROWTH) * tokens_in(pending.prompt))
    return _FRAME_TOKENS + tokens_in(pending.detail["instructions"]) + draft


def _outcome(refinement: Refinement) -> dict[str, Any]:
    return {
        "refined": refinement.refined,
        "changes": [
            {"reason": change.reason, "before": change.before, "after": change.after} for change in refinement.changes
        ],
        "assumptions": list(refinement.assumptions),
        "integrity": integrity_report(refinement.integrity, refinement.attempts),
        "rejected": refinement.rejected,
        "corrective_failure": refinement.corrective_failure,
    }


def integrity_report(integrity: Integrity, attempts: int) -> dict[str, Any]:
    """The `integrity` object of an answer and a record."""
    return {
        "ok": integrity.ok,
        "attempts": attempts,
        "placeholders": {
            "kept": list(integrity.placeholders_kept),
            "lost": list(integrity.placeholders_lost),
            "added": list(integrity.placeholders_added),
        },
        "code_blocks": {"kept": integrity.code_blocks_kept, "lost": len(integrity.code_blocks_lost)},
        "urls": {"kept": integrity.urls_kept, "lost": list(integrity.urls_lost)},
        "script_changed": integrity.script_changed,
    }


def as_answer(record: Record) -> schema.Refinement:
    """A refinement as the API shows it, built from its record alone."""
    detail = record.detail
    return schema.Refinement.model_validate(
        {
            "id": record.id,
            "status": record.status,
            "refined": detail.get("refined"),
            "original_prompt": record.prompt,
            "refined_prompt": record.response,
            "changes": detail.get("changes", []),
            "assumptions": detail.get("assumptions", []),
            "integrity": detail.get("integrity"),
            "model": record.model,
            "engine": record.engine,
            "strategy": detail["strategy"],
            "parent_id": detail["parent_id"],
            "usage": record.usage,
            "latency_ms": record.latency_ms,
            "created_at": record.timestamp,
            "error": record.error,
        }
    )
