"""The service as users have it: its own process, real sockets, a model's server beside it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from scripts.service import ROOT, Service
from settings import Settings
from tests import upstream as fake
from tests.upstream import Upstream

SECRET = "e2e-secret-" + "x" * 40


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Every setting said, so that neither this shell nor a `.env` has a say."""
    unset = {name.upper(): "" for name in Settings.__dataclass_fields__}
    given = {"DATA_DIR": str(folder), "JWT_SECRETS": f"k1:{SECRET}", "WEB_CONCURRENCY": "2", "WEB_THREADS": "8"}
    return {**unset, **given, **settings}


def flask(environ: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Run one of the project's commands and read what it prints."""
    command = [sys.executable, "-m", "flask", "--app", "app", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class Caller:
    """A client of a running service."""

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        self.url = url
        self.credentials = flask(environ, "clients", "create", "e2e", "--scope", "refine generate log:write log:read")
        self.api_key = self.credentials["api_key"]
        answer = requests.post(
            f"{url}/token", data={"grant_type": "client_credentials"}, headers={"X-API-Key": self.api_key}, timeout=30
        )
        self.bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def refine(self, prompt: str, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.post(
            f"{self.url}/refine", json={"prompt": prompt}, headers={**self.bearer, **named}, timeout=60
        )

    def read(self, record_id: str) -> requests.Response:
        return self.get(f"/refine/{record_id}")

    def post(self, path: str, body: Mapping[str, Any]) -> requests.Response:
        return requests.post(f"{self.url}{path}", json=body, headers=self.bearer, timeout=60)

    def get(self, path: str, **query: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", params=query, headers=self.bearer, timeout=30)


def test_from_a_token_to_a_refined_prompt(service: Service, environ: dict[str, str], upstream: Upstream) -> None:
    """Token, refinement by the model, and the same again by its id, over real sockets."""
    upstream.script(fake.echo(lambda draft: f"Please: {draft}"))
    caller = Caller(service.url, environ)
    answer = caller.refine("greet {{name}}")
    body = answer.json()
    assert (answer.status_code, body["refined_prompt"], body["engine"]) == (200, "Please: greet {{name}}", "openai")
    assert body["usage"] == {"input_tokens": 11, "output_tokens": 7}
    assert caller.read(body["id"]).json() == body
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-canary-e2e"


def test_the_log_and_the_usage_of_all_calls(service: Service, environ: dict[str, str], upstream: Upstream) -> None:
    """Refined, generated, reported and failed calls stand in the pages, one by one, in the usage and in an export."""
    upstream.script(fake.echo(lambda draft: f"Please: {draft}"), fake.completion("A poem."), fake.status(401))
    caller = Caller(service.url, environ)
    refined = caller.refine("write {{what}}").json()
    generated = caller.post("/generate", {"prompt": "Write a poem.", "max_length": 9}).json()
    assert (generated["generated_text"], generated["finish_reason"]) == ("A poem.", "stop")
    assert caller.post("/refine", {"parent_id": refined["id"]}).status_code == 502
    metadata = {"$set": {"a.b": [1.0, 2**70, -0.0]}, "": None}
    reported = caller.post("/log-request", {"prompt": "p", "response": "r", "metadata": metadata})
    assert reported.status_code == 201
    one = caller.get(reported.headers["Location"]).json()
    assert json.dumps(one["metadata"]) == json.dumps(metadata)
    first = caller.get("/log-request", limit="3").json()
    second = caller.get("/log-request", limit="3", cursor=first["next_cursor"]).json()
    assert second["next_cursor"] is None
    items = [*first["items"], *second["items"]]
    assert [(item["kind"], item["status"], item["response"]) for item in items] == [
        ("client", "succeeded", "r"),
        ("refine", "failed", None),
        ("generate", "succeeded", "A poem."),
        ("refine", "succeeded", "Please: write {{what}}"),
    ]
    children = caller.get("/log-request", parent_id=refined["id"]).json()["items"]
    assert [item["id"] for item in children] == [items[1]["id"]]
    (usage,) = caller.get("/usage").json()["items"]
    assert {
        name: usage[name] for name in ("model", "calls", "succeeded", "failed", "input_tokens", "output_tokens")
    } == {
        "model": "gpt-test",
        "calls": 3,
        "succeeded": 2,
        "failed": 1,
        "input_tokens": 22,
        "output_tokens": 14,
    }
    command = [sys.executable, "-m", "flask", "logs", "export", "--kind", "generate"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, check=True, stdout=subprocess.PIPE)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [generated["id"]]


def test_processes_keep_to_one_limit(environ: dict[str, str], tmp_path: Path, upstream: Upstream) -> None:
    """Of forty requests at once four processes let ten through, and the model is asked ten times."""
    upstream.script(fake.echo())
    limited = {**environ, "RATE_LIMIT": "10/hour", "DAILY_TOKEN_BUDGET": "1000000", "WEB_CONCURRENCY": "4"}
    with Service(limited, tmp_path / "service.log") as service, ThreadPoolExecutor(40) as pool:
        caller = Caller(service.url, limited)
        answers = list(pool.map(caller.refine, ["greet {{name}}"] * 40))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 30
    assert len(upstream.requests) == 10
    remaining = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers if answer.ok]
    assert sorted(map(int, remaining)) == list(range(10))
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"10"}
    assert all(3500 < int(answer.headers["Retry-After"]) <= 3600 for answer in answers if not answer.ok)


def test_the_first_designs_header_reaches_the_service(service: Service, environ: dict[str, str]) -> None:
    """gunicorn lets `access_token` through, as Lambda does, and no other name with an underscore."""
    caller = Caller(service.url, environ)
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=30)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for name, status in (("access_token", 200), ("x_api_key", 401)):
        connection.request("POST", "/token", "grant_type=client_credentials", {**headers, name: caller.api_key})
        response = connection.getresponse()
        response.read()
        assert (name, response.status) == (name, status)
    connection.close()


def test_nobody_sets_the_scheme_or_the_path_from_outside(service: Service, environ: dict[str, str]) -> None:
    """Trusting each peer for one header name trusts it for no other."""
    headers = {"SCRIPT_NAME": "/x", "PATH_INFO": "/token", "X-Forwarded-Proto": "https"}
    answer = requests.get(f"{service.url}/health", headers=headers, timeout=30)
    assert answer.json()["status"] == "ok"


def test_a_killed_call_leaves_its_trace(service: Service, environ: dict[str, str], upstream: Upstream) -> None:
    """A worker that dies while the model thinks leaves a pending record, which a retry with its key finds."""
    caller = Caller(service.url, environ)
    upstream.hold()
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(caller.refine, "x", Idempotency_Key="k")
        upstream.wait_for(1)
        for worker in _workers(service):
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(requests.ConnectionError):
            lost.result(timeout=60)
        upstream.release()
    retry = caller.refine("x", Idempotency_Key="k")
    assert retry.status_code == 409
    assert 1 <= int(retry.headers["Retry-After"]) <= 25
    assert len(upstream.requests) == 1


def _workers(service: Service) -> list[int]:
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text("ascii")
    return [int(child) for child in children.split()]


def test_nothing_secret_is_printed(service: Service, environ: dict[str, str], upstream: Upstream) -> None:
    """One line a request, and in none of them a prompt, a response, a token, a key or the upstream's words."""
    caller = Caller(service.url, environ)
    upstream.script(fake.echo(lambda draft: f"RESPONSE-CANARY {draft}"), fake.status(401))
    assert caller.refine("PROMPT-CANARY", Idempotency_Key="KEY-CANARY").status_code == 200
    assert caller.refine("PROMPT-CANARY").status_code == 502
    service.stop()
    printed = service.log.read_text("utf-8")
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [(line["route"], line["status"]) for line in lines] == [("/token", 200), ("/refine", 200), ("/refine", 502)]
    assert {"engine": "openai", "attempts": 1, "input_tokens": 11, "output_tokens": 7}.items() <= lines[1].items()
    token = caller.bearer["Authorization"].removeprefix("Bearer ")
    secrets = [SECRET, token, caller.api_key, caller.credentials["client_secret"], "sk-canary-e2e", fake.MARKER]
    for canary in [*secrets, "PROMPT-CANARY", "RESPONSE-CANARY", "KEY-CANARY"]:
        assert canary not in printed
