"""`GET /openapi.json`: a valid description of every route, made once and when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint
from jsonschema import ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator import validate as validate_document

from calls.refinements import integrity_report
from openapi.document import describe
from openapi.examples import REFINEMENT
from openapi.operation import Operation, describes
from refinery.integrity import compare
from tests.harness import Harness, build
from tests.openapi import Json, operations, validate, values

ROOT = Path(__file__).parents[1]


@pytest.fixture
def document(harness: Harness) -> Json:
    found: Json = harness.http.get("/openapi.json").get_json()
    return found


def test_the_document_is_valid(document: Json) -> None:
    """It is OpenAPI 3.1, references and examples of its own schemas included."""
    validate_document(document, cls=OpenAPIV31SpecValidator)
    assert document["openapi"] == "3.1.0"


# Generated clients bear these names: one that changes breaks them.
NAMES = {
    "getHealth": "get /health",
    "getReadiness": "get /ready",
    "issueToken": "post /token",
    "createRefinement": "post /refine",
    "refinePrompt": "post /refine-prompt",
    "getRefinement": "get /refine/{record_id}",
    "generateText": "post /generate",
    "secureGenerateText": "post /secure-generate",
    "logRequest": "post /log-request",
    "listRecords": "get /log-request",
    "getRecord": "get /log-request/{record_id}",
    "getUsage": "get /usage",
    "listModels": "get /models",
    "listStrategies": "get /strategies",
    "getDescription": "get /openapi.json",
}


def test_every_route_is_there_under_its_name(document: Json) -> None:
    """The operations are the routes of the contract, and their names stay."""
    assert {each.id: f"{each.method} {each.path}" for each in operations(document)} == NAMES


def test_a_route_that_is_not_described_stops_the_making(harness: Harness) -> None:
    """Who adds a route and says nothing of it is told its path."""
    harness.app.add_url_rule("/unheard-of", view_func=lambda: "")
    with pytest.raises(LookupError, match="/unheard-of is not described"):
        describe(harness.app, "1")


def test_a_route_of_no_group_stops_the_making(harness: Harness) -> None:
    """A new family of routes needs a heading of its own."""
    blueprint = Blueprint("novelty", __name__)
    blueprint.get("/novelty")(describes(Operation(id="n", summary="n", answers={}))(lambda: ""))
    harness.app.register_blueprint(blueprint)
    with pytest.raises(LookupError, match="novelty"):
        describe(harness.app, "1")


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/init.js"])
def test_pages_are_no_operations(harness: Harness, document: Json, path: str) -> None:
    """What is for people is served, and not described."""
    assert harness.http.get(path).status_code == 200
    assert not any(each == "/" or each.startswith(("/console", "/docs")) for each in document["paths"])


def test_the_document_is_made_when_it_is_asked_for() -> None:
    """A process that nobody asks for it has not even imported what makes it."""
    program = "import sys, app; app.create_app(); print('openapi.document' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_the_document_is_sent_once(harness: Harness) -> None:
    """Who has this version gets 304 without a body; who has another gets it."""
    first = harness.http.get("/openapi.json")
    again = harness.http.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"] == "no-store"
    assert harness.http.get("/openapi.json", headers={"If-None-Match": '"another"'}).data == first.data


def test_the_limits_are_those_of_the_service(tmp_path: Path) -> None:
    """Lengths, models and strategies in the document are those that requests are checked against."""
    harness = build(tmp_path, None, MAX_PROMPT_CHARS="77", MAX_OUTPUT_TOKENS="99", OPENAI_MODELS="gpt-4.1,o9")
    document = harness.http.get("/openapi.json").get_json()
    harness.storage.close()
    schemas = {
        name: schema["properties"]
        for name, schema in document["components"]["schemas"].items()
        if "properties" in schema
    }
    for name in ("RefineRequest", "GenerateRequest", "LogEntry"):
        assert schemas[name]["prompt"]["maxLength"] == 77
    assert (
        schemas["GenerateRequest"]["max_length"]["maximum"],
        schemas["GenerateRequest"]["max_length"]["default"],
    ) == (99, 99)
    for name in ("RefineRequest", "GenerateRequest"):
        assert schemas[name]["model"]["anyOf"][0]["enum"] == ["gpt-4.1", "o9"]
    strategies = harness.get("/strategies", harness.token()).get_json()["items"]
    assert schemas["RefineRequest"]["strategy"]["anyOf"][0]["enum"] == [each["id"] for each in strategies]


def test_the_examples_are_of_their_schemas(document: Json) -> None:
    """Each example of a request or an answer is one that the service would take or send."""
    for each in operations(document):
        bodies = [each.says.get("requestBody", {}), *each.says["responses"].values()]
        for media in (media for body in bodies for media in body.get("content", {}).values()):
            for example in values(media):
                validate(document, media["schema"], example)


def test_the_example_refinements_keep_the_promise() -> None:
    """What an example says of placeholders, blocks and URLs is what the service counts in its two texts."""
    assert REFINEMENT.refined_prompt
    assert REFINEMENT.integrity
    report = integrity_report(compare(REFINEMENT.original_prompt, REFINEMENT.refined_prompt, None), 1)
    assert report == REFINEMENT.integrity.model_dump()


TEXTS = {
    "blank": "".join(map(chr, (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028))),
    "more blank": "\u2029\u202f\u205f\u3000",
    "empty": "",
    "NUL": "a\0b",
    "zero width": "\u200b",
    "byte order mark": "\ufeff",
    "control": "\x01",
    "one letter": "\u3000a\n",
    "astral": "\U0001f600",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_schema_takes_the_texts_that_the_service_takes(harness: Harness, document: Json, text: str) -> None:
    """What is blank, or holds a NUL, is so for a validator of the schema as for the service."""
    taken = harness.refine(harness.token(), {"prompt": text}).status_code == 200
    assert takes(document, "RefineRequest", {"prompt": text}) == taken


BODIES: dict[str, tuple[dict[str, Any], bool]] = {
    "a draft": ({"prompt": "a"}, True),
    "a parent": ({"parent_id": REFINEMENT.id}, True),
    "a draft, no parent": ({"prompt": "a", "parent_id": None}, True),
    "a parent, no draft": ({"prompt": None, "parent_id": REFINEMENT.id}, True),
    "both": ({"prompt": "a", "parent_id": REFINEMENT.id}, False),
    "neither": ({}, False),
    "two nulls": ({"prompt": None, "parent_id": None}, False),
    "unknown field": ({"prompt": "a", "colour": "blue"}, False),
}


@pytest.mark.parametrize(("body", "good"), BODIES.values(), ids=BODIES)
def test_a_draft_or_a_parent(document: Json, body: dict[str, Any], good: bool) -> None:
    """The schema wants exactly one of the two."""
    assert takes(document, "RefineRequest", body) == good


def takes(document: Json, name: str, value: object) -> bool:
    try:
        validate(document, {"$ref": f"#/components/schemas/{name}"}, value)
    except ValidationError:
        return False
    return True
