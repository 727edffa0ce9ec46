"""The benchmark's ground: what it sends, what answers, and what is made of the figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest
from pymongo import MongoClient

from bench.cases import CLIENT, Servers, constant_servers, write_events
from bench.figures import in_rounds
from bench.load import capacity
from bench.report import tables
from bench.texts import CHANGES, PLACEHOLDERS, SIZES, draft, refined
from refinery.integrity import compare
from tests.artifacts import ROOT


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with constant_servers() as running:
        yield running


@pytest.mark.parametrize("size", SIZES)
def test_a_draft_is_prose_with_ten_placeholders(size: str) -> None:
    """It has about its size, each placeholder once, and its refinement keeps them."""
    assert SIZES[size] * 0.98 <= len(draft(size)) <= SIZES[size]
    assert all(draft(size).count(placeholder) == 1 for placeholder in PLACEHOLDERS)
    found = compare(draft(size), refined(size))
    assert found.ok
    assert len(found.placeholders_kept) == 10


@pytest.mark.parametrize("size", SIZES)
def test_the_constant_model_is_one_to_openais_client(servers: Servers, size: str) -> None:
    """Each call is answered with the refinement of its size."""
    with (
        httpx2.Client() as http,
        openai.OpenAI(api_key="k", base_url=servers.base_url(size), http_client=http) as client,
    ):
        for _ in range(2):
            answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": draft(size)}])
            content = json.loads(answer.choices[0].message.content or "")
            assert content == {**content, "refined_prompt": refined(size), "changes": list(CHANGES)}


def test_the_constant_mongo_is_one_to_pymongo(servers: Servers) -> None:
    """It knows the client, takes every write, and counts to one."""
    with MongoClient[dict[str, object]](servers.database_url) as client:
        database = client["klamala"]
        found = database["clients"].find_one({"_id": CLIENT.client_id})
        assert found is not None
        assert found["key_hash"] == CLIENT.key_hash
        assert database["requests"].find_one({"status": "pending"}) is None
        assert database["requests"].insert_one({"_id": 1}).acknowledged
        assert database["requests"].update_one({"_id": 1}, {"$set": {"a": 1}}).modified_count == 1
        counted = database["counters"].find_one_and_update({"_id": 1}, {"$inc": {"amount": 1}})
        assert counted is not None
        assert counted["amount"] == 1


def test_the_constant_servers_say_what_they_can(servers: Servers, tmp_path: Path) -> None:
    """Their capacity is measured without anything between."""
    event = json.loads(json.loads(write_events(tmp_path).read_text("utf-8"))["refine-1k"])
    rates = capacity(servers, event["body"], seconds=0.2)
    assert rates["model"] > 0
    assert rates["mongo"] > 0


def test_rounds_go_over_all_in_turning_order() -> None:
    """Each is measured once in a round, and a ratio is one of the same round."""
    order: list[str] = []
    values = {"klamala": iter([1.0, 2.0, 3.0]), "fastapi": iter([2.0, 4.0, 6.0])}

    def measured(name: str) -> float:
        order.append(name)
        return next(values[name])

    found = in_rounds({name: lambda name=name: measured(name) for name in values}, 3)  # type: ignore[misc]
    assert order == ["klamala", "fastapi", "fastapi", "klamala", "klamala", "fastapi"]
    assert found["klamala"]["median"] == 2.0
    assert found["klamala"]["ratio"] == {"median": 0.5, "quartiles": [0.5, 0.5]}


def test_the_results_are_the_tables() -> None:
    """What is kept as results makes the tables that are kept beside them."""
    results = json.loads((ROOT / "bench" / "results.json").read_text("utf-8"))
    assert {"machine", "cold", "warm", "memory", "load", "litellm", "pages"} <= set(results)
    assert "LiteLLM" in tables(results)
    assert tables(results) == (ROOT / "bench" / "tables.md").read_text("utf-8")
