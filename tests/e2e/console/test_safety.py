"""Prompts, answers and names are shown and never run; the token is kept in memory; no other host is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from openapi.examples import REFINEMENT
from schemas.refine import CodeBlocks, IntegrityReport, Placeholders, Urls
from tests.e2e.console.person import Person
from tests.e2e.serving import served
from tests.harness import Harness

PREFIX = "/stage"


def attack(place: str) -> str:
    """Markup and a script that would leave a trace, told apart by the field they stand in."""
    trace = f"window.ran = (window.ran ?? '') + '{place} '"
    return (
        f'<img src=x onerror="{trace}"><script>{trace}</script><svg onload="{trace}"></svg>'
        f'<a href="javascript:{trace}">{place}</a>]]>--></textarea></title>'
    )


def assert_nothing_ran(person: Person) -> None:
    assert person.page.evaluate("window.ran ?? null") is None
    assert person.main.locator("img, script, svg, a").count() == 0


def test_what_is_typed_is_not_run(person: Person) -> None:
    """Script in any field that is typed into stands as text wherever it comes back."""
    page = person.page
    person.open()
    page.get_by_label("End user").fill(attack("user")[:128])
    person.sign_in()
    page.get_by_label("Instructions").fill(attack("instructions"))
    person.refine(attack("draft"))
    expect(person.text_of("Version 1")).to_have_text(attack("draft"))
    person.refine_again(attack("wish"))
    expect(person.text_of("Version 2")).to_have_text(attack("draft"))
    assert_nothing_ran(person)


def attacked(answer: Any, place: str = "") -> Any:
    """An answer with an attack in the place of each text."""
    if isinstance(answer, dict):
        return {name: attacked(value, name) for name, value in answer.items()}
    if isinstance(answer, list):
        return [attacked(value, place) for value in answer]
    return attack(place) if isinstance(answer, str) else answer


def test_what_is_answered_is_not_run(person: Person) -> None:
    """Neither is what the service answers, whatever field it stands in."""
    placeholders = Placeholders(kept=["a"], lost=["b"], added=["c"])
    report = IntegrityReport(
        ok=False,
        attempts=2,
        placeholders=placeholders,
        code_blocks=CodeBlocks(kept=1, lost=1),
        urls=Urls(kept=1, lost=["d"]),
        script_changed=True,
    )
    refinement = attacked(REFINEMENT.model_copy(update={"integrity": report, "refined": False}).model_dump(mode="json"))
    generation = {
        "generated_text": attack("generated"),
        "model": attack("generator"),
        "finish_reason": "stop",
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "latency_ms": 1,
    }
    person.page.route("**/refine", lambda route: route.fulfill(json=refinement))
    person.page.route("**/generate", lambda route: route.fulfill(json=generation))
    person.arrive()
    person.refine("a draft")
    person.button("Run both").click()
    expect(person.main.get_by_text(attack("generated"))).to_have_count(2)
    shown = person.main.inner_text()
    seen = {
        "original_prompt",
        "refined_prompt",
        "reason",
        "before",
        "after",
        "assumptions",
        "kept",
        "lost",
        "added",
        "model",
        "strategy",
        "id",
        "generator",
    }
    assert {place for place in seen if attack(place) not in shown} == set()
    assert_nothing_ran(person)


def test_what_an_error_says_is_not_run(person: Person) -> None:
    """Neither the service's words nor what a gateway sends are taken for markup."""
    person.arrive()
    problem = {
        "type": "/problems/invalid-request",
        "title": attack("title"),
        "detail": attack("detail"),
        "errors": [{"field": attack("field"), "message": attack("message")}],
    }
    person.page.route("**/refine", lambda route: route.fulfill(status=422, json=problem))
    person.refine("a draft")
    expect(person.alert).to_contain_text(attack("title"))
    expect(person.alert).to_contain_text(attack("message"))
    assert_nothing_ran(person)


def test_what_is_offered_is_not_run(person: Person) -> None:
    """Neither are the names and descriptions of strategies and models."""
    items = [{"id": attack("id"), "description": attack("description"), "default": True}]
    person.page.route("**/strategies", lambda route: route.fulfill(json={"items": items}))
    person.arrive()
    expect(person.main.get_by_text(attack("description"))).to_be_visible()
    assert_nothing_ran(person)


def test_the_policy_holds(person: Person) -> None:
    """Were there a hole, the browser would stop it: no markup is parsed, no foreign script or address is taken."""
    person.open()
    tried = person.page.evaluate(
        """async () => {
            const refused = (what) => { try { what(); return false; } catch { return true; } };
            return {
                markup: refused(() => { document.body.innerHTML = "<b>x</b>"; }),
                worker: refused(() => new Worker("./elsewhere.js")),
                policy: refused(() => trustedTypes.createPolicy("another", {})),
                address: await fetch("http://127.0.0.1:9/").then(() => false, () => true),
            };
        }"""
    )
    assert tried == {"markup": True, "worker": True, "policy": True, "address": True}
    assert person.complaints
    person.complaints.clear()


def test_the_token_is_kept_in_memory_alone(person: Person, context: BrowserContext) -> None:
    """The key leaves the page once and is cleared; nothing is stored; a reload or a sign-out forgets the token."""
    person.arrive()
    page = person.page
    expect(person.prompt).to_be_visible()
    assert [person.api_key in str(request.headers) for request in person.sent("/token")] == [True]
    others = [request for request in person.requests if request.url != f"{person.url}/token"]
    assert not [request.url for request in others if person.api_key in str(request.headers) + request.url]
    expect(page.get_by_label("API key")).to_have_value("")
    kept = """Promise.all([indexedDB.databases(), caches.keys()])
        .then((found) => [...found, localStorage.length, sessionStorage.length, document.cookie])"""
    assert page.evaluate(kept) == [[], [], 0, 0, ""]
    assert context.cookies() == []
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()
    person.sign_in()
    person.prompt.fill("a secret draft")
    person.button("Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    expect(person.prompt).to_have_count(0)
    assert page.url == f"{person.url}/"


def test_no_other_host_is_asked(person: Person) -> None:
    """All that the page loads and asks is at the service's own address."""
    person.arrive()
    person.refine("a draft")
    expect(person.text_of("Version 1")).to_be_visible()
    assert [request.url for request in person.requests if not request.url.startswith(f"{person.url}/")] == []


@pytest.fixture
def stage(harness: Harness) -> Iterator[str]:
    """The address of a service below a prefix, such as API Gateway's stage."""
    with served({PREFIX: harness.app}) as address:
        yield f"{address}{PREFIX}"


@pytest.mark.parametrize("slash", ["/", ""])
def test_below_a_prefix(browser: Browser, harness: Harness, stage: str, slash: str) -> None:
    """Every address of the page is right behind a stage too, whether or not the visitor typed the last slash."""
    with browser.new_context() as context:
        person = Person(context.new_page(), stage, harness.register().api_key)
        person.arrive(slash)
        person.refine("a draft")
        expect(person.text_of("Version 1")).to_have_text("a draft")
        assert person.page.url.startswith(f"{stage}/#/refine/")
        assert [request.url for request in person.requests if not request.url.startswith(stage)] == []
        assert person.complaints == []
