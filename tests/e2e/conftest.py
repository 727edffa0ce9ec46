"""Fixtures of the tests that run the service as a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts.service import Service
from tests.e2e.test_service import environment
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
