"""The console's way from an API key to a refined prompt, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests import upstream as fake
from tests.e2e.console.conftest import NewKey
from tests.e2e.console.person import Person
from tests.e2e.console.screens import ASSUMPTIONS, CHANGES, DRAFT, REFINED
from tests.upstream import Upstream


def marked(person: Person, version: str, mark: str) -> list[str]:
    return person.text_of(version).locator(mark).all_inner_texts()


def test_from_a_key_to_a_refined_prompt(person: Person, upstream: Upstream) -> None:
    """Who has a key signs in, types a draft, and reads the refined prompt beside it, with what was changed and why."""
    upstream.script(fake.refinement(REFINED, CHANGES, ASSUMPTIONS))
    person.arrive()
    person.refine(DRAFT)
    expect(person.text_of("Draft")).to_have_text(DRAFT, use_inner_text=True)
    expect(person.text_of("Version 1")).to_have_text(REFINED, use_inner_text=True)
    expect(person.main.get_by_text("16 words removed, 23 words added.")).to_be_visible()
    assert marked(person, "Draft", "del")[0] == "hey can you write a "
    assert marked(person, "Version 1", "ins")[0] == "Write an e-"
    expect(person.report("Changes").get_by_role("listitem")).to_have_text(
        [" ".join(filter(None, each.values())) for each in CHANGES], use_inner_text=True
    )
    expect(person.report("Assumptions").get_by_role("listitem")).to_have_text(ASSUMPTIONS)
    expect(person.report("Cost")).to_contain_text("gpt-test")
    expect(person.report("Cost")).to_contain_text("11")


def test_placeholders_are_shown_by_their_fate(person: Person, upstream: Upstream) -> None:
    """Where the model lost or made up a placeholder, the draft stays, and each placeholder says what became of it."""
    upstream.script(fake.refinement("greet {{b}} and {{b}} and {{c}}"))
    person.arrive()
    person.refine("greet {{a}} and {{b}} and {{b}}, see https://example.com")
    chips = person.report("What a program depends on").get_by_role("listitem")
    expect(chips).to_have_text(["kept {{b}} (2)", "lost {{a}}", "added {{c}}", "lost https://example.com"])
    expect(person.main.get_by_text("The draft is unchanged")).to_be_visible()
    expect(person.main.get_by_text("The two are the same.")).to_be_visible()


def test_what_is_chosen_is_asked_for(person: Person, upstream: Upstream) -> None:
    """Strategy, model and instructions reach the model, once, under an idempotency key, in the background."""
    person.arrive()
    person.page.get_by_label("Model").select_option("gpt-other")
    person.page.get_by_label("Strategy").select_option("concise")
    person.page.get_by_label("Instructions").fill("Say sorry once.")
    person.refine("a draft")
    expect(person.text_of("Version 1")).to_be_visible()
    (request,) = person.sent("/refine")
    expected = {"prompt": "a draft", "instructions": "Say sorry once.", "strategy": "concise", "model": "gpt-other"}
    assert request.post_data_json == expected
    assert request.headers["prefer"] == "respond-async"
    assert len(request.headers["idempotency-key"]) == 32
    (asked,) = upstream.requests
    assert asked.body["model"] == "gpt-other"
    expect(person.report("Cost")).to_contain_text("concise")


def test_versions(person: Person, upstream: Upstream) -> None:
    """Feedback makes a version from the one that is shown; each can be stepped to, and any two compared."""
    upstream.script(*(fake.refinement(f"text {name}") for name in ("one", "two", "three")))
    person.arrive()
    person.refine("text zero")
    person.refine_again("two, please")
    expect(person.text_of("Version 2")).to_have_text("text two")
    expect(person.text_of("Version 1")).to_have_text("text one")
    first, second = person.sent("/refine")
    assert (second.post_data_json or {})["instructions"] == "two, please"
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]

    person.button("Earlier").click()
    expect(person.text_of("Draft")).to_have_text("text zero")
    expect(person.button("Earlier")).to_be_focused()
    # From version 1, not from the latest one.
    person.refine_again("three, please")
    expect(person.text_of("Version 3")).to_have_text("text three")
    expect(person.text_of("Version 1")).to_be_visible()
    assert "text one" in upstream.requests[2].raw.decode()

    person.page.get_by_label("Compare").select_option("Version 2")
    expect(person.text_of("Version 2")).to_be_visible()
    expect(person.main.get_by_text("1 word removed, 1 word added.")).to_be_visible()
    assert (marked(person, "Version 2", "del"), marked(person, "Version 3", "ins")) == (["two"], ["three"])


def test_both_versions_are_tried(person: Person, upstream: Upstream) -> None:
    """Each version is given to the model as it is, and the answers stand side by side, an error in its own place."""
    upstream.script(fake.refinement("the refined prompt"))
    person.arrive()
    person.refine("the draft")
    expect(person.text_of("Version 1")).to_be_visible()
    upstream.script(
        fake.mixed(
            lambda received: (
                fake.html()
                if received.body["messages"][0]["content"] == "the draft"
                else fake.completion("a good answer", finish_reason="length")
            )
        )
    )
    person.page.get_by_label("Answer length").fill("16")
    person.button("Run both").click()
    expect(person.page.get_by_role("region", name="Answer to Version 1")).to_have_text("a good answer")
    expect(person.main.get_by_text("7 tokens, cut at this length")).to_be_visible()
    expect(person.alert).to_contain_text("Unusable answer")
    sent = sorted((request.post_data_json or {})["prompt"] for request in person.sent("/generate"))
    assert sent == ["the draft", "the refined prompt"]
    assert {received.body["max_tokens"] for received in upstream.requests[1:]} == {16}


def test_an_error_is_said_in_words(person: Person, upstream: Upstream) -> None:
    """It is announced, with the request id, and what was typed stays."""
    upstream.script(fake.html())
    person.arrive()
    with person.page.expect_response("**/refine/*") as asked:
        person.refine("a draft")
    expect(person.alert).to_contain_text("Unusable answer")
    expect(person.alert).to_contain_text(f"Request id: {asked.value.headers['x-request-id']}")
    expect(person.alert).not_to_contain_text(fake.MARKER)
    expect(person.prompt).to_have_value("a draft")


def test_a_wrong_field_is_named(person: Person) -> None:
    """What the service finds wrong with a field is said with the field's name."""
    person.arrive()
    person.refine("x" * 100_001)
    expect(person.alert).to_contain_text("prompt:")
    expect(person.alert).to_contain_text("Request id:")


