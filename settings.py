"""Every setting: its name, default and check. Read once at start-up.

They come from the environment, off Lambda from `.env` too, and from the secret that `SECRETS_ID` names.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rates import Rate, parse_rate
from secret_settings import SecretError, read_secret

DATABASE_SCHEMES = ("mongodb", "mongodb+srv", "sqlite", "postgresql", "postgres")
MIN_SECRET_BYTES = 32
MAX_TOKEN_TTL_SECONDS = 86_400
# A record holds draft, refined prompt and a rejected one; a MongoDB document ends at 16 MB.
MAX_BODY_BYTES_LIMIT = 5 * 1024 * 1024


class SettingsError(Exception):
    """A setting is missing or wrong. The message names the variable and what is wrong with it, never its value."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name


def _api_key(raw: str) -> str | None:
    if raw and not re.fullmatch(r"[\x21-\x7e]+", raw):
        raise ValueError("must be visible ASCII characters, without spaces")
    return raw or None


def _integer(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", raw) or not lowest <= int(raw) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(raw)

    return parse


def _optional_integer(lowest: int, highest: int) -> Callable[[str], int | None]:
    parse = _integer(lowest, highest)
    return lambda raw: parse(raw) if raw else None


def _list(raw: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in raw.split(",") if item.strip())


def _database_url(raw: str) -> str:
    if not raw:
        return raw
    scheme, separator, rest = raw.partition("://")
    if not separator or scheme not in DATABASE_SCHEMES:
        raise ValueError("must begin with " + ", ".join(f"{name}://" for name in DATABASE_SCHEMES))
    if scheme == "sqlite" and (not rest.startswith("/") or rest == "/" or ":memory:" in rest):
        raise ValueError("must name a file: sqlite:///relative/path or sqlite:////absolute/path")
    return raw


def _base_url(raw: str) -> str | None:
    if not raw:
        return None
    try:
        url = urlsplit(raw)
        address = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        address = False
    if not address or not raw.isascii() or re.search(r"[\s?#@]", raw):
        raise ValueError("must be an http or https URL such as https://host/v1, without a user, query or fragment")
    return raw.rstrip("/")


def _queue_url(raw: str) -> str | None:
    if raw and not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[A-Za-z0-9/_-]+", raw):
        # A FIFO queue, whose name ends in `.fifo`, would need an order that completions do not have.
        raise ValueError("must be the URL of a standard SQS queue: https://sqs.eu-central-1.amazonaws.com/1234/name")
    return raw or None


def _secret_id(raw: str) -> str | None:
    # https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
    if raw and not re.fullmatch(r"[A-Za-z0-9/_+=.@:-]{1,2048}", raw):
        raise ValueError("must be the name or the ARN of a secret in AWS Secrets Manager")
    return raw or None


def _origins(raw: str) -> tuple[str, ...]:
    origins = _list(raw)
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", origin):
            raise ValueError("must be origins such as https://app.example.com, comma-separated, or *")
    return origins


def _jwt_secrets(raw: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    if raw and not _list(raw):
        raise ValueError("must be kid:secret pairs, comma-separated")
    for item in _list(raw):
        kid, separator, secret = item.partition(":")
        if not separator or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", kid):
            raise ValueError("must be kid:secret pairs, comma-separated")
        if kid in pairs:
            raise ValueError("names a kid twice")
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"each secret must have at least {MIN_SECRET_BYTES} bytes")
        pairs[kid] = secret
    return pairs


def _setting(parse: Callable[[str], Any], default: str = "", *, secret: bool = False, empty: bool = False) -> Any:
    return field(repr=not secret, metadata={"parse": parse, "default": default, "empty": empty})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the service was told. A field's name in upper case is the environment variable; `.env.example` explains it.

    Sizes are in bytes or characters as named, times in seconds, `log_retention_days` is `None` to keep records.
    """

    database_url: str = _setting(_database_url, secret=True)
    data_dir: Path = _setting(Path, "./data")
    openai_api_key: str | None = _setting(_api_key, secret=True)
    openai_base_url: str | None = _setting(_base_url)
    openai_model: str = _setting(str, "gpt-4.1")
    openai_models: tuple[str, ...] = _setting(_list)
    jwt_secrets: Mapping[str, str] = _setting(_jwt_secrets, secret=True)
    jwt_issuer: str = _setting(str, "klamala")
    jwt_audience: str = _setting(str, "klamala")
    token_ttl_seconds: int = _setting(_integer(1, MAX_TOKEN_TTL_SECONDS), "3600")
    cors_origins: tuple[str, ...] = _setting(_origins)
    max_prompt_chars: int = _setting(_integer(1, MAX_BODY_BYTES_LIMIT), "100000")
    max_body_bytes: int = _setting(_integer(1024, MAX_BODY_BYTES_LIMIT), str(1024 * 1024))
    max_output_tokens: int = _setting(_integer(1, 1_000_000), "4096")
    request_deadline_seconds: int = _setting(_integer(1, 900), "25")
    job_deadline_seconds: int = _setting(_integer(1, 3600), "300")
    rate_limit: Rate | None = _setting(parse_rate, "60/minute", empty=True)
    daily_token_budget: int | None = _setting(_optional_integer(1, 10**12 - 1))
    log_retention_days: int | None = _setting(_optional_integer(1, 36_500))
    outbox_queue_url: str | None = _setting(_queue_url)
    jobs_queue_url: str | None = _setting(_queue_url)
    secrets_id: str | None = _setting(_secret_id)
    web_concurrency: int = _setting(_integer(1, 1024), "2")
    web_threads: int = _setting(_integer(1, 1024), "32")
    # On AWS Lambda alone.
    function_name: str | None = None

    @property
    def on_lambda(self) -> bool:
        """Nothing falls back silently there, and a process stands still between calls."""
        return self.function_name is not None

    @property
    def offline(self) -> bool:
        """Neither a key nor an address of a model is set: the built-in rules refine."""
        return self.openai_api_key is None and self.openai_base_url is None


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check every setting; an empty variable counts as not set, but for those to which empty means none.

    Without `environ`, the process's environment over the working folder's `.env`. What neither sets, a secret may.

    Raises: `SettingsError` for the first that is wrong.
    """
    source = _with_secret(_environment() if environ is None else environ)
    values = {item.name: _parse(item, source) for item in fields(Settings) if item.metadata}
    values["function_name"] = source.get("AWS_LAMBDA_FUNCTION_NAME") or None
    values["openai_models"] = _offered_models(values["openai_model"], values["openai_models"])
    return Settings(**(_refuse_fallbacks(values) if values["function_name"] else _fill_fallbacks(values)))


def _environment() -> Mapping[str, str]:
    if os.environ.get("AWS_LAMBDA_FUNCTION_NAME"):
        return os.environ
    from dotenv import dotenv_values

    try:
        file = dotenv_values(Path(".env"))
    except ValueError:
        raise SettingsError(".env", "is not text in UTF-8") from None
    return {name: value or "" for name, value in {**file, **os.environ}.items()}


def _with_secret(source: Mapping[str, str]) -> Mapping[str, str]:
    """What is set in the source counts, as an operator who sets a variable expects; the secret fills the rest."""
    items = _by_variable()
    secret_id = _parse(items["SECRETS_ID"], source)
    if not secret_id:
        return source
    try:
        secret = read_secret(secret_id, in_a_secret())
    except SecretError as error:
        raise SettingsError("SECRETS_ID", str(error)) from None
    return {**source, **{name: value for name, value in secret.items() if not _is_set(items[name], source)}}


def in_a_secret() -> set[str]:
    """The settings that a secret may hold, as variables."""
    return {*_by_variable()} - {"SECRETS_ID"}


def _by_variable() -> dict[str, Field[Any]]:
    return {item.name.upper(): item for item in fields(Settings) if item.metadata}


def _is_set(item: Field[Any], source: Mapping[str, str]) -> bool:
    name = item.name.upper()
    return bool(source.get(name, "").strip()) or (item.metadata["empty"] and name in source)


def _parse(item: Field[Any], source: Mapping[str, str]) -> Any:
    name = item.name.upper()
    raw = source.get(name, "").strip() if _is_set(item, source) else item.metadata["default"]
    if any("\ud800" <= character <= "\udfff" for character in raw):
        raise SettingsError(name, "is not text in UTF-8")
    try:
        return item.metadata["parse"](raw)
    except ValueError as error:
        # Only our own parsers run here, and none of them puts the value into its message.
        raise SettingsError(name, str(error)) from None


def _offered_models(default: str, offered: tuple[str, ...]) -> tuple[str, ...]:
    if offered and default not in offered:
        raise SettingsError("OPENAI_MODELS", "must contain OPENAI_MODEL")
    return offered or (default,)


def _refuse_fallbacks(values: dict[str, Any]) -> dict[str, Any]:
    if not values["database_url"] or values["database_url"].startswith("sqlite"):
        raise SettingsError("DATABASE_URL", "must name a database server on AWS Lambda, whose disk is not kept")
    if values["openai_api_key"] is None and values["openai_base_url"] is None:
        raise SettingsError("OPENAI_API_KEY", "must be set on AWS Lambda (or OPENAI_BASE_URL)")
    for name in ("JWT_SECRETS", "OUTBOX_QUEUE_URL", "JOBS_QUEUE_URL"):
        if not values[name.lower()]:
            raise SettingsError(name, "must be set on AWS Lambda")
    return values


def _fill_fallbacks(values: dict[str, Any]) -> dict[str, Any]:
    folder: Path = values["data_dir"]
    if values["database_url"] and values["jwt_secrets"]:
        return values
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not values["jwt_secrets"]:
            values["jwt_secrets"] = _generated_secret(folder / "jwt-secrets")
        if not values["database_url"]:
            values["database_url"] = f"sqlite:///{_private_file(folder / 'klamala.sqlite3')}"
    except OSError as error:
        raise SettingsError("DATA_DIR", f"cannot be used: {error.strerror}") from None
    return values


def _private_file(path: Path) -> Path:
    """An empty file is an empty database; SQLite gives its log the same mode. The prompts in it are nobody else's."""
    path.touch(mode=0o600)
    return path.resolve()


def _generated_secret(path: Path) -> dict[str, str]:
    """Read the secret made at the first start, or make it: one file wins where several processes start at once."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        write_private(draft, f"{secrets.token_hex(4)}:{secrets.token_urlsafe(48)}\n")
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SettingsError("DATA_DIR", f"{path.name} can be read by others: its mode must be 0600")
    try:
        pairs = _jwt_secrets(path.read_text("utf-8").strip())
    except ValueError:
        pairs = {}
    if not pairs:
        raise SettingsError("DATA_DIR", f"{path.name} does not hold a kid:secret pair")
    return pairs


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner can read. Raises: `FileExistsError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
