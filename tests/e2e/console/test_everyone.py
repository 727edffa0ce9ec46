"""The console for everyone: with a keyboard, a screen reader, in the dark, on any screen, in any script and length."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from scripts.service import Service
from tests import upstream as fake
from tests.e2e.console.browser import CONSOLE
from tests.e2e.console.conftest import NewKey
from tests.e2e.console.person import Person
from tests.e2e.console.screens import SCENES, SCHEMES, Scheme, seen
from tests.upstream import Upstream

NARROW, WIDE = 360, 1920
AXE = CONSOLE / "node_modules" / "axe-core" / "axe.min.js"
scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)


def faults(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA and its own best practices."""
    page.evaluate(AXE.read_text("utf-8"))
    found: list[dict[str, Any]] = page.evaluate("axe.run().then(({ violations }) => violations)")
    return [f"{each['id']}: {[node['target'] for node in each['nodes']]}" for each in found]


@scenes
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing(
    scene: Callable[[Person, Upstream], None],
    scheme: Scheme,
    browser: Browser,
    service: Service,
    new_key: NewKey,
    upstream: Upstream,
) -> None:
    """Each view, in the light and in the dark, is without a fault, on a telephone and on a wide screen."""
    with seen(browser, scheme, NARROW) as page:
        scene(Person(page, service.url, new_key()), upstream)
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == NARROW
        page.set_viewport_size({"width": WIDE, "height": 900})
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == WIDE


def tab_to(page: Page, name: str, role: str = "button") -> None:
    """Press Tab until what bears this name has the focus."""
    wanted = page.get_by_role(role, name=name, exact=True)  # type: ignore[arg-type]
    for _ in range(60):
        if wanted.evaluate_all("found => found.includes(document.activeElement)"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"no Tab leads to {name}")


def test_by_keyboard_alone(person: Person, upstream: Upstream) -> None:
    """From the key to a second version and the model's answers, without a mouse."""
    upstream.script(fake.refinement("text one"), fake.refinement("text two"), fake.completion("an answer"))
    page = person.page
    person.open()
    page.keyboard.type(person.api_key)
    page.keyboard.press("Enter")
    expect(person.prompt).to_be_visible()
    tab_to(page, "Prompt", "textbox")
    page.keyboard.type("text zero")
    tab_to(page, "Strategy", "combobox")
    page.keyboard.press("ArrowDown")
    tab_to(page, "Refine")
    page.keyboard.press("Enter")
    expect(person.text_of("Version 1")).to_have_text("text one")
    tab_to(page, "What should change in Version 1?", "textbox")
    page.keyboard.type("more")
    tab_to(page, "Refine again")
    page.keyboard.press("Enter")
    expect(person.text_of("Version 2")).to_have_text("text two")
    tab_to(page, "Earlier")
    page.keyboard.press("Enter")
    expect(person.text_of("Draft")).to_have_text("text zero")
    tab_to(page, "Later")
    page.keyboard.press("Enter")
    tab_to(page, "Run both")
    page.keyboard.press("Enter")
    expect(page.get_by_text("an answer")).to_have_count(2)
    tab_to(page, "Sign out")
    page.keyboard.press("Enter")
    expect(page.get_by_label("API key")).to_be_focused()


def test_the_focus_is_seen_and_never_lost(person: Person, upstream: Upstream) -> None:
    """What vanishes with the focus hands it on, and a link leads past the header."""
    upstream.hold()
    page = person.page
    person.arrive()
    person.prompt.fill("a draft")
    tab_to(page, "Refine")
    page.keyboard.press("Enter")
    expect(person.button("Stop waiting")).to_be_visible()
    tab_to(page, "Stop waiting")
    outline = person.button("Stop waiting").evaluate("button => getComputedStyle(button).outlineStyle")
    upstream.release()
    expect(page.get_by_role("heading", name="Version 1 of 1")).to_be_focused()
    assert outline == "solid"
    page.reload()
    skip = page.get_by_role("link", name="Skip to the content")
    skip.focus()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(person.main).to_be_focused()


