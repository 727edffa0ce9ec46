"""Pictures of the console, with `python -m tests.e2e.console.screens [FOLDER [SCENE …]]`.

In a folder, each view, light and dark, narrow and wide; without one, the picture in README.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from playwright.sync_api import Browser, FloatRect, Page, ViewportSize, expect

from scripts.service import Service
from tests import upstream as fake
from tests.e2e.console.browser import chromium
from tests.e2e.console.person import Person
from tests.e2e.test_service import Caller, environment
from tests.stores import ROOT
from tests.upstream import Upstream

DRAFT = """hey can you write a mail to {{name}} about the delay of order {{order.id}}?? make it nice

it should say sorry and give a new date ${date}, see https://status.example.com"""
REFINED = """Write an e-mail to {{name}} about the delay of order {{order.id}}.

Apologise once, name the new delivery date ${date}, and point to https://status.example.com for updates.

Use a friendly, plain tone and at most 120 words."""
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
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
WIDTHS = (360, 1280)
PICTURE = ROOT / "docs" / "images" / "console.png"
README_WIDTH = 1080


def nobody(person: Person, upstream: Upstream) -> None:
    person.open()


def refused(person: Person, upstream: Upstream) -> None:
    person.open()
    person.page.get_by_label("API key").fill("klm_wrong.key")
    person.button("Sign in").click()
    expect(person.page.get_by_role("alert")).to_be_visible()


def empty(person: Person, upstream: Upstream) -> None:
    person.arrive()
    expect(person.page.get_by_label("Strategy")).not_to_be_empty()


def running(person: Person, upstream: Upstream) -> None:
    upstream.hold()
    person.arrive()
    person.refine(DRAFT)
    expect(person.page.get_by_text("being made")).to_be_visible()


def stopped(person: Person, upstream: Upstream) -> None:
    running(person, upstream)
    person.button("Stop waiting").click()


def refined(person: Person, upstream: Upstream) -> None:
    upstream.script(fake.refinement(REFINED, CHANGES, ASSUMPTIONS))
    person.arrive()
    person.refine(DRAFT)
    expect(person.main.get_by_text("added.")).to_be_visible()


def tried(person: Person, upstream: Upstream) -> None:
    refined(person, upstream)
    upstream.script(fake.completion("Dear Ada,\n\nwe are sorry: your order is late."))
    person.button("Run both").click()
    expect(person.page.get_by_text("we are sorry")).to_have_count(2)


def unrefined(person: Person, upstream: Upstream) -> None:
    upstream.script(fake.refinement("Write an e-mail to {{customer}} about order {{order.id}}."))
    person.arrive()
    person.refine(DRAFT)
    expect(person.main.get_by_text("The two are the same")).to_be_visible()


def versions(person: Person, upstream: Upstream) -> None:
    refined(person, upstream)
    upstream.script(fake.refinement(REFINED.replace("120", "80"), CHANGES[1:2]))
    person.refine_again("At most 80 words.")
    expect(person.main.get_by_text("1 word removed, 1 word added.")).to_be_visible()


def right_to_left(person: Person, upstream: Upstream) -> None:
    change = {"reason": "طُلبت نبرة محددة.", "before": "لطيفة", "after": "ودّية وواضحة"}
    upstream.script(fake.refinement("اكتب رسالة ودّية وواضحة إلى {{name}} عن التأخير.\nReply in English.", [change]))
    person.arrive()
    person.refine("اكتب رسالة لطيفة إلى {{name}} عن التأخير")
    expect(person.main.get_by_text("added.")).to_be_visible()


def offline(person: Person, upstream: Upstream) -> None:
    running(person, upstream)
    person.page.context.set_offline(True)
    expect(person.main.get_by_text("No connection")).to_be_visible()


def failed(person: Person, upstream: Upstream) -> None:
    upstream.script(fake.html())
    person.arrive()
    person.refine(DRAFT)
    expect(person.page.get_by_role("alert")).to_be_visible()


def expired(person: Person, upstream: Upstream) -> None:
    running(person, upstream)
    person.page.route("**/refine/*", lambda route: route.fulfill(status=401, json={"type": "/problems/invalid-token"}))
    expect(person.page.get_by_label("API key")).to_be_visible()


SCENES: tuple[Callable[[Person, Upstream], None], ...] = (
    nobody,
    refused,
    empty,
    running,
    stopped,
    refined,
    tried,
    unrefined,
    versions,
    right_to_left,
    offline,
    failed,
    expired,
)


def main() -> None:
    with TemporaryDirectory() as data, Upstream() as upstream, chromium() as browser:
        model = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-screens", "OPENAI_MODEL": "gpt-4.1"}
        environ = environment(Path(data), **model)
        with Service(environ, Path(data) / "service.log") as service:
            key = Caller(service.url, environ).api_key
            if len(sys.argv) == 1:
                with seen(browser, "light", README_WIDTH) as page:
                    for_readme(Person(page, service.url, key), upstream)
            else:
                Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
                for scene, scheme, width in product(SCENES, SCHEMES, WIDTHS):
                    if not sys.argv[2:] or scene.__name__ in sys.argv[2:]:
                        with seen(browser, scheme, width) as page:
                            scene(Person(page, service.url, key), upstream)
                            name = f"{scene.__name__}-{scheme}-{width}.png"
                            page.screenshot(path=Path(sys.argv[1]) / name, full_page=True)
                        upstream.release()


def for_readme(person: Person, upstream: Upstream) -> None:
    """A refined prompt, from the top of the page to the end of the report."""
    refined(person, upstream)
    person.page.mouse.move(0, 0)
    person.page.evaluate("scrollTo(0, 0)")
    end = person.report("Cost").bounding_box()
    assert end
    clip: FloatRect = {"x": 0, "y": 0, "width": README_WIDTH, "height": end["y"] + end["height"] + 16}
    PICTURE.parent.mkdir(exist_ok=True)
    person.page.screenshot(path=PICTURE, full_page=True, clip=clip)


@contextmanager
def seen(browser: Browser, scheme: Scheme, width: int) -> Iterator[Page]:
    """A page on a screen of this width, in the light or in the dark."""
    size: ViewportSize = {"width": width, "height": 900}
    with browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce") as context:
        yield context.new_page()


if __name__ == "__main__":
    main()
