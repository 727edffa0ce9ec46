"""`docs/rotation.md`: its commands, as a reader runs them one after the other, with AWS as moto plays it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from settings import load_settings
from tests.aws import CREDENTIALS
from tests.examples import Example, Printed, answered, documented, examples_in
from tests.shell import Terminal, environment, flask
from tests.stores import ROOT

PAGE = (ROOT / "docs" / "rotation.md").read_text("utf-8")
# The database's own statements are run by tests/e2e/test_rotation.py.
EXAMPLES = examples_in(re.sub(r"^```sql\n.*?^```\n", "", PAGE, flags=re.DOTALL | re.MULTILINE))
# Nobody else's: all of moto's servers in one process have the same secrets.
REGION = "eu-west-1"
TYPED = {"OPENAI_API_KEY": "sk-CANARY-new", "DATABASE_URL": "mongodb://user:CANARY@new/klamala"}
BEFORE = {"DATABASE_URL": "mongodb://user:CANARY@old/klamala", "OPENAI_API_KEY": "sk-CANARY-old"}
OLD_PAIR = "old:CANARY-" + "x" * 40
DEPLOYMENT = re.compile(r"make deploy STAGE=dev SECRET_VERSION=\d+")
MARK = "@@ example"


def put_in_place(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)


def reader(folder: Path, moto: str) -> dict[str, str]:
    """The environment of somebody in a checkout, whose deployments and pauses are only noted."""
    programs = folder / "programs"
    programs.mkdir()
    put_in_place(programs, "aws", f'exec "{sys.executable}" -m tests.aws_command "$@"')
    for name in ("make", "sleep"):
        put_in_place(programs, name, f'echo "{name} $*" >> {folder}/noted')
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "data").mkdir(mode=0o700)
    return {
        **environment(folder / "data", JWT_SECRETS=""),
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": moto,
        "FLASK_APP": str(ROOT / "app.py"),
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join((str(programs), os.environ["PATH"])),
    }


@pytest.fixture
def account(moto: str) -> Callable[[str], Any]:
    """Clients of moto's services, by name."""
    session = boto3.Session("test", "test", region_name=REGION)
    return lambda service: session.client(service, endpoint_url=moto)


@pytest.fixture
def printed(tmp_path: Path, moto: str, account: Callable[[str], Any]) -> dict[Example, Printed]:
    """What each example printed: one shell ran them all, on a terminal where somebody typed what was asked for."""
    for tool in ("bash", "openssl"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    environ = reader(tmp_path, moto)
    secret = json.dumps({**BEFORE, "JWT_SECRETS": OLD_PAIR})
    account("secretsmanager").create_secret(Name="klamala/dev", SecretString=secret)
    account("iam").create_user(UserName="deployer")
    environ["OLD_KEY_ID"] = account("iam").create_access_key(UserName="deployer")["AccessKey"]["AccessKeyId"]
    client = json.loads(
        flask(environ, "clients", "create", "Support desk", "--scope", "refine log:read", "--json").stdout
    )
    environ["CLIENT_ID"] = client["client_id"]
    scripts = [f"echo '{MARK}'\n{example.script}" for example in EXAMPLES]
    script = "\n".join([f"cd {tmp_path}", "exec > output", *scripts, 'echo "$JWT_SECRETS" > signing'])
    (tmp_path / "script").write_text(script, "utf-8")
    with Terminal(environ, str(tmp_path / "script"), program=(str(shutil.which("bash")), "-e")) as terminal:
        for name, value in TYPED.items():
            terminal.read_until(f"{name}: ".encode())
            terminal.type(f"{value}\n".encode())
        exit_status = terminal.end()
    said = terminal.shown.decode().replace("\r\n", "\n")
    error = re.sub("|".join(f"{name}: " for name in TYPED), "", said).strip()
    outputs = (tmp_path / "output").read_text("utf-8").split(f"{MARK}\n")[1:]
    assert len(outputs) == len(EXAMPLES), error
    return {example: Printed(output, error, exit_status) for example, output in zip(EXAMPLES, outputs, strict=True)}


def test_the_page_is_true(printed: Mapping[Example, Printed], tmp_path: Path, account: Callable[[str], Any]) -> None:
    """Each example prints what the page says, and in the end every secret is another one, deployed after each step."""
    for example, output in printed.items():
        assert answered(example, output) == documented(example), f"line {example.line}"

    after = json.loads(account("secretsmanager").get_secret_value(SecretId="klamala/dev")["SecretString"])
    assert {name: after[name] for name in TYPED} == TYPED
    ((kid, _),) = load_settings(after).jwt_secrets.items()
    assert kid != "old"

    noted = (tmp_path / "noted").read_text("utf-8").splitlines()
    assert [bool(DEPLOYMENT.fullmatch(line)) for line in noted] == [True, True, False, True, True, True, True]
    assert noted[2] == "sleep 3700"

    signing = load_settings({**TYPED, "JWT_SECRETS": (tmp_path / "signing").read_text("utf-8")}).jwt_secrets
    assert [re.fullmatch(r"\d{4}-\d\d-\d\d", kid) is not None for kid in signing] == [True]
    (left,) = account("iam").list_access_keys(UserName="deployer")["AccessKeyMetadata"]
    assert left["AccessKeyId"] == json.loads((tmp_path / "new-key.json").read_text("utf-8"))["AccessKey"]["AccessKeyId"]


def test_make_hands_the_version_on() -> None:
    """`SECRET_VERSION` becomes the parameter of `serverless.yml`, and without it there is none."""
    for given, parameters in {"SECRET_VERSION=7": ["--param", "secretVersion=7"], "SECRET_VERSION=": []}.items():
        command = ["make", "--dry-run", "deploy", "STAGE=dev", given]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("npx ")]
        assert line.split() == ["npx", "serverless", "deploy", "--stage", "dev", *parameters]
