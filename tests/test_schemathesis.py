"""Requests made up from the description, good and bad ones, get the answers that it promises, over real sockets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from auth import SCOPES, TokenPolicy, grantable, issue_token
from clients import Credentials, register
from openapi.examples import DRAFT, ID
from records import Completion, Status, utc_now
from scripts.service import Service
from settings import Settings
from storage import Storage, open_storage
from tests.harness import FIRST_SECRET, settings_in
from tests.openapi import operations
from tests.stores import pending
from tests.upstream import Reply, Upstream, completion, echo

ROOT = Path(__file__).parents[1]
SETTINGS = (ROOT / "tests" / "schemathesis.toml").read_text("utf-8")
AUTH = """
[auth.openapi]
accessToken = { bearer = "${TOKEN}" }
apiKey = { api_key = "${API_KEY}" }
clientCredentials = { username = "${CLIENT_ID}", password = "${CLIENT_SECRET}" }
"""
PHASES = ("Examples", "Coverage", "Fuzzing", "Stateful")
SECONDS = 300


@dataclass
class Running:
    """A service with one client, on gunicorn, with a model on loopback; what stands in its examples is there."""

    url: str
    settings: Settings
    storage: Storage
    credentials: Credentials

    def environ(self, user_id: str, scopes: tuple[str, ...]) -> Mapping[str, str]:
        """What the runs find in their environment, to call as this user."""
        self._add_example(user_id)
        settings = self.settings
        policy = TokenPolicy(settings.jwt_secrets, settings.jwt_issuer, settings.jwt_audience, 3600)
        return {
            "BASE_URL": self.url,
            "TOKEN": issue_token(policy, self.credentials.client_id, user_id, scopes),
            "API_KEY": self.credentials.api_key,
            "CLIENT_ID": self.credentials.client_id,
            "CLIENT_SECRET": self.credentials.client_secret,
        }

    def _add_example(self, user_id: str) -> None:
        now = utc_now()
        detail = {"strategy": "general", "instructions": None, "parent_id": None}
        owner = {"client_id": self.credentials.client_id, "user_id": user_id}
        record = pending(now, id=ID, prompt=DRAFT, detail=detail, deadline_at=None, **owner)
        self.storage.begin(record)
        done = Completion(status=Status.SUCCEEDED, response=DRAFT, detail=record.detail, latency_ms=1, completed_at=now)
        self.storage.finish(ID, done)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    settings = settings_in(tmp_path)
    storage = open_storage(settings.database_url)
    credentials = register(storage, "schemathesis", SCOPES)
    with Upstream() as upstream:
        upstream.script(Reply(lambda handler: _model(handler.received.body["messages"]).send(handler)))
        environ = {
            "DATA_DIR": str(tmp_path),
            "DATABASE_URL": settings.database_url,
            "JWT_SECRETS": f"k1:{FIRST_SECRET}",
            "OPENAI_BASE_URL": upstream.url,
            "RATE_LIMIT": "none",
            "WEB_CONCURRENCY": "1",
            "WEB_THREADS": "4",
        }
        with Service(environ, tmp_path / "service.log") as service:
            yield Running(service.url, settings, storage, credentials)
    storage.close()


def _model(messages: list[object]) -> Reply:
    """A refinement to who asks for one, with a system message, and a text to others."""
    return echo() if len(messages) > 1 else completion("A text.")


def run(folder: Path, environ: Mapping[str, str], settings: str) -> None:
    """Let Schemathesis loose on the service. What it finds fails the test, with a command that does it again."""
    # From a file, because it would leave out the operation that it had the description from.
    description, config = folder / "openapi.json", folder / "schemathesis.toml"
    document = requests.get(f"{environ['BASE_URL']}/openapi.json", timeout=SECONDS)
    description.write_bytes(document.content)
    config.write_text(settings, "utf-8")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", "--no-color"]
    command.append(str(description))
    environ = {**os.environ, **environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, summary = done.stdout.partition("SUMMARY")
    assert f"Tested: {len(list(operations(document.json())))}\n" in summary
    assert [phase for phase in PHASES if f"✅ {phase}" not in summary] == []


def test_a_client_with_every_scope(running: Running, tmp_path: Path) -> None:
    """Each operation keeps its word to a caller who may do everything."""
    run(tmp_path, running.environ(running.credentials.client_id, SCOPES), SETTINGS + AUTH)


def test_an_end_user(running: Running, tmp_path: Path) -> None:
    """And to an end user, who sees nothing of others."""
    run(tmp_path, running.environ("agent-17", grantable(SCOPES, for_user=True)), SETTINGS + AUTH)


def test_nobody(running: Running, tmp_path: Path) -> None:
    """And to one who does not say who he is."""
    run(tmp_path, running.environ("agent-17", ()), SETTINGS)
