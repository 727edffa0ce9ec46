"""Every setting: its default, how it is read, and what a wrong one is told."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from app import create_app
from rates import Rate
from settings import Settings, SettingsError, load_settings, write_private

ROOT = Path(__file__).parents[1]
TIMEOUT = 60.0
STOP_WITHIN = 20.0
CANARY = "CANARY-setting-5b8e"
SECRET = f"{CANARY}-" + "s" * 32
OTHER_SECRET = f"{CANARY}-" + "t" * 32
GENERATED = re.compile(r"[0-9a-f]{8}:[A-Za-z0-9_-]{64}\n")

# What each setting is when its variable is not set. The database and the secret are made in the folder of the data.
DEFAULTS: dict[str, Any] = {
    "DATA_DIR": Path("./data"),
    "OPENAI_API_KEY": None,
    "OPENAI_BASE_URL": None,
    "OPENAI_MODEL": "gpt-4.1",
    "OPENAI_MODELS": ("gpt-4.1",),
    "JWT_ISSUER": "klamala",
    "JWT_AUDIENCE": "klamala",
    "TOKEN_TTL_SECONDS": 3600,
    "CORS_ORIGINS": (),
    "MAX_PROMPT_CHARS": 100_000,
    "MAX_BODY_BYTES": 1024 * 1024,
    "MAX_OUTPUT_TOKENS": 4096,
    "REQUEST_DEADLINE_SECONDS": 25,
    "JOB_DEADLINE_SECONDS": 300,
    "RATE_LIMIT": Rate(60, timedelta(minutes=1)),
    "DAILY_TOKEN_BUDGET": None,
    "LOG_RETENTION_DAYS": None,
    "OUTBOX_QUEUE_URL": None,
    "JOBS_QUEUE_URL": None,
    "SECRETS_ID": None,
    "WEB_CONCURRENCY": 2,
    "WEB_THREADS": 32,
}
MADE = {"DATABASE_URL", "JWT_SECRETS"}
VARIABLES = {item.name.upper() for item in fields(Settings) if item.metadata}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults are made in the working folder, which is not the checkout's here."""
    monkeypatch.chdir(tmp_path)


def test_this_file_knows_every_setting() -> None:
    """A setting cannot be added without a default, a value and a refusal that are checked here."""
    assert set(DEFAULTS) | MADE == VARIABLES
    # Whoever names a secret asks for it: `test_secret_settings.py`.
    assert {name for name, *_ in PARSED} == VARIABLES - {"SECRETS_ID"}
    assert {name for name, _ in REFUSED} == VARIABLES - {"JWT_ISSUER", "JWT_AUDIENCE", "OPENAI_MODEL"}


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("raw", [None, "", "  \t"], ids=["unset", "empty", "blank"])
def test_a_setting_has_its_default(name: str, raw: str | None) -> None:
    """What is not set, or set to nothing, is as documented; a rate limit that is set to nothing is none."""
    loaded = load_settings({} if raw is None else {name: raw})
    assert getattr(loaded, name.lower()) == (None if name == "RATE_LIMIT" and raw is not None else DEFAULTS[name])
    assert loaded.on_lambda is False


@pytest.mark.parametrize("raw", [None, "", "  \t"], ids=["unset", "empty", "blank"])
def test_the_first_run_makes_what_it_needs(tmp_path: Path, raw: str | None) -> None:
    """With nothing set there are a database in a file, a generated secret beside it, and the offline engine."""
    loaded = load_settings({} if raw is None else dict.fromkeys(VARIABLES, raw))
    assert loaded.database_url == f"sqlite:///{tmp_path / 'data' / 'klamala.sqlite3'}"
    assert len(loaded.jwt_secrets) == 1
    assert loaded.offline


