"""A database fails behind a proxy on real sockets: what callers get, what the log says, what is paid, who recovers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest
import requests

from records import Status, utc_now
from scripts.service import Service
from tests import upstream as fake
from tests.e2e.faults.scene import (
    DEADLINE,
    Scene,
    asked_of,
    assert_refused,
    completes,
    in_order_again,
    in_time,
    inserts,
    port_of,
    settings,
    watching,
)
from tests.e2e.test_outbox import until
from tests.e2e.test_service import Caller
from tests.proxy import FaultProxy, Matching
from tests.stores import NxServer, new_database
from tests.upstream import Upstream


def assert_all_refused(scene: Scene, asked: dict[str, Callable[[], requests.Response]]) -> None:
    """503 in time for everything at once; no model is asked; the process itself is well."""
    caller = scene.caller
    with ThreadPoolExecutor(len(asked) + 2) as pool:
        answers = {name: pool.submit(ask) for name, ask in asked.items()}
        ready = pool.submit(caller.get, "/ready")
        health = pool.submit(caller.get, "/health")
        assert in_time(health.result()).status_code == 200
        assert in_time(ready.result()).status_code == 503
        assert ready.result().json() == {"status": "unavailable", "checks": {"storage": "unreachable"}}
        statuses = {name: answer.result().status_code for name, answer in answers.items()}
        assert statuses == dict.fromkeys(answers, 503)
        for answer in answers.values():
            assert_refused(answer.result())
    assert scene.upstream.requests == []


# In seconds: a process that finds no storage serves by then, on a busy machine too.
START = 15.0
OUTAGES: dict[str, Callable[[FaultProxy], None]] = {"down": FaultProxy.refuse, "silent": FaultProxy.silence}


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=list(OUTAGES))
def test_an_outage_before_the_call(scene: Scene, outage: Callable[[FaultProxy], None]) -> None:
    """Every route that needs the storage answers 503 in time, asks no model, and serves again once that is back."""
    prompt = scene.new_prompt()
    asked = asked_of(scene, prompt)
    outage(scene.proxy)
    assert_all_refused(scene, asked)
    scene.proxy.heal()
    assert scene.statuses(prompt) == []
    scene.assert_serves()


def test_connections_that_are_cut_before_the_call(scene: Scene) -> None:
    """Every route answers in time, with what was asked for or 503; what got 503 cost nothing, and then all is well."""
    asked = asked_of(scene, scene.new_prompt())
    scene.upstream.script(fake.status(401))
    scene.proxy.cut()
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = [in_time(answer) for answer in pool.map(lambda ask: ask(), asked.values())]
    paid = [answer for answer in answers if answer.status_code == 502]
    assert len(scene.upstream.requests) == len(paid)
    for answer in answers:
        assert answer.status_code in (200, 201, 502, 503), answer.text
        if answer.status_code == 503:
            assert_refused(answer)
    in_order_again(scene)


def lost(proxy: FaultProxy, matching: Matching) -> Event:
    return proxy.lose_reply(matching)


def lost_in_silence(proxy: FaultProxy, matching: Matching) -> Event:
    return proxy.lose_reply(matching, silent=True)


def broken(proxy: FaultProxy, matching: Matching) -> Event:
    return proxy.break_reply(matching)


def garbled(proxy: FaultProxy, matching: Matching) -> Event:
    return proxy.garble_reply(matching)


LOSSES = [lost, lost_in_silence, broken, garbled]
Losing = Callable[[FaultProxy, Matching], Event]


@pytest.mark.parametrize("lose", LOSSES)
def test_a_pending_record_whose_acknowledgement_is_lost(scene: Scene, lose: Losing) -> None:
    """503 in time, and no model is asked for a record that is there and pending; the next call is served."""
    prompt = scene.new_prompt()
    lose(scene.proxy, inserts(prompt))
    assert_refused(scene.refine(prompt))
    assert (scene.statuses(prompt), scene.upstream.requests) == ([Status.PENDING], [])
    assert scene.refine(scene.new_prompt()).status_code == 200


@pytest.mark.parametrize("lose", [lost, lost_in_silence])
def test_a_retry_takes_over_where_an_acknowledgement_was_lost(scene: Scene, lose: Losing) -> None:
    """With its key 409 until the deadline of the record, which is then abandoned; the retry's is the one paid call."""
    prompt = scene.new_prompt()
    lose(scene.proxy, inserts(prompt))
    assert_refused(scene.refine(prompt, key=prompt))
    (held,) = scene.records(prompt)
    assert held.deadline_at
    retry = scene.refine(prompt, key=prompt)
    assert retry.status_code == 409 or utc_now() >= held.deadline_at
    assert retry.ok or 1 <= int(retry.headers["Retry-After"]) <= DEADLINE
    until(lambda: scene.refine(prompt, key=prompt).status_code == 200)
    assert scene.statuses(prompt) == [Status.SUCCEEDED, Status.ABANDONED]
    assert len(scene.upstream.requests) == 1


