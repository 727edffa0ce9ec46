"""The container's image, made by the Dockerfile's own instructions: it starts, serves, checks itself and stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from app import VERSION
from scripts.demo import DRAFT
from tests.containers import Container
from tests.image import Image, not_here
from tests.stores import free_port


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image, built once."""
    if missing := not_here():
        pytest.skip(missing)
    with Image(tmp_path_factory.mktemp("image")) as built:
        yield built


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def container(image: Image, tmp_path: Path, port: int) -> Iterator[Container]:
    """A container with nothing set but its port, and that healthy."""
    with Container(image, tmp_path / "container.log", {"PORT": str(port)}) as running:
        running.wait_until_healthy()
        yield running


def status(process: Path) -> dict[str, str]:
    """What this machine says of a process."""
    lines = (process / "status").read_text("ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_from_a_client_to_a_refined_prompt(image: Image, container: Container, port: int) -> None:
    """The documented command makes a client in a running container, whose key gets a token, which refines."""
    made = image.run(["flask", "clients", "create", "first", "--scope", "refine log:read", "--json"])
    assert made.returncode == 0, made.stderr
    url = f"http://127.0.0.1:{port}"
    key = {"X-API-Key": json.loads(made.stdout)["api_key"]}
    token = requests.post(f"{url}/token", data={"grant_type": "client_credentials"}, headers=key, timeout=30).json()
    bearer = {"Authorization": f"Bearer {token['access_token']}"}
    refined = requests.post(f"{url}/refine", json={"prompt": DRAFT}, headers=bearer, timeout=60)
    assert (refined.status_code, refined.json()["integrity"]["ok"]) == (200, True)
    records = requests.get(f"{url}/log-request", headers=bearer, timeout=30).json()["items"]
    assert [record["id"] for record in records] == [refined.json()["id"]]
    assert requests.get(f"{url}/health", timeout=30).json() == {"status": "ok", "version": VERSION}
    assert requests.get(f"{url}/ready", timeout=30).status_code == 200
    for page in ("docs", "docs/init.js", "openapi.json"):
        assert requests.get(f"{url}/{page}", timeout=30).status_code == 200


def test_nothing_runs_as_root_or_may_become_it(container: Container) -> None:
    """The first process has the image's user, no group besides, no capability, and no way to one."""
    first = status(container.first_process())
    assert (first["Uid"].split(), first["Gid"].split()) == (["10001"] * 4, ["10001"] * 4)
    assert (first["Groups"], first["NoNewPrivs"]) == ("", "1")
    assert {first[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {"0" * 16}


def test_the_server_is_the_first_process(container: Container) -> None:
    """Signals reach gunicorn itself: no shell is in between."""
    first = container.first_process()
    assert status(first)["NSpid"].split()[1:] == ["1"]
    assert b"gunicorn" in (first / "cmdline").read_bytes().split(b"\0")[1]


def test_only_the_volume_and_the_temporary_folder_can_be_written(image: Image, container: Container) -> None:
    """Code, packages and the rest of the disk cannot; what the service made is its user's alone."""
    tried = "import os, sys; [os.close(os.open(name, os.O_CREAT | os.O_WRONLY)) for name in sys.argv[1:]]"
    for folder, may in {"/srv/klamala": False, "/opt/venv": False, "/": False, "/data": True, "/tmp": True}.items():  # noqa: S108
        done = image.run(["python", "-c", tried, f"{folder}/written"])
        assert (done.returncode == 0) is may, (folder, done.stderr)
    kept = image.run(["find", "/data", "-printf", "%m %U %P\n"]).stdout.splitlines()
    assert {"700 10001 ", "600 10001 jwt-secrets", "600 10001 klamala.sqlite3"} <= set(kept)


def test_a_clean_stop(container: Container) -> None:
    """The stop signal ends the server with status 0, and its check fails from then on."""
    assert container.stop() == 0
    assert not container.healthy()
    assert "Traceback" not in container.log.read_text("utf-8")


def test_a_kill_ends_the_whole_container(image: Image, tmp_path: Path, port: int) -> None:
    """Without its first process none of its workers goes on."""
    with Container(image, tmp_path / "log", {"PORT": str(port)}) as running:
        running.wait_until_healthy()
        first = running.first_process()
        children = (first / "task" / first.name / "children").read_text("ascii").split()
    assert len(children) == 2
    assert not [name for name in (first.name, *children) if Path("/proc", name).exists()]


def test_what_was_stored_outlives_the_container(image: Image, tmp_path: Path) -> None:
    """A second container on the same volume knows the clients and the secret of the first."""
    made = image.run(["flask", "clients", "create", "kept", "--scope", "refine", "--json"])
    key = {"X-API-Key": json.loads(made.stdout)["api_key"]}
    body = {"grant_type": "client_credentials"}
    tokens: list[str] = []
    for name in ("first", "second"):
        port = free_port()
        with Container(image, tmp_path / name, {"PORT": str(port), "WEB_CONCURRENCY": "1"}) as running:
            running.wait_until_healthy()
            url = f"http://127.0.0.1:{port}"
            for token in tokens:
                seen = requests.get(f"{url}/models", headers={"Authorization": f"Bearer {token}"}, timeout=30)
                assert seen.status_code == 200
            tokens.append(requests.post(f"{url}/token", data=body, headers=key, timeout=30).json()["access_token"])
            assert running.stop() == 0


def test_a_bad_setting_ends_the_start(image: Image, tmp_path: Path, port: int) -> None:
    """The container ends at once, with one line that names the setting."""
    with Container(image, tmp_path / "log", {"PORT": str(port), "RATE_LIMIT": "often"}) as container:
        assert container.wait() != 0
    assert [line for line in container.log.read_text("utf-8").splitlines() if "RATE_LIMIT" in line]


def test_bytecode_is_shipped_and_none_is_written(image: Image, container: Container) -> None:
    """Every module of the service and of its packages has it, so that a start on a sealed disk compiles nothing."""
    script = (
        "import importlib.util, pathlib, sys\n"
        "sources = [p for top in sys.argv[1:] for p in pathlib.Path(top).rglob('*.py')]\n"
        "missing = [p for p in sources if not pathlib.Path(importlib.util.cache_from_source(p)).exists()]\n"
        "print(len(sources), missing)"
    )
    found = image.run(["python", "-c", script, "/srv/klamala", "/opt/venv"]).stdout
    count, _, missing = found.strip().partition(" ")
    assert int(count) > 1000
    assert missing == "[]"
