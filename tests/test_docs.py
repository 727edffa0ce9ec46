"""The documentation says what the code has: settings, fields, indexes, scopes, and links that lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from auth import SCOPES
from metrics import UNITS
from records import Client, Record
from settings import Settings
from stores import tables
from stores.documents import page_indexes

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


def rows(page: str, heading: str) -> Iterator[list[str]]:
    """The rows of the tables below a heading and above the next one, as cells."""
    text = (ROOT / page).read_text("utf-8").partition(f"{heading}\n")[2]
    section = re.split(r"^#+ ", text, flags=re.MULTILINE)[0]
    for line in section.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def sections(page: str, heading: str) -> list[str]:
    """The headings one level below a heading, without what marks them as code."""
    text = (ROOT / page).read_text("utf-8").partition(f"{heading}\n")[2]
    level = heading.partition(" ")[0]
    part = re.split(rf"^{level} ", text, flags=re.MULTILINE)[0]
    return [line.strip("` ") for line in re.findall(rf"^{level}# (.+)$", part, re.MULTILINE)]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_setting_is_documented_with_its_default() -> None:
    """`docs/settings.md` has a row for each setting, in the order of the code, and its default."""
    documented = {named(row[0])[0]: row[1] for row in rows("docs/settings.md", "# Settings") if named(row[0])}
    settings = {item.name.upper(): item.metadata["default"] for item in fields(Settings) if item.metadata}
    assert list(documented) == list(settings)
    for name, default in settings.items():
        if default:
            assert documented[name] == f"`{default}`", name


def test_every_field_of_a_record_is_documented() -> None:
    """`docs/data-model.md` names each field of a record and of a client, and no other."""
    documented = [name for row in rows("docs/data-model.md", "## `requests`") for name in named(row[0])]
    assert sorted(documented) == sorted(item.name for item in fields(Record))
    clients = [name for row in rows("docs/data-model.md", "## `clients`") for name in named(row[0])]
    assert sorted(clients) == sorted(item.name for item in fields(Client))


def test_every_index_is_documented() -> None:
    """`docs/data-model.md` names each index of the SQL tables and of MongoDB's collection."""
    table = list(rows("docs/data-model.md", "### Indexes"))
    assert {name for row in table for name in named(row[0])} == {str(index.name) for index in tables.requests.indexes}
    mongo = {"_id_", "idempotency", "overdue", "jobs", "retention", *page_indexes()}
    assert {name for row in table for name in named(row[1])} == mongo


def test_every_column_of_a_counter_is_documented() -> None:
    """`docs/data-model.md` names each of them, and both names of the index."""
    documented = [name for row in rows("docs/data-model.md", "## `counters`") for name in named(row[0])]
    assert sorted(documented) == sorted(column.name for column in tables.counters.columns)
    text = (ROOT / "docs" / "data-model.md").read_text("utf-8")
    section = text.partition("## `counters`\n")[2].partition("\n## ")[0]
    assert {str(index.name) for index in tables.counters.indexes} | {"expiry"} <= set(named(section))


def test_every_scope_is_documented() -> None:
    """`docs/security.md` has a row for each scope."""
    assert tuple(name for row in rows("docs/security.md", "## Who asks") for name in named(row[0])) == SCOPES


def test_every_metric_is_documented() -> None:
    """`docs/operations.md` has a row for each metric, in the order of the code, and its unit."""
    documented = {
        named(row[0])[0]: named(row[1])[0] for row in rows("docs/operations.md", "## Metrics") if named(row[0])
    }
    assert list(documented.items()) == list(UNITS.items())


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the project names one that is there."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