def test_a_report_whose_acknowledgement_is_lost(scene: Scene) -> None:
    """503, and a retry with the same key gets the record that was written, which is there once."""
    prompt = scene.new_prompt()
    lost = scene.proxy.lose_reply(inserts(prompt))
    report = {"prompt": prompt, "response": "r"}
    headers = {**scene.caller.bearer, "Idempotency-Key": prompt}
    url = f"{scene.caller.url}/log-request"
    assert_refused(requests.post(url, json=report, headers=headers, timeout=60))
    assert lost.is_set()
    retry = in_time(requests.post(url, json=report, headers=headers, timeout=60))
    assert (retry.status_code, retry.headers["Idempotent-Replayed"]) == (201, "true")
    assert [record.id for record in scene.records(prompt)] == [retry.json()["id"]]


def assert_completed_once(scene: Scene, prompt: str, answer: requests.Response) -> None:
    """The caller has the paid answer; in time the record has it too, and a retry gets it, for the price of one call."""
    assert (answer.status_code, answer.json()["refined_prompt"]) == (200, f"better: {prompt}"), answer.text
    until(lambda: scene.statuses(prompt) == [Status.SUCCEEDED])
    replayed = scene.refine(prompt, key=prompt)
    assert (replayed.json(), replayed.headers["Idempotent-Replayed"]) == (answer.json(), "true")
    assert len(scene.upstream.requests) == 1


@pytest.mark.parametrize("lose", LOSSES)
def test_a_completion_whose_acknowledgement_is_lost(scene: Scene, lose: Losing) -> None:
    """The caller has the paid answer in time, the record has it once, and nothing is left in the outbox."""
    prompt = scene.new_prompt()
    happened = lose(scene.proxy, completes(prompt))
    answer = scene.refine(prompt, key=prompt)
    assert happened.is_set()
    assert_completed_once(scene, prompt, answer)


@pytest.mark.parametrize("fault", [FaultProxy.silence, FaultProxy.cut], ids=["silent", "cut"])
def test_a_fault_while_the_model_thinks(scene: Scene, fault: Callable[[FaultProxy], None]) -> None:
    """The caller has the paid answer in time; once the storage is back the record has it, unaided."""
    prompt = scene.new_prompt()
    with scene.asking(prompt, key=prompt) as asked:
        fault(scene.proxy)
    scene.proxy.heal()
    assert_completed_once(scene, prompt, asked.result())


def test_an_outage_while_the_model_fails(scene: Scene) -> None:
    """The caller has the model's problem in time; once the storage is back the record is failed, unaided."""
    prompt = scene.new_prompt()
    scene.upstream.script(fake.status(401))
    with scene.asking(prompt) as asked:
        scene.proxy.refuse()
    assert (asked.result().status_code, asked.result().json()["type"]) == (502, "/problems/upstream-rejected")
    scene.proxy.heal()
    until(lambda: scene.statuses(prompt) == [Status.FAILED])


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=list(OUTAGES))
def test_504_comes_in_time(scene: Scene, outage: Callable[[FaultProxy], None]) -> None:
    """A model that does not answer is 504 within the deadline, whatever became of the storage; the record is failed."""
    prompt = scene.new_prompt()
    scene.upstream.script(fake.drip())
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(scene.refine, prompt)
        scene.upstream.wait_for(1)
        outage(scene.proxy)
        answer = asked.result()
    assert (answer.status_code, answer.json()["type"]) == (504, "/problems/model-timeout")
    scene.proxy.heal()
    until(lambda: scene.statuses(prompt) == [Status.FAILED])


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=list(OUTAGES))
def test_an_outage_at_the_start(
    tmp_path: Path, nx: NxServer, upstream: Upstream, outage: Callable[[FaultProxy], None]
) -> None:
    """The service starts soon, says what is wrong, and serves as soon as the storage is there."""
    database = new_database()
    direct = settings(tmp_path, upstream, nx.url(database))
    with FaultProxy("127.0.0.1", port_of(nx.url(""))) as proxy:
        outage(proxy)
        url = f"mongodb://127.0.0.1:{proxy.port}/{database}"
        with (
            Service({**direct, "DATABASE_URL": url}, tmp_path / "service.log") as service,
            closing(watching(nx.url(database))) as behind,
        ):
            # Who comes while the process starts waits for it: that it cannot take long is part of what must hold.
            started = requests.get(f"{service.url}/health", timeout=60)
            assert (started.status_code, started.elapsed.total_seconds() < START) == (200, True), started.elapsed
            headers = {"X-API-Key": "klm_0000000000000000.x"}
            assert_refused(requests.post(f"{service.url}/token", json={}, headers=headers, timeout=60))
            assert in_time(requests.get(f"{service.url}/ready", timeout=60)).status_code == 503
            proxy.heal()
            caller = Caller(service.url, direct)
            in_order_again(Scene(service, proxy, behind, upstream, caller))
