"""Fixtures of the tests that run the service as a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from scripts.service import Service
from tests.artifacts import Build
from tests.e2e.cloud import API, WORKER, Caller, Cloud, cloud_of, through
from tests.e2e.console.browser import chromium, no_browser
from tests.e2e.test_service import environment
from tests.emulator import Emulator, not_here
from tests.stores import POSTGRESQL_BINARIES, NxServer, in_postgresql
from tests.upstream import Upstream


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRESQL_BINARIES else []), "mongodb"])
def environ(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Iterator[dict[str, str]]:
    """The service's settings, with its records in the embedded file, on PostgreSQL, or behind MongoDB's protocol."""
    model = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-canary-e2e", "OPENAI_MODEL": "gpt-test"}
    with ExitStack() as stack:
        if request.param == "mongodb":
            server = stack.enter_context(NxServer(tmp_path / "nx"))
            model["DATABASE_URL"] = server.url("klamala")
        elif request.param == "postgresql":
            model["DATABASE_URL"] = stack.enter_context(in_postgresql(request.getfixturevalue("postgresql"))).url
        yield environment(tmp_path, **model)


@pytest.fixture
def service(tmp_path: Path, environ: dict[str, str]) -> Iterator[Service]:
    with Service(environ, tmp_path / "service.log") as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all tests that open a page: Playwright runs once in a thread."""
    if missing := no_browser():
        pytest.skip(missing)
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def emulation() -> None:
    """What runs the artifact is here."""
    if missing := not_here():
        pytest.skip(missing)


@pytest.fixture(scope="session")
def cloud(x86: Build, nx: NxServer, moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The artifact, unpacked into an empty folder, and all that is around it."""
    code = x86.unpack(tmp_path_factory.mktemp("task"))
    with cloud_of(x86, code, tmp_path_factory.mktemp("functions"), nx, moto) as made:
        yield made


@pytest.fixture(scope="session")
def api(emulation: None, cloud: Cloud) -> Iterator[Emulator]:
    """The function behind the HTTP API."""
    with cloud.function(API) as running:
        yield running


@pytest.fixture(scope="session")
def worker(emulation: None, cloud: Cloud) -> Iterator[Emulator]:
    """The function behind the queues and the schedule."""
    with cloud.function(WORKER) as running:
        yield running


@pytest.fixture
def caller(cloud: Cloud, api: Emulator) -> Caller:
    """A client behind the HTTP API, when nothing is wrong with what the functions need."""
    cloud.in_order()
    return cloud.caller(through(api))
