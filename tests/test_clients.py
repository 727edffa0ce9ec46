"""Clients' credentials, and the commands that hand them out and take them back."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import string
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from app import create_app
from auth import SCOPES
from clients import Credentials, InvalidClient, authenticate, new_credentials
from records import utc_now
from settings import Settings
from storage import open_storage
from tests.harness import Harness

ROOT = Path(__file__).parents[1]
BASE62 = string.digits + string.ascii_lowercase + string.ascii_uppercase
SECRET = re.compile(r"kls_(?P<random>[0-9A-Za-z]{43})(?P<checksum>[0-9A-Za-z]{6})")
NOBODY = "klm_0000000000000000"
MANY = 400


def run(harness: Harness, *arguments: str) -> Result:
    return harness.app.test_cli_runner().invoke(args=["clients", *arguments])


def done(harness: Harness, *arguments: str) -> str:
    """What a command that succeeds prints: all of it on standard output."""
    result = run(harness, *arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def read_result(text: str, as_json: bool) -> dict[str, Any]:
    """A command's result, as people or as programs get it."""
    if as_json:
        assert text.count("\n") == 1
        members: dict[str, Any] = json.loads(text)
        return members
    return dict(line.split(": ", 1) for line in text.splitlines())


def created(harness: Harness, *options: str, scope: str = "refine") -> Credentials:
    result = read_result(done(harness, "create", "a name", "--scope", scope, "--json", *options), as_json=True)
    return Credentials(result["client_id"], result["client_secret"])


def listed(harness: Harness) -> dict[str, dict[str, Any]]:
    """The clients that `list` shows, by id."""
    return {client["client_id"]: client for client in json.loads(done(harness, "list", "--json"))}


def gets_token(harness: Harness, credentials: Credentials) -> bool:
    """Whether `/token` knows these credentials."""
    answer = harness.http.post("/token", json={}, headers={"X-API-Key": credentials.api_key})
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200


