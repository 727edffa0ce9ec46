"""The history of the console in a real browser: records are narrowed, opened in place and paged."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, expect

from records import Kind, Status
from scripts.service import Service
from tests.e2e.console.conftest import NewKey
from tests.e2e.console.log import REFINED, Log
from tests.e2e.console.person import Person
from tests.e2e.console.test_interruptions import expire
from tests.upstream import Upstream


def lines(person: Person) -> Locator:
    return person.page.get_by_role("list", name="Records").locator("summary")


def opened(person: Person, place: int = 0) -> Locator:
    """A record, once it is opened."""
    record = person.page.get_by_role("list", name="Records").locator("details").nth(place)
    record.locator("summary").click()
    return record


def pane(record: Locator, name: str) -> Locator:
    return record.get_by_role("group", name=name, exact=True)


def test_a_refinement_is_opened_in_place(person: Person, log: Log) -> None:
    """It opens to its texts, its changes with their reasons, its assumptions, its integrity, and what it cost."""
    log.put(log.record(detail={**REFINED, "instructions": "Be brief."}))
    person.arrive("/#/history")
    record = opened(person)
    expect(pane(record, "Prompt")).to_have_text("could you please greet {{name}}")
    expect(pane(record, "Response: the refined prompt")).to_have_text("Greet {{name}}.")
    expect(pane(record, "Instructions")).to_have_text("Be brief.")
    for text in ("It is shorter.", "Length: not given in the draft.", "kept {{name}}", "Tokens in11", "Latency321 ms"):
        expect(record).to_contain_text(text)


def test_a_broken_promise_is_opened_in_place(person: Person, log: Log) -> None:
    """Where the draft was kept, the text that was rejected stands there, and what it lost."""
    integrity = {**REFINED["integrity"], "ok": False, "placeholders": {"kept": [], "lost": ["{{name}}"], "added": []}}  # type: ignore[dict-item]
    log.put(log.record(detail={**REFINED, "refined": False, "rejected": "Greet them.", "integrity": integrity}))
    person.arrive("/#/history")
    record = opened(person)
    expect(pane(record, "Response: the draft, unchanged")).to_be_visible()
    expect(pane(record, "Rejected text of the model")).to_have_text("Greet them.")
    expect(record).to_contain_text("lost {{name}}")


def test_a_failed_and_a_reported_call_are_opened_in_place(person: Person, log: Log) -> None:
    """A failure says why; a report shows what came with it, numbers as the client wrote them."""
    log.put(log.failure(), log.report(60))
    person.arrive("/#/history")
    failure = opened(person)
    expect(failure).to_contain_text("The model's server is overloaded.")
    expect(failure).to_contain_text("UpstreamUnavailable")
    report = opened(person, 1)
    expect(pane(report, "Metadata")).to_have_text('{ "session": 12345678901234567890, "ratio": 1.0 }')


def test_the_newest_is_there_when_one_comes_back(person: Person, log: Log, upstream: Upstream) -> None:
    """What was refined since the history was looked at last stands on top of it."""
    log.put(log.record(60))
    person.arrive("/#/history")
    expect(lines(person)).to_have_count(1)
    person.page.get_by_role("link", name="Refine").click()
    person.refine("a new draft")
    expect(person.text_of("Version 1")).to_be_visible()
    person.page.get_by_role("link", name="History").click()
    expect(lines(person)).to_have_count(2)
    expect(lines(person).first).to_contain_text("a new draft")


def test_each_filter_narrows(person: Person, log: Log) -> None:
    """Kind, status, model and user select as they do in the API, and all of them are taken off at once."""
    log.put(log.record(), log.failure(60, model="gpt-other"), log.report(120, user_id="ann"))
    person.arrive("/#/history")
    expect(lines(person)).to_have_count(3)
    page = person.page

    def shown(text: str) -> None:
        person.button("Show", exact=True).click()
        expect(lines(person)).to_have_count(1)
        expect(lines(person)).to_contain_text(text)
        person.button("Show all").click()
        expect(lines(person)).to_have_count(3)

    page.get_by_label("Kind").select_option("Reported")
    shown("Reported")
    page.get_by_label("Status").select_option("Failed")
    shown("Failed")
    page.get_by_label("Model").fill("gpt-other")
    shown("gpt-other")
    page.get_by_label("User", exact=True).fill("ann")
    shown("ann")
    page.get_by_label("Status").select_option("Pending")
    person.button("Show", exact=True).click()
    expect(person.main.get_by_text("No record is like this.")).to_be_visible()


def test_what_was_made_from_a_refinement_is_found(person: Person, log: Log) -> None:
    """From a refinement to those that went on from it."""
    parent = log.record(60)
    log.put(parent, log.record(detail={**REFINED, "parent_id": parent.id}, prompt="second round"))
    person.arrive("/#/history")
    opened(person, 1).get_by_role("button", name="Show what was made from it").click()
    expect(lines(person)).to_have_count(1)
    expect(lines(person)).to_contain_text("second round")
    expect(person.page.get_by_label("Made from")).to_have_value(parent.id)


def test_a_refinement_is_taken_up_again(person: Person, log: Log, upstream: Upstream) -> None:
    """From its record to the refine view, and on from there; not from what is another user's."""
    mine, ann = log.record(), log.record(60, user_id="ann")
    log.put(mine, ann)
    person.arrive("/#/history")
    opened(person).get_by_role("link", name="Open it in Refine").click()
    expect(person.text_of("Version 1")).to_have_text("Greet {{name}}.")
    person.refine_again("warmer")
    expect(person.text_of("Version 2")).to_be_visible()
    person.page.get_by_role("link", name="History").click()
    expect(lines(person)).to_have_count(3)
    expect(opened(person)).to_contain_text(mine.id)
    other = opened(person, 2)
    expect(other.get_by_role("button", name="Show what was made from it")).to_be_visible()
    expect(other.get_by_role("link")).to_have_count(0)


