"""Generations: a prompt becomes text, audited as a refinement is."""

from __future__ import annotations

from records import Completion, Kind, Owner, Record, Status, utc_now
from refinery.engines import Engine
from schemas import generate as schema
from settings import Settings

from .arrival import Arrival
from .audit import Asked, audited, pending_record, usage_as_dict
from .ledger import Ledger
from .limits import Limits, tokens_in


class Generations:
    """Asks the model with a caller's prompt as it is."""

    def __init__(self, settings: Settings, ledger: Ledger, engine: Engine, limits: Limits) -> None:
        self._settings = settings
        self._ledger = ledger
        self._engine = engine
        self._limits = limits
        self.request_model = schema.generate_request(
            settings.max_prompt_chars, settings.max_output_tokens, settings.openai_models
        )

    def create(
        self, body: schema.GenerateRequest, owner: Owner, arrival: Arrival, key: str | None
    ) -> tuple[Record, bool]:
        """Generate. Returns the completed record, and whether it is an earlier one with the same idempotency key.

        Raises: `BudgetExhausted`, `EngineError`, and as `audited`.
        """
        pending = pending_record(
            self._settings,
            Asked(owner, arrival, key, body.model_dump(exclude_none=True)),
            Kind.GENERATE,
            prompt=body.prompt,
            detail={"max_length": body.max_length},
            model=self._engine.model_for(body.model or self._settings.openai_model),
            engine=self._engine.name,
        )
        return self._limits.within_budget(
            pending,
            tokens_in(body.prompt) + body.max_length,
            arrival,
            lambda: audited(self._ledger, pending, arrival, lambda: self._generate(pending, arrival)),
        )

    def _generate(self, pending: Record, arrival: Arrival) -> Completion:
        generation = self._engine.generate(
            pending.prompt,
            model=pending.model or self._settings.openai_model,
            max_tokens=pending.detail["max_length"],
            deadline=self._ledger.model_deadline(arrival.deadline),
        )
        usage = usage_as_dict(generation.usage)
        arrival.notes.update(attempts=1, upstream_ms=generation.upstream_ms, **usage)
        return Completion(
            status=Status.SUCCEEDED,
            response=generation.text,
            detail={**pending.detail, "finish_reason": generation.finish_reason},
            usage=usage,
            latency_ms=arrival.elapsed_ms(),
            completed_at=utc_now(),
        )


def as_answer(record: Record) -> schema.Generation:
    """A generation as the API shows it, built from its record alone."""
    return schema.Generation.model_validate(
        {
            "id": record.id,
            "generated_text": record.response,
            "user_id": record.user_id,
            "model": record.model,
            "engine": record.engine,
            "finish_reason": record.detail["finish_reason"],
            "usage": record.usage,
            "latency_ms": record.latency_ms,
            "created_at": record.timestamp,
        }
    )
