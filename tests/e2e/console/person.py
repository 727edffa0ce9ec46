"""Somebody who uses the console: sees what is shown, and finds things by their labels."""

from __future__ import annotations

from playwright.sync_api import ConsoleMessage, Locator, Page, expect


class Person:
    """A page, and what the browser complained of: violations of the policy, errors of scripts."""

    def __init__(self, page: Page, url: str, api_key: str) -> None:
        self.page = page
        self.url = url
        self.api_key = api_key
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        # An answer with an error's status is a line of its own, whatever the page makes of it.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def open(self, place: str = "/") -> None:
        self.page.goto(self.url + place)

    def sign_in(self) -> None:
        """Exchange the API key, once it is asked for."""
        self.page.get_by_label("API key").fill(self.api_key)
        self.button("Sign in").click()
        expect(self.button("Sign out")).to_be_visible()

    def arrive(self, place: str = "/") -> None:
        """Open the page and sign in."""
        self.open(place)
        self.sign_in()

    def refine(self, prompt: str) -> None:
        """Have a prompt refined, without waiting for what comes of it."""
        self.prompt.fill(prompt)
        self.button("Refine", exact=True).click()

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_label("Prompt", exact=True)

    def button(self, name: str, *, exact: bool = False) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact)
