"""Every command of the serverless framework leaves the project's own `wsgi_handler.py` as it is."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.artifacts import BOUND, ROOT, Build, copy_checkout, environment, serverless
from tests.harness import FIRST_SECRET
from tests.stores import sqlite_url

HANDLER = (ROOT / "wsgi_handler.py").read_bytes()
# What serverless-wsgi would write, and delete.
ITS_FILES = ("serverless_wsgi.py", ".serverless-wsgi")


@pytest.fixture
def checkout(packager: None, tmp_path: Path) -> Path:
    """A copy of the checkout."""
    return copy_checkout(tmp_path / "checkout")


def settings(folder: Path) -> dict[str, str]:
    """A start as on Lambda that reaches nothing: what these commands have for settings is this environment."""
    return {
        "DATA_DIR": str(folder / "data"),
        "DATABASE_URL": "mongodb://127.0.0.1:1/klamala?serverSelectionTimeoutMS=1",
        "JWT_SECRETS": f"k1:{FIRST_SECRET}",
        "OPENAI_API_KEY": "sk-test",
        "JOBS_QUEUE_URL": "http://127.0.0.1:1/1/jobs",
        "OUTBOX_QUEUE_URL": "http://127.0.0.1:1/1/outbox",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "PYTHONUNBUFFERED": "1",
    }


def assert_untouched(checkout: Path) -> None:
    assert (checkout / "wsgi_handler.py").read_bytes() == HANDLER
    assert not [name for name in ITS_FILES if (checkout / name).exists()]


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def serving(checkout: Path, ready: str, *command: str, **environ: str) -> Iterator[None]:
    """A command that serves, from the line that says so to the Ctrl-C that ends it."""
    process = subprocess.Popen(
        [checkout / "node_modules" / ".bin" / "serverless", *command],
        cwd=checkout,
        env=environment(**settings(checkout) | environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    try:
        shown = []
        for line in process.stdout:
            shown.append(line)
            if re.search(ready, line):
                break
        else:
            raise AssertionError("".join(shown))
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            # Whatever is left of the session holds the pipe: its end is the end of all.
            process.communicate(timeout=BOUND)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def health(port: int) -> bytes:
    with urllib.request.urlopen(f"http://localhost:{port}/health", timeout=BOUND) as answer:
        body: bytes = answer.read()
        return body


def test_packaging_leaves_the_handler(arm: Build) -> None:
    """It is in the artifact as it is in the checkout, where it still is afterwards."""
    assert_untouched(arm.checkout)


def test_the_local_gateway_serves_the_handler(checkout: Path) -> None:
    """`serverless offline` answers over HTTP from our handler, with this machine's settings."""
    port = free_port()
    ports = ("--httpPort", str(port), "--lambdaPort", str(free_port()))
    with serving(checkout, "Server ready", "offline", *ports):
        assert b'"ok"' in health(port)
        assert_untouched(checkout)
    assert_untouched(checkout)


def test_the_development_server_serves_the_app(checkout: Path) -> None:
    """`serverless wsgi serve` answers from `wsgi_handler.app`."""
    port = free_port()
    url = sqlite_url(checkout / "served.sqlite3")
    with serving(checkout, "Running on", "wsgi", "serve", "--port", str(port), DATABASE_URL=url):
        assert b'"ok"' in health(port)
    assert_untouched(checkout)


@pytest.mark.parametrize(
    "command",
    [
        ("wsgi", "install"),
        ("wsgi", "clean"),
        ("wsgi", "flask", "local", "--command", "strategies"),
    ],
    ids=" ".join,
)
def test_other_commands_leave_the_handler(checkout: Path, command: tuple[str, ...]) -> None:
    """Whether they do something here or are refused."""
    serverless(checkout, *command, **settings(checkout))
    assert_untouched(checkout)


def test_a_local_call_is_answered_by_the_handler(checkout: Path) -> None:
    """`serverless invoke local` calls our handler, not one of the plugin's."""
    called = ("invoke", "local", "--function", "api", "--data", '{"warmup": true}')
    done = serverless(checkout, *called, **settings(checkout))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "{}"
    assert_untouched(checkout)


def test_a_changed_plugin_stops_the_build(checkout: Path) -> None:
    """Where serverless-wsgi has no step of a name that ours replaces, nothing runs that could delete the handler."""
    plugin = checkout / "scripts" / "serverless-plugin.js"
    plugin.write_text(plugin.read_text("utf-8").replace('"packWsgiHandler"', '"anotherName"'), "utf-8")
    done = serverless(checkout, "package")
    assert done.returncode != 0
    assert "what happens to wsgi_handler.py?" in done.stdout + done.stderr
    assert_untouched(checkout)
