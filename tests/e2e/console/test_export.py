"""The export of the console's history in a real browser: all that the filters select, whatever gets in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Download, Route, expect

from records import Kind, Record
from tests.e2e.console.log import Log
from tests.e2e.console.person import Person
from tests.e2e.console.test_interruptions import expire

PAGES = "**/log-request?limit=100*"
SECOND_PAGE = "**/log-request?limit=100&cursor=*"


@pytest.fixture
def records(log: Log) -> list[Record]:
    """Three pages of records, newest first; the log takes in some of each kind."""
    made = [log.record(age, prompt=f"draft {age}") for age in range(200)]
    made += [log.report(age, prompt=f"report {age}") for age in range(200, 250)]
    log.put(*made)
    return made


def read(download: Download) -> list[dict[str, Any]]:
    """The records of a file, one a line."""
    path = Path(download.path())
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def ids(download: Download) -> list[str]:
    return [record["id"] for record in read(download)]


def all_of(records: list[Record]) -> list[str]:
    return [record.id for record in records]


def test_all_records_in_one_file(person: Person, log: Log, records: list[Record]) -> None:
    """Every page, newest first, each record as the API has it, under a name that says what it is."""
    person.arrive("/#/history")
    with person.page.expect_download() as download:
        person.button("Export as NDJSON").click()
    exported = read(download.value)
    assert [record["id"] for record in exported] == all_of(records)
    first = records[0]
    assert (exported[0]["prompt"], exported[0]["detail"]) == (first.prompt, first.detail)
    assert "idempotency_key" not in exported[0]
    name = download.value.suggested_filename
    assert name.startswith("klamala-log-20")
    assert name.endswith("Z.ndjson")
    expect(person.main.get_by_text("250 records exported.")).to_be_visible()
    with person.page.expect_download() as again:
        person.page.get_by_role("link", name="Save klamala-log").click()
    assert ids(again.value) == all_of(records)


def test_numbers_are_exported_as_they_were_reported(person: Person, log: Log, records: list[Record]) -> None:
    """JavaScript would round 12345678901234567890, and write 1.0 as 1: an export must not."""
    person.arrive("/#/history")
    with person.page.expect_download() as download:
        person.button("Export as NDJSON").click()
    last = Path(download.value.path()).read_text("utf-8").splitlines()[-1]
    assert '"metadata":{"session":12345678901234567890,"ratio":1.0}' in last


def test_the_filters_select_what_is_exported(person: Person, log: Log, records: list[Record]) -> None:
    """An export has what the filters select, and nothing else."""
    person.arrive("/#/history")
    person.page.get_by_label("Kind").select_option("Reported")
    with person.page.expect_download() as download:
        person.button("Export as NDJSON").click()
    assert ids(download.value) == [record.id for record in records if record.kind is Kind.CLIENT]
    person.page.get_by_label("Status").select_option("Failed")
    person.button("Export as NDJSON").click()
    expect(person.main.get_by_text("0 records exported.")).to_be_visible()


def test_an_export_can_be_cancelled(person: Person, log: Log, records: list[Record]) -> None:
    """While a page is awaited the export is cancelled: nothing is saved, and a new one has everything."""
    held: list[Route] = []
    person.page.route(SECOND_PAGE, lambda route: held.append(route), times=1)
    person.arrive("/#/history")
    downloads: list[Download] = []
    person.page.on("download", lambda download: downloads.append(download))
    person.button("Export as NDJSON").click()
    expect(person.main.get_by_text("Exporting: 100 records so far.")).to_be_visible()
    expect(person.button("Cancel the export")).to_be_focused()
    person.button("Cancel the export").press("Enter")
    expect(person.main.get_by_text("Nothing is saved: 100 records had come.")).to_be_visible()
    expect(person.button("Export as NDJSON")).to_be_focused()
    assert downloads == []
    with person.page.expect_download() as download:
        person.button("Export as NDJSON").click()
    assert ids(download.value) == all_of(records)


def test_the_connection_is_lost(person: Person, log: Log, records: list[Record], context: BrowserContext) -> None:
    """The export says so, and goes on where it was when the connection is back."""

    def lose(route: Route) -> None:
        context.set_offline(True)
        route.abort()

    person.arrive("/#/history")
    expect(person.button("Load more")).to_be_visible()
    person.page.route(SECOND_PAGE, lose, times=1)
    with person.page.expect_download() as download:
        person.button("Export as NDJSON").click()
        expect(person.main.get_by_text("No connection: going on in")).to_be_visible()
        expect(person.main.get_by_text("Exporting: 100 records so far.")).to_be_visible()
        context.set_offline(False)
    assert ids(download.value) == all_of(records)


def test_the_token_expires_in_the_middle(person: Person, log: Log, records: list[Record]) -> None:
    """The key is asked for, and the export goes on where it was."""
    person.arrive("/#/history")
    expire(person, SECOND_PAGE)
    with person.page.expect_download() as download:
        person.button("Export as NDJSON").click()
        expect(person.page.get_by_text("The token is no longer good")).to_be_visible()
        person.page.unroute_all()
        person.sign_in()
    assert ids(download.value) == all_of(records)


def test_too_many_requests_are_waited_out(person: Person, log: Log, records: list[Record]) -> None:
    """Where a gateway in front of the service says when to come again, the export does."""
    answer = {"type": "/problems/rate-limited", "title": "Too many requests", "detail": "Slow down."}

    def refuse(route: Route) -> None:
        route.fulfill(status=429, headers={"Retry-After": "0"}, json=answer)

    person.arrive("/#/history")
    person.page.route(SECOND_PAGE, refuse, times=3)
    with person.page.expect_download() as download:
        person.button("Export as NDJSON").click()
    assert ids(download.value) == all_of(records)
    assert len([request for request in person.requests if "limit=100&cursor=" in request.url]) == 5


def test_an_export_goes_on_after_an_error(person: Person, log: Log, records: list[Record]) -> None:
    """What cannot be waited out is said in words, and what had come is not lost."""
    answer = {"type": "/problems/rate-limited", "title": "Too many requests", "detail": "Come tomorrow."}

    def refuse(route: Route) -> None:
        route.fulfill(status=429, headers={"Retry-After": "7200"}, json=answer)

    person.arrive("/#/history")
    person.page.route(SECOND_PAGE, refuse, times=1)
    person.button("Export as NDJSON").click()
    expect(person.alert).to_contain_text("Come tomorrow.")
    expect(person.alert).to_contain_text("Try again in 2 hours.")
    with person.page.expect_download() as download:
        person.button("Go on with the export").press("Enter")
    assert ids(download.value) == all_of(records)
    firsts = [request for request in person.requests if request.url.endswith("limit=100")]
    assert len(firsts) == 1
    expect(person.alert).to_have_count(0)
    expect(person.button("Export as NDJSON")).to_be_focused()
