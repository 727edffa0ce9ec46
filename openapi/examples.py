"""Examples for the description: requests, and answers as typed models.

One story runs through them, so that the id of one is the parent of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from problems import problem_for
from refinery.engines import ModelTimeout
from schemas import generate, log, refine, service
from schemas.base import Problem, Tokens

from .operation import Operation

ID = "01a1fac7-2c08-7cd6-8f53-53fb60d2367a"
CHILD_ID = "01a1fac8-91b3-7e0a-b1f4-6e2d9c05a713"
CLIENT_ID = "klm_4fT9sQ2mXb7LrC0w"
REQUEST_ID = "5f0c7c1e9a3b4d6f8e2a1b0c9d8e7f60"
USER_ID = "agent-17"
_AT = datetime(2026, 11, 20, 12, 0, 0, 512_000, UTC)

DRAFT = (
    "write a reply to {{customer_name}} who wants money back for order {{order.id}}, we dont do that after 30 days, "
    "be nice, rules are at https://shop.example/returns"
)
REFINED = (
    "Write a reply to {{customer_name}}, who asks for a refund of order {{order.id}}.\n\n"
    "- Say early and plainly that refunds end 30 days after delivery, and that this order is past that.\n"
    "- Show understanding for the disappointment. Neither blame the customer nor promise an exception.\n"
    "- Link the rules: https://shop.example/returns\n"
    "- At most 150 words, friendly, without jargon."
)
_CHANGES = [
    refine.Change(
        reason="States the decision, so that the reply cannot promise a refund.",
        before="we dont do that after 30 days",
        after="Say early and plainly that refunds end 30 days after delivery, and that this order is past that.",
    ),
    refine.Change(
        reason="Turns a mood into instructions that can be followed and checked.",
        before="be nice",
        after="Show understanding for the disappointment. Neither blame the customer nor promise an exception.",
    ),
    refine.Change(reason="Sets a length; the draft names none.", before="", after="At most 150 words"),
]

REFINEMENT = refine.Refinement(
    id=ID,
    status="succeeded",
    refined=True,
    original_prompt=DRAFT,
    refined_prompt=REFINED,
    changes=_CHANGES,
    assumptions=["The 30 days count from delivery.", "The reply is an e-mail of at most 150 words."],
    integrity=refine.IntegrityReport(
        ok=True,
        attempts=1,
        placeholders=refine.Placeholders(kept=["{{customer_name}}", "{{order.id}}"], lost=[], added=[]),
        code_blocks=refine.CodeBlocks(kept=0, lost=0),
        urls=refine.Urls(kept=1, lost=[]),
        script_changed=False,
    ),
    model="gpt-4.1",
    engine="openai",
    strategy="general",
    parent_id=None,
    usage=Tokens(input_tokens=913, output_tokens=271),
    latency_ms=3184,
    created_at=_AT,
)
_KEPT_DRAFT = REFINEMENT.model_copy(
    update={
        "id": CHILD_ID,
        "refined": False,
        "refined_prompt": DRAFT,
        "changes": [],
        "assumptions": [],
        "integrity": refine.IntegrityReport(
            ok=False,
            attempts=2,
            placeholders=refine.Placeholders(kept=["{{customer_name}}"], lost=["{{order.id}}"], added=["{{order_id}}"]),
            code_blocks=refine.CodeBlocks(kept=0, lost=0),
            urls=refine.Urls(kept=1, lost=[]),
            script_changed=False,
        ),
        "usage": Tokens(input_tokens=2207, output_tokens=548),
        "latency_ms": 6720,
    }
)
_FAILED = REFINEMENT.model_copy(
    update={
        "id": CHILD_ID,
        "status": "failed",
        "refined": None,
        "refined_prompt": None,
        "changes": [],
        "assumptions": [],
        "integrity": None,
        "usage": None,
        "latency_ms": 23021,
        "error": Problem.model_validate(problem_for(ModelTimeout("The model did not answer in time.")).as_dict()),
    }
)
_GENERATION = generate.Generation(
    id=CHILD_ID,
    generated_text="1. Holding pages together.\n2. Resetting a router.\n3. Marking a page.",
    user_id=USER_ID,
    model="gpt-4.1",
    engine="openai",
    finish_reason="stop",
    usage=Tokens(input_tokens=19, output_tokens=18),
    latency_ms=941,
    created_at=_AT,
)
_RECORD = log.LogRecord(
    id=CHILD_ID,
    kind="client",
    source="client",
    status="succeeded",
    user_id=USER_ID,
    client_id=CLIENT_ID,
    request_id=REQUEST_ID,
    prompt="Summarise ticket 4711 in one sentence.",
    response="The customer's parcel went to the old address.",
    metadata={"ticket": 4711, "tool": "helpdesk"},
    detail={},
    model="llama3.3",
    engine=None,
    usage=None,
    error=None,
    latency_ms=None,
    timestamp=datetime(2026, 11, 20, 11, 58, 30, tzinfo=UTC),
    completed_at=_AT,
)
_DAY = log.DayOfUsage(
    day="2026-11-20",
    model="gpt-4.1",
    calls=42,
    succeeded=41,
    failed=1,
    input_tokens=38_214,
    output_tokens=11_377,
    latency_ms=log.Latency(mean=2871.4, max=23_021),
)

# By the model, or the one operation, that they belong to.
ANSWERS: Mapping[tuple[type[BaseModel] | str | None, int], Mapping[str, BaseModel]] = {
    (refine.Refinement, 200): {"refined": REFINEMENT, "kept the draft": _KEPT_DRAFT},
    ("getRefinement", 200): {"refined": REFINEMENT, "kept the draft": _KEPT_DRAFT, "failed": _FAILED},
    (refine.Accepted, 202): {"accepted": refine.Accepted(id=ID)},
    (generate.Generation, 200): {"generated": _GENERATION},
    (log.Logged, 201): {"logged": log.Logged(id=CHILD_ID, created_at=_AT)},
    (log.LogRecord, 200): {"reported by a client": _RECORD},
    (log.LogPage, 200): {"the last page": log.LogPage(items=[_RECORD], next_cursor=None)},
    (log.Usage, 200): {"a day": log.Usage(since=datetime(2026, 11, 20, tzinfo=UTC), until=_AT, items=[_DAY])},
    (service.Health, 200): {"ok": service.Health(version="0.1.0")},
    (service.Readiness, 200): {"ready": service.Readiness(status="ok", checks=service.Checks(storage="ok"))},
    (service.Readiness, 503): {
        "not ready": service.Readiness(status="unavailable", checks=service.Checks(storage="unreachable"))
    },
    (service.Models, 200): {
        "one": service.Models(
            items=[service.Choice(id="gpt-4.1", description="Asked over the model API.", default=True)]
        )
    },
    (service.Strategies, 200): {
        "one": service.Strategies(
            items=[
                service.Choice(
                    id="general",
                    description="Clearer and more complete, for any prompt; changes little where the draft is good",
                    default=True,
                ),
                service.Choice(
                    id="concise",
                    description="Shorter, with every requirement kept; for prompts that are sent often or have grown "
                    "long",
                    default=False,
                ),
            ]
        )
    },
    (service.Token, 200): {
        "issued": service.Token(
            access_token="eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiYXQrand0In0.e30.c2lnbmF0dXJl",
            expires_in=3600,
            scope="refine log:read",
        )
    },
}

# By the models of the requests, of which a service's own, with its limits, are subclasses.
REQUESTS: Mapping[type[BaseModel], Mapping[str, Mapping[str, Any]]] = {
    refine.RefineRequest: {
        "a draft": {"prompt": DRAFT},
        "a draft, and how to refine it": {
            "prompt": DRAFT,
            "instructions": "The reply goes out as a chat message: at most 60 words.",
            "strategy": "concise",
        },
        "an earlier refinement": {"parent_id": ID, "instructions": "Offer a voucher of 10 % instead."},
    },
    generate.GenerateRequest: {
        "a prompt": {"prompt": "Name three uses of a paper clip, one a line.", "max_length": 60}
    },
    log.LogEntry: {
        "a prompt and its response": {
            "prompt": _RECORD.prompt,
            "response": _RECORD.response,
            "model": _RECORD.model,
            "timestamp": "2026-11-20T12:58:30+01:00",
            "metadata": _RECORD.metadata,
        }
    },
    service.TokenForm: {
        "for the client": {"grant_type": "client_credentials"},
        "for an end user": {"grant_type": "client_credentials", "scope": "refine log:read", "user_id": USER_ID},
    },
    service.TokenRequest: {
        "for the client": {},
        "for an end user": {"scope": "refine log:read", "user_id": USER_ID},
    },
}


def request_examples(model: type[BaseModel]) -> dict[str, Any]:
    """The examples of a request. Raises: `StopIteration` for a model without one."""
    return _named(next(REQUESTS[kind] for kind in model.__mro__ if kind in REQUESTS))


def answer_examples(operation: Operation, status: int) -> dict[str, Any]:
    """The examples of an answer, if it has any."""
    answers = ANSWERS.get((operation.id, status)) or ANSWERS.get((operation.answers[status], status), {})
    return _named({name: answer.model_dump(mode="json") for name, answer in answers.items()})


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """As a media type has them: https://spec.openapis.org/oas/v3.1.0#media-type-object."""
    return {"examples": {name: {"value": value} for name, value in values.items()}} if values else {}
