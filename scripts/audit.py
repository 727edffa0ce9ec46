"""`make audit`: is a vulnerability known in what is locked?

Exit status 0: all were asked, and none is known. 1: some are. 2: not all could be asked, which is no answer.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# pip-audit calls packages that its service does not know not vulnerable; each says so in its report.
PYTHON = ("pip-audit", "--disable-pip", "--progress-spinner", "off", "--format", "json")
NODE = ("npm", "audit", "--json")


@dataclass(frozen=True)
class Answer:
    """What is known of one kind of packages: a line for each vulnerability, and why not all could be asked, if so."""

    known: tuple[str, ...] = ()
    unanswered: str = ""


def ask_python(command: Sequence[str] = PYTHON) -> Answer:
    """Ask pip-audit about the lock files."""
    locks = sorted(str(path) for path in (ROOT / "locks").iterdir())
    report, error = _report([*command, *(word for lock in locks for word in ("--requirement", lock))])
    packages = report.get("dependencies")
    if not packages:
        return Answer(unanswered=error)
    known = {
        f"{each['name']} {each['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'none'}"
        for each in packages
        for found in each.get("vulns", ())
    }
    skipped = [each["skip_reason"] for each in packages if "skip_reason" in each]
    return Answer(tuple(sorted(known)), f"{len(skipped)} of them skipped; {skipped[0]}" if skipped else "")


def ask_node(folder: Path, command: Sequence[str] = NODE) -> Answer:
    """Ask npm about the package-lock.json of a folder."""
    report, error = _report(command, folder)
    if "auditReportVersion" not in report:
        return Answer(unanswered=report.get("message") or error)
    found = report["vulnerabilities"].values()
    return Answer(tuple(sorted(f"{each['name']} {each['range']}: {each['severity']}" for each in found)))


def _report(command: Sequence[str], folder: Path = ROOT) -> tuple[dict[str, Any], str]:
    """The report that a program prints, and the last of its complaints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    complaints = done.stderr.strip().splitlines() or [f"no report, exit status {done.returncode}"]
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = None
    return report if isinstance(report, dict) else {}, complaints[-1]


def main() -> None:
    answers = {
        "Python packages": ask_python(),
        "Node.js packages": ask_node(ROOT),
        "Console packages": ask_node(ROOT / "console"),
    }
    for subject, answer in answers.items():
        for line in answer.known:
            print(f"{subject}: {line}")
        if answer.unanswered:
            print(f"{subject}: NOT AUDITED: {answer.unanswered}")
        elif not answer.known:
            print(f"{subject}: no known vulnerability")
    if any(answer.known for answer in answers.values()):
        raise SystemExit(1)
    if any(answer.unanswered for answer in answers.values()):
        raise SystemExit(2)


if __name__ == "__main__":
    main()
