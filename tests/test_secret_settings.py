"""Settings from a secret, on moto's server: real requests over loopback, as boto3 makes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from app import create_app
from settings import Settings, SettingsError, load_settings
from tests.aws import CREDENTIALS
from tests.stores import ROOT, free_port, new_database
from tests.test_settings import CANARY, ON_LAMBDA, SECRET, TIMEOUT, python
from tests.upstream import MARKER, Upstream, malformed, status

AWS = {**CREDENTIALS, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"}
MADE = {"DATABASE_URL": "sqlite:///x.sqlite3", "JWT_SECRETS": f"k:{SECRET}"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a start makes, it makes in the test's folder."""
    monkeypatch.chdir(tmp_path)


def at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have boto3 ask there, in a session that remembers nothing of an earlier test's."""
    for name, value in {**AWS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@pytest.fixture
def manager(moto: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of Secrets Manager, in the account that the code under test asks too."""
    at(moto, monkeypatch)
    return boto3.client("secretsmanager")


def kept(manager: Any, content: str | bytes) -> str:
    """The ARN of a new secret."""
    kind = "SecretString" if isinstance(content, str) else "SecretBinary"
    arn: str = manager.create_secret(Name=f"klamala/{new_database()}", **{kind: content})["ARN"]
    return arn


def holding(manager: Any, **values: str) -> str:
    return kept(manager, json.dumps(values))


def loaded(secret_id: str, **environ: str) -> Settings:
    return load_settings({**MADE, "SECRETS_ID": secret_id, **environ})


def refusal(secret_id: str, **environ: str) -> str:
    """The one line that such a start ends with, without what the secret holds."""
    with pytest.raises(SettingsError) as caught:
        loaded(secret_id, **environ)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert re.fullmatch(r"[A-Z_]+: [ -~]+", str(caught.value))
    assert CANARY not in str(caught.value)
    return str(caught.value)


def test_a_secret_fills_settings(manager: Any) -> None:
    """Its keys are settings, found by the secret's ARN or by its name, and read like any others."""
    arn = holding(manager, OPENAI_API_KEY=f"sk-{CANARY}", OPENAI_MODELS="gpt-4.1,b", TOKEN_TTL_SECONDS="77")
    for secret_id in (arn, manager.describe_secret(SecretId=arn)["Name"], f" {arn}\n"):
        found = loaded(secret_id)
        assert found.openai_api_key == f"sk-{CANARY}"
        assert found.openai_models == ("gpt-4.1", "b")
        assert found.token_ttl_seconds == 77
        assert found.secrets_id == secret_id.strip()
        assert CANARY not in repr(found)


PRECEDENCE = {
    "not set": ({}, 77),
    "set": ({"TOKEN_TTL_SECONDS": "88"}, 88),
    "empty": ({"TOKEN_TTL_SECONDS": ""}, 77),
    "blank": ({"TOKEN_TTL_SECONDS": " \n"}, 77),
}


@pytest.mark.parametrize(("environ", "seconds"), PRECEDENCE.values(), ids=PRECEDENCE)
def test_a_variable_wins_over_the_secret(manager: Any, environ: dict[str, str], seconds: int) -> None:
    """A variable that is set counts; the secret fills what is not set, or set to nothing."""
    assert loaded(holding(manager, TOKEN_TTL_SECONDS="77"), **environ).token_ttl_seconds == seconds


def test_an_empty_limit_wins_over_the_secret(manager: Any) -> None:
    """An empty rate limit means none: over that of the secret, and in the secret too."""
    assert loaded(holding(manager, RATE_LIMIT="5/minute"), RATE_LIMIT="").rate_limit is None
    assert loaded(holding(manager, RATE_LIMIT="")).rate_limit is None


def test_an_empty_value_of_the_secret_sets_nothing(manager: Any) -> None:
    """As in the environment, it means the default."""
    found = loaded(holding(manager, TOKEN_TTL_SECONDS="", OPENAI_API_KEY=" "))
    assert (found.token_ttl_seconds, found.openai_api_key) == (3600, None)


def test_without_an_id_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, an empty and a blank one start without AWS."""
    with Upstream() as server:
        at(server.url, monkeypatch)
        for environ in ({}, {"SECRETS_ID": ""}, {"SECRETS_ID": " "}):
            assert load_settings({**MADE, **environ}).secrets_id is None
        assert not server.requests


def test_on_lambda_a_secret_may_hold_what_must_be_set(manager: Any, tmp_path: Path) -> None:
    """What nothing falls back to on Lambda may come from the secret, all of it, and nothing is written."""
    values = {name: value for name, value in ON_LAMBDA.items() if not name.startswith("AWS_")}
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "f", "SECRETS_ID": holding(manager, **values)}
    found = load_settings(environ)
    assert found.on_lambda
    assert found.jwt_secrets == {"k": SECRET}
    assert not list(tmp_path.iterdir())
    incomplete = {**environ, "SECRETS_ID": holding(manager, **{**values, "JWT_SECRETS": ""})}
    with pytest.raises(SettingsError, match=r"^JWT_SECRETS: must be set on AWS Lambda$"):
        load_settings(incomplete)


def test_a_bad_value_in_a_secret_is_named_and_not_shown(manager: Any) -> None:
    """It is refused like any other, under the name of its own setting."""
    secret = f"k:{CANARY}"
    assert refusal(holding(manager, JWT_SECRETS=secret), JWT_SECRETS="").startswith("JWT_SECRETS: each secret must")
    assert refusal(holding(manager, OPENAI_API_KEY=f"{CANARY}\udcff")) == "OPENAI_API_KEY: is not text in UTF-8"


NO_SETTINGS: Mapping[str, tuple[str | bytes, str]] = {
    "text": (CANARY, "is not JSON"),
    "cut off": (f'{{"OPENAI_API_KEY": "{CANARY}', "is not JSON"),
    "endless nesting": ("[" * 100_000, "is not JSON"),
    "list": (f'["{CANARY}"]', "is not a JSON object"),
    "string": (f'"{CANARY}"', "is not a JSON object"),
    "null": ("null", "is not a JSON object"),
    "bytes": (CANARY.encode(), "is binary, and not text"),
    "number": ('{"TOKEN_TTL_SECONDS": 77}', "TOKEN_TTL_SECONDS is not a string"),
    "null value": ('{"OPENAI_API_KEY": null}', "OPENAI_API_KEY is not a string"),
    "object": (f'{{"JWT_SECRETS": {{"k": "{CANARY}"}}}}', "JWT_SECRETS is not a string"),
    "unknown key": (f'{{"OPENAI_APIKEY": "{CANARY}"}}', "a key OPENAI_APIKEY that is no setting"),
    "the secret's own": ('{"SECRETS_ID": "other"}', "a key SECRETS_ID that is no setting"),
    "Lambda's own": ('{"AWS_LAMBDA_FUNCTION_NAME": "f"}', "a key AWS_LAMBDA_FUNCTION_NAME that is no setting"),
    "another case": (f'{{"openai_api_key": "{CANARY}"}}', "a key that is no setting"),
    "key and value mixed up": (f'{{"{CANARY}": "OPENAI_API_KEY"}}', "a key that is no setting"),
}


@pytest.mark.parametrize(("content", "words"), NO_SETTINGS.values(), ids=NO_SETTINGS)
def test_a_secret_of_another_form_is_refused(manager: Any, content: str | bytes, words: str) -> None:
    """One line says what is wrong with it, without what it holds."""
    line = refusal(kept(manager, content))
    assert line.startswith("SECRETS_ID: names a secret ")
    assert words in line


def test_a_secret_that_is_not_there_is_refused(manager: Any) -> None:
    """One that never was, one of another region, one without a value, and one that was deleted."""
    name = manager.create_secret(Name=f"klamala/{new_database()}")["Name"]
    for secret_id in ("klamala/missing", holding(manager).replace("eu-central-1", "us-east-1"), name):
        assert refusal(secret_id) == "SECRETS_ID: names no secret that has a value in this account and region"
    deleted = holding(manager, OPENAI_API_KEY=CANARY)
    manager.delete_secret(SecretId=deleted)
    assert refusal(deleted) == "SECRETS_ID: names a secret that is marked for deletion"


ANSWERS = {
    "no permission": (400, "AccessDeniedException", "may not be read: secretsmanager:GetSecretValue, or kms:Decrypt"),
    "a key that is lost": (400, "DecryptionFailure", "cannot be decrypted with its key"),
    "no such name": (400, "ValidationException", "is not the name or ARN of a secret"),
    "a bad token": (400, "UnrecognizedClientException", "cannot be read: Secrets Manager answers Unrecognized"),
    "a fault of AWS": (500, "InternalServiceError", "cannot be read: Secrets Manager answers InternalServiceError"),
    "words": (400, f"{CANARY} {CANARY}", "cannot be read: Secrets Manager answers an error without a name"),
}


@pytest.mark.parametrize(("code", "kind", "words"), ANSWERS.values(), ids=ANSWERS)
def test_what_secrets_manager_refuses_is_told(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, code: int, kind: str, words: str
) -> None:
    """The line says which permission is missing, or what AWS calls the fault, and not AWS's sentence."""
    at(upstream.url, monkeypatch)
    upstream.script(status(code, body={"__type": kind, "message": CANARY}))
    assert refusal("a").startswith(f"SECRETS_ID: {words}")


def test_an_answer_that_is_none_is_told(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """What something else than Secrets Manager says with 200 is not taken, and not shown."""
    at(upstream.url, monkeypatch)
    upstream.script(malformed())
    line = refusal("a")
    assert line.startswith("SECRETS_ID: cannot be read: ")
    assert MARKER not in line


def test_a_manager_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing listens, the start ends; so it does where the address is none."""
    at(f"http://127.0.0.1:{free_port()}", monkeypatch)
    assert refusal("a") == "SECRETS_ID: cannot be read: Secrets Manager does not answer"
    at("nonsense", monkeypatch)
    assert refusal("a") == "SECRETS_ID: cannot be read: ValueError"


def test_a_silent_manager_is_given_up(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that accepts and is silent does not keep the start for ever."""
    at(f"http://127.0.0.1:{silent_port}", monkeypatch)
    assert refusal("a") == "SECRETS_ID: cannot be read: Secrets Manager does not answer"


@pytest.mark.parametrize("name", ["AWS_DEFAULT_REGION", "AWS_SECRET_ACCESS_KEY"])
def test_without_region_or_credentials_the_start_ends(moto: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Region and credentials are the environment's, as for any program on AWS."""
    at(moto, monkeypatch)
    monkeypatch.delenv(name)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert refusal("a") == "SECRETS_ID: cannot be read without an AWS region and credentials"


def test_without_boto3_a_secret_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where boto3 is not installed, that is said."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert refusal("a") == "SECRETS_ID: needs the package boto3"


SHOWING = (
    "from settings import load_settings; import sys; s = load_settings(); print(s.token_ttl_seconds, s.jwt_issuer)"
)


def test_a_process_reads_its_secret_below_dotenv(manager: Any, moto: str, tmp_path: Path) -> None:
    """Also off Lambda: the environment wins over `.env`, and `.env` over the secret that it may name."""
    secret_id = holding(manager, TOKEN_TTL_SECONDS="77", JWT_ISSUER="secret", JWT_AUDIENCE="secret")
    (tmp_path / ".env").write_text(f"SECRETS_ID={secret_id}\nJWT_ISSUER=dotenv\n")
    done = python(tmp_path, SHOWING, **AWS, AWS_ENDPOINT_URL=moto)
    assert (done.returncode, done.stdout) == (0, "77 dotenv\n"), done.stderr


def test_a_bad_secret_stops_a_service_with_one_line(manager: Any, moto: str, tmp_path: Path) -> None:
    """The operator of a service sees the line, without a traceback and without the value."""
    secret_id = kept(manager, f'{{"OPENAI_APIKEY": "{CANARY}"}}')
    starting = "from app import create_app; create_app()"
    done = python(tmp_path, starting, **AWS, AWS_ENDPOINT_URL=moto, SECRETS_ID=secret_id)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("klamala: SECRETS_ID: names a secret with a key OPENAI_APIKEY")
    assert CANARY not in line


def test_a_service_starts_from_its_secret(manager: Any, tmp_path: Path) -> None:
    """The app is built from what the secret holds."""
    path = tmp_path / "secret.sqlite3"
    found = load_settings({"SECRETS_ID": holding(manager, **{**MADE, "DATABASE_URL": f"sqlite:///{path}"})})
    assert create_app(found).test_client().get("/ready").status_code == 200
    assert path.exists()


def test_boto3_is_imported_for_a_secret_only(tmp_path: Path) -> None:
    """A start without SECRETS_ID does not pay for boto3."""
    program = "import sys; from app import create_app; create_app(); sys.exit('boto3' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0
