"""An HTTP API before a function of the emulator: a server on loopback that makes events of requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from tests.e2e.serving import running
from tests.emulator import Emulator
from tests.events import Call, answered, http_api


@contextmanager
def gateway(function: Emulator) -> Iterator[str]:
    """The address of an HTTP API whose every path goes to the function, one call at a time."""
    # The emulator is one execution environment.
    free = Lock()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = [(name, value) for name, value in self.headers.items() if name.lower() not in _OWN]
            with free:
                answer = answered(function.invoke(http_api(Call(self.command, path, query, headers, body))))
            self.send_response(answer.status)
            for name, value in [*answer.headers, ("Content-Length", str(len(answer.body)))]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = _answer  # noqa: N815 - the names that the standard library looks for

        def log_message(self, *_: object) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield address


# What the event's builder adds of itself.
_OWN = ("host", "content-length")
