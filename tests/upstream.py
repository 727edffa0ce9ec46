"""The tests' own OpenAI-compatible server on loopback, which plays each fault of a real one for real."""

from __future__ import annotations

import argparse
import gzip
import json
import signal
import socket
import socketserver
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from threading import Condition, Event, Thread
from typing import Any, Final, Self

MARKER: Final = "UPSTREAM-WORDS-sk-canary"
USAGE: Final[Mapping[str, int]] = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
BOUND = 10.0
JSON: Final = "application/json"
BEGINNING: Final = b'{"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "'
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
HALF: Final = HEAD + b"Content-Length: %d\r\n\r\n%s" % (2 * len(BEGINNING), BEGINNING)
CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Received:
    """One request as it arrived, its header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: Any
    raw: bytes


@dataclass(frozen=True)
class Reply:
    """One way to answer a request."""

    send: Callable[[Handler], None]


class Handler(BaseHTTPRequestHandler):
    """One connection: records its requests and plays their replies."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    received: Received

    def do_POST(self) -> None:
        upstream, length = self.server.upstream, int(self.headers.get("Content-Length", 0))
        raw = self.rfile.read(length)
        # What the peer or the stop cut short never arrived.
        if len(raw) == length:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.received = Received(self.path, headers, json.loads(raw) if raw else None, raw)
            upstream.take(self.received).send(self)
        if len(raw) < length or upstream.stopped.is_set():
            self.hang_up()

    do_GET = do_POST  # noqa: N815 - the name that http.server calls

    def hang_up(self) -> None:
        self.close_connection = True

    def abort(self) -> None:
        # A kernel may drop what is still unread when the reset comes, so the peer gets a moment to read.
        self.server.upstream.stopped.wait(0.05)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Closed here, because the server's own clean-up would first send a FIN, which the peer takes for a plain end.
        self.rfile.close()
        self.connection.close()
        self.hang_up()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's signature
        pass


