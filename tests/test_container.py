"""What the Dockerfile and the compose file say: pinned, without root, with checks, and settings that exist."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from app import VERSION
from settings import Settings, load_settings
from storage import open_storage
from tests.artifacts import PYTHON, ROOT
from tests.image import context, instructions

BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
SETTINGS = {item.name.upper() for item in fields(Settings) if item.metadata}
# A tag with the version to its last number.
PINNED = r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z0-9-]+)?"


def values(name: str) -> list[tuple[str, ...]]:
    return [each.value for each in instructions() if each.cmd.upper() == name]


def lint(*command: str) -> subprocess.CompletedProcess[str]:
    program = [str(BIN / command[0]), *command[1:]]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_dockerfile_is_in_order() -> None:
    """hadolint finds nothing."""
    done = lint("hadolint", "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_the_linter_sees_what_is_not(tmp_path: Path) -> None:
    """An image without a tag is found."""
    (tmp_path / "Dockerfile").write_text("FROM python\nCMD python\n", "utf-8")
    assert "DL3006" in lint("hadolint", str(tmp_path / "Dockerfile")).stdout


def test_the_base_images_are_pinned() -> None:
    """The service's stages begin with one Python, of the artifact's minor version; the console's with Node.js, in the
    version that `make` installs where there is none."""
    (node, *bases) = [value[0] for value in values("FROM")]
    wheel = (ROOT / "requirements-node.txt").read_text("utf-8").strip().partition("==")[2]
    assert re.fullmatch(rf"node:{re.escape(wheel)}-[a-z]+-slim", node)
    (base,) = set(bases)
    assert re.fullmatch(rf"python:{re.escape(PYTHON)}\.\d+-slim-[a-z]+", base)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    assert f"image: {base} " in workflow
    labels = dict(zip(values("LABEL")[0][::2], values("LABEL")[0][1::2], strict=True))
    assert labels["org.opencontainers.image.base.name"] == f'"docker.io/library/{base}"'


def test_one_version_stands_everywhere() -> None:
    """The code's, the project's, the image's label and the compose file's tag agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    label = values("LABEL")[0][values("LABEL")[0].index("org.opencontainers.image.version") + 1]
    tags = {service["image"].rpartition(":")[2] for service in OURS.values()}
    assert {project["version"], label.strip('"'), *tags} == {VERSION}


def test_the_image_runs_as_nobody_in_particular() -> None:
    """The user is a number that is not root's, and is the last that is said of users."""
    (user,) = values("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user[0])


def test_commands_are_lists() -> None:
    """No shell stands between the engine and what it starts."""
    for each in instructions():
        if each.cmd.upper() in ("CMD", "HEALTHCHECK", "ENTRYPOINT"):
            assert each.json, each.original


def test_packages_are_installed_by_hash() -> None:
    """Every installation in the image refuses what has not its hash."""
    installs = [value[0] for value in values("RUN") if "pip" in value[0]]
    assert installs
    assert all("--require-hashes" in each for each in installs)


def test_the_build_is_sent_what_the_service_needs_and_no_more() -> None:
    """Its modules, what they read, the console's sources and the lock: no test, document, data, secret or cache."""
    tops = {path.partition("/")[0] for path in context()}
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "scripts", "bench"}
    assert tops == {path.name for path in ROOT.glob("*.py")} | folders | {"pages", "locks", "console"}
    console = {path.split("/")[1] for path in context() if path.startswith("console/")}
    assert console == {".npmrc", "build.mjs", "index.html", "package.json", "package-lock.json", "src"}
    assert [path for path in context() if path.startswith("locks/")] == ["locks/requirements-server.txt"]
    assert not [path for path in context() if "__pycache__" in path or path.endswith((".pyc", ".env"))]


def test_nothing_unnamed_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that nobody thought of stays out, wherever it is."""
    for name in (".env", "data/jwt-secrets", "dump.sql", "app.py", "stores/__pycache__/sql.cpython-313.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x", "utf-8")
    (tmp_path / ".dockerignore").write_bytes((ROOT / ".dockerignore").read_bytes())
    monkeypatch.setattr("tests.image.ROOT", tmp_path)
    assert context() == {"app.py"}


def test_the_compose_file_is_of_its_schema() -> None:
    """The Compose Specification's schema has no complaint."""
    done = lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    """A sealed disk, no capability, no way to one, a pinned image, and no port beyond this machine."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(PINNED, service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service.get("user", "999:999") == "999:999"
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_checked(name: str) -> None:
    """It has a health check, its image's or its own, and waits for the health of what it needs."""
    assert "healthcheck" in SERVICES[name] or (name in OURS and values("HEALTHCHECK"))
    needed = SERVICES[name].get("depends_on", {})
    assert all(SERVICES[each] and how == {"condition": "service_healthy"} for each, how in needed.items())
    assert bool(needed) is (name in OURS)


@pytest.mark.parametrize("name", OURS)
def test_every_setting_reaches_the_service(name: str) -> None:
    """Whatever may be set but where data is, and what AWS alone has, is handed on, and no value stands in the file."""
    environ = OURS[name]["environment"]
    assert set(environ) == SETTINGS - {"DATA_DIR", "SECRETS_ID", "OUTBOX_QUEUE_URL", "JOBS_QUEUE_URL"}
    assert {name for name, value in environ.items() if value is not None} == {"DATABASE_URL"}
    (volume,) = OURS[name]["volumes"]
    assert volume.endswith(f":{values('VOLUME')[0][0]}")
    assert volume.partition(":")[0] in COMPOSE["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_the_service_takes_the_address_of_its_database(name: str) -> None:
    """The address is one that a store opens, and names the service beside it."""
    raw = OURS[name]["environment"]["DATABASE_URL"]
    url = re.sub(r"\$\{\w+:[^}]*\}", "0123abcd", raw)
    assert urlsplit(url).hostname in OURS[name]["depends_on"]
    settings = load_settings({"DATABASE_URL": url, "JWT_SECRETS": f"k1:{'s' * 32}"})
    open_storage(settings.database_url).close()


def test_no_password_stands_in_the_compose_file() -> None:
    """Each is asked for by name."""
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    passwords = [line for line in text.splitlines() if "PASSWORD" in line]
    assert len(passwords) == 4
    assert all(re.search(r"\$\{[A-Z]+_PASSWORD:[-?]", line) for line in passwords)


def test_a_stop_takes_longer_than_a_request() -> None:
    """Compose waits longer than gunicorn does for the requests that it has."""
    given = {int(service["stop_grace_period"].removesuffix("s")) for service in OURS.values()}
    longest = next(item.metadata["default"] for item in fields(Settings) if item.name == "request_deadline_seconds")
    assert min(given) > int(longest) + 5


def test_the_databases_are_reached_by_the_service_alone() -> None:
    """They have no port on this machine and no way out of their network."""
    for name in SERVICES.keys() - OURS.keys():
        assert SERVICES[name]["networks"] == ["storage"]
        assert "ports" not in SERVICES[name]
    assert COMPOSE["networks"]["storage"] == {"internal": True}
