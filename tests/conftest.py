"""Fixtures that several test files share."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from storage import Storage
from tests.aws import CREDENTIALS, moto_server, new_queue
from tests.door import Door, opened_door
from tests.events import GATEWAYS
from tests.harness import Harness, build
from tests.stores import (
    NO_POSTGRESQL,
    POSTGRESQL_BINARIES,
    STORES,
    Backend,
    NxServer,
    PgServer,
    at_url,
    in_mongodb,
    in_mongomock,
    in_nx,
    in_postgresql,
    new_database,
    sqlite_url,
)
from tests.upstream import Upstream


def pytest_configure() -> None:
    # What a script starts in its background ignores Ctrl-C, and so would every process that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """The service on SQLite with a scripted engine."""
    built = build(tmp_path)
    yield built
    built.storage.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A real HTTP server on loopback in the place of the model's."""
    with Upstream() as server:
        yield server


@pytest.fixture(scope="session")
def nx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NxServer]:
    """One `nx-27017` for all tests that do not stop it."""
    with NxServer(tmp_path_factory.mktemp("nx")) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PgServer]:
    """One PostgreSQL for all tests that do not stop it."""
    if not POSTGRESQL_BINARIES:
        pytest.skip(NO_POSTGRESQL)
    with PgServer() as server:
        yield server


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """AWS Lambda's door, without a token."""
    with opened_door(tmp_path_factory.mktemp("door")) as found:
        yield found


@pytest.fixture(params=["HTTP API", "REST API"])
def door(request: pytest.FixtureRequest, opened: Door) -> Door:
    """AWS Lambda's door behind both kinds of API, with a token."""
    return opened.behind(GATEWAYS[request.param])


@pytest.fixture(params=STORES)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """A new, empty database of each kind."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            opened = at_url("sqlite", sqlite_url(tmp_path / "store.sqlite3"))
        elif request.param == "postgresql":
            opened = stack.enter_context(in_postgresql(request.getfixturevalue("postgresql")))
        elif request.param == "mongomock":
            opened = in_mongomock()
        elif request.param == "nx":
            server: NxServer = request.getfixturevalue("nx")
            opened = in_nx(server.url(new_database()))
        else:
            opened = stack.enter_context(in_mongodb())
        stack.callback(opened.close)
        yield opened


@pytest.fixture
def store(backend: Backend) -> Storage:
    """A store that creates what is missing, on the test's clock."""
    return backend.open()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as server:
        port: int = server.getsockname()[1]
        yield port


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of moto's server."""
    with moto_server() as address:
        yield address


@pytest.fixture
def sqs(moto: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of moto's server, which the environment names for the code under test too."""
    import boto3

    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": moto}.items():
        monkeypatch.setenv(name, value)
    return boto3.client("sqs")


@pytest.fixture
def queue(sqs: Any) -> str:
    """The URL of a new queue for messages as large as they may be."""
    return new_queue(sqs)
