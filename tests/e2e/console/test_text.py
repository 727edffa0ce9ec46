"""How text gets into the console, and out of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, FilePayload, expect

from tests.e2e.console.person import Person
from tests.upstream import Upstream

TEXT: FilePayload = {"name": "draft.txt", "mimeType": "text/plain", "buffer": "greet {{name}}, grüße".encode()}
NOT_TEXT: FilePayload = {"name": "picture.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n\0\xff"}
TOO_LARGE: FilePayload = {"name": "book.txt", "mimeType": "text/plain", "buffer": b"x" * (1024 * 1024 + 1)}


def choose(person: Person, file: FilePayload) -> None:
    with person.page.expect_file_chooser() as chooser:
        person.button("Open a file").click()
    chooser.value.set_files(file)


def drop(person: Person, file: FilePayload) -> None:
    transfer = person.page.evaluate_handle(
        """([name, type, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return transfer;
        }""",
        [file["name"], file["mimeType"], list(file["buffer"])],
    )
    for event in ("dragover", "drop"):
        person.prompt.dispatch_event(event, {"dataTransfer": transfer})


@pytest.mark.parametrize("bring", [choose, drop])
def test_a_file_becomes_the_prompt(person: Person, bring: Callable[[Person, FilePayload], None]) -> None:
    """A text file that is opened or dropped is the prompt, and is counted."""
    person.arrive()
    bring(person, TEXT)
    expect(person.prompt).to_have_value("greet {{name}}, grüße")
    expect(person.main.get_by_text("21 characters")).to_be_visible()


@pytest.mark.parametrize(
    ("file", "said"), [(NOT_TEXT, "not a text file"), (TOO_LARGE, "too large")], ids=["binary", "large"]
)
def test_another_file_is_refused(person: Person, file: FilePayload, said: str) -> None:
    """What is no text, or too much, leaves the prompt as it is, and the page says why."""
    person.arrive()
    person.prompt.fill("typed")
    choose(person, file)
    expect(person.alert).to_contain_text(said)
    expect(person.prompt).to_have_value("typed")


@pytest.mark.parametrize("text", ["short\n", "a long line\n" * 8_000], ids=["short", "long"])
def test_text_is_pasted_where_the_caret_is(person: Person, context: BrowserContext, text: str) -> None:
    """A pasted text of any length replaces what is selected, and is counted."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    person.arrive()
    person.prompt.fill("before, SELECTED, after")
    person.prompt.evaluate("area => area.setSelectionRange(8, 16)")
    person.page.evaluate("text => navigator.clipboard.writeText(text)", text)
    person.prompt.press("ControlOrMeta+v")
    expect(person.prompt).to_have_value(f"before, {text}, after")
    expect(person.main.get_by_text(f"{len(text) + 15:,} characters")).to_be_visible()


def test_a_version_is_copied(person: Person, context: BrowserContext, upstream: Upstream) -> None:
    """What is copied is the text as it is, without what marks the changes."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    person.arrive()
    person.refine("a draft\nof two lines")
    person.button("Copy Version 1").click()
    expect(person.page.get_by_text("Version 1 is copied.")).to_be_attached()
    assert person.page.evaluate("navigator.clipboard.readText()") == "a draft\nof two lines"


def test_without_a_clipboard_the_text_is_selected(person: Person) -> None:
    """Where the browser gives no clipboard, the text is selected, for the keyboard to copy."""
    person.arrive()
    refuse = "() => { navigator.clipboard.writeText = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    person.page.evaluate(refuse)
    person.refine("a draft")
    person.button("Copy Draft").click()
    expect(person.page.get_by_text("Draft is selected: copy it with the keyboard.")).to_be_attached()
    assert person.page.evaluate("getSelection().toString()") == "a draft"
