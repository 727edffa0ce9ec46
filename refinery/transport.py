"""The HTTP transport below the `openai` client: nothing it does outlives the deadline, and no answer is endless.

The client's own `timeout` is per read, so that an upstream which sends a byte now and then holds a request for ever.
Here each connect, handshake, write and read may last only as long as the deadline of the call leaves.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

import httpcore2
import httpx2

from .deadline import Deadline
from .engines import UnusableAnswer

MAX_ANSWER_BYTES = 4_000_000

# Where a system keeps the certificates of its bundle one by one, named by their hash: update-ca-certificates and
# update-ca-trust make both of the same store.
_HASHED = {
    Path("/etc/ssl/certs/ca-certificates.crt"): Path("/etc/ssl/certs"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"): Path("/etc/pki/ca-trust/extracted/pem/directory-hash"),
}

_deadline: ContextVar[Deadline] = ContextVar("deadline")


@contextmanager
def bounded_by(deadline: Deadline) -> Iterator[None]:
    """Within this context, network calls of this thread end by `deadline`."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def _time_left(error: type[httpcore2.TimeoutException]) -> float:
    left = _deadline.get().remaining()
    if left <= 0:
        raise error("the deadline has passed")
    return left


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _time_left(httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _time_left(httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Any:
        left = _time_left(httpcore2.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore2.NetworkBackend):
    def __init__(self) -> None:
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        left = _time_left(httpcore2.ConnectTimeout)
        return _DeadlineStream(self._backend.connect_tcp(host, port, left, local_address, socket_options))


class _CappedStream(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise UnusableAnswer("The model's answer is larger than 4 MB.")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def verifying_context(stores: Mapping[Path, Path] = _HASHED) -> ssl.SSLContext:
    """The client's default context, which verifies by what the system trusts, or `SSL_CERT_FILE` and `SSL_CERT_DIR`.

    The default reads the whole bundle of certificates at the start. Where the system has them one by one too, OpenSSL
    reads the one that a server needs (https://docs.openssl.org/3.0/man3/SSL_CTX_load_verify_locations/). `stores` are
    bundles, and the directories of the same certificates.
    """
    bundle = Path(ssl.get_default_verify_paths().openssl_cafile)
    hashed = stores.get(bundle.resolve())
    chosen = {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys()
    if chosen or hashed is None or not hashed.is_dir():
        return httpx2.create_ssl_context()
    if not any(re.fullmatch(r"[0-9a-f]{8}\.\d", path.name) for path in hashed.iterdir()):
        return httpx2.create_ssl_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(capath=hashed)
    return context


class BoundedTransport(httpx2.HTTPTransport):
    """`httpx2.HTTPTransport` with a deadline on every network call and a cap on every answer.

    Raises `UnusableAnswer` for an answer over `MAX_ANSWER_BYTES`, or one compressed although we ask for none: its size
    would say nothing about the memory it takes.
    """

    def __init__(self) -> None:
        # The parent builds its pool without a way to name a network backend; the pool is all the state it has.
        self._pool = httpcore2.ConnectionPool(
            ssl_context=verifying_context(),
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=30.0,
            network_backend=_DeadlineBackend(),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = super().handle_request(request)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise UnusableAnswer("The upstream compressed its answer although it was asked not to.")
        response.stream = _CappedStream(cast("httpx2.SyncByteStream", response.stream))
        return response
