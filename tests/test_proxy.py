"""The tests' own proxy: each fault reaches the client as a network or a server would play it."""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Iterator
from contextlib import closing, suppress
from random import Random
from threading import Thread

import pytest

from tests.proxy import BOUND, GARBAGE, FaultProxy


class Lines(socketserver.StreamRequestHandler):
    """Answers each line with itself, and keeps it."""

    server: LineServer

    def handle(self) -> None:
        with suppress(ConnectionError):
            while line := self.rfile.readline():
                self.server.lines.append(line)
                self.wfile.write(line)


class LineServer(socketserver.ThreadingTCPServer):
    """A server on a free port of loopback; `lines` are the requests that it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Lines)
        self.lines: list[bytes] = []
        self.port: int = self.server_address[1]


@pytest.fixture
def server() -> Iterator[LineServer]:
    with LineServer() as running:
        thread = Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: LineServer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", server.port) as running:
        yield running


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), BOUND)


def ask(connection: socket.socket, line: bytes) -> bytes:
    """What comes back, whole or until the end."""
    connection.sendall(line)
    answer = b""
    while len(answer) < len(line) and (data := connection.recv(len(line))):
        answer += data
    return answer


def serves(proxy: FaultProxy) -> bool:
    with closing(connect(proxy)) as connection:
        return ask(connection, b"ping\n") == b"ping\n"


def test_it_passes_bytes_both_ways(proxy: FaultProxy) -> None:
    """Without a fault nobody notices it, with large requests either."""
    with closing(connect(proxy)) as connection:
        for line in (b"one\n", b"x" * 500_000 + b"\n"):
            assert ask(connection, line) == line
    assert (proxy.connections, proxy.requests, proxy.faults) == (1, 2, 0)


def test_a_server_that_is_down(proxy: FaultProxy) -> None:
    """The open connection is reset and new ones refused, until it is back on the same port."""
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"one\n") == b"one\n"
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    assert serves(proxy)


def test_a_server_that_is_silent(proxy: FaultProxy, server: LineServer) -> None:
    """Old and new connections take requests that go nowhere; healed, they are reset and new ones served."""
    with closing(connect(proxy)) as old:
        assert ask(old, b"one\n") == b"one\n"
        proxy.silence()
        with closing(connect(proxy)) as new:
            old.sendall(b"two\n")
            new.sendall(b"three\n")
            proxy.wait_for(lambda: proxy.swallowed == 2)
            proxy.heal()
            for connection in (old, new):
                with pytest.raises(ConnectionResetError):
                    connection.recv(1)
    assert serves(proxy)
    assert server.lines == [b"one\n", b"ping\n"]


def test_connections_that_are_cut(proxy: FaultProxy) -> None:
    """The open ones are reset; new ones are served at once."""
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"one\n") == b"one\n"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert serves(proxy)


def test_a_reply_that_is_lost(proxy: FaultProxy, server: LineServer) -> None:
    """The server did what it was asked, once; its client sees a reset and the other connections nothing."""
    lost = proxy.lose_reply(lambda request: b"two" in request)
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"one\n") == b"one\n"
        with pytest.raises(ConnectionResetError):
            ask(connection, b"two\n")
    assert lost.is_set()
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"two\n") == b"two\n"
    assert server.lines == [b"one\n", b"two\n", b"two\n"]


def test_a_reply_that_is_lost_in_silence(proxy: FaultProxy, server: LineServer) -> None:
    """The server did what it was asked; its client waits, and the other connections are served."""
    lost = proxy.lose_reply(lambda request: b"two" in request, silent=True)
    with closing(connect(proxy)) as connection:
        connection.sendall(b"two\n")
        assert lost.wait(BOUND)
        assert server.lines == [b"two\n"]
        assert serves(proxy)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)


def test_broken_replies(proxy: FaultProxy) -> None:
    """Half a reply and a plain end, and a reply that is none."""
    proxy.break_reply(lambda request: b"two" in request)
    proxy.garble_reply(lambda request: b"three" in request)
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"two!!\n") == b"two"
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"three\n")[:6] == GARBAGE[:6]
    assert serves(proxy)


def test_late_replies(proxy: FaultProxy) -> None:
    """A delayed reply comes whole, and what is put off when silence falls is never heard."""
    proxy.delay(0.05)
    with closing(connect(proxy)) as connection:
        line = b"x" * 200_000 + b"\n"
        assert ask(connection, line) == line
        connection.sendall(b"two\n")
        proxy.silence()
        proxy.wait_for(lambda: proxy.swallowed > 0)


def test_faults_by_chance(proxy: FaultProxy, server: LineServer) -> None:
    """Of many requests the given part fails, some of them after the server had them; healed, none does."""
    proxy.faulty(0.3, Random(7))  # noqa: S311 - chance, no secret
    answered = failed = 0
    for _ in range(200):
        with closing(connect(proxy)) as connection:
            try:
                answered += ask(connection, b"one\n") == b"one\n"
            except ConnectionResetError:
                failed += 1
    assert answered + failed == 200
    assert 30 < failed < 90
    assert proxy.faults == failed
    assert answered < len(server.lines) < 200
    proxy.heal()
    assert all(serves(proxy) for _ in range(50))
