"""A running service as somebody with a forged token meets it: its guarded routes, and all that must stay as it is."""

from __future__ import annotations

import http.client
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from auth import SCOPES, access_to
from storage import Storage
from tests.harness import Harness
from tests.test_auth import good_token

INVALID = 'Bearer realm="klamala", error="invalid_token"'
NO_TOKEN = 'Bearer realm="klamala"'
TIMEOUT = 60.0
ALL_SCOPES = " ".join(SCOPES)
BODIES = {
    "refine": {"prompt": "a draft"},
    "refine-prompt": {"prompt": "a draft"},
    "generate": {"prompt": "a prompt"},
    "secure-generate": {"prompt": "a prompt"},
    "log-request": {"prompt": "a prompt", "response": "a response"},
}
Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Route:
    """A guarded route, and the scope that its guard asks for."""

    method: str
    path: str
    scope: str | None


@dataclass(frozen=True)
class Answered:
    """What came back over the socket."""

    status: int
    challenge: str | None
    content_type: str
    text: str


@dataclass
class Door:
    """A running service with one registered client, and all that a forged token must leave as it is."""

    address: str
    database: Path
    storage: Storage
    client_id: str
    routes: Sequence[Route]
    asked: Callable[[], int]

    def send(self, route: Route, headers: Headers, query: str = "", **members: str) -> Answered:
        """One request, each header as often as it is given."""
        with closing(http.client.HTTPConnection(self.address, timeout=TIMEOUT)) as connection:
            connection.putrequest(route.method, route.path + query)
            body = b""
            if route.method == "POST":
                body = json.dumps({**BODIES[route.path.strip("/")], **members}).encode()
                headers = [*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            for name, value in headers:
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders(body or None)
            response = connection.getresponse()
            challenge, kind = response.getheader("WWW-Authenticate"), response.getheader("Content-Type", "")
            return Answered(response.status, challenge, kind, response.read().decode())

    def effects(self) -> tuple[list[str], int]:
        """Every row that is stored, and how often the model was asked."""
        with closing(sqlite3.connect(self.database)) as connection:
            return list(connection.iterdump()), self.asked()

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """What happens inside stores nothing, counts nothing and asks no model."""
        before = self.effects()
        yield
        assert self.effects() == before

    def accepts(self, token: str) -> bool:
        """Whether the token opens every route."""
        return all(self.send(route, bearer(token)).status in (200, 201) for route in self.routes)

    def refuses(self, tokens: Mapping[str, str]) -> None:
        """Each token, at each route, is answered with the same refusal and has no effect."""
        assert tokens
        with self.untouched():
            for (name, token), route in product(tokens.items(), self.routes):
                assert_refusal(self.send(route, bearer(token)), f"{name} at {route.method} {route.path}")


def bearer(token: str) -> Headers:
    return [("Authorization", f"Bearer {token}")]


def assert_refusal(
    answer: Answered, case: str, *, challenge: str = INVALID, slug: str = "invalid-token", status: int = 401
) -> None:
    assert (answer.status, answer.challenge, answer.content_type) == (status, challenge, "application/problem+json"), (
        f"{case}: {answer}"
    )
    problem = json.loads(answer.text)
    assert (problem["type"], problem["status"]) == (f"/problems/{slug}", status), case


def guarded_routes(harness: Harness, record_id: str) -> list[Route]:
    """Every route with a guard, as the app itself lists them; `record_id` is a record of the caller's own."""
    return [
        Route(method, rule.rule.replace("<record_id>", record_id), access.scope)
        for rule in harness.app.url_map.iter_rules()
        if (access := access_to(harness.app.view_functions[rule.endpoint]))
        for method in sorted((rule.methods or set()) & {"GET", "POST"})
    ]


def opened(harness: Harness, address: str, asked: Callable[[], int]) -> Door:
    """The service behind an address, once one call with a good token has left a record."""
    database = Path(harness.settings.database_url.removeprefix("sqlite:///"))
    client_id = harness.register().client_id
    door = Door(address, database, harness.storage, client_id, [], asked)
    answer = door.send(Route("POST", "/refine", "refine"), bearer(good_token(client_id, scope=ALL_SCOPES)))
    assert answer.status == 200, answer
    door.routes = guarded_routes(harness, json.loads(answer.text)["id"])
    return door
