"""The workflows: of their schemas, by the book of zizmor, pinned, and started by hand where they deploy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from settings import Settings
from tests.artifacts import ROOT

BIN = Path(sys.executable).parent
FILES = sorted((ROOT / ".github" / "workflows").iterdir())
WORKFLOWS: dict[str, dict[Any, Any]] = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in FILES}
# To YAML 1.1, `on` is a truth value.
ON = True
GCP_SECRETS = (
    "GCP_PROJECT_ID",
    "GCP_WORKLOAD_IDENTITY_PROVIDER",
    "GCP_DEPLOYER_SERVICE_ACCOUNT",
    "GCP_RUNTIME_SERVICE_ACCOUNT",
)


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = [str(BIN / command[0]), *command[1:]]
    return subprocess.run(program, cwd=cwd, capture_output=True, text=True, check=False)


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in WORKFLOWS[name]["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
def test_workflows_are_of_their_schemas(schema: str) -> None:
    """GitHub's own, and one that wants a time limit of each job."""
    done = run("check-jsonschema", "--builtin-schema", schema, *map(str, FILES))
    assert done.returncode == 0, done.stdout


def test_dependabot_is_of_its_schema() -> None:
    """The schema of Dependabot's configuration has no complaint."""
    done = run("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")
    assert done.returncode == 0, done.stdout


def test_the_workflows_pass_an_audit() -> None:
    """zizmor finds no injection, wide permission, floating action or kept credential."""
    done = run("zizmor", "--offline", "--pedantic", "--no-progress", ".github")
    assert done.returncode == 0, done.stdout


def test_the_audit_sees_an_injection(tmp_path: Path) -> None:
    """An input that is written into a script is found."""
    name = "deploy-cloud-run.yml"
    text = (ROOT / ".github" / "workflows" / name).read_text("utf-8")
    (tmp_path / name).write_text(
        text.replace('"$REGION-docker.pkg.dev"', "${{ inputs.region }}-docker.pkg.dev"), "utf-8"
    )
    done = run("zizmor", "--offline", "--no-progress", name, cwd=tmp_path)
    assert done.returncode != 0
    assert "template-injection" in done.stdout


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_by_commit(name: str) -> None:
    """Each action by the hash of a commit, with the version beside it."""
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text("utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert all(re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_workflow_may_more_than_it_must(name: str) -> None:
    """Nothing for all jobs; each reads the sources, and one that deploys asks for a token besides."""
    workflow = WORKFLOWS[name]
    deploys = name.startswith("deploy-")
    wanted = {"contents": "read"} | ({"id-token": "write"} if deploys else {})
    assert workflow["permissions"] == {}
    assert all(job["permissions"] == wanted for job in workflow["jobs"].values())
    assert workflow["concurrency"]["cancel-in-progress"] is not deploys


@pytest.mark.parametrize("name", [name for name in WORKFLOWS if name.startswith("deploy-")])
def test_deployments_start_by_hand(name: str) -> None:
    """A person starts them, and an environment's reviewers may have a say."""
    assert list(WORKFLOWS[name][ON]) == ["workflow_dispatch"]
    assert all(job["environment"] for job in WORKFLOWS[name]["jobs"].values())


def test_ci_runs_what_a_person_runs() -> None:
    """The very scripts of the project."""
    assert [step["run"] for step in steps("ci") if "run" in step] == [".ci/run", ".ci/image"]
    assert [step["run"] for step in steps("audit") if "run" in step] == ["make audit"]


def test_commands_and_files_of_the_workflows_exist() -> None:
    """Each target of `make` that a workflow names is in the Makefile, and each script is there and can be run."""
    scripts = "\n".join(step["run"] for name in WORKFLOWS for step in steps(name) if "run" in step)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = [word for line in re.findall(r"^make (.*)", scripts, re.MULTILINE) for word in line.split()]
    assert targets
    assert not [name for name in targets if "=" not in name and f"\n{name}:" not in makefile]
    for script in re.findall(r"^\.ci/\w+", scripts, re.MULTILINE):
        assert (ROOT / script).stat().st_mode & 0o111


def test_cloud_run_has_four_secrets_and_no_key() -> None:
    """The four that are documented; a key that lives for long is not among them."""
    text = (ROOT / ".github" / "workflows" / "deploy-cloud-run.yml").read_text("utf-8")
    assert set(re.findall(r"secrets\.(\w+)", text)) == set(GCP_SECRETS)
    assert "credentials_json" not in text
    guide = (ROOT / "docs" / "container.md").read_text("utf-8")
    assert all(f"| `{name}` |" in guide for name in GCP_SECRETS)
    roles = re.findall(r"^\| `(roles/[a-zA-Z.]+)` \|", guide, re.MULTILINE)
    assert len(roles) == len(set(roles)) == 6


def test_cloud_run_is_told_what_the_service_can_be_told() -> None:
    """Variables and secrets that the workflow sets are settings, and its concurrency is that of the threads."""
    (script,) = [step["run"] for step in steps("deploy-cloud-run") if "run deploy" in step.get("run", "")]
    names = {name.upper() for name in Settings.__dataclass_fields__}
    variables = dict(re.findall(r"(\w+)=(\d+)", re.findall(r"--set-env-vars (\S+)", script)[0]))
    secret = re.findall(r"--set-secrets (\w+)=", script)
    assert set(variables) | set(secret) <= names
    assert {"DATABASE_URL", "JWT_SECRETS", "OPENAI_API_KEY"} == set(secret)
    threads = int(variables["WEB_CONCURRENCY"]) * int(variables["WEB_THREADS"])
    assert f"--concurrency {threads} " in script
