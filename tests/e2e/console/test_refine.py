"""The console's way from an API key to a refined prompt, in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from tests import upstream as fake
from tests.e2e.console.person import Person
from tests.upstream import Upstream


def test_from_a_key_to_a_refined_prompt(person: Person, upstream: Upstream) -> None:
    """Who has a key signs in, types a draft and reads the refined prompt."""
    upstream.script(fake.echo(lambda draft: f"Please: {draft}"))
    person.arrive()
    person.refine("greet {{name}}")
    expect(person.page.get_by_text("Please: greet {{name}}")).to_be_visible()
