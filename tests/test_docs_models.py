"""`docs/models.md`: its settings, and servers that answer as it says of vLLM, Ollama, Azure OpenAI and Claude.

What the engine does with each oddity by itself is tested in `test_openai_engine.py` and `test_generation.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from app import create_app
from refinery.openai_engine import OpenAIEngine
from scripts.service import ROOT
from settings import Settings
from storage import open_storage
from tests import upstream as fake
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.upstream import USAGE, Reply, Upstream

PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")
NAMES = {name.upper() for name in Settings.__dataclass_fields__} - {"ON_LAMBDA"}
REFINED = {"refined_prompt": "Greet {{name}}.", "changes": [], "assumptions": []}


def blocks() -> dict[str, dict[str, str]]:
    """The settings on the page, by the heading and the model."""
    found = {}
    for section in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        for block in re.findall(r"^```dotenv\n(.*?)^```$", section, re.M | re.S):
            values = {name: value or "" for name, value in dotenv_values(stream=StringIO(block)).items()}
            found[f"{section.splitlines()[0]}: {values['OPENAI_MODEL']}"] = values
    return found


BLOCKS = blocks()


def block(heading: str) -> dict[str, str]:
    return next(values for name, values in BLOCKS.items() if name.startswith(heading))


def test_every_block_of_the_page_is_settings() -> None:
    """No block is passed over by these tests."""
    assert len(re.findall(r"^\s*(```|~~~)", PAGE, re.M)) == 2 * len(BLOCKS)


@pytest.mark.parametrize("values", BLOCKS.values(), ids=BLOCKS.keys())
def test_the_settings_can_be_used_as_they_stand(values: Mapping[str, str], tmp_path: Path) -> None:
    """Each is known and accepted, names a server and a model, and means what it says."""
    settings = settings_in(tmp_path, **values)
    assert values.keys() <= NAMES
    assert not settings.offline
    assert settings.openai_base_url == values["OPENAI_BASE_URL"]
    assert settings.openai_api_key == values.get("OPENAI_API_KEY")
    assert settings.openai_model == values["OPENAI_MODEL"]


def completion(content: str, message: Mapping[str, Any], choice: Mapping[str, Any], top: Mapping[str, Any]) -> Reply:
    """A completion with what a server adds to each level of it."""
    whole = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
    return fake.raw_json({"object": "chat.completion", "choices": [{**whole, **choice}], "usage": dict(USAGE), **top})


def vllm(content: str) -> Reply:
    return completion(
        content,
        {"refusal": None, "annotations": None, "audio": None, "function_call": None, "reasoning": "Well, …"},
        {"logprobs": None, "stop_reason": None, "token_ids": None},
        {"service_tier": None, "prompt_logprobs": None, "kv_transfer_params": None, "metrics": None},
    )


def ollama(content: str) -> Reply:
    return completion(content, {"reasoning": "Well, …"}, {}, {"system_fingerprint": "fp_ollama", "_debug_info": None})


def azure(content: str) -> Reply:
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    filters = [{"prompt_index": 0, "content_filter_results": safe}]
    reply = completion(content, {"refusal": None}, {"content_filter_results": safe}, {"prompt_filter_results": filters})
    return fake.without_max_tokens(reply)


def claude(content: str) -> Reply:
    fenced = f"```json\n{content}\n```" if content.startswith("{") else content
    return completion(fenced, {"refusal": ""}, {}, {"system_fingerprint": ""})


SERVERS: Mapping[str, Callable[[str], Reply]] = {
    "vLLM": vllm,
    "Ollama": ollama,
    "Azure OpenAI": azure,
    "Claude": claude,
}


@pytest.fixture(params=SERVERS.keys())
def server(request: pytest.FixtureRequest) -> str:
    """The heading of a server's section."""
    return str(request.param)


