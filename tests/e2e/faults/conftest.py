"""The services whose storage several test files make fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.faults.scene import Scene, in_order_again, port_of, scene_on
from tests.proxy import FaultProxy
from tests.stores import POSTGRESQL_BINARIES, NxServer, PgServer, new_database


@pytest.fixture(scope="session")
def mongodb(nx: NxServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    database = new_database()
    with FaultProxy("127.0.0.1", port_of(nx.url(""))) as proxy:
        url = f"mongodb://127.0.0.1:{proxy.port}/{database}"
        with scene_on(url, nx.url(database), tmp_path_factory.mktemp("mongodb"), proxy) as running:
            yield running


@pytest.fixture(scope="session")
def postgres(postgresql: PgServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    database = postgresql.create()
    with FaultProxy("127.0.0.1", postgresql.port) as proxy:
        direct = postgresql.url(database)
        url = direct.replace(f":{postgresql.port}/", f":{proxy.port}/")
        with scene_on(url, direct, tmp_path_factory.mktemp("postgresql"), proxy) as running:
            yield running


@pytest.fixture(params=["mongodb", *(["postgres"] if POSTGRESQL_BINARIES else [])])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A service that serves, its storage behind a proxy; afterwards nothing is wrong with that any more."""
    running: Scene = request.getfixturevalue(request.param)
    yield in_order_again(running)
    running.upstream.release()
    running.proxy.heal()
