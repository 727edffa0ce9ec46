"""Somebody who uses the console: sees what is shown, and finds things by their labels."""

from __future__ import annotations

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect


class Person:
    """A page: what it asked for, and what the browser complained of (violations of the policy, errors of scripts)."""

    def __init__(self, page: Page, url: str, api_key: str) -> None:
        self.page = page
        self.url = url
        self.api_key = api_key
        self.complaints: list[str] = []
        self.requests: list[Request] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request))

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

    def refine_again(self, wish: str) -> None:
        """Say what should change in the version that is shown, and have it refined."""
        self.page.get_by_label("What should change").fill(wish)
        self.button("Refine again").click()

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_label("Prompt", exact=True)

    @property
    def main(self) -> Locator:
        """What is shown, without what screen readers alone are told."""
        return self.page.get_by_role("main")

    @property
    def alert(self) -> Locator:
        return self.page.get_by_role("alert")

    def button(self, name: str, *, exact: bool = False) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact)

    def text_of(self, version: str) -> Locator:
        """The pane with the text of a version, such as `Draft` or `Version 1`."""
        return self.page.get_by_role("region", name=f"Text of {version}", exact=True)

    def report(self, title: str) -> Locator:
        """What is said under this title of the version on the right."""
        return self.main.locator("section", has=self.page.get_by_role("heading", name=title, exact=True)).last

    def sent(self, path: str) -> list[Request]:
        """The requests to a path below the service's address, in order."""
        return [request for request in self.requests if request.url == self.url + path]
