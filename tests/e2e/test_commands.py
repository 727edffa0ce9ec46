"""The commands that README shows, as a new user runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.service import ROOT
from tests import upstream as fake
from tests.e2e.test_service import environment
from tests.upstream import Upstream


def demo(environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.demo"],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_demo_needs_no_settings(tmp_path: Path) -> None:
    """It ends with 0 and shows draft, refined prompt, diff and the completed record."""
    done = demo(environment(tmp_path, JWT_SECRETS=""))
    assert done.returncode == 0, done.stderr
    for heading in ("Draft", "Refined prompt", "What changed, word by word", "The stored audit record"):
        assert f"\n{heading}\n" in done.stdout
    record = json.loads(done.stdout.rpartition("The stored audit record\n")[2])
    assert (record["status"], record["engine"], record["detail"]["integrity"]["ok"]) == ("succeeded", "offline", True)
    assert "{{customer_name}}" in record["response"]
    assert '```json\n{"status": "delayed", "eta": "{{eta}}", "carrier": "DHL"}\n```' in record["response"]


def test_the_demo_asks_a_model_where_one_is_set(tmp_path: Path, upstream: Upstream) -> None:
    """With a key and an address the same goes through a model."""
    upstream.script(fake.echo(lambda draft: f"Better.\n{draft}"))
    done = demo(environment(tmp_path, OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=upstream.url))
    assert done.returncode == 0, done.stderr
    assert "engine openai" in done.stdout
    assert "{+Better.+}" in done.stdout
    assert len(upstream.requests) == 1


def test_what_make_run_prints_can_be_pasted(tmp_path: Path) -> None:
    """The token request and the refinement request work as they stand; the key's file is its owner's alone."""
    command = [sys.executable, "-m", "scripts.run"]
    environ = {**os.environ, **environment(tmp_path), "HOST": "127.0.0.1", "PORT": "0"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if listening := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line):
                break
        text = "".join(printed).replace("127.0.0.1:0", f"127.0.0.1:{listening[1] if listening else 0}")
        pasted = text[text.index("TOKEN=$(") : text.index("[20")]
        answer = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, timeout=60, check=True)
        process.terminate()
        process.communicate(timeout=60)
    body = json.loads(answer.stdout)
    assert (body["status"], body["integrity"]["placeholders"]["kept"]) == ("succeeded", ["{{name}}"])
    assert (tmp_path / "local-client-key").stat().st_mode & 0o777 == 0o600
