"""The history and the usage for everyone: axe-core, a keyboard alone, any script and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from scripts.service import Service
from tests.e2e.console.conftest import NewKey
from tests.e2e.console.log import Log
from tests.e2e.console.log_screens import SCENES
from tests.e2e.console.person import Person
from tests.e2e.console.screens import SCHEMES, Scheme, seen
from tests.e2e.console.test_everyone import NARROW, WIDE, faults, tab_to


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing(
    scene: Callable[[Person, Log], None],
    scheme: Scheme,
    browser: Browser,
    service: Service,
    new_key: NewKey,
    environ: dict[str, str],
) -> None:
    """Each view, empty, filled and in error, is without a fault, on a telephone and on a wide screen."""
    with seen(browser, scheme, NARROW) as page:
        person = Person(page, service.url, new_key())
        with Log(environ["DATABASE_URL"], person.api_key) as log:
            scene(person, log)
        for width in (NARROW, WIDE):
            page.set_viewport_size({"width": width, "height": 900})
            assert faults(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_by_keyboard_alone(person: Person, log: Log) -> None:
    """From the key to a record, the next page, a file, and the usage, without a mouse."""
    log.put(log.report(0, prompt="the one"), *(log.record(age) for age in range(1, 26)))
    page = person.page
    person.open("/#/history")
    page.keyboard.type(person.api_key)
    page.keyboard.press("Enter")
    tab_to(page, "Load more")
    page.keyboard.press("Enter")
    expect(page.get_by_text("that is all")).to_be_visible()
    tab_to(page, "Kind", "combobox")
    page.keyboard.type("Rep")
    tab_to(page, "Show")
    page.keyboard.press("Enter")
    summary = page.locator("summary")
    expect(summary).to_have_count(1)
    tab_to(page, "Export as NDJSON")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert Path(download.value.path()).read_text("utf-8").count("\n") == 1
    while not summary.evaluate("element => element === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    prompt = page.get_by_role("group", name="Prompt", exact=True)
    expect(prompt).to_have_text("the one")
    page.keyboard.press("Tab")
    expect(prompt).to_be_focused()


def test_any_script(person: Person, log: Log) -> None:
    """A record in Arabic runs from the right, in its line and in its pane; one in Japanese is cut at a character."""
    arabic, japanese = "اكتب رسالة إلى {{name}}", "𠮷野家について書いてください。" * 20
    log.put(log.record(prompt=arabic, response=arabic), log.record(60, prompt=japanese))
    person.arrive("/#/history")
    excerpts = person.page.locator(".excerpt")
    expect(excerpts).to_have_count(2)
    direction = "element => getComputedStyle(element).direction"
    assert [excerpts.nth(place).evaluate(direction) for place in range(2)] == ["rtl", "ltr"]
    shown = str(excerpts.nth(1).text_content())
    assert shown == f"{japanese[:160]}…"
    person.page.locator("summary").first.click()
    for name in ("Prompt", "Response: the refined prompt"):
        assert person.page.get_by_role("group", name=name, exact=True).evaluate(direction) == "rtl"


def test_a_long_record(person: Person, log: Log) -> None:
    """100,000 characters on each side are shown whole, in panes that a keyboard scrolls, and cost nothing before."""
    draft, refined = "word " * 20_000, "w" * 100_000
    log.put(*(log.record(age, prompt=draft, response=refined) for age in range(20)))
    person.arrive("/#/history")
    expect(person.page.locator("summary")).to_have_count(20)
    assert person.page.evaluate("document.querySelector('main').textContent.length") < 10_000
    person.page.locator("summary").first.click()
    for name, text in (("Prompt", draft), ("Response: the refined prompt", refined)):
        pane = person.page.get_by_role("group", name=name, exact=True)
        assert pane.evaluate("pane => pane.textContent") == text
        assert pane.evaluate("pane => pane.scrollWidth <= pane.clientWidth")
        pane.evaluate("pane => pane.addEventListener('scroll', () => pane.setAttribute('data-moved', ''))")
        pane.press("End")
        expect(pane).to_have_attribute("data-moved", "")
    assert person.page.evaluate("document.documentElement.scrollWidth") == 1280
