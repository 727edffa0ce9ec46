"""A storage that answers each time, and each time late: no request outlives its deadline by waiting often."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from records import Status
from tests import upstream as fake
from tests.e2e.faults.scene import DEADLINE, Scene, asked_of, assert_refused, in_time
from tests.e2e.test_outbox import until

# In seconds: less than a driver waits for one reply, and than a request may take; two of them are more than that.
LATE = 0.75 * DEADLINE


def test_waits_that_add_up(scene: Scene) -> None:
    """A refinement needs the storage several times before the model: 503 in time, and no model is asked."""
    prompt = scene.new_prompt()
    scene.proxy.delay(LATE)
    assert_refused(scene.refine(prompt, key=prompt))
    assert scene.upstream.requests == []
    scene.proxy.heal()
    scene.assert_serves()


def test_every_route_is_in_time(scene: Scene) -> None:
    """Whatever is asked for at once: what is wanted or 503 in time, no model for a 503; afterwards all is well."""
    asked = asked_of(scene, scene.new_prompt())
    scene.proxy.delay(LATE)
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda ask: in_time(ask()), asked.values()))
    for answer in answers:
        assert answer.ok or answer.status_code == 503, answer.text
        if not answer.ok:
            assert_refused(answer)
    assert scene.upstream.requests == []
    scene.proxy.heal()
    scene.assert_serves()


def test_a_storage_that_turns_slow_while_the_model_thinks(scene: Scene) -> None:
    """The caller has the paid answer in time, and the record comes to hold it."""
    prompt = scene.new_prompt()
    with scene.asking(prompt) as asked:
        scene.proxy.delay(LATE)
    assert (asked.result().status_code, asked.result().json()["refined_prompt"]) == (200, f"better: {prompt}")
    scene.proxy.heal()
    until(lambda: scene.statuses(prompt) == [Status.SUCCEEDED])
    assert len(scene.upstream.requests) == 1


def test_504_comes_in_time_from_a_slow_storage_too(scene: Scene) -> None:
    """A model that uses up the time leaves none to wait for the storage: 504 in time, which the record comes to say."""
    prompt = scene.new_prompt()
    scene.upstream.script(fake.drip())
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(scene.refine, prompt)
        scene.upstream.wait_for(1)
        scene.proxy.delay(LATE)
        answer = asked.result()
    assert (answer.status_code, answer.json()["type"]) == (504, "/problems/model-timeout")
    scene.proxy.heal()
    until(lambda: scene.statuses(prompt) == [Status.FAILED])