def test_a_time_is_meant_as_the_clock_on_the_wall_shows_it(
    browser: Browser, service: Service, new_key: NewKey, environ: dict[str, str]
) -> None:
    """From and Before are in the zone of whoever looks: the first is inclusive, the second is not."""
    zone = "Asia/Kolkata"
    with browser.new_context(timezone_id=zone) as context:
        person = Person(context.new_page(), service.url, new_key())
        with Log(environ["DATABASE_URL"], person.api_key) as log:
            noon = log.record().timestamp.replace(hour=12, minute=0, second=1, microsecond=0) - timedelta(days=1)
            log.put(*(log.record(timestamp=noon + timedelta(seconds=second)) for second in range(3)))
        person.arrive("/#/history")
        expect(lines(person)).to_have_count(3)
        local = noon.astimezone(ZoneInfo(zone))
        expect(lines(person).last).to_contain_text(f"{local:%H:%M:%S}")
        person.page.get_by_label("From", exact=True).fill(f"{local:%Y-%m-%dT%H:%M:%S}")
        person.page.get_by_label("Before").fill(f"{local + timedelta(seconds=2):%Y-%m-%dT%H:%M:%S}")
        person.button("Show", exact=True).click()
        expect(lines(person)).to_have_count(2)
        assert person.complaints == []


def test_pages_follow_each_other(person: Person, log: Log) -> None:
    """No record twice and none left out, also when one comes in meanwhile; it is said how many there are."""
    log.put(*(log.record(age, prompt=f"draft {age}.") for age in range(1, 46)))
    person.arrive("/#/history")
    expect(person.main.get_by_text("20 records shown, and there are more.")).to_be_visible()
    log.put(log.record(0, prompt="newer."))
    more = person.button("Load more")
    more.press("Enter")
    expect(person.main.get_by_text("20 more records: 40 records shown, and there are more.")).to_be_visible()
    expect(more).to_be_focused()
    more.press("Enter")
    expect(person.main.get_by_text("5 more records: 45 records shown, and that is all.")).to_be_visible()
    expect(more).to_be_hidden()
    expect(lines(person).nth(40)).to_be_focused()
    expect(lines(person).locator(".excerpt")).to_have_text([f"draft {age}." for age in range(1, 46)])


def test_the_token_expires_between_pages(person: Person, log: Log) -> None:
    """The key is asked for, and the next page follows upon those that are there."""
    log.put(*(log.record(age) for age in range(30)))
    person.arrive("/#/history")
    expect(lines(person)).to_have_count(20)
    expire(person, "**/log-request?*")
    person.button("Load more").click()
    expect(person.page.get_by_text("The token is no longer good")).to_be_visible()
    person.page.unroute_all()
    person.sign_in()
    expect(lines(person)).to_have_count(30)


