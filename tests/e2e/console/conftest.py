"""The service as a process, a model's server beside it, and a browser that opens the console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from scripts.service import Service
from tests.e2e.console.browser import chromium, no_browser
from tests.e2e.console.person import Person
from tests.e2e.test_service import Caller, environment
from tests.upstream import Upstream


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if missing := no_browser():
        pytest.skip(missing)
    with chromium() as running:
        yield running


@pytest.fixture
def environ(tmp_path: Path, upstream: Upstream) -> dict[str, str]:
    """The service's settings."""
    return environment(
        tmp_path,
        OPENAI_BASE_URL=upstream.url,
        OPENAI_API_KEY="sk-canary-console",
        OPENAI_MODEL="gpt-test",
        OPENAI_MODELS="gpt-test,gpt-other",
    )


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that nobody has used before."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as fresh:
        yield fresh


@pytest.fixture
def person(service: Service, environ: dict[str, str], context: BrowserContext) -> Iterator[Person]:
    """Somebody with an API key, in front of the console; in the end nothing may have been complained of."""
    someone = Person(context.new_page(), service.url, Caller(service.url, environ).api_key)
    yield someone
    assert someone.complaints == []
