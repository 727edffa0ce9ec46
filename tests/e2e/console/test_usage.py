"""The usage view of the console in a real browser: figures in tables, and charts that draw them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from tests.e2e.console.log import Log
from tests.e2e.console.person import Person
from tests.e2e.console.screens import SCHEMES, Scheme
from tests.e2e.console.test_interruptions import expire

DAY = timedelta(days=1).total_seconds()
CHARTS = ("Calls", "Tokens", "Failures", "Mean latency")


def table(person: Person, name: str) -> Locator:
    return person.page.get_by_role("table", name=name, exact=True)


def rows(person: Person, name: str) -> Locator:
    return table(person, name).locator("tbody tr, tfoot tr")


def charts(person: Person) -> Locator:
    return person.page.get_by_role("figure").get_by_role("img")


def test_the_tables_have_the_figures(person: Person, log: Log) -> None:
    """By model, with a total, and by day and model, the latest day first; a mean is weighted by the calls."""
    log.put(
        log.record(latency_ms=100),
        log.record(latency_ms=200),
        log.record(DAY, latency_ms=900),
        log.failure(DAY, model="gpt-other", latency_ms=50),
    )
    today = log.record().timestamp
    yesterday = today - timedelta(days=1)
    person.arrive("/#/usage")
    expect(person.main.get_by_text("4 finished calls.")).to_be_visible()
    expect(rows(person, "By model")).to_have_text(
        [
            "gpt-test3303321400 ms900 ms",
            "gpt-other1010050 ms50 ms",
            "All models4313321313 ms900 ms",
        ]
    )
    expect(rows(person, "By day and model")).to_have_text(
        [
            f"{today:%Y-%m-%d}gpt-test2202214150 ms200 ms",
            f"{yesterday:%Y-%m-%d}gpt-other1010050 ms50 ms",
            f"{yesterday:%Y-%m-%d}gpt-test110117900 ms900 ms",
        ]
    )


def test_each_measure_has_a_chart(person: Person, log: Log) -> None:
    """A picture with a name and a description; in it each day of each model says what it is."""
    log.put(log.record(), log.record(DAY), log.failure(DAY, model="gpt-other"))
    today = log.record().timestamp
    person.arrive("/#/usage")
    expect(charts(person)).to_have_count(4)
    for place, name in enumerate(CHARTS):
        chart = charts(person).nth(place)
        expect(chart).to_have_accessible_name(f"{name} by day and model {chart.locator('desc').text_content()}")
    first = f"From {today - timedelta(days=29):%Y-%m-%d} to {today:%Y-%m-%d}."
    assert str(charts(person).nth(0).locator("desc").text_content()).startswith(first)
    said = [f"{today - timedelta(days=1):%Y-%m-%d}, gpt-other: 1"]
    expect(charts(person).nth(2).locator(".bar title")).to_have_text(said)
    legend = person.page.get_by_role("list", name="Models").get_by_role("listitem")
    expect(legend).to_have_text(["gpt-test", "gpt-other"])


def test_days_are_chosen(person: Person, log: Log) -> None:
    """Both days that are named belong to it, in UTC; a day more than there is room for shares its bar."""
    log.put(log.record(), log.record(2 * DAY), log.record(400 * DAY))
    today = log.record().timestamp
    first, last = person.page.get_by_label("First day"), person.page.get_by_label("Last day")
    person.arrive("/#/usage")
    expect(person.main.get_by_text("2 finished calls.")).to_be_visible()
    expect(last).to_have_value(f"{today:%Y-%m-%d}")
    last.fill(f"{today - timedelta(days=1):%Y-%m-%d}")
    person.button("Show").click()
    expect(person.main.get_by_text("1 finished call.")).to_be_visible()
    first.fill(f"{today - timedelta(days=400):%Y-%m-%d}")
    person.button("Show").click()
    expect(person.main.get_by_text("2 finished calls.")).to_be_visible()
    expect(charts(person).nth(0).locator("title").first).to_have_text("Calls by several days and model")
    span = f"From {today - timedelta(days=400):%Y-%m-%d} to {today - timedelta(days=1):%Y-%m-%d}. Most: 1, gpt-test, "
    assert str(charts(person).nth(0).locator("desc").text_content()).startswith(span)
    last.fill(f"{today - timedelta(days=402):%Y-%m-%d}")
    person.button("Show").click()
    expect(person.alert).to_contain_text("must not be after to")


def test_a_user_is_chosen(person: Person, log: Log) -> None:
    """Who may read all users' records sees them summed up, or one user's."""
    log.put(log.record(), log.record(user_id="ann"), log.record(user_id="ann"))
    person.arrive("/#/usage")
    expect(person.main.get_by_text("3 finished calls.")).to_be_visible()
    person.page.get_by_label("User", exact=True).fill("ann")
    person.button("Show").click()
    expect(person.main.get_by_text("2 finished calls.")).to_be_visible()


def test_without_a_call_it_says_so(person: Person) -> None:
    """No empty charts and tables where there is nothing to show."""
    person.arrive("/#/usage")
    expect(person.main.get_by_text("No refinement or generation ended in these days.")).to_be_visible()
    expect(charts(person)).to_have_count(0)
    expect(person.page.get_by_role("table")).to_have_count(0)


def test_many_models_are_summed_up(person: Person, log: Log) -> None:
    """Those called least share one bar; the table names each."""
    log.put(*(log.record(model=f"model-{number}") for number in range(9) for _ in range(9 - number)))
    person.arrive("/#/usage")
    legend = person.page.get_by_role("list", name="Models").get_by_role("listitem")
    expect(legend).to_have_text([*(f"model-{number}" for number in range(5)), "All others"])
    expect(rows(person, "By model")).to_have_count(10)
    # 4 + 3 + 2 + 1 calls of those that have no bar of their own.
    expect(charts(person).nth(0).locator(".bar title").last).to_contain_text("All others: 10")


def test_charts_are_as_wide_as_there_is_room(person: Person, log: Log) -> None:
    """When the window changes, the charts are drawn anew, and their letters stay as large as they were."""
    log.put(log.record())
    person.arrive("/#/usage")
    chart = charts(person).nth(0)
    expect(chart).to_be_visible()
    person.page.set_viewport_size({"width": 360, "height": 800})
    expect(chart).to_have_attribute("width", "302")
    assert person.page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_token_expires(person: Person, log: Log) -> None:
    """The key is asked for, and then the figures come."""
    log.put(log.record())
    person.arrive()
    expire(person, "**/usage?*")
    person.page.get_by_role("link", name="Usage").click()
    expect(person.page.get_by_text("The token is no longer good")).to_be_visible()
    person.page.unroute_all()
    person.sign_in()
    expect(person.main.get_by_text("1 finished call.")).to_be_visible()


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_colour_stands_out(person: Person, log: Log, scheme: Scheme) -> None:
    """A bar has 3:1 against its card (WCAG 2.2, 1.4.11), and a pattern of its own, so that colour is not all."""
    log.put(*(log.record(model=f"model-{number}") for number in range(6)))
    person.page.emulate_media(color_scheme=scheme)
    person.arrive("/#/usage")
    expect(charts(person)).to_have_count(4)
    patterns = charts(person).nth(0).locator("pattern")
    expect(patterns).to_have_count(6)
    fills = patterns.locator("rect").evaluate_all("rects => rects.map((rect) => getComputedStyle(rect).fill)")
    card = luminance(person.page.get_by_role("figure").first.evaluate("card => getComputedStyle(card).backgroundColor"))
    for fill in fills:
        lighter, darker = sorted((luminance(fill), card), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3, fill
    assert len(set(fills)) == 6
    marks = patterns.locator("path").evaluate_all("paths => paths.map((path) => path.getAttribute('d'))")
    assert len(set(marks)) == 6


def test_the_connection_is_lost(person: Person, log: Log, context: BrowserContext) -> None:
    """The page says so, and the figures come when the connection is back."""
    log.put(log.record())
    person.arrive()
    context.set_offline(True)
    person.page.get_by_role("link", name="Usage").click()
    expect(person.main.get_by_text("No connection: trying again")).to_be_visible()
    context.set_offline(False)
    expect(person.main.get_by_text("1 finished call.")).to_be_visible()