def stored_bytes(folder: Path) -> bytes:
    """Everything that lies in a folder, the database's write-ahead log included."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


AS_JSON = pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])


def flags(as_json: bool) -> Sequence[str]:
    return ["--json"] if as_json else []


# --- Credentials


def test_credentials_have_the_form_that_scanners_know() -> None:
    """The id is `klm_` and 16 characters, the secret ends in the CRC-32 of its random part, the key is both."""
    credentials = new_credentials()
    assert re.fullmatch(r"klm_[0-9A-Za-z]{16}", credentials.client_id)
    secret = SECRET.fullmatch(credentials.client_secret)
    assert secret
    value = 0
    for digit in secret["checksum"]:
        value = value * 62 + BASE62.index(digit)
    assert value == zlib.crc32(secret["random"].encode())
    assert credentials.api_key == f"{credentials.client_id}.{credentials.client_secret}"
    assert credentials.api_key.count(".") == 1


def test_a_secret_has_256_random_bits() -> None:
    """Each of the random characters takes every value, and there are enough of them."""
    randoms = [new_credentials().client_secret[4:-6] for _ in range(MANY)]
    assert math.log2(62) * len(randoms[0]) >= 256
    # With 400 draws of 62 a position that is really random shows fewer than 50 values once in 10^12 runs.
    assert [position for position in zip(*randoms, strict=True) if len(set(position)) < 50] == []


def test_credentials_never_repeat() -> None:
    """New credentials share neither id nor secret with others."""
    many = [new_credentials() for _ in range(MANY)]
    assert len({credentials.client_id for credentials in many}) == MANY
    assert len({credentials.client_secret for credentials in many}) == MANY


def test_a_new_secret_keeps_the_id() -> None:
    """Rotating makes another secret for the same client."""
    first = new_credentials()
    second = new_credentials(first.client_id)
    assert second.client_id == first.client_id
    assert second.client_secret != first.client_secret


def test_credentials_do_not_show_in_a_hash() -> None:
    """What is kept is the SHA-256 of the API key in hexadecimal, which another secret or id changes."""
    credentials = new_credentials()
    assert credentials.key_hash == hashlib.sha256(credentials.api_key.encode()).hexdigest()
    assert new_credentials(credentials.client_id).key_hash != credentials.key_hash
    assert Credentials(NOBODY, credentials.client_secret).key_hash != credentials.key_hash


def test_only_the_exact_credentials_authenticate(harness: Harness) -> None:
    """Right credentials find their client; each other secret, and those of a disabled client, find none.

    So do those of before, while they work on.
    """
    client, other = harness.register(), harness.register()
    found = authenticate(harness.storage, client.client_id, client.client_secret)
    assert found.client_id == client.client_id
    secret = client.client_secret
    for wrong in (other.client_secret, secret[:-1], secret + "x", secret.swapcase(), secret + " ", client.api_key, ""):
        with pytest.raises(InvalidClient):
            authenticate(harness.storage, client.client_id, wrong)
    new = new_credentials(client.client_id)
    harness.storage.set_client_key(client.client_id, new.key_hash, utc_now() + timedelta(hours=1))
    for right in (secret, new.client_secret):
        assert authenticate(harness.storage, client.client_id, right).client_id == client.client_id
    for wrong in (other.client_secret, secret[:-1], new.client_secret + "x", secret + new.client_secret, ""):
        with pytest.raises(InvalidClient):
            authenticate(harness.storage, client.client_id, wrong)
    harness.storage.set_client_disabled(client.client_id, True)
    for right in (secret, new.client_secret):
        with pytest.raises(InvalidClient):
            authenticate(harness.storage, client.client_id, right)


def test_a_stored_hash_is_no_key(harness: Harness) -> None:
    """Who reads the database cannot log in with what stands there."""
    client = harness.register()
    assert gets_token(harness, client)
    assert not gets_token(harness, Credentials(client.client_id, client.key_hash))


@pytest.mark.parametrize("rotated", [False, True], ids=["created", "rotated"])
def test_the_database_holds_a_hash_only(harness: Harness, tmp_path: Path, rotated: bool) -> None:
    """The raw files hold the hash of the key, and neither key nor secret nor a part of it."""
    client = created(harness)
    if rotated:
        secret = read_result(done(harness, "rotate", client.client_id, "--json"), as_json=True)["client_secret"]
        client = Credentials(client.client_id, secret)
    assert gets_token(harness, client)
    stored = stored_bytes(tmp_path)
    assert client.key_hash.encode() in stored
    assert client.client_id.encode() in stored
    assert client.client_secret[4:-6].encode() not in stored
    assert b"kls_" not in stored


# --- Commands


@AS_JSON
def test_create_prints_credentials_that_work(harness: Harness, as_json: bool) -> None:
    """`create` prints id, secret and key, and the client that it registered gets a token with them."""
    result = read_result(done(harness, "create", "a name", "--scope", "log:read refine", *flags(as_json)), as_json)
    assert set(result) == {"client_id", "client_secret", "api_key"}
    credentials = Credentials(result["client_id"], result["client_secret"])
    assert result["api_key"] == credentials.api_key
    assert SECRET.fullmatch(credentials.client_secret)
    answer = harness.http.post("/token", json={}, headers={"X-API-Key": credentials.api_key})
    assert set(answer.get_json()["scope"].split()) == {"refine", "log:read"}


@AS_JSON
def test_list_shows_clients_and_no_credentials(harness: Harness, as_json: bool) -> None:
    """`list` shows each client's id, name, scope and state, and never what it authenticates with."""
    clients = [created(harness), created(harness, scope="generate log:write")]
    run(harness, "disable", clients[1].client_id)
    text = done(harness, "list", *flags(as_json))
    for client in clients:
        assert client.client_id in text
        assert client.client_secret[4:] not in text
        assert client.key_hash not in text
    if not as_json:
        lines = {line.split()[0]: line for line in text.splitlines()}
        assert len(lines) == 2
        assert "enabled" in lines[clients[0].client_id]
        assert "disabled" in lines[clients[1].client_id]
        assert "a name" in lines[clients[0].client_id]
        assert "generate log:write" in lines[clients[1].client_id]


