"""`make run`: serve with gunicorn, and show how to ask."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from clients import InvalidClient, authenticate, parse_api_key, register
from settings import Settings, SettingsError, load_settings, write_private
from storage import Storage, open_storage

KEY_FILE = "local-client-key"
LOCAL_SCOPES = ("refine", "generate", "log:write", "log:read")


def main() -> None:
    try:
        settings = load_settings()
    except SettingsError as error:
        raise SystemExit(f"klamala: {error}") from None
    host, port = os.environ.get("HOST", "127.0.0.1"), os.environ.get("PORT", "8000")
    print(_introduction(settings, f"http://{host}:{port}"), flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "app:create_app()"])  # noqa: S606 - no shell is meant


def _introduction(settings: Settings, url: str) -> str:
    engine = "the built-in rules, no model" if settings.offline else f"the model {settings.openai_model}"
    if settings.database_url.startswith("sqlite"):
        file = shlex.quote(str(local_key(settings).resolve()))
        key, whose = f'"X-API-Key: $(cat {file})"', f"the API key in {file}"
    else:
        key, whose = '"X-API-Key: $API_KEY"', "a client's API key"
    lines = [
        f"klamala serves on {url}, refining with {engine}. Open it in a browser, and sign in with {whose}.",
        "Or paste this into another terminal:",
        "",
        f"TOKEN=$(curl -s {url}/token -H {key} -d grant_type=client_credentials \\",
        "  | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"access_token\"])')",
        "",
        f'curl -s {url}/refine -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\',
        '  -d \'{"prompt": "hey can you write a mail to {{name}} about the delay??"}\'',
        "",
    ]
    if "$API_KEY" in key:
        hint = '$API_KEY is a client\'s key: .venv/bin/flask clients create NAME --scope "refine"'
        lines.insert(2, hint)
    return "\n".join(lines)


def local_key(settings: Settings) -> Path:
    """The file with the local client's API key, readable by its owner alone; client and file are made if missing."""
    path = settings.data_dir / KEY_FILE
    storage = open_storage(settings.database_url)
    try:
        if not _works(storage, path):
            path.unlink(missing_ok=True)
            write_private(path, register(storage, "local", LOCAL_SCOPES).api_key)
    finally:
        storage.close()
    return path


def _works(storage: Storage, path: Path) -> bool:
    if not path.exists():
        return False
    try:
        authenticate(storage, *parse_api_key(path.read_text("utf-8").strip()))
    except InvalidClient:
        return False
    return True


if __name__ == "__main__":
    main()
