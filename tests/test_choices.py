"""`/models` and `/strategies`: what a request may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from refinery.strategies import load_strategies
from tests.harness import Harness, build


def test_the_models_that_may_be_asked_for(tmp_path: Path) -> None:
    """Each configured model, the default one marked; a request may name any of them."""
    harness = build(tmp_path, OPENAI_API_KEY="sk-x", OPENAI_MODEL="small", OPENAI_MODELS="large,small")
    token = harness.token()
    items = harness.get("/models", token).get_json()["items"]
    assert [(item["id"], item["default"]) for item in items] == [("large", False), ("small", True)]
    assert all(set(item) == {"id", "description", "default"} and item["description"] for item in items)
    for item in items:
        assert harness.refine(token, {"prompt": "x", "model": item["id"]}).status_code == 200


def test_the_strategies_that_may_be_asked_for(harness: Harness) -> None:
    """Each strategy in the folder with its description, the default first and marked; a request may name any."""
    token = harness.token()
    body = harness.get("/strategies", token).get_json()
    expected = [(item.id, item.description, item.id == "general") for item in load_strategies().values()]
    assert [(item["id"], item["description"], item["default"]) for item in body["items"]] == expected
    assert set(body) == {"items"}
    for item in body["items"]:
        assert harness.refine(token, {"prompt": "x", "strategy": item["id"]}).get_json()["strategy"] == item["id"]


@pytest.mark.parametrize("path", ["/models", "/strategies"])
def test_any_token_is_enough(harness: Harness, path: str) -> None:
    """Every scope may look, nobody without a token; there is nothing to ask in a query."""
    for scope in ("refine", "generate", "log:write", "log:read"):
        assert harness.get(path, harness.token(harness.register(scope))).status_code == 200
    assert harness.http.get(path).status_code == 401
    assert harness.get(path, harness.token(), {"q": "x"}).status_code == 422


def test_without_a_model_the_description_says_so(harness: Harness) -> None:
    """Somebody who reads the list learns that rules answer."""
    (item,) = harness.get("/models", harness.token()).get_json()["items"]
    assert "built-in rules" in item["description"]
