"""A service behind whose back a storage fails, and what its callers are promised whatever happens."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests

from records import Record, Selection
from scripts.service import Service
from storage import Storage, open_storage
from tests import upstream as fake
from tests.e2e.test_outbox import until
from tests.e2e.test_service import Caller, environment
from tests.proxy import FaultProxy, Matching
from tests.upstream import Upstream

# In seconds: what the services of these tests promise, and what a busy machine may take on top.
DEADLINE = 2
MARGIN = 4.0
LIMITS = {"RATE_LIMIT": "10000/minute", "DAILY_TOKEN_BUDGET": "100000000"}


def in_time(answer: requests.Response) -> requests.Response:
    """The answer, which came within the service's deadline."""
    seconds = answer.elapsed.total_seconds()
    assert seconds < DEADLINE + MARGIN, f"{answer.request.method} {answer.request.path_url} took {seconds} s"
    return answer


def assert_refused(answer: requests.Response) -> None:
    """503 in time, in the form that the route promises, with a pause and without a word of the storage's own."""
    assert in_time(answer).status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    problem = answer.json()
    if answer.request.path_url == "/token":
        assert problem["error"] == "temporarily_unavailable"
        detail = problem["error_description"]
    else:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert (problem["type"], problem["status"]) == ("/problems/storage-unavailable", 503)
        detail = problem["detail"]
    assert detail == "The audit log cannot be reached."


@dataclass
class Scene:
    """A running service, the proxy between it and its storage, that storage by another way, and the model's server."""

    service: Service
    proxy: FaultProxy
    behind: Storage
    upstream: Upstream
    caller: Caller

    def new_prompt(self) -> str:
        """A prompt that nobody had before; it serves as an idempotency key too."""
        return f"prompt-{uuid.uuid4().hex}"

    def refine(self, prompt: str, key: str | None = None) -> requests.Response:
        """A refinement whose answer came in time."""
        return in_time(self.caller.refine(prompt, **({"Idempotency_Key": key} if key else {})))

    def records(self, prompt: str) -> list[Record]:
        """Every record of this prompt, newest first, as it is now, whether or not the service sees the storage."""
        return [record for record in self.behind.page(Selection(), 100) if record.prompt == prompt]

    @contextmanager
    def asking(self, prompt: str, key: str | None = None) -> Iterator[Future[requests.Response]]:
        """While the model has the prompt; what the caller gets is there afterwards."""
        before = len(self.upstream.requests)
        self.upstream.hold()
        with ThreadPoolExecutor(1) as pool:
            try:
                asked = pool.submit(self.refine, prompt, key)
                self.upstream.wait_for(before + 1)
                yield asked
            finally:
                self.upstream.release()

    def statuses(self, prompt: str) -> list[str]:
        return [record.status for record in self.records(prompt)]

    def assert_serves(self) -> None:
        """The service works again by itself: a refinement succeeds, soon, and so does a report."""
        until(lambda: self.caller.get("/ready").status_code == 200)
        until(lambda: self.refine("again").status_code == 200)
        until(lambda: self.caller.post("/log-request", {"prompt": "p", "response": "r"}).status_code == 201)


def inserts(prompt: str) -> Matching:
    """The write of this prompt's pending record."""
    return lambda request: prompt.encode() in request and (b"setOnInsert" in request or b"INSERT INTO" in request)


def completes(prompt: str) -> Matching:
    """The write that completes this prompt's record, where the model's answer has the prompt in it."""
    return lambda request: _better(prompt).encode() in request


def _better(prompt: str) -> str:
    return f"better: {prompt}"


@contextmanager
def scene_on(database_url: str, behind_url: str, folder: Path, proxy: FaultProxy) -> Iterator[Scene]:
    """A service whose storage stands behind the proxy, with a caller; `behind_url` names it past the proxy."""
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        environ = settings(folder, upstream, database_url)
        behind = stack.enter_context(closing(watching(behind_url)))
        service = stack.enter_context(Service(environ, folder / "service.log"))
        yield Scene(service, proxy, behind, upstream, Caller(service.url, environ))


def watching(url: str) -> Storage:
    """A store to look at records with. Its clock stands long ago: to look must not close what is overdue."""
    return open_storage(url, create=False, clock=lambda: datetime(2020, 1, 1, tzinfo=UTC))


def in_order_again(scene: Scene) -> Scene:
    """The same scene before a test: nothing is wrong, and no prompt has come."""
    scene.proxy.heal()
    scene.upstream.requests.clear()
    scene.upstream.script(fake.echo(_better))
    scene.assert_serves()
    scene.upstream.requests.clear()
    return scene


def settings(folder: Path, upstream: Upstream, database_url: str, **changes: str) -> dict[str, str]:
    """One worker, a short deadline, and limits, so that every part of the service that needs the storage is at work."""
    model = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-canary-e2e", "OPENAI_MODEL": "gpt-test"}
    changes = {"REQUEST_DEADLINE_SECONDS": str(DEADLINE), "WEB_CONCURRENCY": "1", "WEB_THREADS": "32", **changes}
    return environment(folder, **{**model, **LIMITS, "DATABASE_URL": database_url, **changes})


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


def asked_of(scene: Scene, prompt: str) -> dict[str, Callable[[], requests.Response]]:
    """What callers ask for, by name, that needs the storage; `prompt` is what is to be refined."""
    caller, known = scene.caller, scene.refine("before the fault").json()["id"]
    scene.upstream.requests.clear()
    url, credentials = f"{caller.url}/token", {"X-API-Key": caller.api_key}
    return {
        "token": lambda: requests.post(url, json={}, headers=credentials, timeout=60),
        "refine": lambda: caller.refine(prompt),
        "refine with a key": lambda: caller.refine(prompt, Idempotency_Key=prompt),
        "refine further": lambda: caller.post("/refine", {"parent_id": known}),
        "refinement": lambda: caller.read(known),
        "generate": lambda: caller.post("/generate", {"prompt": scene.new_prompt()}),
        "report": lambda: caller.post("/log-request", {"prompt": "p", "response": "r"}),
        "records": lambda: caller.get("/log-request"),
        "record": lambda: caller.get(f"/log-request/{known}"),
        "usage": lambda: caller.get("/usage"),
    }
