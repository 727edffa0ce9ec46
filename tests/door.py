"""`wsgi_handler` as Lambda runs it, for the tests: imported in an environment of its own, and called with events."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from auth import SCOPES
from clients import Credentials, register
from storage import open_storage
from tests.events import Answer, Call, Event, answered, http_api
from tests.harness import FIRST_SECRET
from tests.stores import ROOT, sqlite_url

ORIGIN = "https://app.example.com"


def imported() -> ModuleType:
    """`wsgi_handler`, imported as if for the first time."""
    spec = importlib.util.spec_from_file_location("wsgi_handler", ROOT / "wsgi_handler.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Door:
    """The module, behind one of API Gateway's kinds of API, with a client of the service."""

    module: ModuleType
    gateway: Callable[..., Event]
    credentials: Credentials
    token: str = ""

    def call(self, method: str, path: str, *headers: tuple[str, str], query: str = "", **event: Any) -> Answer:
        """A request with the token, if there is one."""
        return self.send(Call(method, path, query, (*self._bearer(), *headers)), **event)

    def post(self, path: str, value: object, *headers: tuple[str, str], **event: Any) -> Answer:
        """A request with a JSON body, and the token."""
        return self.send(Call("POST", path, "", (*self._bearer(), *headers)).with_json(value), **event)

    def send(self, call: Call, **event: Any) -> Answer:
        return answered(self.module.handler(self.gateway(call, **event), None))

    def _bearer(self) -> list[tuple[str, str]]:
        return [("Authorization", f"Bearer {self.token}")] if self.token else []

    def behind(self, gateway: Callable[..., Event]) -> Door:
        """The same behind this kind of API, with a token that was got through it."""
        plain = replace(self, gateway=gateway, token="")
        answer = plain.post("/token", {}, ("X-API-Key", plain.credentials.api_key))
        assert answer.status == 200, answer.body
        return replace(plain, token=answer.json["access_token"])


@contextmanager
def opened_door(folder: Path, **settings: str) -> Iterator[Door]:
    """The module on a new SQLite file, with the built-in engine, open to the pages of one origin; settings on top."""
    environ = {
        "DATA_DIR": str(folder),
        "DATABASE_URL": sqlite_url(folder / "door.sqlite3"),
        "JWT_SECRETS": f"k1:{FIRST_SECRET}",
        "CORS_ORIGINS": ORIGIN,
        "RATE_LIMIT": "1000000/day",
        **settings,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in environ.items():
            patch.setenv(name, value)
        module = imported()
    with closing(open_storage(environ["DATABASE_URL"])) as storage:
        yield Door(module, http_api, register(storage, "test", SCOPES))