def test_what_is_open_stays_after_a_new_sign_in(person: Person, log: Log) -> None:
    """The token runs out on another request: the record that is being read is not closed."""
    log.put(log.record(prompt="being read"))
    person.arrive("/#/history")
    record = opened(person)
    expire(person, "**/log-request?*")
    person.button("Export as NDJSON").click()
    expect(person.page.get_by_text("The token is no longer good")).to_be_visible()
    person.page.unroute_all()
    with person.page.expect_download():
        person.sign_in()
    expect(pane(record, "Prompt")).to_have_text("being read")
    assert person.page.locator("details[open]").count() == 1


def test_a_network_asks_for_a_sign_in_of_its_own(person: Person, log: Log) -> None:
    """What is not the service's answer is none, whatever its status."""
    log.put(log.record())
    page = "<h1>Welcome to the hotel</h1>"
    person.page.route("**/log-request?*", lambda route: route.fulfill(status=200, body=page), times=1)
    person.arrive("/#/history")
    expect(lines(person)).to_have_count(1)


def test_the_connection_is_lost_between_pages(person: Person, log: Log, context: BrowserContext) -> None:
    """The page says so, and goes on by itself when the connection is back."""
    log.put(*(log.record(age) for age in range(30)))
    person.arrive("/#/history")
    expect(lines(person)).to_have_count(20)
    context.set_offline(True)
    person.button("Load more").click()
    expect(person.main.get_by_text("No connection: trying again")).to_be_visible()
    context.set_offline(False)
    expect(lines(person)).to_have_count(30)


def test_what_is_wrong_with_a_filter_is_said(person: Person, log: Log) -> None:
    """The service's words stand there, with the request id, and a better filter is answered."""
    log.put(log.record())
    person.arrive("/#/history")
    person.page.get_by_label("Made from").fill("not an id")
    person.button("Show", exact=True).click()
    expect(person.alert).to_contain_text("parent_id: is not the id of a record")
    expect(person.alert).to_contain_text("Request id")
    person.button("Show all").click()
    expect(lines(person)).to_have_count(1)
    expect(person.alert).to_have_count(0)


def test_a_page_that_failed_is_tried_again(person: Person, log: Log) -> None:
    """An error that does not pass by itself leaves what is there, and a button to try again."""
    log.put(*(log.record(age) for age in range(30)))
    person.arrive("/#/history")
    expect(lines(person)).to_have_count(20)
    problem = {"type": "/problems/internal-error", "title": "Internal error", "detail": "Our fault."}
    person.page.route("**/log-request?*", lambda route: route.fulfill(status=500, json=problem), times=1)
    person.button("Load more").click()
    expect(person.alert).to_contain_text("Our fault.")
    expect(lines(person)).to_have_count(20)
    person.button("Try again").click()
    expect(lines(person)).to_have_count(30)
    expect(person.alert).to_have_count(0)


def test_everybody_sees_their_own(person: Person, log: Log, new_key: NewKey) -> None:
    """Who signs in for an end user sees that user's records, and is not asked whose."""
    log.put(log.record(user_id="ann", prompt="ann's"), log.record(60, user_id="bob", prompt="bob's"))
    person.open("/#/history")
    person.page.get_by_label("End user").fill("ann")
    person.sign_in()
    expect(lines(person)).to_have_count(1)
    expect(lines(person)).to_contain_text("ann's")
    expect(person.page.get_by_label("User", exact=True)).to_have_count(0)


@pytest.mark.parametrize("view", ["history", "usage"])
def test_a_missing_scope_is_named(person: Person, new_key: NewKey, view: str) -> None:
    """A client that may not read the log is told what it would need."""
    person.api_key = new_key("refine")
    person.arrive(f"/#/{view}")
    expect(person.main.get_by_text("it needs the scope log:read")).to_be_visible()


def test_a_pending_call_has_no_response_yet(person: Person, log: Log) -> None:
    """What is not known yet is not shown as if it were."""
    log.put(
        log.record(
            kind=Kind.GENERATE,
            status=Status.PENDING,
            response=None,
            completed_at=None,
            latency_ms=None,
            usage=None,
            detail={"max_length": 9},
        )
    )
    person.arrive("/#/history")
    record = opened(person)
    expect(record).to_contain_text("No response.")
    expect(record).to_contain_text("Pending")
    expect(record).not_to_contain_text("Latency")