@pytest.mark.parametrize("key", ["klm_0123456789abcdef.wrong", "nonsense"])
def test_a_wrong_key_is_refused(person: Person, key: str) -> None:
    """Nobody is let in, the browser's own login box does not come up, and the key can be typed anew."""
    person.open()
    person.page.get_by_label("API key").fill(key)
    person.button("Sign in").click()
    expect(person.alert).to_contain_text("Check the API key")
    person.sign_in()
    expect(person.prompt).to_be_visible()
    expect(person.alert).to_have_count(0)


def test_what_cannot_be_a_key_is_not_sent(person: Person) -> None:
    """A text that no header can carry is refused by the form."""
    person.open()
    person.page.get_by_label("API key").fill("klm_ключ")
    person.button("Sign in").click()
    assert person.page.get_by_label("API key").evaluate("input => input.validity.patternMismatch")
    assert person.sent("/token") == []


def test_what_a_client_may_not_do_is_said(person: Person, new_key: NewKey) -> None:
    """Without the scope for a view or a button, the page says which one it takes, and asks for nothing."""
    person.api_key = new_key("log:read")
    person.arrive()
    expect(person.main.get_by_text("it needs the scope refine")).to_be_visible()
    expect(person.prompt).to_have_count(0)
    person.page.reload()
    person.api_key = new_key("refine")
    person.sign_in()
    person.refine("a draft")
    expect(person.main.get_by_text("needs the scope generate")).to_be_visible()
    expect(person.button("Run both")).to_have_count(0)
