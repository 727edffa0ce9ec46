"""What happens to a refinement when the connection, the token or the user's patience runs out: it is paid once."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Route, expect

from tests import upstream as fake
from tests.e2e.console.person import Person
from tests.e2e.test_service import SECRET
from tests.test_auth import HEADER, as_json, claims, signed
from tests.upstream import Upstream


def keys(person: Person) -> set[str]:
    """The idempotency keys under which refinements were asked for."""
    return {request.headers["idempotency-key"] for request in person.sent("/refine")}


def come_back(person: Person) -> None:
    """Open the page anew, at the address that it had."""
    place = person.page.url.removeprefix(person.url)
    person.page.goto("about:blank")
    person.arrive(place)


def test_waiting_can_be_stopped_and_taken_up_again(person: Person, upstream: Upstream) -> None:
    """Who stops waiting may wait again, for the same refinement."""
    upstream.hold()
    person.arrive()
    person.refine("a draft")
    upstream.wait_for(1)
    expect(person.page.get_by_role("timer")).to_be_visible()
    person.button("Stop waiting").click()
    expect(person.main.get_by_text("Not waiting any more")).to_be_visible()
    expect(person.page.get_by_role("timer")).to_be_hidden()
    expect(person.button("Wait for it again")).to_be_focused()
    person.button("Wait for it again").click()
    upstream.release()
    expect(person.text_of("Version 1")).to_have_text("a draft")
    assert (len(upstream.requests), len(person.sent("/refine"))) == (1, 1)


def test_the_connection_is_lost_while_waiting(person: Person, upstream: Upstream, context: BrowserContext) -> None:
    """The page says so, asks again by itself, and gets what was made in the meantime."""
    upstream.hold()
    person.arrive()
    person.refine("a draft")
    upstream.wait_for(1)
    context.set_offline(True)
    expect(person.main.get_by_text("No connection: trying again")).to_be_visible()
    upstream.release()
    context.set_offline(False)
    expect(person.text_of("Version 1")).to_have_text("a draft")
    assert len(upstream.requests) == 1


def test_the_answer_to_the_first_request_is_lost(person: Person, upstream: Upstream) -> None:
    """The request arrived, its answer did not: it is sent again under the same key, and the model is asked once."""
    lost: list[int] = []

    def lose(route: Route) -> None:
        lost.append(route.fetch().status)
        route.abort()

    person.arrive()
    person.page.route(f"{person.url}/refine", lose, times=2)
    person.refine("a draft")
    expect(person.text_of("Version 1")).to_have_text("a draft")
    assert lost == [202, 202]
    assert (len(person.sent("/refine")), len(keys(person)), len(upstream.requests)) == (3, 1, 1)


def test_a_gateway_gives_up_first(person: Person, upstream: Upstream) -> None:
    """A page of a gateway's own says nothing of what became of the request: it is sent again under the same key."""
    page = "<h1>Gateway Timeout</h1>"
    person.arrive()
    person.page.route(f"{person.url}/refine", lambda route: route.fulfill(status=504, body=page), times=1)
    person.refine("a draft")
    expect(person.text_of("Version 1")).to_have_text("a draft")
    assert (len(person.sent("/refine")), len(keys(person)), len(upstream.requests)) == (2, 1, 1)


def expire(person: Person, path: str) -> None:
    """Have the service see a token of the client's that was good long ago, at addresses of this pattern."""
    client_id = person.api_key.partition(".")[0]
    old = signed(HEADER, as_json(claims(client_id, iat=1, nbf=1, exp=61)), SECRET)

    def age(route: Route) -> None:
        route.continue_(headers={**route.request.headers, "authorization": f"Bearer {old}"})

    person.page.route(path, age)


def test_the_token_expires_in_the_middle(person: Person, upstream: Upstream) -> None:
    """What is running and what is typed survives: the key is asked for, and then it goes on."""
    upstream.hold()
    person.arrive()
    person.refine("a draft")
    upstream.wait_for(1)
    expire(person, "**/refine/*")
    expect(person.page.get_by_text("The token is no longer good")).to_be_visible()
    expect(person.main.get_by_text("Waiting until you have signed in again.")).to_be_visible()
    expect(person.page.get_by_label("API key")).to_have_value("")
    person.page.unroute("**/refine/*")
    upstream.release()
    person.sign_in()
    expect(person.text_of("Version 1")).to_have_text("a draft")
    expect(person.prompt).to_have_value("a draft")
    assert (len(upstream.requests), len(person.sent("/refine"))) == (1, 1)


