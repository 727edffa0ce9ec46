"""The lock files name every package by version and hash, as the requirements ask for, and are what is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.artifacts import PYTHON, ROOT, Build

INPUTS = sorted(ROOT.glob("requirements*.txt"))
LOCKS = sorted((ROOT / "locks").iterdir())
LAMBDA = {
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_machine": "aarch64",
    "python_version": PYTHON,
    "python_full_version": f"{PYTHON}.0",
}


def asked_for(path: Path) -> list[Requirement]:
    """What a file of requirements asks for, with the files that it names."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        name = line.removeprefix("-r ")
        found += asked_for(path.parent / name) if line != name else [Requirement(line)]
    return found


def locked(path: Path) -> list[tuple[Requirement, list[str]]]:
    """The packages of a lock file, each with its hashes."""
    text = re.sub(r"^#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
    entries = [entry.split("--hash=") for entry in text.replace("\\\n", " ").splitlines()]
    return [(Requirement(name), [each.strip() for each in hashes]) for name, *hashes in entries]


def version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


def versions(path: Path, environment: dict[str, str] | None = None) -> dict[str, str]:
    """The versions that a lock file has for an environment, this one unless told otherwise."""
    entries = [entry for entry, _ in locked(path) if not entry.marker or entry.marker.evaluate(environment)]
    return {canonicalize_name(entry.name): version(entry) for entry in entries}


def test_every_file_of_requirements_is_locked() -> None:
    """Each has a lock of its own name, and no lock is left over."""
    assert INPUTS
    assert [path.name for path in LOCKS] == [path.name for path in INPUTS]


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_a_lock_is_what_its_requirements_ask_for(path: Path) -> None:
    """Every package that is asked for is in the lock with the version that is asked for: else run `make lock`."""
    found = versions(ROOT / "locks" / path.name)
    for wanted in asked_for(path):
        assert found[canonicalize_name(wanted.name)] == version(wanted), wanted.name


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_a_version_and_hashes(path: Path) -> None:
    """One version, SHA-256 of each of its files, and no address that it would have to come from."""
    for package, hashes in locked(path):
        assert version(package)
        assert hashes, package.name
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes), package.name
    assert "://" not in path.read_text("utf-8")


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_what_is_tested_is_what_ships(path: Path) -> None:
    """Whatever two locks name, they name in one version."""
    tested = versions(ROOT / "locks" / "requirements-dev.txt")
    shared = {name: each for name, each in versions(path).items() if name in tested}
    assert shared == {name: tested[name] for name in shared}


def test_what_is_installed_here_is_what_is_locked() -> None:
    """These tests run on the versions of the lock."""
    tested = versions(ROOT / "locks" / "requirements-dev.txt")
    assert {name: distribution(name).version for name in tested} == tested


def test_the_artifact_holds_what_is_locked(arm: Build) -> None:
    """Its packages are those of the lock, for the runtime's Python and platform, and no other."""
    metadata = [re.fullmatch(r"([^/]+)-([^-/]+)\.dist-info/METADATA", name) for name in arm.names()]
    packed = {canonicalize_name(found[1]): found[2] for found in metadata if found}
    assert packed == versions(ROOT / "locks" / "requirements.txt", LAMBDA)


@pytest.mark.parametrize("line", ["flask==3.1.3", "flask==3.1.3 --hash=sha256:" + "0" * 64], ids=["none", "another"])
def test_a_package_without_its_hash_is_refused(line: str, tmp_path: Path) -> None:
    """pip, called as in the Makefile, installs neither what has no hash nor what has another."""
    (tmp_path / "requirements.txt").write_text(line, "utf-8")
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--target", "t", "-r"]
    done = subprocess.run([*command, "requirements.txt"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "hash" in done.stderr.lower()
    assert not (tmp_path / "t" / "flask").exists()
