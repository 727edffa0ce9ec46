"""Servers of a test's own, on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import HTTPServer
from threading import Thread
from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@contextmanager
def running(server: HTTPServer) -> Iterator[str]:
    """The address of a server, which serves until the block ends."""
    with server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def served(mounts: Mapping[str, WSGIApplication]) -> Iterator[str]:
    """The address of a server with these apps, each below its prefix, such as a stage of API Gateway, and no others."""
    with running(make_server("127.0.0.1", 0, DispatcherMiddleware(NotFound(), dict(mounts)), threaded=True)) as address:
        yield address