PARSED: list[tuple[str, str, Any]] = [
    ("DATABASE_URL", "sqlite:////tmp/x.sqlite3", "sqlite:////tmp/x.sqlite3"),
    ("DATABASE_URL", "sqlite:///x.sqlite3", "sqlite:///x.sqlite3"),
    ("DATABASE_URL", "mongodb://u:p@a,b/db?w=0", "mongodb://u:p@a,b/db?w=0"),
    ("DATABASE_URL", "mongodb+srv://u:p@a.example/db", "mongodb+srv://u:p@a.example/db"),
    ("DATABASE_URL", "postgresql://u:p%40@h:5432/db?sslmode=require", "postgresql://u:p%40@h:5432/db?sslmode=require"),
    ("DATABASE_URL", "postgresql:///db?host=/var/run/postgresql", "postgresql:///db?host=/var/run/postgresql"),
    ("DATABASE_URL", "postgres://u:p@h/db", "postgres://u:p@h/db"),
    ("DATA_DIR", "/tmp/elsewhere", Path("/tmp/elsewhere")),  # noqa: S108 - nothing is written there
    ("OPENAI_API_KEY", "sk-x", "sk-x"),
    ("OPENAI_API_KEY", " sk-x\n", "sk-x"),
    ("OPENAI_BASE_URL", "http://localhost:11434/v1", "http://localhost:11434/v1"),
    ("OPENAI_BASE_URL", "https://host/v1/", "https://host/v1"),
    ("OPENAI_BASE_URL", "http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ("OPENAI_MODEL", "llama3.2:3b", "llama3.2:3b"),
    ("OPENAI_MODELS", "gpt-4.1, other,,", ("gpt-4.1", "other")),
    ("JWT_SECRETS", f"a:{SECRET}", {"a": SECRET}),
    ("JWT_SECRETS", f"b:{SECRET}, a:{OTHER_SECRET}", {"b": SECRET, "a": OTHER_SECRET}),
    ("JWT_SECRETS", "a:" + "x:" * 16, {"a": "x:" * 16}),
    ("JWT_SECRETS", "a:" + "é" * 16, {"a": "é" * 16}),
    ("JWT_ISSUER", "https://issuer.example", "https://issuer.example"),
    ("JWT_AUDIENCE", "other", "other"),
    ("TOKEN_TTL_SECONDS", "1", 1),
    ("TOKEN_TTL_SECONDS", "86400", 86_400),
    ("CORS_ORIGINS", "https://a.example, http://localhost:5173", ("https://a.example", "http://localhost:5173")),
    ("CORS_ORIGINS", "*", ("*",)),
    ("MAX_PROMPT_CHARS", "1", 1),
    ("MAX_PROMPT_CHARS", " 0500 ", 500),
    ("MAX_BODY_BYTES", "1024", 1024),
    ("MAX_BODY_BYTES", str(5 * 1024 * 1024), 5 * 1024 * 1024),
    ("MAX_OUTPUT_TOKENS", "1", 1),
    ("MAX_OUTPUT_TOKENS", "1000000", 1_000_000),
    ("REQUEST_DEADLINE_SECONDS", "900", 900),
    ("JOB_DEADLINE_SECONDS", "3600", 3600),
    ("RATE_LIMIT", "1/second", Rate(1, timedelta(seconds=1))),
    ("RATE_LIMIT", " 5 / minutes ", Rate(5, timedelta(minutes=1))),
    ("RATE_LIMIT", "10/hour", Rate(10, timedelta(hours=1))),
    ("RATE_LIMIT", "999999999/days", Rate(999_999_999, timedelta(days=1))),
    ("RATE_LIMIT", "none", None),
    ("RATE_LIMIT", "", None),
    ("RATE_LIMIT", " ", None),
    ("DAILY_TOKEN_BUDGET", "1", 1),
    ("DAILY_TOKEN_BUDGET", "999999999999", 999_999_999_999),
    ("LOG_RETENTION_DAYS", "30", 30),
    ("OUTBOX_QUEUE_URL", "https://sqs.eu-central-1.amazonaws.com/1/o", "https://sqs.eu-central-1.amazonaws.com/1/o"),
    ("OUTBOX_QUEUE_URL", "http://127.0.0.1:5000/1/o", "http://127.0.0.1:5000/1/o"),
    ("JOBS_QUEUE_URL", "https://sqs.eu-central-1.amazonaws.com/1/j", "https://sqs.eu-central-1.amazonaws.com/1/j"),
    ("WEB_CONCURRENCY", "1", 1),
    ("WEB_THREADS", "64", 64),
]


@pytest.mark.parametrize(("name", "raw", "value"), PARSED)
def test_a_setting_is_read(name: str, raw: str, value: Any) -> None:
    """A good value is taken as what it means, and sets nothing else."""
    made = {"DATABASE_URL": "sqlite:///x.sqlite3", "JWT_SECRETS": f"k:{SECRET}"}
    loaded = load_settings({**made, name: raw})
    assert getattr(loaded, name.lower()) == value
    others = set(DEFAULTS) - {name} - ({"OPENAI_MODELS"} if name == "OPENAI_MODEL" else set())
    assert {other: getattr(loaded, other.lower()) for other in others} == {other: DEFAULTS[other] for other in others}


def test_the_first_secret_stays_the_first() -> None:
    """The order of the secrets says which one signs."""
    loaded = load_settings({"JWT_SECRETS": f"z:{SECRET},a:{OTHER_SECRET}", "DATABASE_URL": "sqlite:///x.sqlite3"})
    assert list(loaded.jwt_secrets) == ["z", "a"]


def test_the_offered_model_is_the_only_one_unless_told() -> None:
    """A model alone is what may be asked for."""
    assert load_settings({"OPENAI_MODEL": "m"}).openai_models == ("m",)


OFFLINE = {
    "neither": ({}, True),
    "a key": ({"OPENAI_API_KEY": "sk"}, False),
    "an address": ({"OPENAI_BASE_URL": "http://localhost/v1"}, False),
    "both": ({"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "http://localhost/v1"}, False),
    "only a model": ({"OPENAI_MODEL": "m"}, True),
}


@pytest.mark.parametrize(("environ", "offline"), OFFLINE.values(), ids=OFFLINE)
def test_the_offline_engine_is_for_want_of_a_model(environ: dict[str, str], offline: bool) -> None:
    """A key or an address alone is a model."""
    assert load_settings(environ).offline is offline


NUMBERS = {
    "TOKEN_TTL_SECONDS": ("0", "86401"),
    "MAX_PROMPT_CHARS": ("0", "5242881"),
    "MAX_BODY_BYTES": ("1023", "5242881"),
    "MAX_OUTPUT_TOKENS": ("0", "1000001"),
    "REQUEST_DEADLINE_SECONDS": ("0", "901"),
    "JOB_DEADLINE_SECONDS": ("0", "3601"),
    "DAILY_TOKEN_BUDGET": ("0", "1000000000000"),
    "LOG_RETENTION_DAYS": ("0", "36501"),
    "WEB_CONCURRENCY": ("0", "1025"),
    "WEB_THREADS": ("0", "1025"),
}
NO_NUMBERS = (CANARY, "-1", "+5", "1.5", "1e3", "0x10", "5_000", "5 000", "\u0665", "\uff15", "9" * 5000, "nan")
REFUSED: list[tuple[str, str]] = [
    *((name, raw) for name, edges in NUMBERS.items() for raw in (*edges, *NO_NUMBERS)),
    *(
        ("DATABASE_URL", raw)
        for raw in (
            CANARY,
            f"mysql://u:{CANARY}@host/db",
            f"MONGODB://u:{CANARY}@host/db",
            f"http://u:{CANARY}@host",
            f"mongodb:{CANARY}",
            f"postgresql:{CANARY}",
            f"postgresql+psycopg://u:{CANARY}@host/db",
            f"sqlite://{CANARY}",
            "sqlite://",
            "sqlite:///",
            "sqlite:///:memory:",
            f"sqlite:///:memory:?{CANARY}",
        )
    ),
    ("DATA_DIR", f"/dev/null/{CANARY}"),
    *(
        ("OPENAI_API_KEY", raw)
        for raw in (f"{CANARY}\u2026", f"\u201c{CANARY}\u201d", f"{CANARY}\nx", f"{CANARY} {CANARY}", f"{CANARY}\udcff")
    ),
    *(
        ("OPENAI_BASE_URL", raw)
        for raw in (
            CANARY,
            f"ftp://{CANARY}/v1",
            f"//{CANARY}/v1",
            "https://",
            "https:///v1",
            f"https://{CANARY}/v1?key={CANARY}",
            f"https://{CANARY}/v1#x",
            f"https://[{CANARY}/v1",
            f"https://{CANARY}:99999/v1",
            f"https://{CANARY}:port/v1",
            f"https://{CANARY} {CANARY}/v1",
        )
    ),
    ("OPENAI_MODELS", CANARY),
    *(
        ("RATE_LIMIT", raw)
        for raw in (
            CANARY,
            "60",
            "0/minute",
            "-1/minute",
            "1.5/minute",
            "1000000000/minute",
            "60/fortnight",
            "60/5 minutes",
            "/minute",
            "60/minute,10/second",
            "\u0665/minute",
            "60/MINUTE",
        )
    ),
    *(
        ("JWT_SECRETS", raw)
        for raw in (
            CANARY,
            f"a:{CANARY}",
            "a:" + "x" * 31,
            "a:" + "é" * 15,
            f":{SECRET}",
            f"a b:{SECRET}",
            f"é:{SECRET}",
            f"{'k' * 65}:{SECRET}",
            f"a:{SECRET},b:{CANARY}",
            f"a:{SECRET},a:{OTHER_SECRET}",
            f"a:{SECRET},{OTHER_SECRET}",
            f"a:{SECRET}\udcff",
            ",",
        )
    ),
    *(
        (name, raw)
        for name in ("OUTBOX_QUEUE_URL", "JOBS_QUEUE_URL")
        for raw in (
            CANARY,
            f"sqs://{CANARY}/1/o",
            f"https://{CANARY}.example",
            f"https://u:{CANARY}@host/1/o",
            f"https://host/1/{CANARY}.fifo",
        )
    ),
    *(("SECRETS_ID", raw) for raw in (f"{CANARY} x", f"{CANARY}?", f"“{CANARY}”", f"{CANARY}\nx", "x" * 2049)),
    *(
        ("CORS_ORIGINS", raw)
        for raw in (
            CANARY,
            f"https://{CANARY}/",
            f"https://{CANARY}.example/path",
            f"ftp://{CANARY}",
            f"https://*.{CANARY}.example",
            f"https://{CANARY}:port",
            f"https://u@{CANARY}",
            f"https://a.example https://{CANARY}.example",
            "null",
            "https://",
        )
    ),
]


def refusal(environ: dict[str, str]) -> SettingsError:
    """The error that these settings are refused with."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return caught.value


def shown(value: str) -> str:
    return value if value.isascii() and value.isprintable() and len(value) < 60 else ascii(value)[:60]


@pytest.mark.parametrize(("name", "raw"), [pytest.param(*case, id=f"{case[0]}={shown(case[1])}") for case in REFUSED])
def test_a_bad_setting_is_named_and_not_shown(name: str, raw: str) -> None:
    """One line says which variable is wrong and how it should be; the value may be a secret and is not in it."""
    error = refusal({name: raw})
    assert error.name == name
    assert re.fullmatch(rf"{name}: [ -~]+", str(error))
    assert CANARY not in str(error)
    assert "codec" not in str(error), "a codec's words quote the character that it stumbled over"
    assert error.__suppress_context__ or error.__context__ is None


def test_a_model_that_is_not_offered_is_refused() -> None:
    """The default must be among the models that may be asked for."""
    assert refusal({"OPENAI_MODEL": CANARY, "OPENAI_MODELS": "a,b"}).name == "OPENAI_MODELS"
    assert CANARY not in str(refusal({"OPENAI_MODEL": CANARY, "OPENAI_MODELS": "a,b"}))


DRIVER_REFUSED = {
    "MongoDB, unclosed bracket": f"mongodb://user:{CANARY}@[",
    "MongoDB, unescaped password": f"mongodb://user:{CANARY}@x@host",
    "MongoDB, bad port": f"mongodb://user:{CANARY}@host:99999",
    "MongoDB, no host": "mongodb://",
    "PostgreSQL, bad port": f"postgresql://user:{CANARY}@host:port/db",
    "PostgreSQL, port out of range": f"postgresql://user:{CANARY}@host:99999/db",
    "PostgreSQL, unknown option": f"postgresql://user:{CANARY}@host/db?{CANARY}=1",
    "SQLite, bad option": f"sqlite:///x.sqlite3?timeout={CANARY}",
}


@pytest.mark.parametrize("url", DRIVER_REFUSED.values(), ids=DRIVER_REFUSED)
def test_an_address_that_the_driver_refuses_stops_the_start(url: str) -> None:
    """What only the driver knows to be wrong ends like any other bad setting, without the driver's words."""
    with pytest.raises(SystemExit) as stopped:
        create_app(load_settings({"DATABASE_URL": url}))
    assert re.fullmatch(r"klamala: DATABASE_URL: [ -~]+", str(stopped.value))
    assert CANARY not in str(stopped.value)


def test_the_embedded_database_is_its_owners_alone(tmp_path: Path) -> None:
    """Prompts cannot be read by others, also where the folder was there before; a second start leaves the mode."""
    tmp_path.chmod(0o755)
    for mode in (0o600, 0o640):
        load_settings({"DATA_DIR": str(tmp_path)})
        assert (tmp_path / "klamala.sqlite3").stat().st_mode & 0o777 == mode
        (tmp_path / "klamala.sqlite3").chmod(0o640)


# On Lambda nothing falls back silently.

ON_LAMBDA = {
    "AWS_LAMBDA_FUNCTION_NAME": "f",
    "DATABASE_URL": f"mongodb://u:{CANARY}@host/db",
    "OPENAI_API_KEY": f"sk-{CANARY}",
    "JWT_SECRETS": f"k:{SECRET}",
    "OUTBOX_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/outbox",
    "JOBS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs",
}
NO_FALLBACK = {
    "no database": ({"DATABASE_URL": ""}, "DATABASE_URL"),
    "embedded database": ({"DATABASE_URL": "sqlite:////tmp/x.sqlite3"}, "DATABASE_URL"),
    "no model": ({"OPENAI_API_KEY": ""}, "OPENAI_API_KEY"),
    "no secrets": ({"JWT_SECRETS": ""}, "JWT_SECRETS"),
    "blank secrets": ({"JWT_SECRETS": " , "}, "JWT_SECRETS"),
    "no outbox": ({"OUTBOX_QUEUE_URL": ""}, "OUTBOX_QUEUE_URL"),
    "no jobs": ({"JOBS_QUEUE_URL": ""}, "JOBS_QUEUE_URL"),
}


@pytest.mark.parametrize(("missing", "name"), NO_FALLBACK.values(), ids=NO_FALLBACK)
def test_on_lambda_a_fallback_stops_the_start(tmp_path: Path, missing: dict[str, str], name: str) -> None:
    """The embedded database, the offline engine and generated secrets are refused, and nothing is written."""
    error = refusal({**ON_LAMBDA, **missing})
    assert error.name == name
    assert CANARY not in str(error)
    assert not list(tmp_path.iterdir())


def test_on_lambda_full_settings_start(tmp_path: Path) -> None:
    """With everything set, and an address for a key too, the settings are taken, and nothing is written."""
    assert load_settings(ON_LAMBDA).on_lambda
    assert load_settings({**ON_LAMBDA, "OPENAI_API_KEY": "", "OPENAI_BASE_URL": "https://host/v1"}).on_lambda
    assert not list(tmp_path.iterdir())


# The generated secret.


def secret_file(folder: Path) -> Path:
    return folder / "jwt-secrets"


def test_the_generated_secret_is_private_and_stays(tmp_path: Path) -> None:
    """The secret is long, only its owner reads it, nothing else is left beside it, and the next start finds it."""
    folder = tmp_path / "a" / "b"
    first = load_settings({"DATA_DIR": str(folder)}).jwt_secrets
    file = secret_file(folder)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert GENERATED.fullmatch(file.read_text("utf-8"))
    assert file.stat().st_nlink == 1
    assert sorted(folder.iterdir()) == [file, folder / "klamala.sqlite3"]
    assert load_settings({"DATA_DIR": str(folder)}).jwt_secrets == first


def test_a_generated_secret_is_like_no_other(tmp_path: Path) -> None:
    """Two installations share nothing, and each secret passes the check that a given one must pass."""
    made = [load_settings({"DATA_DIR": str(tmp_path / name)}).jwt_secrets for name in "ab"]
    (first_kid, first), (second_kid, second) = (next(iter(each.items())) for each in made)
    assert first != second
    assert first_kid != second_kid
    assert load_settings({"JWT_SECRETS": f"{first_kid}:{first}"}).jwt_secrets == made[0]


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    """An open umask does not open the secret."""
    before = os.umask(0)
    try:
        load_settings({"DATA_DIR": str(tmp_path / "d")})
    finally:
        os.umask(before)
    assert stat.S_IMODE(secret_file(tmp_path / "d").stat().st_mode) == 0o600


def test_given_secrets_leave_no_file(tmp_path: Path) -> None:
    """Nothing is generated where secrets are set."""
    load_settings({"JWT_SECRETS": f"k:{SECRET}"})
    assert not secret_file(tmp_path / "data").exists()


def test_threads_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    """However many start together, one secret wins, and no draft of another is left."""
    count, rounds = 8, 40
    together = Barrier(count)

    def load(folder: Path) -> str:
        together.wait(TIMEOUT)
        return str(load_settings({"DATA_DIR": str(folder)}).jwt_secrets)

    with ThreadPoolExecutor(count) as pool:
        for folder in (tmp_path / str(number) for number in range(rounds)):
            assert len(set(pool.map(load, [folder] * count))) == 1
            assert sorted(folder.iterdir()) == [secret_file(folder), folder / "klamala.sqlite3"]


LOADING = "import sys; from settings import load_settings; sys.stdin.read(); print(load_settings().jwt_secrets)"


def run_environ(**environ: str) -> dict[str, str]:
    """A process's environment with these settings and nothing of the tests' own."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ}


def test_processes_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    """The same holds for processes: gunicorn's workers, or a service and a command."""
    environ = run_environ(DATA_DIR=str(tmp_path / "d"))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOADING],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in started:  # each waits for the end of its input, so that all go on together
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    outputs = {process.communicate(timeout=TIMEOUT)[0] for process in started}
    assert [process.returncode for process in started] == [0] * len(started)
    assert len(outputs) == 1
    assert sorted(file.name for file in (tmp_path / "d").iterdir()) == ["jwt-secrets", "klamala.sqlite3"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666], ids=oct)
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A secret that was laid open is not used any more, and not shown either."""
    folder = tmp_path / "d"
    load_settings({"DATA_DIR": str(folder)})
    file = secret_file(folder)
    file.chmod(mode)
    error = refusal({"DATA_DIR": str(folder)})
    assert error.name == "DATA_DIR"
    assert "0600" in str(error)
    assert file.read_text("utf-8").strip() not in str(error)


GARBAGE = {
    "nothing": b"",
    "blank": b" \n",
    "comma": b",",
    "text": CANARY.encode(),
    "short": f"k:{CANARY}".encode(),
    "no kid": f":{SECRET}".encode(),
    "no UTF-8": f"k:{SECRET}".encode() + b"\xff",
    "NULs": bytes(80),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_a_secret_file_with_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that holds no secret (one that lost its content in a power cut too) stops the start."""
    file = secret_file(tmp_path)
    write_private(file, "")
    file.write_bytes(content)
    error = refusal({"DATA_DIR": str(tmp_path)})
    assert error.name == "DATA_DIR"
    assert CANARY not in str(error)
    assert file.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file in the place of the folder is an error of DATA_DIR, in one line."""
    (tmp_path / CANARY).write_text("")
    error = refusal({"DATA_DIR": str(tmp_path / CANARY)})
    assert error.name == "DATA_DIR"
    assert CANARY not in str(error)


def test_a_private_file_is_never_overwritten(tmp_path: Path) -> None:
    """What is there already stays as it is."""
    file = tmp_path / "private"
    write_private(file, "first")
    with pytest.raises(FileExistsError):
        write_private(file, "second")
    assert file.read_text("utf-8") == "first"


# What settings show of themselves.


def test_settings_show_no_secret() -> None:
    """Neither a key, nor a secret, nor an address that may hold a password is in what a debugger or a log shows."""
    loaded = load_settings(
        {
            "DATABASE_URL": f"mongodb://u:{CANARY}@{CANARY}/db",
            "OPENAI_API_KEY": f"sk-{CANARY}",
            "JWT_SECRETS": f"kid-{CANARY}:{SECRET}",
        }
    )
    for text in (repr(loaded), str(loaded), f"{loaded}"):
        assert CANARY not in text
        assert "mongodb" not in text
    assert "openai_model='gpt-4.1'" in repr(loaded)


def test_a_password_in_the_models_address_is_not_shown() -> None:
    """An address with a password in it is refused, or at least not shown."""
    with suppress(SettingsError):
        loaded = load_settings({"OPENAI_BASE_URL": f"https://user:{CANARY}@host/v1"})
        assert CANARY not in repr(loaded)


# `.env`, and what a process says when a setting is bad.

PRINTING = "from settings import load_settings; s = load_settings(); print(s.token_ttl_seconds, s.jwt_issuer)"
DOTENV = "# a comment\nTOKEN_TTL_SECONDS=77\nJWT_ISSUER='from the file'\nOTHER=1\n"


def python(folder: Path, program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, with these settings in its environment and no others."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=run_environ(**environ),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


DOTENV_CASES = {
    "alone": ({}, "77 from the file"),
    "overridden": ({"TOKEN_TTL_SECONDS": "88"}, "88 from the file"),
    "overridden by nothing": ({"TOKEN_TTL_SECONDS": ""}, "3600 from the file"),
}


@pytest.mark.parametrize(("environ", "expected"), DOTENV_CASES.values(), ids=DOTENV_CASES)
def test_dotenv_is_read_below_the_environment(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    """`.env` of the working folder sets what the environment does not name."""
    (tmp_path / ".env").write_text(DOTENV)
    done = python(tmp_path, PRINTING, **environ)
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


def test_dotenv_is_not_looked_for_above(tmp_path: Path) -> None:
    """A `.env` of some folder above is another project's."""
    (tmp_path / ".env").write_text(DOTENV)
    (tmp_path / "below").mkdir()
    assert python(tmp_path / "below", PRINTING).stdout.strip() == "3600 klamala"


def test_dotenv_is_not_read_on_lambda(tmp_path: Path) -> None:
    """On Lambda only the environment counts."""
    (tmp_path / ".env").write_text(DOTENV)
    assert python(tmp_path, PRINTING, **ON_LAMBDA).stdout.strip() == "3600 klamala"


def test_a_bad_value_in_dotenv_is_refused_like_any_other(tmp_path: Path) -> None:
    """Where the value came from makes no difference."""
    (tmp_path / ".env").write_text(f"TOKEN_TTL_SECONDS={CANARY}\n")
    done = python(tmp_path, PRINTING)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].endswith("TOKEN_TTL_SECONDS: must be a whole number from 1 to 86400")
    assert CANARY not in done.stderr


