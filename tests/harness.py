"""What the tests build the service from: real parts, a temporary store, a client with credentials."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from auth import SCOPES, TokenPolicy
from clients import Credentials, register
from refinery.deadline import Deadline
from refinery.engines import NO_USAGE, Change, EngineError, Generation, Rewrite, Task
from settings import Settings, load_settings
from storage import Storage, open_storage

FIRST_SECRET = "first-secret-" + "a" * 32
SECOND_SECRET = "second-secret-" + "b" * 32


def settings_in(folder: Path, **environ: str) -> Settings:
    """Settings on a SQLite file in `folder`, two JWT secrets, no rate limit, and what the test says."""
    return load_settings(
        {
            "DATA_DIR": str(folder),
            "DATABASE_URL": f"sqlite:///{folder / 'test.sqlite3'}",
            "JWT_SECRETS": f"k1:{FIRST_SECRET},k2:{SECOND_SECRET}",
            "RATE_LIMIT": "none",
            **environ,
        }
    )


@dataclass
class ScriptedEngine:
    """An engine that plays its outcomes in order, the last one for ever, and keeps what it was asked."""

    outcomes: Sequence[str | Rewrite | Generation | EngineError] = ()
    tasks: list[Task] = field(default_factory=list)
    prompts: list[tuple[str, str, int]] = field(default_factory=list)
    deadlines: list[Deadline] = field(default_factory=list)
    before_answer: Callable[[], None] | None = None
    name: str = "scripted"

    def model_for(self, requested: str) -> str:
        return requested

    def rewrite(self, task: Task, deadline: Deadline) -> Rewrite:
        self.tasks.append(task)
        outcome = self._play(deadline) or task.draft
        assert not isinstance(outcome, Generation)
        if isinstance(outcome, Rewrite):
            return outcome
        return Rewrite(outcome, (Change("clearer", "a", "b"),), ("CANARY-assumption",), task.model, NO_USAGE)

    def generate(self, prompt: str, *, model: str, max_tokens: int, deadline: Deadline) -> Generation:
        self.prompts.append((prompt, model, max_tokens))
        outcome = self._play(deadline) or prompt
        assert not isinstance(outcome, Rewrite)
        return outcome if isinstance(outcome, Generation) else Generation(outcome, "stop", NO_USAGE)

    def _play(self, deadline: Deadline) -> str | Rewrite | Generation | None:
        self.deadlines.append(deadline)
        if self.before_answer:
            self.before_answer()
        outcome = self.outcomes[min(len(self.deadlines), len(self.outcomes)) - 1] if self.outcomes else None
        if isinstance(outcome, EngineError):
            raise outcome
        return outcome


@dataclass
class Harness:
    """A built service with what a test needs to talk to it."""

    app: Flask
    settings: Settings
    storage: Storage
    engine: ScriptedEngine

    @property
    def http(self) -> FlaskClient:
        return self.app.test_client()

    @property
    def policy(self) -> TokenPolicy:
        settings = self.settings
        return TokenPolicy(settings.jwt_secrets, settings.jwt_issuer, settings.jwt_audience, settings.token_ttl_seconds)

    def register(self, *scopes: str) -> Credentials:
        """A new client with these scopes, all of them without any."""
        return register(self.storage, "test", scopes or SCOPES)

    def token(self, credentials: Credentials | None = None, **parameters: str) -> str:
        """An access token, got over the API."""
        credentials = credentials or self.register()
        answer = self.http.post("/token", json=parameters, headers={"X-API-Key": credentials.api_key})
        assert answer.status_code == 200, answer.text
        return str(answer.get_json()["access_token"])

    def refine(self, token: str, body: Mapping[str, Any], **headers: str) -> TestResponse:
        """`POST /refine`; underscores in header names become hyphens."""
        return self.post("/refine", token, body, **headers)

    def post(self, path: str, token: str, body: Mapping[str, Any], **headers: str) -> TestResponse:
        """A JSON body with a token; underscores in header names become hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **named}
        # Flask's own way to write JSON would sort the names.
        return self.http.post(path, data=json.dumps(body), headers=headers)

    def get(self, path: str, token: str, query: Mapping[str, Any] | None = None) -> TestResponse:
        """A request with a token and a query."""
        return self.http.get(path, query_string=query, headers={"Authorization": f"Bearer {token}"})


def build(folder: Path, engine: ScriptedEngine | None = None, **environ: str) -> Harness:
    """A service on a new SQLite file with a scripted engine."""
    settings = settings_in(folder, **environ)
    storage = open_storage(settings.database_url)
    engine = engine or ScriptedEngine()
    return Harness(create_app(settings, storage=storage, engine=engine), settings, storage, engine)