def test_list_as_json_has_every_field(harness: Harness) -> None:
    """Programs get one JSON array on one line."""
    client = created(harness, scope="log:read refine")
    text = done(harness, "list", "--json")
    assert text.count("\n") == 1
    (shown,) = json.loads(text)
    moment = shown.pop("created_at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
    assert shown == {
        "client_id": client.client_id,
        "name": "a name",
        "scope": "refine log:read",
        "disabled": False,
        "previous_key_expires_at": None,
    }


@AS_JSON
def test_list_of_nobody(harness: Harness, as_json: bool) -> None:
    """Without a client there is nothing to show, and that is no failure."""
    assert done(harness, "list", *flags(as_json)) == ("[]\n" if as_json else "")


@AS_JSON
def test_rotate_replaces_the_secret_at_once(harness: Harness, as_json: bool) -> None:
    """After `rotate` the old key fails and the new one works, for the same client and no other."""
    old, other = created(harness), created(harness)
    assert gets_token(harness, old)
    result = read_result(done(harness, "rotate", old.client_id, *flags(as_json)), as_json)
    assert set(result) == {"client_id", "client_secret", "api_key"}
    new = Credentials(result["client_id"], result["client_secret"])
    assert new.client_id == old.client_id
    assert result["api_key"] == new.api_key
    assert not gets_token(harness, old)
    assert gets_token(harness, new)
    assert gets_token(harness, other)
    assert set(listed(harness)) == {old.client_id, other.client_id}


@AS_JSON
def test_rotate_lets_the_old_key_work_on(harness: Harness, as_json: bool) -> None:
    """With a grace period both keys get tokens until its end, which `rotate` and `list` show."""
    old, other = created(harness), created(harness)
    began = utc_now()
    result = read_result(done(harness, "rotate", old.client_id, "--grace-period", "2", *flags(as_json)), as_json)
    assert set(result) == {"client_id", "client_secret", "api_key", "previous_key_expires_at"}
    new = Credentials(old.client_id, result["client_secret"])
    assert [gets_token(harness, credentials) for credentials in (old, new, other)] == [True] * 3
    until = result["previous_key_expires_at"]
    assert timedelta(0) <= datetime.fromisoformat(until) - began - timedelta(hours=2) < timedelta(minutes=5)
    shown = {name: client["previous_key_expires_at"] for name, client in listed(harness).items()}
    assert shown == {old.client_id: until, other.client_id: None}
    lines = {line.split()[0]: line for line in done(harness, "list").splitlines()}
    assert lines[old.client_id].endswith(f"  previous key until {until}")
    assert "previous" not in lines[other.client_id]


def test_the_end_of_a_grace_period(harness: Harness) -> None:
    """From that moment on the old key is refused as one that never was, and nothing is shown of it."""
    old = created(harness)
    new = new_credentials(old.client_id)
    for seconds, works in [(3600, True), (0, False), (-1, False)]:
        harness.storage.set_client_key(old.client_id, old.key_hash)
        harness.storage.set_client_key(old.client_id, new.key_hash, utc_now() + timedelta(seconds=seconds))
        assert (gets_token(harness, old), gets_token(harness, new)) == (works, True)
        assert (listed(harness)[old.client_id]["previous_key_expires_at"] is not None) is works
    assert "previous" not in done(harness, "list")


@pytest.mark.parametrize("grace", [[], ["--grace-period", "0"], ["--grace-period", "720"]], ids=" ".join)
def test_a_grace_period_ends_with_the_next_rotation(harness: Harness, grace: Sequence[str]) -> None:
    """A key that works on stops when its successor is replaced, whatever becomes of that one."""
    keys = [created(harness)]
    for options in (["--grace-period", "720"], grace):
        result = read_result(done(harness, "rotate", keys[0].client_id, *options, "--json"), as_json=True)
        keys.append(Credentials(result["client_id"], result["client_secret"]))
    assert [gets_token(harness, key) for key in keys] == [False, "720" in grace, True]


def test_a_disabled_client_s_old_key_is_refused_too(harness: Harness) -> None:
    """`disable` ends both keys within a grace period."""
    old = created(harness)
    result = read_result(done(harness, "rotate", old.client_id, "--grace-period", "1", "--json"), as_json=True)
    done(harness, "disable", old.client_id)
    assert not gets_token(harness, old)
    assert not gets_token(harness, Credentials(old.client_id, result["client_secret"]))


@AS_JSON
def test_a_disabled_client_is_out_until_it_is_enabled(harness: Harness, as_json: bool) -> None:
    """`disable` and `enable` take effect at once at `/token`, say so, may be repeated, and touch nobody else."""
    client, other = created(harness), created(harness)
    for command, disabled in [("disable", True), ("disable", True), ("enable", False), ("enable", False)]:
        result = read_result(done(harness, command, client.client_id, *flags(as_json)), as_json)
        assert result == {"client_id": client.client_id, "disabled": disabled if as_json else str(disabled)}
        assert gets_token(harness, client) is not disabled
        assert gets_token(harness, other)
        assert listed(harness)[client.client_id]["disabled"] is disabled


def test_a_new_secret_does_not_enable(harness: Harness) -> None:
    """Rotating the secret of a disabled client leaves it disabled."""
    client = created(harness)
    done(harness, "disable", client.client_id)
    result = read_result(done(harness, "rotate", client.client_id, "--json"), as_json=True)
    new = Credentials(client.client_id, result["client_secret"])
    assert not gets_token(harness, new)
    done(harness, "enable", client.client_id)
    assert gets_token(harness, new)


@AS_JSON
def test_a_secret_is_printed_once(harness: Harness, as_json: bool) -> None:
    """No later command shows the secret that `create` printed."""
    client = created(harness)
    commands = ["list"], ["disable", client.client_id], ["enable", client.client_id], ["rotate", client.client_id]
    for command in commands:
        result = run(harness, *command, *flags(as_json))
        assert result.exit_code == 0
        assert client.client_secret[4:-6] not in result.output


@pytest.mark.parametrize("scope", SCOPES)
def test_every_scope_may_be_given(harness: Harness, scope: str) -> None:
    """Each scope of the contract can be registered, alone."""
    assert listed(harness) == {}
    client = created(harness, scope=scope)
    assert listed(harness)[client.client_id]["scope"] == scope


@pytest.mark.parametrize("name", ["山田", "O'Brien & Söhne 🙂", "x" * 256, "-- x", "a: b"])
def test_a_name_may_be_anything_printable(harness: Harness, name: str) -> None:
    """Names are shown as they were given."""
    result = read_result(done(harness, "create", "--scope", "refine", "--json", "--", name), as_json=True)
    assert listed(harness)[result["client_id"]]["name"] == name


WRONG_USAGE: dict[str, list[str]] = {
    "no arguments": ["create"],
    "no scope": ["create", "a name"],
    "no name": ["create", "--scope", "refine"],
    "two names": ["create", "a", "b", "--scope", "refine"],
    "empty name": ["create", "", "--scope", "refine"],
    "blank name": ["create", "   ", "--scope", "refine"],
    "name with a line feed": ["create", "a\nb", "--scope", "refine"],
    "name with an escape": ["create", "\x1b[31m", "--scope", "refine"],
    "name with half a character": ["create", "\udcff", "--scope", "refine"],
    "name too long": ["create", "x" * 257, "--scope", "refine"],
    "empty scope": ["create", "a name", "--scope", ""],
    "blank scope": ["create", "a name", "--scope", "  "],
    "unknown scope": ["create", "a name", "--scope", "admin"],
    "one unknown scope": ["create", "a name", "--scope", "refine admin"],
    "scope in another case": ["create", "a name", "--scope", "REFINE"],
    "scopes with a comma": ["create", "a name", "--scope", "refine,generate"],
    "unknown option": ["create", "a name", "--scope", "refine", "--yes"],
    "rotate nobody": ["rotate"],
    "grace period too long": ["rotate", NOBODY, "--grace-period", "721"],
    "grace period of the past": ["rotate", NOBODY, "--grace-period", "-1"],
    "grace period of no length": ["rotate", NOBODY, "--grace-period", ""],
    "grace period in parts": ["rotate", NOBODY, "--grace-period", "1.5"],
    "disable nobody": ["disable"],
    "enable nobody": ["enable"],
    "list somebody": ["list", "somebody"],
    "unknown command": ["delete", NOBODY],
}


@pytest.mark.parametrize("arguments", WRONG_USAGE.values(), ids=WRONG_USAGE)
def test_wrong_usage_ends_with_2(harness: Harness, arguments: Sequence[str]) -> None:
    """What the command line cannot take ends with 2 and a message on standard error, and registers nobody."""
    result = run(harness, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr
    assert listed(harness) == {}


@AS_JSON
@pytest.mark.parametrize("client_id", [NOBODY, "nobody", "' OR 1=1 --"])
@pytest.mark.parametrize("command", ["rotate", "disable", "enable"])
def test_an_unknown_client_ends_with_1(harness: Harness, command: str, client_id: str, as_json: bool) -> None:
    """A client that does not exist is a failure, named on standard error, and comes into being by no command."""
    client = created(harness)
    result = run(harness, command, *flags(as_json), "--", client_id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert client_id in result.stderr
    assert set(listed(harness)) == {client.client_id}
    assert gets_token(harness, client)


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "a name", "--scope", "refine"],
        ["list"],
        *([name, NOBODY] for name in ("rotate", "disable", "enable")),
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_storage_a_command_ends_with_1(harness: Harness, tmp_path: Path, arguments: Sequence[str]) -> None:
    """When the storage cannot be reached a command says so in one line, and prints no credentials that do not work."""
    down = open_storage(f"sqlite:///{tmp_path / 'no-such-folder' / 'x.sqlite3'}")
    app = create_app(harness.settings, storage=down, engine=harness.engine)
    result = run(replace(harness, app=app, storage=down), *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"Error: [^\n]+\n", result.stderr)
    assert str(tmp_path) not in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["create", "--help"], ["rotate", "--help"]], ids=" ".join)
