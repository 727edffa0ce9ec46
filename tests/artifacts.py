"""The artifact for AWS Lambda, packaged in a copy of the checkout, so that a build in the checkout itself stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from scripts.artifact import runtime_python

ROOT = Path(__file__).parents[1]
BOUND = 300.0
PYTHON = "3.13"
# What a build does not need, or makes itself.
_LEFT = (".git", ".venv", "node_modules", "data", ".serverless", "__pycache__", ".*_cache", ".hypothesis", ".env")
RUNTIME = runtime_python(PYTHON, os.environ)
NO_RUNTIME = f"no Python {PYTHON} here to run the artifact: install it, or name it in LAMBDA_PYTHON"


@dataclass(frozen=True)
class Build:
    """A copy of the checkout, and what `serverless package` said and left there."""

    checkout: Path
    output: str

    @property
    def zip(self) -> Path:
        return self.checkout / ".serverless" / "klamala.zip"

    @property
    def template_path(self) -> Path:
        return self.checkout / ".serverless" / "cloudformation-template-update-stack.json"

    @property
    def template(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.template_path.read_text("utf-8"))
        return loaded

    def names(self) -> set[str]:
        with ZipFile(self.zip) as archive:
            return set(archive.namelist())

    def unpack(self, folder: Path) -> Path:
        with ZipFile(self.zip) as archive:
            archive.extractall(folder)
        return folder


def no_node() -> str | None:
    """Why nothing can be packaged here, if so."""
    environ = environment()
    if not shutil.which("node", path=environ["PATH"]):
        return "no Node.js here: `make package` sets it up"
    if not (ROOT / "node_modules" / ".bin" / "serverless").exists():
        return "node_modules is not installed: `make package` does it"
    asked = subprocess.run(
        [ROOT / "node_modules" / ".bin" / "serverless", "--version"],
        env=environ,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return f"the serverless command does not start: {asked.stdout}{asked.stderr}" if asked.returncode else None


def environment(**environ: str) -> dict[str, str]:
    """This process's environment without what AWS or a measurement reads, and with the checkout's own programs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COVERAGE_"))}
    nobody = {"AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_CONFIG_FILE": os.devnull}
    path = os.pathsep.join((str(ROOT / ".venv" / "bin"), os.environ["PATH"]))
    return {**inherited, **nobody, "PATH": path, **environ}


def copy_checkout(folder: Path) -> Path:
    """Copy the sources into a new folder, beside links to what is installed."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_LEFT))
    for name in ("node_modules", ".venv"):
        if (ROOT / name).exists():
            (folder / name).symlink_to((ROOT / name).resolve())
    return folder


def serverless(checkout: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the serverless framework to its end."""
    return subprocess.run(
        [checkout / "node_modules" / ".bin" / "serverless", *arguments],
        cwd=checkout,
        env=environment(**environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )


def build(folder: Path, architecture: str = "arm64", database: str = "mongodb", stage: str = "dev") -> Build:
    """Package a copy of the checkout in a new folder, for `arm64` or `x86_64`, and for `mongodb` or `postgresql`.

    The archive is the result's `zip`.
    """
    checkout = copy_checkout(folder)
    choice = ("--param", f"architecture={architecture}", "--param", f"database={database}", "--stage", stage)
    done = serverless(checkout, "package", *choice)
    assert done.returncode == 0, done.stdout + done.stderr
    return Build(checkout, done.stdout + done.stderr)
