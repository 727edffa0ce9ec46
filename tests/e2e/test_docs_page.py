"""`/docs` in a real browser, behind a path prefix such as API Gateway's stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import element_to_be_clickable
from selenium.webdriver.support.wait import WebDriverWait
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from tests.harness import Harness

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PREFIX = "/stage"
BOUND = 60
REFINE, ANSWER = "#operations-default-refine", ".live-responses-table .response"
SWITCHES = (
    "--headless",
    # A container's root may not have the sandbox, and its /dev/shm is small.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Whatever the browser itself may want of the world.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1280,1600",
)
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

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
)


@pytest.fixture
def service(harness: Harness) -> Iterator[str]:
    """The address of the service under the prefix, with `DOCUMENT` in the place of its own."""
    document = Response(json.dumps(DOCUMENT), mimetype="application/json")
    app = DispatcherMiddleware(NotFound(), {PREFIX: harness.app, f"{PREFIX}/openapi.json": document})
    with make_server("127.0.0.1", 0, app, threaded=True) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
        server.shutdown()
        thread.join()


class Browser:
    """A Chromium: what it shows, what it asked for and what it complained of."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self._wait = WebDriverWait(driver, BOUND)

    def element(self, selector: str) -> WebElement:
        """The first element that matches, once it can be used."""
        return self._wait.until(element_to_be_clickable((By.CSS_SELECTOR, selector)))

    def texts(self, selector: str) -> list[str]:
        """What stands in the elements that match, without the marks where a line may be broken."""
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return [element.text.replace("\u200b", "") for element in found]

    def requests(self) -> list[dict[str, Any]]:
        """Each request that a page of the service made since the last call: `url`, `method`, `headers`."""
        events = [json.loads(message)["message"] for message in self._log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        # Chromium's own first page is in the log too.
        return [each["request"] for each in sent if each["documentURL"].startswith("http://127.0.0.1:")]

    def complaints(self) -> list[str]:
        """What came to the console since the last call: errors, warnings, violations of the policy."""
        return self._log("browser")

    def _log(self, kind: str) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log(kind)]  # type: ignore[no-untyped-call]


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A new Chromium with an empty profile."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, ChromeService(str(DRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as running:
        yield running


def authorize(browser: Browser, token: str) -> None:
    browser.element("button.authorize").click()
    browser.element(".auth-container input").send_keys(token)
    browser.element(".auth-btn-wrapper button[type=submit]").click()
    browser.element(".auth-btn-wrapper .btn-done").click()
    browser.element("button.authorize.locked")


def execute(browser: Browser, body: str) -> None:
    typed = browser.element(f"{REFINE} textarea")
    typed.send_keys(Keys.CONTROL, "a")
    typed.send_keys(body)
    browser.element(f"{REFINE} button.execute").click()


def test_the_page_draws_authorizes_and_executes(harness: Harness, service: str, browser: Browser) -> None:
    """The operations are there, Execute sends the token, no other host is asked, and nothing breaks the policy."""
    token = harness.token()
    browser.driver.get(f"{service}/docs")
    browser.element(f"{REFINE} .opblock-summary-control").click()
    assert browser.texts(".opblock-summary-method") == ["GET", "POST"]
    assert browser.texts(".opblock-summary-path") == ["/health", "/refine"]
    authorize(browser, token)
    execute(browser, '{"prompt": "typed into the page"}')
    assert browser.element(f"{ANSWER} .response-col_status").text.startswith("200")
    assert '"refined_prompt": "typed into the page"' in browser.element(f"{ANSWER} .highlight-code").text
    requests = browser.requests()
    (sent,) = [request for request in requests if request["method"] == "POST"]
    assert (sent["url"], sent["headers"]["Authorization"]) == (f"{service}/refine", f"Bearer {token}")
    assert [each["url"] for each in requests if not each["url"].startswith((f"{service}/", "data:"))] == []
    assert browser.complaints() == []


def test_a_token_ends_with_the_page(service: str, browser: Browser) -> None:
    """What was typed into the dialog is kept in memory and nowhere else."""
    browser.driver.get(f"{service}/docs")
    authorize(browser, "a-token")
    kept = "return [localStorage.length, sessionStorage.length, document.cookie]"
    assert browser.driver.execute_script(kept) == [0, 0, ""]
    browser.driver.refresh()
    browser.element("button.authorize.unlocked")


def test_the_page_is_as_dark_as_the_system(service: str, browser: Browser) -> None:
    """The page follows the system's colours, also when they change while it is open."""
    browser.driver.get(f"{service}/docs")
    for scheme, page in (("dark", "html.dark-mode"), ("light", "html:not(.dark-mode)")):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.element(f"{page} .info")
