"""The browser of the tests: a Chromium that comes with the console's npm packages."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright

from tests.artifacts import environment
from tests.stores import ROOT

CONSOLE = ROOT / "console"
SWITCHES = (
    # A container's root may not have the sandbox, and its /dev/shm is small.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    # Whatever the browser itself may want of the world.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
BOUND_MILLISECONDS = 60_000

expect.set_options(timeout=BOUND_MILLISECONDS)


def no_browser() -> str | None:
    """Why no page can be opened here, if so."""
    if not (platform.system() == "Linux" and platform.machine() == "x86_64"):
        return "the browser of the tests is for Linux on x86_64"
    if not (CONSOLE / "node_modules" / "@sparticuz").exists():
        return "the console's npm packages are not installed: `make test` does it"
    if not shutil.which("node", path=environment()["PATH"]):
        return "no Node.js here: `make test` sets it up"
    if not (CONSOLE / "dist" / "index.html").exists():
        return "the console is not built: `make console` does it"
    return None


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser."""
    unpacked = json.loads(subprocess.check_output(["node", CONSOLE / "browser.mjs"], env=environment()))
    libraries = os.pathsep.join(filter(None, (unpacked["libraries"], os.environ.get("LD_LIBRARY_PATH"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=unpacked["executable"],
            args=list(SWITCHES),
            env={"FONTCONFIG_FILE": unpacked["fonts"], **os.environ, "LD_LIBRARY_PATH": libraries},
        )
        yield browser
        browser.close()