def test_a_dotenv_that_is_no_utf8_is_refused_in_one_line(tmp_path: Path) -> None:
    """A file that PowerShell's `>` wrote in UTF-16 is named, and is no crash that shows its bytes."""
    (tmp_path / ".env").write_bytes(f"TOKEN_TTL_SECONDS={CANARY}\n".encode("utf-16"))
    done = python(tmp_path, "from app import create_app; create_app()")
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("klamala: .env: ")
    assert CANARY not in line


BAD_STARTS = {
    "no number": ("TOKEN_TTL_SECONDS", CANARY),
    "short secret": ("JWT_SECRETS", f"k:{CANARY}"),
    "unknown database": ("DATABASE_URL", f"mysql://u:{CANARY}@host/db"),
    "an address that only the driver refuses": ("DATABASE_URL", f"mongodb://u:{CANARY}@["),
    "no folder": ("DATA_DIR", f"/dev/null/{CANARY}"),
}
SERVERS = {
    "flask": ["flask", "--app", "app", "run", "--port", "0"],
    "gunicorn": ["gunicorn", "app:create_app()"],
}


@pytest.mark.parametrize(("name", "value"), BAD_STARTS.values(), ids=BAD_STARTS)
@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS)
def test_a_bad_setting_stops_the_server_with_one_line(
    tmp_path: Path, command: list[str], name: str, value: str
) -> None:
    """The operator sees one line that names the variable, without the value, and the process ends with an error."""
    environ = run_environ(PORT="0", **{"DATA_DIR": str(tmp_path), name: value})
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.terminate()
            output, errors = process.communicate(timeout=TIMEOUT)
            pytest.fail(f"it went on: {errors[:2000]}")
    assert process.returncode > 0
    assert output == ""
    (line,) = errors.splitlines()
    assert line.startswith(f"klamala: {name}: ")
    assert CANARY not in line


# What is written about them.

_EXAMPLE = re.compile(r"(?:# ?)?([A-Z][A-Z0-9_]*)=")


def test_the_example_explains_every_setting_and_no_other() -> None:
    """`.env.example` names each setting once, below a comment that explains it."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    matches = [(number, match) for number, line in enumerate(lines) if (match := _EXAMPLE.match(line))]
    names = [match[1] for _, match in matches]
    assert sorted(names) == sorted(VARIABLES)
    for number, match in matches:
        above = lines[number - 1]
        assert above.startswith("# "), f"nothing explains {match[1]}"


def test_the_example_changes_nothing_when_copied(tmp_path: Path) -> None:
    """A copy of the example as `.env` starts the service as if there were none."""
    (tmp_path / ".env").write_bytes((ROOT / ".env.example").read_bytes())
    show = "from settings import load_settings; print(load_settings())"
    copied = python(tmp_path, show)
    (tmp_path / ".env").unlink()
    assert copied.returncode == 0, copied.stderr
    assert copied.stdout == python(tmp_path, show).stdout
