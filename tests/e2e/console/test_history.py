"""The history of the console in a real browser: what was asked, narrowed, opened, paged and exported."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.e2e.console.log import Log
from tests.e2e.console.person import Person


def test_a_record_is_opened_in_place(person: Person, log: Log) -> None:
    """Each record is a line, newest first, that opens to its texts, its changes, its integrity and its cost."""
    log.put(log.record(), log.failure(60), log.report(120))
    person.arrive("/#/history")
    records = person.page.get_by_role("list", name="Records").locator("details")
    expect(records).to_have_count(3)
    records.nth(0).locator("summary").click()
    expect(records.nth(0).get_by_role("region", name="Response: the refined prompt")).to_have_text("Greet {{name}}.")
