"""Pictures of the console: `python -m tests.e2e.console.screens FOLDER` draws each view, light and dark, narrow and wide."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, expect

from scripts.service import Service
from tests import upstream as fake
from tests.e2e.console.browser import chromium
from tests.e2e.console.person import Person
from tests.e2e.test_service import Caller, environment
from tests.upstream import Upstream

DRAFT = """hey can you write a mail to {{name}} about the delay of order {{order.id}}?? make it nice

it should say sorry and give a new date ${date}, see https://status.example.com"""
REFINED = """Write an e-mail to {{name}} about the delay of order {{order.id}}.

Apologise once, name the new delivery date ${date}, and point to https://status.example.com for updates. Use a friendly,
plain tone and at most 120 words."""
CHANGES = [
    {
        "reason": "A clear instruction instead of a question.",
        "before": "hey can you write a mail",
        "after": "Write an e-mail",
    },
    {"reason": "The length was open.", "before": "", "after": "at most 120 words"},
    {"reason": "“Nice” says little to a model.", "before": "make it nice", "after": "Use a friendly, plain tone"},
]
ASSUMPTIONS = ["The customer knows the order by its number.", "The mail is in English."]
SCHEMES = ("light", "dark")
WIDTHS = (360, 1280)


class Studio:
    """A service, a model's server beside it, and a browser."""

    def __init__(self, browser: Browser, service: Service, upstream: Upstream, api_key: str) -> None:
        self.browser = browser
        self.service = service
        self.upstream = upstream
        self.api_key = api_key

    @contextmanager
    def person(self, scheme: str, width: int) -> Iterator[Person]:
        """Somebody with a screen of this width, in the light or in the dark."""
        size = {"width": width, "height": 900}
        with self.browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce") as context:  # type: ignore[arg-type]
            yield Person(context.new_page(), self.service.url, self.api_key)


def nobody(studio: Studio, person: Person) -> None:
    person.open()


def refused(studio: Studio, person: Person) -> None:
    person.open()
    person.page.get_by_label("API key").fill("klm_wrong.key")
    person.button("Sign in").click()
    expect(person.page.get_by_role("alert")).to_be_visible()


def empty(studio: Studio, person: Person) -> None:
    person.arrive()
    expect(person.page.get_by_label("Strategy")).not_to_be_empty()


def running(studio: Studio, person: Person) -> None:
    studio.upstream.hold()
    person.arrive()
    person.refine(DRAFT)
    expect(person.page.get_by_text("being made")).to_be_visible()


def stopped(studio: Studio, person: Person) -> None:
    running(studio, person)
    person.button("Stop waiting").click()


def refined(studio: Studio, person: Person) -> None:
    studio.upstream.script(fake.refinement(REFINED, CHANGES, ASSUMPTIONS))
    person.arrive()
    person.refine(DRAFT)
    expect(person.main.get_by_text("added.")).to_be_visible()


def tried(studio: Studio, person: Person) -> None:
    refined(studio, person)
    studio.upstream.script(fake.completion("Dear Ada,\n\nwe are sorry: your order is late."))
    person.button("Run both").click()
    expect(person.page.get_by_text("we are sorry")).to_have_count(2)


def unrefined(studio: Studio, person: Person) -> None:
    studio.upstream.script(fake.refinement("Write an e-mail to {{customer}} about order {{order.id}}."))
    person.arrive()
    person.refine(DRAFT)
    expect(person.main.get_by_text("The two are the same")).to_be_visible()


def failed(studio: Studio, person: Person) -> None:
    studio.upstream.script(fake.html())
    person.arrive()
    person.refine(DRAFT)
    expect(person.page.get_by_role("alert")).to_be_visible()


def expired(studio: Studio, person: Person) -> None:
    running(studio, person)
    person.page.route("**/refine/*", lambda route: route.fulfill(status=401, json={"type": "/problems/invalid-token"}))
    expect(person.page.get_by_label("API key")).to_be_visible()


SCENES: tuple[Callable[[Studio, Person], None], ...] = (
    nobody,
    refused,
    empty,
    running,
    stopped,
    refined,
    tried,
    unrefined,
    failed,
    expired,
)


@contextmanager
def studio() -> Iterator[Studio]:
    with TemporaryDirectory() as folder, Upstream() as upstream, chromium() as browser:
        environ = environment(
            Path(folder), OPENAI_BASE_URL=upstream.url, OPENAI_API_KEY="sk-screens", OPENAI_MODEL="gpt-test"
        )
        with Service(environ, Path(folder) / "service.log") as service:
            yield Studio(browser, service, upstream, Caller(service.url, environ).api_key)
            upstream.release()


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    with studio() as built:
        for scene in SCENES:
            for scheme in SCHEMES:
                for width in WIDTHS:
                    if wanted and scene.__name__ not in wanted:
                        continue
                    with built.person(scheme, width) as person:
                        scene(built, person)
                        person.page.screenshot(path=folder / f"{scene.__name__}-{scheme}-{width}.png", full_page=True)
                    built.upstream.release()


if __name__ == "__main__":
    main()