def test_help_is_there(harness: Harness, arguments: Sequence[str]) -> None:
    """Each command explains itself."""
    assert "Usage: " in done(harness, *arguments)


def flask(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The real command, in a process whose every setting is said here: empty means its default."""
    unset = {item.name.upper(): "" for item in fields(Settings) if item.metadata}
    fixed = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "clients", *arguments],
        cwd=ROOT,
        env={**fixed, **unset, "DATA_DIR": str(folder), "AWS_LAMBDA_FUNCTION_NAME": ""},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_the_real_command_keeps_what_it_creates(tmp_path: Path) -> None:
    """`flask clients create` as a process prints one JSON object, and the next process finds the client."""
    folder = tmp_path / "data"
    result = flask(folder, "create", "Söhne", "--scope", "refine", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    client = json.loads(result.stdout)
    assert set(client) == {"client_id", "client_secret", "api_key"}

    result = flask(folder, "list", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert [(shown["client_id"], shown["name"]) for shown in json.loads(result.stdout)] == [
        (client["client_id"], "Söhne")
    ]
    assert b"kls_" not in stored_bytes(folder)

    assert flask(folder, "create", " ", "--scope", "refine").returncode == 2
    result = flask(folder, "rotate", NOBODY)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"Error: There is no client {NOBODY}.\n"
