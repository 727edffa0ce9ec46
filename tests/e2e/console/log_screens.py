"""Pictures of the history and the usage: `python -m tests.e2e.console.log_screens FOLDER [SCENE …]`.

Each of them empty, filled and in error, light and dark, narrow and wide.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import expect

from auth import SCOPES
from records import Status
from scripts.service import Service
from tests.e2e.console.browser import chromium
from tests.e2e.console.log import INTEGRITY, REFINED, Log
from tests.e2e.console.person import Person
from tests.e2e.console.screens import DRAFT, SCHEMES, WIDTHS, seen
from tests.e2e.console.screens import REFINED as BETTER
from tests.e2e.test_service import environment, flask
from tests.stores import sqlite_url

DAY = 24 * 60 * 60
LOST = {
    **INTEGRITY,
    "ok": False,
    "attempts": 2,
    "placeholders": {"kept": ["{{name}}"], "lost": ["{{order.id}}"], "added": ["{{customer}}"]},
    "urls": {"kept": 0, "lost": ["https://status.example.com"]},
}


def history_empty(person: Person, log: Log) -> None:
    person.arrive("/#/history")
    expect(person.main.get_by_text("Nothing has been recorded yet.")).to_be_visible()


def history(person: Person, log: Log) -> None:
    log.put(
        log.report(1),
        log.failure(60),
        log.record(3600, prompt=DRAFT, response=BETTER),
        log.record(7200, prompt="اكتب رسالة إلى {{name}} عن التأخير", response="اكتب رسالة اعتذار إلى {{name}}."),
        log.record(DAY, prompt="遅延について {{name}} さんにメールを書いてください。"),
        log.record(DAY + 1, prompt="word " * 20_000, response="word" * 25_000),
        log.record(DAY + 2, status=Status.PENDING, response=None, completed_at=None, usage=None, latency_ms=None),
        *(log.record(2 * DAY + age) for age in range(20)),
    )
    person.arrive("/#/history")
    expect(person.button("Load more")).to_be_visible()


def history_opened(person: Person, log: Log) -> None:
    rejected = {**REFINED, "refined": False, "rejected": "Greet {{customer}}.", "integrity": LOST}
    log.put(
        log.report(1, metadata={"session": 7, "tags": ["a", "b"], "note": "from the old system"}),
        log.failure(60),
        log.record(3600, prompt=DRAFT, response=BETTER, detail={**REFINED, "instructions": "Be friendly."}),
        log.record(7200, prompt=DRAFT, response=DRAFT, detail=rejected),
    )
    person.arrive("/#/history")
    expect(person.page.locator("summary")).to_have_count(4)
    for summary in person.page.locator("summary").all():
        summary.click()
    expect(person.page.get_by_role("group", name="Rejected text of the model")).to_be_visible()


def history_error(person: Person, log: Log) -> None:
    person.arrive("/#/history")
    person.page.get_by_label("Made from").fill("no id")
    person.button("Show", exact=True).click()
    expect(person.alert).to_be_visible()


def history_exported(person: Person, log: Log) -> None:
    log.put(log.record())
    person.arrive("/#/history")
    person.button("Export as NDJSON").click()
    expect(person.page.get_by_role("link", name="Save klamala-log")).to_be_visible()


def usage_empty(person: Person, log: Log) -> None:
    person.arrive("/#/usage")
    expect(person.main.get_by_text("No refinement or generation")).to_be_visible()


def usage(person: Person, log: Log) -> None:
    models = ("gpt-4.1", "gpt-4.1-mini", "qwen3-32b", "mistral-large", "a-model-with-a-rather-long-name", "rules", "o9")
    for number, model in enumerate(models):
        for day in range(number, 30, number + 1):
            age = day * DAY
            usage = {"input_tokens": 100 + 37 * day * number % 900, "output_tokens": 50 + 91 * day % 400}
            latency = 400 + 311 * day * (number + 1) % 4000
            made = [log.record(age, model=model, usage=usage, latency_ms=latency) for _ in range(1 + day * 7 % 5)]
            log.put(*made, *([log.failure(age, model=model)] if day % 6 == 2 else []))
    person.arrive("/#/usage")
    expect(person.page.get_by_role("figure").get_by_role("img")).to_have_count(4)


def usage_error(person: Person, log: Log) -> None:
    person.arrive("/#/usage")
    person.page.get_by_label("Last day").fill("2020-01-01")
    person.button("Show").click()
    expect(person.alert).to_be_visible()


SCENES: tuple[Callable[[Person, Log], None], ...] = (
    history_empty,
    history,
    history_opened,
    history_error,
    history_exported,
    usage_empty,
    usage,
    usage_error,
)


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as data, chromium() as browser:
        environ = environment(Path(data), DATABASE_URL=sqlite_url(Path(data) / "console.sqlite3"))
        with Service(environ, Path(data) / "service.log") as service:
            for scene, scheme, width in product(SCENES, SCHEMES, WIDTHS):
                if not wanted or scene.__name__ in wanted:
                    made = flask(environ, "clients", "create", scene.__name__, "--scope", " ".join(SCOPES))
                    with seen(browser, scheme, width) as page, Log(environ["DATABASE_URL"], made["api_key"]) as log:
                        scene(Person(page, service.url, made["api_key"]), log)
                        page.screenshot(path=folder / f"{scene.__name__}-{scheme}-{width}.png", full_page=True)


if __name__ == "__main__":
    main()
