"""The service as a process, a model's server beside it, and a browser that opens the console."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from auth import SCOPES
from clients import register
from scripts.service import Service
from storage import open_storage
from tests import upstream as fake
from tests.e2e.console.log import Log
from tests.e2e.console.person import Person
from tests.e2e.test_service import environment
from tests.stores import sqlite_url
from tests.upstream import Upstream

NewKey = Callable[..., str]


@pytest.fixture(scope="package")
def model() -> Iterator[Upstream]:
    """The model's server, one for all tests."""
    with Upstream() as server:
        yield server


@pytest.fixture
def upstream(model: Upstream) -> Iterator[Upstream]:
    """The model's server as if nobody had asked it anything yet."""
    model.script(fake.echo())
    model.requests.clear()
    yield model
    model.release()


@pytest.fixture(scope="package")
def environ(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The service's settings."""
    folder = tmp_path_factory.mktemp("console")
    return environment(
        folder,
        DATABASE_URL=sqlite_url(folder / "console.sqlite3"),
        OPENAI_BASE_URL=model.url,
        OPENAI_API_KEY="sk-canary-console",
        OPENAI_MODEL="gpt-test",
        OPENAI_MODELS="gpt-test,gpt-other",
        RATE_LIMIT="none",
    )


@pytest.fixture(scope="package")
def service(browser: Browser, environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service, one for all tests: each has a client of its own, whose records no other sees."""
    with Service(environ, tmp_path_factory.mktemp("service") / "service.log") as running:
        yield running


@pytest.fixture
def new_key(service: Service, environ: dict[str, str]) -> NewKey:
    """Registers a client with these scopes, all of them without any, and returns its API key."""

    def registered(*scopes: str) -> str:
        storage = open_storage(environ["DATABASE_URL"])
        try:
            return register(storage, "console", scopes or SCOPES).api_key
        finally:
            storage.close()

    return registered


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that nobody has used before."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as fresh:
        yield fresh


@pytest.fixture
def person(service: Service, new_key: NewKey, upstream: Upstream, context: BrowserContext) -> Iterator[Person]:
    """Somebody with an API key, in front of the console; in the end nothing may have been complained of."""
    someone = Person(context.new_page(), service.url, new_key())
    yield someone
    assert someone.complaints == []


@pytest.fixture
def log(environ: dict[str, str], person: Person) -> Iterator[Log]:
    """The person's records."""
    with Log(environ["DATABASE_URL"], person.api_key) as written:
        yield written
