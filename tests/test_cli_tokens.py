"""`flask token`: access tokens by the operator's right."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from app import create_app
from auth import SCOPES, verify_token
from storage import open_storage
from tests.harness import Harness
from tests.shell import environment, flask

NOBODY = "klm_0000000000000000"


def run(harness: Harness, *arguments: str) -> Result:
    return harness.app.test_cli_runner().invoke(args=["token", *arguments])


def signed(harness: Harness, *arguments: str) -> str:
    result = run(harness, *arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def test_the_token_stands_alone(harness: Harness) -> None:
    """Standard output is the token and a line feed, and the API lets it in as the client itself."""
    client_id = harness.register("refine", "log:read").client_id
    text = signed(harness, "--client", client_id)
    assert re.fullmatch(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\n", text)
    identity = verify_token(harness.policy, text.strip())
    assert (identity.client_id, identity.sub) == (client_id, client_id)
    assert identity.scopes == {"refine", "log:read"}
    assert harness.refine(text.strip(), {"prompt": "x"}).status_code == 200


def test_json_is_the_apis_answer(harness: Harness) -> None:
    """With `--json` it says what `POST /token` says."""
    credentials = harness.register()
    members = json.loads(signed(harness, "--client", credentials.client_id, "--json"))
    answer = harness.http.post("/token", json={}, headers={"X-API-Key": credentials.api_key}).get_json()
    assert {**members, "access_token": ""} == {**answer, "access_token": ""}


@pytest.mark.parametrize(
    "user_id", ["u", "山田 太郎", "x" * 128, "", " ", "x" * 129, "a\tb", "a\x1b[31m", "\udcff", NOBODY, "local"]
)
def test_a_user_is_whom_the_api_takes(harness: Harness, user_id: str) -> None:
    """`--user-id` takes what `POST /token` takes as `user_id`, and is wrong usage for the rest."""
    credentials = harness.register()
    headers = {"X-API-Key": credentials.api_key, "Content-Type": "application/json"}
    taken = harness.http.post("/token", data=json.dumps({"user_id": user_id}), headers=headers).status_code == 200
    result = run(harness, "--client", credentials.client_id, "--user-id", user_id)
    assert result.exit_code == (0 if taken else 2)
    assert taken or (result.stdout, "--user-id" in result.stderr) == ("", True)
    assert not taken or verify_token(harness.policy, result.stdout.strip()).sub == user_id


def test_a_user_never_reads_all(harness: Harness) -> None:
    """A token for an end user lacks `log:read:all`, asked for or not; one for the client itself has it."""
    client = harness.register().client_id
    assert verify_token(harness.policy, signed(harness, "--client", client).strip()).scopes == set(SCOPES)
    token = signed(harness, "--client", client, "--user-id", "u").strip()
    assert verify_token(harness.policy, token).scopes == set(SCOPES) - {"log:read:all"}
    result = run(harness, "--client", client, "--user-id", "u", "--scope", "log:read:all")
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_scope_narrows(harness: Harness) -> None:
    """`--scope` takes some of the client's scopes."""
    client = harness.register("refine", "log:read").client_id
    token = signed(harness, "--client", client, "--scope", "log:read").strip()
    assert verify_token(harness.policy, token).scopes == {"log:read"}


WRONG_USAGE: dict[str, Sequence[str]] = {
    "no client": [],
    "an argument": ["--client", "{client}", "x"],
    "a scope that the client lacks": ["--client", "{client}", "--scope", "generate"],
    "an unknown scope": ["--client", "{client}", "--scope", "admin"],
    "an empty scope": ["--client", "{client}", "--scope", ""],
}


@pytest.mark.parametrize("arguments", WRONG_USAGE.values(), ids=WRONG_USAGE)
def test_wrong_usage_ends_with_2(harness: Harness, arguments: Sequence[str]) -> None:
    """What cannot be asked for is said on standard error, and nothing is signed."""
    client = harness.register("refine").client_id
    result = run(harness, *(argument.format(client=client) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


def test_no_token_for_who_is_unknown_or_disabled(harness: Harness) -> None:
    """Each ends with 1 and one line that says which of the two it is."""
    disabled = harness.register().client_id
    harness.storage.set_client_disabled(disabled, True)
    for client_id, message in [
        (NOBODY, f"There is no client {NOBODY}."),
        (disabled, f"The client {disabled} is disabled."),
    ]:
        result = run(harness, "--client", client_id)
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {message}\n")


def test_without_storage_nothing_is_signed(harness: Harness, tmp_path: Path) -> None:
    """A storage that is out of reach is one line and exit code 1."""
    down = open_storage(f"sqlite:///{tmp_path / 'no-such-folder' / 'x.sqlite3'}")
    app = create_app(harness.settings, storage=down, engine=harness.engine)
    result = run(replace(harness, app=app), "--client", NOBODY)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"Error: Storage unavailable: [^\n]+\n", result.stderr)


def test_the_real_command(tmp_path: Path) -> None:
    """As processes: a client that one command creates gets a token from the next, and only the token is printed."""
    environ = environment(tmp_path)
    created = flask(environ, "clients", "create", "x", "--scope", "refine").stdout.decode()
    client_id = created.split("client_id: ")[1].split("\n")[0]
    done = flask(environ, "token", "--client", client_id)
    assert (done.returncode, done.stderr, done.stdout.count(b"."), done.stdout.count(b"\n")) == (0, b"", 2, 1)
