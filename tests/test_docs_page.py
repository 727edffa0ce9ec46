"""`GET /docs` and its files, as HTTP and as text; what a browser makes of them is in `tests/e2e/test_docs_page.py`."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from tests.harness import Harness

SOURCES = Path(__file__).parents[1] / "pages" / "docs"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES = {
    "docs/favicon-32x32.png": "image/png",
    "docs/init.js": "text/javascript; charset=utf-8",
    "docs/page.css": "text/css; charset=utf-8",
    "docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "docs/swagger-ui.css": "text/css; charset=utf-8",
}
UNKNOWN = {
    "unknown": "/docs/nothing.js",
    "not served": "/docs/swagger-ui-standalone-preset.js",
    "the page's source": "/docs/index.html",
    "no name": "/docs/",
    "parent": "/docs/../app.py",
    "parent, encoded": "/docs/..%2fapp.py",
    "parent, encoded twice": "/docs/..%252fapp.py",
    "parent, backslash": "/docs/..%5capp.py",
    "absolute": "/docs//etc/passwd",
    "absolute, encoded": "/docs/%2fetc%2fpasswd",
    "NUL": "/docs/init.js%00",
}
files = pytest.mark.parametrize("path", FILES)


class Page(HTMLParser):
    """What a page refers to, and what stands in it that its policy would refuse."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.inline: list[str] = []
        self.attributes: dict[str, dict[str, str | None]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = self.attributes[tag] = dict(attrs)
        self.references += [value or "" for name, value in attrs if name in ("href", "src")]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        if tag in ("style", "base") or (tag == "script" and "src" not in attributes):
            self.inline.append(tag)


@pytest.fixture
def page(harness: Harness) -> Page:
    return Page(harness.http.get("/docs").text)


def test_the_page_and_its_headers(harness: Harness) -> None:
    """The page is HTML under exactly the strict policy, and nobody keeps it."""
    answer = harness.http.get("/docs")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers.getlist("Content-Security-Policy") == [POLICY]
    assert answer.headers.getlist("Cache-Control") == ["no-store"]


def test_the_page_names_its_language_title_and_viewport(page: Page) -> None:
    """Screen readers, tabs and telephones are told what they need, and a browser without scripts where to go."""
    assert page.attributes["html"] == {"lang": "en"}
    assert page.attributes["meta"] == {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert {"title", "noscript"} <= set(page.attributes)


def test_the_page_refers_to_its_files_and_the_document_relatively(harness: Harness, page: Page) -> None:
    """Behind any prefix, each reference leads to a file of the page's own or to the document."""
    assert set(page.references) == {*FILES, "openapi.json"}
    for prefix in ("", "/stage"):
        resolved = {urljoin(f"https://api.example{prefix}/docs", each) for each in page.references}
        assert {urlsplit(each).path for each in resolved} == {f"{prefix}/{each}" for each in page.references}


@files
def test_a_file_may_be_kept(harness: Harness, path: str) -> None:
    """Each file has its type, may be kept by everybody for an hour, and carries the other headers of every answer."""
    answer = harness.http.get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, FILES[path])
    assert answer.headers.getlist("Cache-Control") == ["public, max-age=3600"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert len(answer.data) == int(answer.headers["Content-Length"]) > 0
    assert answer.get_etag() != (None, None)


@files
def test_a_file_is_sent_once(harness: Harness, path: str) -> None:
    """Who has the file gets 304 without it, and who has another gets it."""
    tag = harness.http.get(path).headers["ETag"]
    kept = harness.http.get(path, headers={"If-None-Match": tag})
    assert (kept.status_code, kept.data, kept.headers["ETag"]) == (304, b"", tag)
    assert kept.headers.getlist("Cache-Control") == ["public, max-age=3600"]
    assert harness.http.get(path, headers={"If-None-Match": '"another"'}).status_code == 200


@pytest.mark.parametrize("path", ["docs", *FILES])
def test_head_says_what_get_would(harness: Harness, path: str) -> None:
    """HEAD has the headers of GET and no body."""
    got, headed = harness.http.get(path), harness.http.head(path)
    assert (headed.status_code, headed.data) == (200, b"")
    assert {**headed.headers, "X-Request-Id": ""} == {**got.headers, "X-Request-Id": ""}


@pytest.mark.parametrize("path", UNKNOWN.values(), ids=UNKNOWN)
def test_nothing_else_is_served(harness: Harness, path: str) -> None:
    """A name that is not the page's is a problem document, which nobody keeps, whatever lies on the disk."""
    answer = harness.http.get(path)
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
    assert answer.get_json()["type"] == "/problems/not-found"
    assert answer.headers.getlist("Cache-Control") == ["no-store"]


@pytest.mark.parametrize("path", ["docs", "docs/init.js"])
def test_the_page_is_read_only(harness: Harness, path: str) -> None:
    """Another method is refused."""
    assert harness.http.post(path).status_code == 405


def test_nothing_is_inline(page: Page) -> None:
    """No script, no style and no handler stands in the page itself, nor a base that would bend its references."""
    assert page.inline == []


def test_no_other_host_is_named() -> None:
    """None of our sources has an absolute address, with a scheme or without."""
    sources = sorted(SOURCES.iterdir())
    assert [source.name for source in sources] == ["index.html", "init.js", "page.css"]
    for source in sources:
        assert not re.findall(r"[a-z]+://|[\"'(=]\s*/", source.read_text("utf-8")), source.name