def test_screen_readers_are_told(person: Person, upstream: Upstream) -> None:
    """What happens is said by itself: that it is being made, and what came of it."""
    upstream.hold()
    upstream.script(fake.refinement("new text"))
    person.arrive()
    person.refine("old text")
    told = person.page.get_by_role("status")
    expect(told.filter(has_text="The refinement is being made.")).to_have_count(1)
    upstream.release()
    said = "Version 1 beside Draft. 1 word removed, 1 word added."
    expect(told.filter(has_text=said)).to_have_count(1)


@pytest.mark.parametrize(
    ("before", "after", "removed", "added"),
    [
        ("猫について短い詩を書いてください", "犬について短い詩を書いてください", ["猫"], ["犬"]),
        ("写一首关于猫的诗", "写一首关于狗的诗", ["猫"], ["狗"]),
        ("اكتب قصيدة عن القطط", "اكتب قصيدة عن الكلاب", ["القطط"], ["الكلاب"]),
        ("a 👩‍👩‍👧 b", "a 👨‍👩‍👦 b", ["👩‍👩‍👧"], ["👨‍👩‍👦"]),
    ],
    ids=["Japanese", "Chinese", "Arabic", "emoji"],
)
def test_words_of_any_script(
    person: Person, upstream: Upstream, before: str, after: str, removed: list[str], added: list[str]
) -> None:
    """A changed word is marked as a word, also where no spaces stand between words, and no character is split."""
    upstream.script(fake.refinement(after))
    person.arrive()
    person.refine(before)
    expect(person.text_of("Version 1").locator("ins")).to_have_text(added)
    expect(person.text_of("Draft").locator("del")).to_have_text(removed)


def test_right_to_left(person: Person, upstream: Upstream) -> None:
    """A prompt in Arabic or Hebrew runs from the right, each paragraph by its own script."""
    prompt = "اكتب رسالة إلى {{name}}"
    upstream.script(fake.echo(lambda draft: f"{draft}\nreply in English"))
    person.arrive()
    person.refine(prompt)
    direction = "element => getComputedStyle(element).direction"
    for shown in (person.prompt, person.text_of("Draft"), person.text_of("Version 1")):
        expect(shown).to_be_visible()
        assert shown.evaluate(direction) == "rtl"
    lines = person.text_of("Version 1").evaluate(
        """pane => {
            const right = pane.getBoundingClientRect().right, left = pane.getBoundingClientRect().left;
            const walker = document.createTreeWalker(pane, NodeFilter.SHOW_TEXT);
            const range = document.createRange();
            range.selectNodeContents(pane);
            const boxes = [...range.getClientRects()].filter((box) => box.width > 0);
            const last = boxes.at(-1), first = boxes[0];
            return { first: right - first.right < first.left - left, last: right - last.right > last.left - left };
        }"""
    )
    assert lines == {"first": True, "last": True}


def test_a_long_prompt(person: Person, upstream: Upstream) -> None:
    """100,000 characters, rewritten throughout, are compared beside the page's own work, and shown whole."""
    words = [f"w{number % 977}" for number in range(17_500)]
    draft = " ".join(words)[:99_990]
    rewritten = draft.replace("w1", "v1").replace("5 ", "6\n")
    upstream.script(fake.refinement(rewritten))
    person.arrive()
    with person.page.expect_worker() as worker:
        person.refine(draft)
    assert "/console/comparing-worker-" in worker.value.url
    expect(person.main.get_by_text("words removed")).to_be_visible()
    for version, text in (("Draft", draft), ("Version 1", rewritten)):
        assert person.text_of(version).evaluate("pane => pane.textContent") == text


def test_nothing_moves_for_who_wants_no_motion(browser: Browser, service: Service) -> None:
    """The page has no animation and no transition at all."""
    with seen(browser, "light", NARROW) as page:
        page.goto(service.url)
        sheets = page.evaluate(
            "[...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]).map((rule) => rule.cssText)"
        )
    assert sheets
    assert not [rule for rule in sheets if "transition" in rule or "animation" in rule], json.dumps(sheets)
