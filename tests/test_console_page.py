"""`GET /` and its files, as HTTP; what a browser makes of them is in `tests/e2e/console`."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from blueprints.console import BUILT, console_blueprint
from tests.artifacts import environment
from tests.door import Door
from tests.events import Call, answered, http_api
from tests.harness import Harness
from tests.stores import ROOT
from tests.test_docs_page import Page

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types klamala"
)
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}
MOST_BYTES_GZIPPED = 150 * 1024
UNKNOWN = {
    "unknown": "/console/nothing.js",
    "the page's own source": "/console/index.html",
    "a name of another build": "/console/main-AAAAAAAA.js",
    "no name": "/console/",
    "parent": "/console/../app.py",
    "parent, encoded": "/console/..%2fbuild.mjs",
    "absolute, encoded": "/console/%2fetc%2fpasswd",
    "a module's source": "/console/src/main.js",
    "what the build notes for itself": "/console/packages.json",
    "NUL": "/console/main.js%00",
}
needs_build = pytest.mark.skipif(
    not (BUILT / "index.html").exists(), reason="the console is not built: `make console` does it"
)


@pytest.fixture
def page(harness: Harness) -> Page:
    return Page(harness.http.get("/").text)


@pytest.fixture
def unbuilt(tmp_path: Path) -> FlaskClient:
    """An app where nothing is built."""
    app = Flask(__name__)
    app.register_blueprint(console_blueprint(tmp_path / "dist"))
    return app.test_client()


def names() -> list[str]:
    """What the build has made for browsers, beside the page."""
    return sorted(path.name for path in BUILT.iterdir() if path.suffix in TYPES)


def test_the_page_and_its_headers(harness: Harness) -> None:
    """The page is HTML under exactly the strict policy, and nobody keeps it: its files' names are its own."""
    answer = harness.http.get("/")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers.getlist("Content-Security-Policy") == [POLICY]
    assert answer.headers.getlist("Cache-Control") == ["no-store"]


@needs_build
def test_the_page_refers_to_its_files_relatively(page: Page) -> None:
    """Each file that it names is built, each reference goes on from where the page is, and nothing stands inline."""
    files = {reference for reference in page.references if reference.startswith("console/")}
    assert files < {f"console/{name}" for name in names()}
    assert set(page.references) - files == {"docs"}
    assert page.inline == []
    assert page.attributes["html"] == {"lang": "en"}
    assert {"title", "noscript"} <= set(page.attributes)


@needs_build
def test_a_file_is_kept_for_good(harness: Harness) -> None:
    """Its name says what is in it, so that nobody asks for it twice; who does all the same gets 304."""
    assert [re.sub(r"-[A-Z0-9]{8}\.", "-HASH.", name) for name in names()] == [
        "comparing-worker-HASH.js",
        "icon-HASH.svg",
        "main-HASH.js",
        "style-HASH.css",
    ]
    for name in names():
        answer = harness.http.get(f"/console/{name}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, TYPES[Path(name).suffix])
        assert answer.headers.getlist("Cache-Control") == ["public, max-age=31536000, immutable"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        # A worker has no policy but that of its own file.
        assert answer.headers["Content-Security-Policy"] == POLICY
        again = harness.http.get(f"/console/{name}", headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")


@needs_build
def test_the_page_is_small(harness: Harness) -> None:
    """All that a browser loads is at most 150 KB, compressed."""
    loaded = [harness.http.get("/").data, *(harness.http.get(f"/console/{name}").data for name in names())]
    assert sum(len(gzip.compress(data)) for data in loaded) <= MOST_BYTES_GZIPPED


def test_no_script_parses_markup() -> None:
    """Nothing in our modules takes text for markup, or runs it, or keeps it in the browser."""
    sources = sorted((ROOT / "console" / "src").rglob("*.js"))
    assert sources
    for source in sources:
        forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|Storage\b|\.cookie"
        assert not re.findall(forbidden, source.read_text("utf-8")), source.name


@pytest.mark.parametrize("path", UNKNOWN.values(), ids=UNKNOWN)
def test_nothing_else_is_served(harness: Harness, path: str) -> None:
    """A name that is not the page's is a problem document, whatever lies on the disk."""
    answer = harness.http.get(path)
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_without_a_build_the_page_says_what_is_missing(unbuilt: FlaskClient) -> None:
    """It names the command, and leads to the API, which works."""
    answer = unbuilt.get("/")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert "make console" in answer.text
    assert "Node.js" in answer.text
    assert Page(answer.text).references == ["docs"]
    assert Page(answer.text).inline == []


def test_a_stage_without_its_slash_is_redirected(opened: Door) -> None:
    """The page's addresses go on from where it is: `/dev` would lead them beside the stage, `/dev/` into it."""
    handler = opened.module.handler
    away = answered(handler(http_api(Call(path=""), "dev"), None))
    assert (away.status, away.headers["Location"]) == (308, f"https://{Call().domain}/dev/")
    there = answered(handler(http_api(Call(path="/"), "dev"), None))
    assert (there.status, there.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


def test_the_modules() -> None:
    """The modules that need no browser pass their own tests."""
    node = shutil.which("node", path=environment()["PATH"])
    if not node or not (ROOT / "console" / "node_modules" / "diff").exists():
        pytest.skip("no Node.js or npm packages here: `make test` sets them up")
    tests = [str(path) for path in sorted((ROOT / "console" / "test").glob("*.test.js"))]
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", *tests],
        cwd=ROOT / "console",
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed, json.dumps(done.stdout)
    assert int(passed[1]) > 0
