"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Harness, build
from tests.upstream import Upstream


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
