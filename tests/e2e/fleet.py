"""A fleet of services whose secrets change while callers go on, and what those callers were refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Condition, Event
from typing import Any

import jwt

from scripts.service import ROOT, Service
from tests.e2e.cloud import Send, over_http
from tests.e2e.test_outbox import until
from tests.events import Answer, Call
from tests.stores import new_database

# As many as a caller of the fleet uses at a time.
KEPT = 4
CALLERS = 2


def changed(action: str, values: Mapping[str, str]) -> dict[str, str]:
    """The secret as `python -m scripts.secret` hands it on."""
    command = [sys.executable, "-m", "scripts.secret", action]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(values).encode(), stdout=subprocess.PIPE, check=True)
    result: dict[str, str] = json.loads(done.stdout)
    return result


def token_from(send: Send, api_key: str) -> Answer:
    return send(Call("POST", "/token", "", [("X-API-Key", api_key)]).with_json({}))


def used(send: Send, token: str) -> Answer:
    """Any route behind a token, with a look at the storage."""
    return send(Call("GET", "/models", "", [("Authorization", f"Bearer {token}")]))


def claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


@dataclass
class Round:
    """A client that gets a token at each door, and uses every one that it ever got at each of them."""

    api_key: str
    tokens: list[str] = field(default_factory=list)

    def go(self, doors: Sequence[Send]) -> list[int]:
        """The statuses of what was refused."""
        answers = [token_from(door, self.api_key) for door in doors]
        self.tokens += [answer.json["access_token"] for answer in answers if answer.status == 200]
        answers += [used(door, token) for door in doors for token in self.tokens]
        return [answer.status for answer in answers if answer.status != 200]


class Fleet:
    """Two services on one database behind a balancer: a new one is there before it takes the place of an old one."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder
        self._changed = Condition()
        self._services: list[Service] = []
        self._calls: dict[str, int] = {}

    @property
    def doors(self) -> list[Send]:
        return [over_http(service.url) for service in self._services]

    @contextmanager
    def running(self, secret: Mapping[str, str]) -> Iterator[None]:
        try:
            self._services.append(self._started(secret))
            self._services.append(self._started(secret))
            yield
        finally:
            for service in self._services:
                service.stop()

    def replace(self, index: int, secret: Mapping[str, str]) -> None:
        """Start a service with this secret, send callers there, and end the old one when nobody is with it."""
        new = self._started(secret)
        with self._changed:
            old, self._services[index] = self._services[index], new
            assert self._changed.wait_for(lambda: not self._calls.get(old.url), timeout=60)
        old.stop()

    @property
    def balanced(self) -> list[Send]:
        """The way to whatever service is in each place."""
        return [partial(self._send, index) for index in range(2)]

    def _send(self, index: int, call: Call) -> Answer:
        with self._changed:
            url = self._services[index].url
            self._calls[url] = self._calls.get(url, 0) + 1
        try:
            return over_http(url)(call)
        finally:
            with self._changed:
                self._calls[url] -= 1
                self._changed.notify_all()

    def _started(self, secret: Mapping[str, str]) -> Service:
        return Service({**self._environ, **secret}, self._folder / f"{new_database()}.log").__enter__()


class Callers:
    """Programs that use all doors all the time, each with the tokens that it got last, wherever it got them."""

    def __init__(self, doors: Sequence[Send], api_key: str) -> None:
        self._doors = doors
        self._api_key = api_key
        self._ended = Event()
        self._rounds = [0] * CALLERS
        self._running: list[Future[list[int]]] = []

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Inside they go on; none of them was ever refused."""
        with ThreadPoolExecutor(CALLERS) as pool:
            self._running = [pool.submit(self._go_on, caller) for caller in range(CALLERS)]
            try:
                yield
                self.go_round()
            finally:
                self._ended.set()
        assert [caller.result() for caller in self._running] == [[]] * CALLERS

    def go_round(self) -> None:
        """Wait until each of them has begun and ended a round, and was not refused."""
        before = list(self._rounds)

        def gone_round() -> bool:
            return all(now > then + 1 for now, then in zip(self._rounds, before, strict=True))

        until(lambda: gone_round() or any(caller.done() for caller in self._running))
        assert [caller.result() for caller in self._running if caller.done()] == []

    def _go_on(self, caller: int) -> list[int]:
        """What it was refused, which ends it."""
        client, refused = Round(self._api_key), list[int]()
        while not self._ended.is_set() and not refused:
            refused = client.go(self._doors)
            client.tokens = client.tokens[-KEPT:]
            self._rounds[caller] += 1
        return refused
