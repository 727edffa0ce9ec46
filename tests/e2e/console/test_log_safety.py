"""What stands in a record is shown and never run, whoever wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import expect

from records import Kind, Status
from tests.e2e.console.log import INTEGRITY, REFINED, Log
from tests.e2e.console.person import Person
from tests.e2e.console.test_safety import assert_nothing_ran, attack, attacked


def open_all(person: Person, count: int) -> None:
    summaries = person.page.locator("summary")
    expect(summaries).to_have_count(count)
    for summary in summaries.all():
        summary.click()
    expect(person.page.get_by_role("group", name="Prompt", exact=True)).to_have_count(count)


def report(person: Person, body: dict[str, Any]) -> None:
    """Report a call over the API, as this client would."""
    token = requests.post(
        f"{person.url}/token",
        data={"grant_type": "client_credentials"},
        headers={"X-API-Key": person.api_key},
        timeout=30,
    ).json()["access_token"]
    answer = requests.post(
        f"{person.url}/log-request", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30
    )
    assert answer.status_code == 201, answer.text


def test_what_a_client_reports_is_not_run(person: Person) -> None:
    """Script in each field that the API takes."""
    metadata = {attack("name"): attack("value"), "__proto__": {"ran": attack("prototype")}, "list": [attack("item")]}
    report(
        person,
        {
            "prompt": attack("prompt"),
            "response": attack("response"),
            "model": attack("model")[:256],
            "metadata": metadata,
        },
    )
    person.arrive("/#/history")
    open_all(person, 1)
    for name, texts in (
        ("Prompt", [attack("prompt")]),
        ("Response", [attack("response")]),
        # As JSON, where quotation marks are escaped.
        ("Metadata", [attack(place).replace('"', '\\"') for place in ("name", "value", "prototype", "item")]),
    ):
        pane = person.page.get_by_role("group", name=name, exact=True)
        for text in texts:
            expect(pane).to_contain_text(text)
    expect(person.main).to_contain_text(attack("model")[:256])
    assert_nothing_ran(person)


def test_what_the_store_holds_is_not_run(person: Person, log: Log) -> None:
    """Script in each field of a record, also where the service itself writes it and nobody else can."""
    detail = attacked({**REFINED, "changes": REFINED["changes"], "integrity": INTEGRITY})
    detail |= {
        "refined": False,
        "instructions": attack("instructions"),
        "parent_id": attack("parent"),
        "rejected": attack("rejected"),
        "corrective_failure": attack("failure"),
        "finish_reason": attack("finish"),
        attack("unknown"): attack("unheard"),
        "integrity": {
            **INTEGRITY,
            "placeholders": {"kept": [attack("kept")], "lost": [attack("lost")], "added": [attack("added")]},
            "urls": {"kept": 0, "lost": [attack("url")]},
        },
    }
    error = {"type": attack("type"), "title": attack("title"), "status": 502, "detail": attack("detail")}
    record = log.record(
        status=Status.FAILED,
        detail=detail,
        error=error,
        prompt=attack("prompt"),
        response=attack("response"),
        user_id=attack("user")[:128],
        request_id=attack("request")[:128],
        model=attack("model")[:256],
        engine=attack("engine")[:32],
        metadata={"m": attack("metadata")},
    )
    log.put(record)
    person.arrive("/#/history")
    open_all(person, 1)
    shown = person.main.inner_text()
    places = "type title detail prompt response instructions parent rejected failure finish unheard kept lost added url"
    texts = [attack(place) for place in f"{places} reason before after assumptions strategy".split()]
    texts += [record.user_id, record.request_id, str(record.model), attack("metadata").replace('"', '\\"')]
    # A term's underscores are spaces.
    texts.append(attack("unknown").replace("_", " "))
    assert [text for text in texts if text not in shown] == []
    assert_nothing_ran(person)


def test_what_is_offered_and_typed_is_not_run(person: Person, log: Log) -> None:
    """Neither is what the fields offer to choose from, nor what is typed into them."""
    log.put(log.record(model=attack("model")[:256], user_id=attack("user")[:128]))
    person.arrive("/#/history")
    expect(person.page.locator("summary")).to_have_count(1)
    assert person.page.locator("datalist option").evaluate_all("options => options.map((one) => one.value)") == [
        attack("model")[:256],
        attack("user")[:128],
    ]
    for label in ("Model", "User", "Made from"):
        person.page.get_by_label(label, exact=True).fill(attack("typed")[:36])
    person.button("Show", exact=True).click()
    expect(person.alert).to_be_visible()
    assert_nothing_ran(person)


def test_what_the_usage_names_is_not_run(person: Person, log: Log) -> None:
    """A model's name stands in tables, in the legend and in the charts."""
    log.put(log.record(model=attack("model")[:256]))
    person.arrive("/#/usage")
    name = attack("model")[:256]
    expect(person.page.get_by_role("listitem").filter(has_text=name)).to_be_visible()
    expect(person.page.get_by_role("rowheader").filter(has_text=name)).to_have_count(2)
    expect(person.page.locator(".bar title").first).to_contain_text(name)
    assert person.page.evaluate("window.ran ?? null") is None
    assert person.main.locator("img, script, a").count() == 0


def test_what_an_answer_names_is_not_run(person: Person) -> None:
    """Neither is what an error says, or a record whose texts all are markup."""
    person.arrive("/#/history")
    expect(person.main.get_by_text("Nothing has been recorded yet.")).to_be_visible()
    problem = {"type": "/problems/x", "title": attack("title"), "detail": attack("detail")}
    person.page.route("**/log-request?*", lambda route: route.fulfill(status=500, json=problem))
    person.button("Show", exact=True).click()
    expect(person.alert).to_contain_text(attack("detail"))
    assert_nothing_ran(person)


def test_what_is_exported_is_exactly_that(person: Person, log: Log) -> None:
    """Markup, line separators and quotation marks stay one line of JSON, and what they were."""
    texts = [attack("prompt"), "a\nb\r\n\u2028\u2029\u0085", '"}\n{"id": "forged"}', "\ufeff\\u0000"]
    log.put(*(log.record(age, prompt=text, kind=Kind.GENERATE) for age, text in enumerate(texts)))
    person.arrive("/#/history")
    with person.page.expect_download() as download:
        person.button("Export as NDJSON").click()
    with Path(download.value.path()).open(encoding="utf-8", newline="\n") as file:
        exported = [json.loads(line) for line in file]
    assert [record["prompt"] for record in exported] == texts