@pytest.fixture
def service(server: str, tmp_path: Path, upstream: Upstream) -> Iterator[Harness]:
    """The service with the section's settings, but for the address."""
    settings = settings_in(tmp_path, **{**block(server), "OPENAI_BASE_URL": upstream.url})
    storage = open_storage(settings.database_url)
    engine = OpenAIEngine(settings.openai_api_key, settings.openai_base_url)
    yield Harness(create_app(settings, storage=storage, engine=engine), settings, storage, ScriptedEngine())
    engine.close()
    storage.close()


def test_a_server_like_it_refines(server: str, service: Harness, upstream: Upstream) -> None:
    """The model is asked by its name and with its key, and its answer is read, whatever stands around it."""
    upstream.script(SERVERS[server](json.dumps(REFINED)))
    answer = service.refine(service.token(), {"prompt": "greet {{name}}"})
    body = answer.get_json()
    assert (answer.status_code, body["refined_prompt"], body["refined"]) == (200, "Greet {{name}}.", True), answer.text
    assert body["usage"] == {"input_tokens": 11, "output_tokens": 7}
    assert [request.body["model"] for request in upstream.requests] == [block(server)["OPENAI_MODEL"]]
    key = block(server).get("OPENAI_API_KEY", "none")
    assert upstream.requests[0].headers["authorization"] == f"Bearer {key}"


def test_a_server_like_it_generates(server: str, service: Harness, upstream: Upstream) -> None:
    """Text comes back as it is, under whichever name the server takes the limit."""
    upstream.script(SERVERS[server]("Hello!"))
    answer = service.post("/generate", service.token(), {"prompt": "Say hello.", "max_length": 9})
    assert (answer.status_code, answer.get_json().get("generated_text")) == (200, "Hello!"), answer.text
    last = upstream.requests[-1].body
    assert last.get("max_tokens", last.get("max_completion_tokens")) == 9


@pytest.mark.parametrize("server", ["vLLM"], indirect=True)
def test_thoughts_in_the_text_are_no_refinement(service: Harness, upstream: Upstream) -> None:
    """A reasoning model whose server leaves the thoughts in its text ends in 502, not in a guess."""
    upstream.script(vllm(f"<think>Well, …</think>\n{json.dumps(REFINED)}"))
    answer = service.refine(service.token(), {"prompt": "greet {{name}}"})
    assert (answer.status_code, answer.get_json()["type"]) == (502, "/problems/unusable-answer")


@pytest.mark.parametrize("server", ["vLLM"], indirect=True)
def test_thoughts_that_leave_no_room_are_an_error(service: Harness, upstream: Upstream) -> None:
    """A limit that the thoughts used up leaves no text: 502, and no empty answer."""
    upstream.script(completion("", {"reasoning": "Well, …"}, {"finish_reason": "length"}, {}))
    answer = service.post("/generate", service.token(), {"prompt": "Say hello.", "max_length": 9})
    assert (answer.status_code, answer.get_json()["type"]) == (502, "/problems/unusable-answer")


@pytest.mark.parametrize("server", ["Azure OpenAI"], indirect=True)
def test_a_filtered_prompt_or_answer_is_told(service: Harness, upstream: Upstream) -> None:
    """A prompt that the filter stops, and an answer that it stops, is a refusal; neither is asked again."""
    stopped = {"error": {"message": "The response was filtered", "code": "content_filter", "param": "prompt"}}
    upstream.script(fake.status(400, body=stopped))
    answer = service.refine(service.token(), {"prompt": "x"})
    assert (answer.status_code, answer.get_json()["type"]) == (502, "/problems/model-refused")
    upstream.script(fake.completion(None, finish_reason="content_filter"))
    answer = service.refine(service.token(), {"prompt": "x"})
    assert (answer.status_code, answer.get_json()["type"]) == (502, "/problems/model-refused")
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("server", ["Claude"], indirect=True)
def test_an_overloaded_service_names_its_pause(service: Harness, upstream: Upstream) -> None:
    """529, a status of Anthropic's own, is an overload: 503, with the pause that it asks for."""
    upstream.script(fake.status(529, headers={"Retry-After": "90"}))
    answer = service.refine(service.token(), {"prompt": "x"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "90")
