"""LiteLLM's proxy in front of the constant model, where the command is installed: on PATH, or as LITELLM names it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.cases import Servers
from bench.load import cpu_seconds
from bench.texts import draft
from tests.stores import free_port

CALLS, BOUND = 500, 120.0
MASTER_KEY = "sk-bench-master"


def measure(servers: Servers, calls: int = CALLS) -> dict[str, Any]:
    """`start_ms` to the first answer, warm `p50_ms`, `cpu_ms` a call, `rss_kib`; or why it is `skipped`."""
    command = shutil.which(os.environ.get("LITELLM", "litellm"))
    if command is None:
        return {"skipped": "litellm is not installed"}
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        with _proxy(command, Path(name), servers) as (port, process):
            _first_answer(port, process)
            start_ms = (time.perf_counter() - started) * 1000
            first = _memory_kib(process.pid)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
            for _ in range(50):
                _ask(connection)
            cpu, ms = _cpu_seconds(process.pid), []
            for _ in range(calls):
                called = time.perf_counter()
                _ask(connection)
                ms.append((time.perf_counter() - called) * 1000)
            cpu = _cpu_seconds(process.pid) - cpu
            warm = _memory_kib(process.pid)
    return {
        "start_ms": start_ms,
        "p50_ms": median(ms),
        "cpu_ms": cpu * 1000 / calls,
        "rss_kib": {"first": first, "after": warm},
    }


@contextmanager
def _proxy(command: str, folder: Path, servers: Servers) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port, config = free_port(), folder / "config.yaml"
    model = {"model": "openai/gpt-4.1", "api_base": servers.base_url("1k"), "api_key": "sk-bench"}
    # JSON is YAML.
    config.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": "gpt-4.1", "litellm_params": model}],
                "general_settings": {"master_key": MASTER_KEY},
            }
        ),
        "utf-8",
    )
    # The list of prices comes with the package: nothing is asked of the network.
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([command, *arguments], cwd=folder, env=environ, stdout=log, stderr=log) as process,
    ):
        try:
            yield port, process
        finally:
            process.terminate()


def _first_answer(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + BOUND
    while time.monotonic() < ends and process.poll() is None:
        try:
            _ask(http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND))
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("litellm did not answer")


def _ask(connection: http.client.HTTPConnection) -> None:
    body = json.dumps({"model": "gpt-4.1", "messages": [{"role": "user", "content": draft("1k")}]})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {MASTER_KEY}"}
    connection.request("POST", "/chat/completions", body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"litellm: {answer.status} {text.decode()}")


def _tree(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split()
    return [process, *(found for child in children for found in _tree(int(child)))]


def _cpu_seconds(process: int) -> float:
    return sum(map(cpu_seconds, _tree(process)))


def _memory_kib(process: int) -> int:
    pages = [int(Path(f"/proc/{each}/statm").read_text("ascii").split()[1]) for each in _tree(process)]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") // 1024