class _Server(socketserver.ThreadingTCPServer):
    # Not http.server's own class, which looks its host name up, at times for seconds.
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, upstream: Upstream) -> None:
        self.upstream = upstream
        self.serving: list[tuple[Thread, socket.socket]] = []
        super().__init__(("127.0.0.1", port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        # The mixin forgets its daemon threads; kept here, they can be woken and joined.
        thread = Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self.serving.append((thread, request))
        thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A peer that goes away is expected; anything else leaves the thread, so that pytest fails the test.
        error = sys.exc_info()[1]
        if error and not isinstance(error, ConnectionError):
            raise error

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for _, connection in self.serving:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread, _ in self.serving:
            thread.join(BOUND)
            assert not thread.is_alive(), "the fake upstream could not stop a connection"


class Upstream:
    """The server; unless a test scripts it, it plays `echo()`."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Received] = []
        self.stopped = Event()
        self._arrival = Condition()
        self._released = Event()
        self._released.set()
        self.script(echo())
        self._server = _Server(port, self)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.release()
        self._server.end()
        self._thread.join()

    @property
    def connections(self) -> int:
        """How many connections have been accepted."""
        return len(self._server.serving)

    def script(self, first: Reply, *rest: Reply) -> None:
        """Answer the coming requests with these replies, in order; the last one repeats."""
        with self._arrival:
            self._replies = [first, *rest]

    def wait_for(self, count: int) -> None:
        """Block until that many requests have arrived."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: len(self.requests) >= count, BOUND):
                raise AssertionError(f"{len(self.requests)} of {count} requests arrived")

    def hold(self) -> None:
        """Keep every answer back until `release`."""
        self._released.clear()

    def release(self) -> None:
        """Let the answers go."""
        self._released.set()

    def take(self, received: Received) -> Reply:
        """Record a request and, once it may be answered, return its reply."""
        with self._arrival:
            self.requests.append(received)
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
            self._arrival.notify_all()
        self._released.wait()
        return close() if self.stopped.is_set() else reply


def _whole(code: int, headers: Mapping[str, str], data: bytes) -> Reply:
    def send(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return Reply(send)


def _broken(data: bytes, end: Callable[[Handler], None]) -> Reply:
    def send(handler: Handler) -> None:
        handler.wfile.write(data)
        end(handler)

    return Reply(send)


def _for_ever(start: bytes, piece: bytes, interval: float) -> Reply:
    def send(handler: Handler) -> None:
        handler.wfile.write(start)
        while not handler.server.upstream.stopped.wait(interval):
            handler.wfile.write(piece)

    return Reply(send)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _error(message: str, param: str | None = None) -> dict[str, object]:
    error = {"message": f"{message} {MARKER}", "type": "invalid_request_error", "param": param, "code": None}
    return {"error": error}


def body(data: bytes, content_type: str = JSON, status: int = 200) -> Reply:
    """Exactly these bytes."""
    return _whole(status, {"Content-Type": content_type}, data)


def raw_json(obj: object) -> Reply:
    """A 200 with any JSON."""
    return body(json.dumps(obj).encode())


def status(code: int, *, headers: Mapping[str, str] | None = None, body: object = None) -> Reply:
    """Any status, by default with an OpenAI-like error whose words must never reach a client."""
    content = _error("The upstream is unhappy.") if body is None else body
    return _whole(code, {"Content-Type": JSON, **(headers or {})}, json.dumps(content).encode())


def completion(
    content: str | None,
    *,
    finish_reason: str = "stop",
    usage: Mapping[str, object] | None = USAGE,
    refusal: str | None = None,
    model: str = "gpt-test",
) -> Reply:
    """A Chat Completions object with this content, and no usage at all when that is None."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    chat = {"id": "chatcmpl-test", "object": "chat.completion", "created": 0, "model": model, "choices": [choice]}
    return raw_json(chat if usage is None else chat | {"usage": usage})


def refinement(
    refined_prompt: str, changes: Sequence[Mapping[str, object]] = (), assumptions: Sequence[str] = ()
) -> Reply:
    """A completion whose content is a refinement as the model should write it."""
    content = {"refined_prompt": refined_prompt, "changes": list(changes), "assumptions": list(assumptions)}
    return completion(json.dumps(content))


def echo(transform: Callable[[str], str] = lambda draft: draft) -> Reply:
    """A refinement of the draft in the request."""

    def send(handler: Handler) -> None:
        draft = json.loads(handler.received.body["messages"][1]["content"])["draft"]
        refinement(transform(draft)).send(handler)

    return Reply(send)


def mixed(choose: Callable[[Received], Reply]) -> Reply:
    """What `choose` says of each request; several threads ask it."""
    return Reply(lambda handler: choose(handler.received).send(handler))


def without_response_format(reply: Reply) -> Reply:
    """Refuse `response_format` as a server that does not know it, else play `reply`."""
    return _refusing("response_format", reply)


def without_max_tokens(reply: Reply) -> Reply:
    """Refuse `max_tokens` as OpenAI's reasoning models do, else play `reply`."""
    return _refusing("max_tokens", reply)


def _refusing(parameter: str, reply: Reply) -> Reply:
    refusal = status(400, body=_error(f"'{parameter}' is not supported", parameter))
    return Reply(lambda handler: (refusal if parameter in handler.received.body else reply).send(handler))


def malformed() -> Reply:
    """A 200 that calls itself JSON and is not."""
    return body(f'{{"choices": [{MARKER}'.encode())


def empty() -> Reply:
    """A 200 without a body."""
    return body(b"")


def html() -> Reply:
    """A 200 with a web page, as from a captive proxy."""
    return body(f"<!doctype html><title>Sign in</title><p>{MARKER}</p>".encode(), "text/html; charset=utf-8")


def no_choices() -> Reply:
    """A Chat Completions object with an empty list of choices."""
    return raw_json({"id": "chatcmpl-test", "object": "chat.completion", "model": "gpt-test", "choices": []})


def redirect(location: str, code: int = 307) -> Reply:
    """A redirect elsewhere."""
    return _whole(code, {"Location": location}, b"")


def gzip_bomb(megabytes: int = 16) -> Reply:
    """A few kilobytes that unpack to that many megabytes of zeros."""
    return _whole(200, {"Content-Type": JSON, "Content-Encoding": "gzip"}, gzip.compress(bytes(megabytes << 20)))


def truncated() -> Reply:
    """Half of the body that its Content-Length promises, then a plain close."""
    return _broken(HALF, Handler.hang_up)


def close() -> Reply:
    """A plain close without a byte."""
    return _broken(b"", Handler.hang_up)


def reset() -> Reply:
    """A TCP reset without a byte."""
    return _broken(b"", Handler.abort)


def reset_midway() -> Reply:
    """Half of the body that its Content-Length promises, then a TCP reset."""
    return _broken(HALF, Handler.abort)


def silent() -> Reply:
    """Not a byte, on an open connection, until the server stops."""
    return _for_ever(b"", b"", BOUND)


def drip(interval: float = 0.05) -> Reply:
    """The headers at once, then a byte of body at a time for ever."""
    return _for_ever(CHUNKED, _chunk(b" "), interval)


def drip_headers(interval: float = 0.05) -> Reply:
    """The status line at once, then a byte of one header at a time for ever."""
    return _for_ever(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x", interval)


def endless() -> Reply:
    """A completion that begins well and whose content never ends, as fast as the peer reads it."""
    return _for_ever(CHUNKED + _chunk(BEGINNING), _chunk(b"x" * 65536), 0)


def main() -> None:
    """Serve `echo()` until SIGTERM, for tests that need the upstream as a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args().port
    # Blocked before any thread starts, so that the signals can only reach sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with Upstream(port) as upstream:
        print(json.dumps({"url": upstream.url}), flush=True)  # noqa: T201 - what its caller reads
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
