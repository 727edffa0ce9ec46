"""`GET /usage`: calls, tokens, failures and latency, by day and model."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from flask import Blueprint, Response

from auth import Guard, Identity
from edge import arrival
from openapi.operation import Operation, describes
from problems import InvalidFields
from records import DailyUsage
from schemas import log as schema
from storage import Storage

from .answers import answer
from .parsing import parse_query
from .selection import check_order, selected_by

DEFAULT_SPAN = timedelta(days=30)


def usage_blueprint(guard: Guard, storage: Storage) -> Blueprint:
    """The route, on these collaborators."""
    blueprint = Blueprint("usage", __name__)

    @blueprint.get("/usage")
    @guard.token_required("log:read")
    @describes(
        Operation(
            id="getUsage",
            summary="Calls, tokens, failures and latency by day and model",
            text="Refinements and generations that succeeded or failed. The last 30 days, unless asked otherwise.",
            query=schema.UsageQuery,
            answers={200: schema.Usage},
        )
    )
    def usage(caller: Identity) -> Response:
        selection = selected_by(caller, parse_query(schema.UsageQuery))
        until = selection.until or arrival().received_at
        try:
            since = selection.since or until - DEFAULT_SPAN
        except OverflowError as error:
            raise InvalidFields(("to", "must be later, or come with from")) from error
        check_order(since, until)
        days = storage.usage(replace(selection, since=since, until=until))
        return answer(schema.Usage(since=since, until=until, items=[_item(day) for day in days]))

    return blueprint


def _item(day: DailyUsage) -> schema.DayOfUsage:
    return schema.DayOfUsage(
        day=day.day,
        model=day.model,
        calls=day.calls,
        succeeded=day.succeeded,
        failed=day.failed,
        input_tokens=day.input_tokens,
        output_tokens=day.output_tokens,
        latency_ms=schema.Latency(mean=round(day.latency_mean, 1), max=day.latency_max),
    )
