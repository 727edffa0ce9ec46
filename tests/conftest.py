"""Fixtures that several test files share."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from storage import Storage
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

# What a whole run prints is looked through for secrets and texts.
pytest_plugins = ["tests.canary"]


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
