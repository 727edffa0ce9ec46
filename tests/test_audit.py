"""`make audit` tells apart what is clean, what is vulnerable, and what nobody could be asked about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import ROOT

# Reports in the form of pip-audit 2.10 and npm 11.
CLEAN: dict[str, Any] = {"dependencies": [{"name": "flask", "version": "3.1.3", "vulns": []}], "fixes": []}
FOUND = {"id": "PYSEC-2026-1", "fix_versions": ["3.1.4"], "aliases": [], "description": "…"}
VULNERABLE = {"dependencies": [{"name": "flask", "version": "3.1.3", "vulns": [FOUND]}], "fixes": []}
SKIPPED = {"dependencies": [*CLEAN["dependencies"], {"name": "jinja2", "skip_reason": "Dependency not found"}]}
NODE_CLEAN = {"auditReportVersion": 2, "vulnerabilities": {}, "metadata": {}}
NODE_VULNERABLE = {
    **NODE_CLEAN,
    "vulnerabilities": {"braces": {"name": "braces", "range": "<3.0.3", "severity": "high"}},
}
NODE_REFUSED = {"message": "405 Method Not Allowed", "statusCode": 405, "error": {"summary": ""}}


def program(folder: Path, name: str, report: Any, status: int) -> None:
    """A program that prints a report, JSON unless it is text, and asks nobody."""
    text = report if isinstance(report, str) else json.dumps(report)
    (folder / f"{name}.out").write_text(text, "utf-8")
    path = folder / name
    path.write_text(
        f'#!/bin/sh\necho "$@" > "$0.asked"\npwd >> "$0.folders"\ncat "$0.out"\necho complaint >&2\nexit {status}\n',
        "utf-8",
    )
    path.chmod(0o755)


def audit(folder: Path) -> subprocess.CompletedProcess[str]:
    """The command, with the programs of a folder."""
    environ = {**os.environ, "PATH": os.pathsep.join((str(folder), os.environ["PATH"]))}
    command = [sys.executable, "-m", "scripts.audit"]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("python", "node", "status", "said"),
    [
        (
            (CLEAN, 0),
            (NODE_CLEAN, 0),
            0,
            ["Python packages: no known", "Node.js packages: no known", "Console packages: no known"],
        ),
        ((VULNERABLE, 1), (NODE_CLEAN, 0), 1, ["flask 3.1.3: PYSEC-2026-1, mended in 3.1.4"]),
        ((CLEAN, 0), (NODE_VULNERABLE, 1), 1, ["braces <3.0.3: high"]),
        ((SKIPPED, 0), (NODE_CLEAN, 0), 2, ["Python packages: NOT AUDITED: 1 of them skipped; Dependency not found"]),
        (("", 1), (NODE_CLEAN, 0), 2, ["Python packages: NOT AUDITED: complaint", "Node.js packages: no known"]),
        ((CLEAN, 0), (NODE_REFUSED, 1), 2, ["Node.js packages: NOT AUDITED: 405 Method Not Allowed"]),
        ((CLEAN, 0), ("[]", 0), 2, ["Node.js packages: NOT AUDITED: complaint"]),
        ((VULNERABLE, 1), (NODE_REFUSED, 1), 1, ["PYSEC-2026-1", "Node.js packages: NOT AUDITED"]),
    ],
    ids=["clean", "python", "node", "skipped", "no report", "refused", "not a report", "found and refused"],
)
def test_an_audit_says_what_it_knows(
    python: tuple[Any, int], node: tuple[Any, int], status: int, said: list[str], tmp_path: Path
) -> None:
    """0 when all were asked and none is known, 1 when one is, 2 when somebody was not asked; and why, in a line."""
    program(tmp_path, "pip-audit", *python)
    program(tmp_path, "npm", *node)
    done = audit(tmp_path)
    assert done.returncode == status, done.stdout + done.stderr
    assert all(each in done.stdout for each in said), done.stdout


def test_every_lock_is_asked_about(tmp_path: Path) -> None:
    """pip-audit is given each lock file, and npm is asked in each folder that has one of its own."""
    program(tmp_path, "pip-audit", CLEAN, 0)
    program(tmp_path, "npm", NODE_CLEAN, 0)
    audit(tmp_path)
    asked = (tmp_path / "pip-audit.asked").read_text("utf-8").split()
    locks = [asked[place + 1] for place, word in enumerate(asked) if word == "--requirement"]
    assert locks == sorted(map(str, (ROOT / "locks").iterdir()))
    assert (tmp_path / "npm.asked").read_text("utf-8").split() == ["audit", "--json"]
    folders = (tmp_path / "npm.folders").read_text("utf-8").splitlines()
    assert folders == [str(path.parent) for path in (ROOT / "package-lock.json", *ROOT.glob("*/package-lock.json"))]