def test_the_token_expires_at_rest(person: Person, upstream: Upstream) -> None:
    """What is shown stays, and what was clicked is done as soon as somebody has signed in."""
    upstream.script(fake.refinement("text one"), fake.refinement("text two"), fake.completion("an answer"))
    person.arrive()
    person.refine("text zero")
    expect(person.text_of("Version 1")).to_be_visible()
    come_back(person)
    expect(person.text_of("Version 1")).to_have_text("text one")
    person.refine("another text")
    expect(person.text_of("Version 1")).to_have_text("text two")
    expire(person, "**/generate")
    person.button("Run Version 1").click()
    expect(person.page.get_by_text("The token is no longer good")).to_be_visible()
    person.page.unroute("**/generate")
    person.sign_in()
    expect(person.page.get_by_role("region", name="Answer to Version 1")).to_have_text("an answer")
    expect(person.text_of("Draft")).to_have_text("another text")
    expect(person.button("Run Version 1")).to_be_focused()


def test_too_many_requests(person: Person, upstream: Upstream) -> None:
    """Where the service says when to come again, the page does, under the same key."""
    limited = {"type": "/problems/rate-limited", "title": "Rate limited", "status": 429, "detail": "Too many."}

    def refuse(route: Route) -> None:
        route.fulfill(status=429, headers={"Retry-After": "1"}, json=limited)

    person.arrive()
    person.page.route(f"{person.url}/refine", refuse, times=2)
    person.refine("a draft")
    expect(person.main.get_by_text("Rate limited: trying again in 1 s.")).to_be_visible()
    expect(person.text_of("Version 1")).to_have_text("a draft")
    assert (len(person.sent("/refine")), len(keys(person)), len(upstream.requests)) == (3, 1, 1)


def test_a_network_asks_for_a_sign_in_of_its_own(person: Person, upstream: Upstream) -> None:
    """What is not the service's answer is none, whatever its status."""
    person.arrive()
    page = "<h1>Welcome to the hotel</h1>"
    person.page.route(f"{person.url}/refine", lambda route: route.fulfill(status=200, body=page), times=1)
    person.refine("a draft")
    expect(person.text_of("Version 1")).to_have_text("a draft")
    assert (len(person.sent("/refine")), len(keys(person)), len(upstream.requests)) == (2, 1, 1)


def test_waiting_for_the_models_answer_can_be_stopped(person: Person, upstream: Upstream) -> None:
    """Who does not want to wait for a version's answer stops, and may run it again."""
    person.arrive()
    person.refine("a draft")
    expect(person.text_of("Version 1")).to_be_visible()
    upstream.script(fake.completion("an answer"))
    upstream.hold()
    person.button("Run Draft").click()
    upstream.wait_for(2)
    person.button("Stop Draft").click()
    expect(person.main.get_by_text("Not waiting any more.")).to_be_visible()
    upstream.release()
    person.button("Run Draft").click()
    expect(person.page.get_by_role("region", name="Answer to Draft")).to_have_text("an answer")


def test_an_overloaded_model_can_be_asked_again(person: Person, upstream: Upstream) -> None:
    """After an error that passes, the same refinement can be tried again, under the same key."""
    upstream.script(fake.status(503, headers={"retry-after": "0"}))
    person.arrive()
    person.refine("a draft")
    expect(person.alert).to_contain_text("overloaded")
    upstream.script(fake.echo())
    person.button("Try again").click()
    expect(person.text_of("Version 1")).to_have_text("a draft")
    assert len(keys(person)) == 1


def test_one_refinement_at_a_time(person: Person, upstream: Upstream) -> None:
    """While one is on its way, another click asks for nothing."""
    upstream.hold()
    person.arrive()
    person.refine("a draft")
    expect(person.main.get_by_text("being made")).to_be_visible()
    person.button("Refine", exact=True).click()
    upstream.release()
    expect(person.text_of("Version 1")).to_be_visible()
    assert len(person.sent("/refine")) == 1


def test_the_page_is_loaded_again_while_waiting(person: Person, upstream: Upstream) -> None:
    """The token is gone, the refinement is not: its id is in the address, and it is waited for again."""
    upstream.hold()
    person.arrive()
    person.refine("a draft")
    expect(person.main.get_by_text("being made")).to_be_visible()
    upstream.wait_for(1)
    person.page.reload()
    person.sign_in()
    expect(person.main.get_by_text("being made")).to_be_visible()
    upstream.release()
    expect(person.text_of("Version 1")).to_have_text("a draft")
    assert (len(upstream.requests), len(person.sent("/refine"))) == (1, 1)


def test_an_address_names_a_refinement(person: Person, upstream: Upstream) -> None:
    """An earlier refinement can be opened by its address, and gone on from; one of somebody else's cannot."""
    upstream.script(fake.refinement("text one"), fake.refinement("text two"))
    person.arrive()
    person.refine("text zero")
    expect(person.text_of("Version 1")).to_be_visible()
    come_back(person)
    expect(person.text_of("Draft")).to_have_text("text zero")
    person.refine_again("more")
    expect(person.text_of("Version 2")).to_have_text("text two")
    person.page.goto("about:blank")
    person.arrive("/#/refine/01a1fac7-2c08-7cd6-8f53-53fb60d2367a")
    expect(person.alert).to_contain_text("Not found")
