"""`/health`, `/ready`, and a service whose storage is not there."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

from app import VERSION, create_app
from storage import open_storage
from tests.harness import Harness, ScriptedEngine, settings_in
from tests.stores import NxServer


def test_health_touches_nothing(harness: Harness) -> None:
    """The process answers for itself, also when its storage is gone."""
    harness.storage.close()
    (harness.settings.data_dir / "test.sqlite3").unlink()
    answer = harness.http.get("/health")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok", "version": VERSION})


def test_ready_asks_the_storage(harness: Harness) -> None:
    """A storage that answers is `ok`."""
    answer = harness.http.get("/ready")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok", "checks": {"storage": "ok"}})


def test_ready_does_not_wait_for_a_silent_storage(tmp_path: Path) -> None:
    """A server that accepts and says nothing is `unreachable` within two seconds; the service starts all the same."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mongodb://127.0.0.1:{silent.getsockname()[1]}/klamala"
        storage = stack.enter_context(closing(open_storage(url)))
        app = create_app(settings_in(tmp_path), storage=storage, engine=ScriptedEngine())
        started = time.monotonic()
        answer = app.test_client().get("/ready")
        assert time.monotonic() - started < 2
    expected = {"status": "unavailable", "checks": {"storage": "unreachable"}}
    assert (answer.status_code, answer.get_json()) == (503, expected)


def test_a_storage_that_comes_late_is_prepared_then(tmp_path: Path) -> None:
    """A service that started without its database serves as soon as that is there, with its indexes."""
    with NxServer(tmp_path / "nx") as server, closing(open_storage(server.url("klamala"))) as storage:
        server.pause()
        app = create_app(settings_in(tmp_path), storage=storage, engine=ScriptedEngine())
        refused = app.test_client().post("/token", json={}, headers={"X-API-Key": "klm_0000000000000000.x"})
        assert (refused.status_code, refused.get_json()["error"]) == (503, "temporarily_unavailable")
        server.resume()
        created = app.test_cli_runner().invoke(args=["clients", "create", "late", "--scope", "refine"])
        assert created.exit_code == 0, created.output
        assert app.test_client().get("/ready").status_code == 200


def test_storage_init_may_be_repeated(harness: Harness) -> None:
    """`flask storage init` creates what is missing and leaves what is there."""
    for _ in range(2):
        done = harness.app.test_cli_runner().invoke(args=["storage", "init", "--json"])
        assert (done.exit_code, done.stdout) == (0, '{"storage": "ready"}\n')


def test_a_command_says_that_the_storage_is_down(tmp_path: Path) -> None:
    """One line on standard error and exit code 1, without the address."""
    with closing(open_storage("mongodb://user:hunter2@127.0.0.1:9/klamala")) as storage:
        app = create_app(settings_in(tmp_path), storage=storage, engine=ScriptedEngine())
        done = app.test_cli_runner().invoke(args=["clients", "list"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Error: Storage unavailable: The audit log cannot be reached.\n" in done.stderr
    assert "hunter2" not in done.output
