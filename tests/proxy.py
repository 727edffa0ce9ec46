"""The tests' own TCP proxy on loopback, which plays each fault of a network and of a server behind it for real."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from threading import Condition, Event, Thread
from typing import Self

BOUND = 30.0
GARBAGE = b"\xff" * 64
Matching = Callable[[bytes], bool]


@dataclass(frozen=True)
class _Fault:
    """What becomes of the reply to one request; `play` gets its first bytes."""

    matching: Matching
    play: Callable[[_Link, bytes], None]
    played: Event = field(default_factory=Event)


class FaultProxy:
    """Passes bytes between its own `port` and a server; a test tells it what goes wrong, at any time.

    A request is what a client sends between two replies, which holds for protocols that ask and then wait. Everything
    happens on one thread; each method returns when what it says is so. `connections`, `requests`, `swallowed` and
    `faults` count what came in, what got no further, and what was made to fail; wait for them with `wait_for`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.connections = self.requests = self.swallowed = self.faults = 0
        self.silenced = False
        self.reply_seconds = 0.0
        self._server = (host, port)
        self._planned: list[_Fault] = []
        self._fraction, self._random = 0.0, Random(0)  # noqa: S311 - chance, no secret
        self._links: set[_Link] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._counted = Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._listener = _bound()
        self.port = self._listener.getsockname()[1]
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close_port, self._reset_all)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(BOUND)
        self._listener.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), "the proxy could not stop"
        self._loop.close()

    def refuse(self) -> None:
        """As a host whose server is down: open connections are reset, new ones refused."""
        self._do(self._close_port, self._reset_all)

    def silence(self) -> None:
        """Accept, swallow what comes, and answer nothing, on open connections too."""
        self._do(lambda: setattr(self, "silenced", True))

    def cut(self) -> None:
        """Reset all open connections; new ones are served."""
        self._do(self._reset_all)

    def lose_reply(self, matching: Matching, *, silent: bool = False) -> Event:
        """Pass the next request that matches on, and swallow the server's reply; then reset, or say nothing more.

        Returns what is set when it has happened: the server did what it was asked.
        """
        return self._plan(matching, _Link.keep_silent if silent else _Link.reset_after)

    def break_reply(self, matching: Matching) -> Event:
        """Give half of the reply to the next request that matches, then close. Set when it has happened."""
        return self._plan(matching, _Link.give_half)

    def garble_reply(self, matching: Matching) -> Event:
        """Answer the next request that matches with what no protocol knows. Set when it has happened."""
        return self._plan(matching, _Link.give_garbage)

    def faulty(self, fraction: float, rng: Random) -> None:
        """Reset so many of all requests, half of them before the server has them, the others after its reply."""

        def begin() -> None:
            self._fraction, self._random = fraction, rng

        self._do(begin)

    def delay(self, seconds: float) -> None:
        """Give each reply so much later."""
        self._do(lambda: setattr(self, "reply_seconds", seconds))

    def heal(self) -> None:
        """Pass everything on again. Connections on which something was swallowed are reset."""
        self._do(self._heal)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Block until it is so; asked whenever one of the counts has changed."""
        with self._counted:
            if not self._counted.wait_for(condition, BOUND):
                counts = f"{self.connections} connections, {self.requests} requests, {self.swallowed} swallowed"
                raise AssertionError(f"it did not come about: {counts}, {self.faults} faults")

    def count(self, connections: int = 0, requests: int = 0, swallowed: int = 0, faults: int = 0) -> None:
        """Add to the counts."""
        with self._counted:
            self.connections += connections
            self.requests += requests
            self.swallowed += swallowed
            self.faults += faults
            self._counted.notify_all()

    def planned_for(self, request: bytes) -> _Fault | None:
        """The first planned fault that this request matches, which is then planned no longer."""
        for fault in self._planned:
            if fault.matching(request):
                self._planned.remove(fault)
                return fault
        return None

    def is_unlucky(self) -> bool:
        """Whether a request fails by chance."""
        return self._random.random() < self._fraction

    def is_unlucky_at_once(self) -> bool:
        """Whether one that fails by chance does so before the server has it."""
        return self._random.random() < 0.5

    def forget(self, link: _Link) -> None:
        """A connection has ended."""
        self._links.discard(link)

    def _plan(self, matching: Matching, play: Callable[[_Link, bytes], None]) -> Event:
        fault = _Fault(matching, play)
        self._do(lambda: self._planned.append(fault))
        return fault.played

    def _do(self, *steps: Callable[[], object]) -> None:
        async def run() -> None:
            for step in steps:
                step()
            # A transport closes its socket in the loop's next round.
            while any(link.is_ending for link in self._links):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(BOUND)

    def _listen(self) -> None:
        self._listener.listen(128)
        self._loop.add_reader(self._listener, self._accept)

    def _close_port(self) -> None:
        # The socket stays bound, so that nobody else gets the port; who connects is refused.
        if self._loop.remove_reader(self._listener):
            self._listener.shutdown(socket.SHUT_RD)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        near.setblocking(False)
        link = _Link(self)
        self._links.add(link)
        self.count(connections=1)
        task = self._loop.create_task(link.open(near, self._server))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _reset_all(self) -> None:
        for link in list(self._links):
            link.reset()

    def _heal(self) -> None:
        self.silenced, self.reply_seconds, self._fraction = False, 0.0, 0.0
        self._planned.clear()
        for link in [link for link in self._links if link.silent]:
            link.reset()
        self._listen()

    async def _end(self) -> None:
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)


def _bound() -> socket.socket:
    """A socket on a free port, named when it is bound: else the kernel takes the port back when it does not listen."""
    for _ in range(10):
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            address = probe.getsockname()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            continue
        listener.setblocking(False)
        return listener
    raise AssertionError("no port is free")


class _Side(asyncio.Protocol):
    """One of the two ends of a link."""

    def __init__(self, received: Callable[[bytes], None], ended: Callable[[Exception | None], None]) -> None:
        self._received = received
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)


class _Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self._near: asyncio.Transport | None = None
        self._far: asyncio.Transport | None = None
        self._open_sides = 0
        self._waiting = bytearray()
        self._request = bytearray()
        self._answered = True
        self._fault: _Fault | None = None
        self._late: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None
        # Nothing is passed on here any more, in either direction.
        self.silent = False
        self.is_ending = False

    async def open(self, near: socket.socket, server: tuple[str, int]) -> None:
        """Serve a client that has connected; one whose server is not there is reset."""
        loop = asyncio.get_running_loop()
        self._near, _ = await loop.connect_accepted_socket(lambda: _Side(self._from_client, self._near_ended), near)
        self._open_sides += 1
        self.silent = self.silent or self._proxy.silenced
        try:
            if not (self.is_ending or self.silent):
                self._far, _ = await loop.create_connection(lambda: _Side(self._from_server, self._far_ended), *server)
                self._open_sides += 1
                self._far.write(bytes(self._waiting))
        except OSError:
            self.is_ending = True
        if self.is_ending or self._near.is_closing():
            self.reset()

    def reset(self) -> None:
        """End both sides with a TCP reset."""
        self.silent = self.is_ending = True
        for side in filter(None, (self._near, self._far)):
            if not side.is_closing():
                linger = struct.pack("ii", 1, 0)
                side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            side.abort()

    def reset_after(self, _reply: bytes) -> None:
        self.reset()

    def keep_silent(self, _reply: bytes) -> None:
        self.silent = True

    def give_half(self, reply: bytes) -> None:
        assert self._near
        self.silent = True
        self._near.write(reply[: len(reply) // 2])
        self._near.close()

    def give_garbage(self, _reply: bytes) -> None:
        assert self._near
        self.silent = True
        self._near.write(GARBAGE)

    def _from_client(self, data: bytes) -> None:
        begins, self._answered = self._answered, False
        if begins:
            self._request.clear()
            self._proxy.count(requests=1)
            self._fail_by_chance()
        self.silent = self.silent or self._proxy.silenced
        if self.silent:
            self._proxy.count(swallowed=1)
            return
        self._request += data
        self._fault = self._fault or self._proxy.planned_for(bytes(self._request))
        if self._far:
            self._far.write(data)
        else:
            self._waiting += data

    def _fail_by_chance(self) -> None:
        if not self.silent and self._proxy.is_unlucky():
            if self._proxy.is_unlucky_at_once():
                self._proxy.count(faults=1)
                self.reset()
            else:
                self._fault = _Fault(lambda _: True, _Link.reset_after)

    def _from_server(self, data: bytes) -> None:
        begins, self._answered = not self._answered, True
        if self.silent or self._proxy.silenced:
            self._swallow()
        elif self._fault:
            self._play(self._fault, data)
        elif self._timer or (begins and self._proxy.reply_seconds):
            self._put_off(data)
        elif self._near:
            self._near.write(data)

    def _swallow(self) -> None:
        self.silent = True
        self._proxy.count(swallowed=1)

    def _play(self, fault: _Fault, reply: bytes) -> None:
        self._fault = None
        fault.play(self, reply)
        fault.played.set()
        self._proxy.count(faults=1)

    def _put_off(self, data: bytes) -> None:
        self._late.append(data)
        if not self._timer:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._proxy.reply_seconds, self._give_late)

    def _give_late(self) -> None:
        self._timer = None
        while self._late:
            data = self._late.popleft()
            if self.silent or self._proxy.silenced:
                self._swallow()
            elif self._near:
                self._near.write(data)

    def _near_ended(self, _error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        if self._far:
            self._far.close()
        self._side_ended()

    def _far_ended(self, error: Exception | None) -> None:
        # A silent network does not tell that the server has gone.
        self.silent = self.silent or self._proxy.silenced
        if self._near and not self.silent:
            self._give_late()
            if error:
                self.reset()
            else:
                self._near.close()
        self._side_ended()

    def _side_ended(self) -> None:
        self._open_sides -= 1
        if not self._open_sides:
            self._proxy.forget(self)
