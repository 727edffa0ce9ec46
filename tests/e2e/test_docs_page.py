"""`/docs` in a real browser, behind a path prefix such as API Gateway's stage."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from werkzeug.wrappers import Response

from tests.e2e.console.person import Person
from tests.e2e.serving import served
from tests.harness import Harness

PREFIX = "/stage"
REFINE, ANSWER = "#operations-default-refine", ".live-responses-table .response"
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "klamala", "version": "1", "description": "A small document."},
    "servers": [{"url": "."}],
    "paths": {
        "/health": {"get": {"operationId": "health", "responses": {"200": {"description": "It is there."}}}},
        "/refine": {
            "post": {
                "operationId": "refine",
                "security": [{"bearer": []}],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Draft"}}},
                },
                "responses": {"200": {"description": "Refined."}, "401": {"description": "No token."}},
            }
        },
    },
    "components": {
        "schemas": {
            "Draft": {
                "type": "object",
                "properties": {
                    "prompt": {"type": "string", "examples": ["greet {{name}}"]},
                    "instructions": {"type": ["string", "null"], "examples": [None]},
                },
            }
        },
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
    },
}


@pytest.fixture
def service(harness: Harness) -> Iterator[str]:
    """The address of the service under the prefix, with `DOCUMENT` in the place of its own."""
    document = Response(json.dumps(DOCUMENT), mimetype="application/json")
    with served({PREFIX: harness.app, f"{PREFIX}/openapi.json": document}) as address:
        yield f"{address}{PREFIX}"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that nobody has used before."""
    with browser.new_context(viewport={"width": 1280, "height": 1600}) as fresh:
        yield fresh


@pytest.fixture
def reader(service: str, context: BrowserContext) -> Iterator[Person]:
    """Somebody who reads the page; in the end nothing may have been complained of."""
    someone = Person(context.new_page(), service, "")
    someone.open("/docs")
    yield someone
    assert someone.complaints == []


def authorize(page: Page, token: str) -> None:
    page.locator("button.authorize").first.click()
    page.locator(".auth-container input").fill(token)
    page.locator(".auth-btn-wrapper button[type=submit]").click()
    page.locator(".auth-btn-wrapper .btn-done").click()
    expect(page.locator("button.authorize.locked").first).to_be_visible()


def test_the_page_draws_authorizes_and_executes(harness: Harness, service: str, reader: Person) -> None:
    """The operations are there, Execute sends the token, no other host is asked, and nothing breaks the policy."""
    page, token = reader.page, harness.token()
    page.locator(f"{REFINE} .opblock-summary-control").click()
    expect(page.locator(".opblock-summary-method")).to_have_text(["GET", "POST"])
    # The page marks in a path where a line may be broken.
    paths = [text.replace("\u200b", "") for text in page.locator(".opblock-summary-path").all_inner_texts()]
    assert paths == ["/health", "/refine"]
    authorize(page, token)
    page.locator(f"{REFINE} textarea").fill('{"prompt": "typed into the page"}')
    page.locator(f"{REFINE} button.execute").click()
    expect(page.locator(f"{ANSWER} .response-col_status").first).to_have_text("200")
    expect(page.locator(f"{ANSWER} .highlight-code").first).to_contain_text('"refined_prompt": "typed into the page"')
    (sent,) = reader.sent("/refine")
    assert (sent.method, sent.headers["authorization"]) == ("POST", f"Bearer {token}")
    asked = [request.url for request in reader.requests]
    assert [url for url in asked if not url.startswith((f"{service}/", "data:"))] == []


def test_a_token_ends_with_the_page(reader: Person) -> None:
    """What was typed into the dialog is kept in memory and nowhere else."""
    page = reader.page
    authorize(page, "a-token")
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    page.reload()
    expect(page.locator("button.authorize.unlocked").first).to_be_visible()


def test_the_page_is_as_dark_as_the_system(reader: Person) -> None:
    """The page follows the system's colours, also when they change while it is open."""
    page = reader.page
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html.dark-mode .info")).to_be_visible()
    page.emulate_media(color_scheme="light")
    expect(page.locator("html:not(.dark-mode) .info")).to_be_visible()
