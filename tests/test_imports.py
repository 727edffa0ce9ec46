"""The import rule: who may know whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up: a part imports parts of lower rows, and of its own row only itself.
LAYERS = (
    {"rates", "secret_settings", "metrics"},
    {"settings", "counters", "logs", "refinery", "records", "terminal", "lambda_events"},
    {"storage", "schemas"},
    {"stores", "clients"},
    {"auth"},
    {"problems"},
    {"calls"},
    {"edge"},
    {"openapi"},
    {"blueprints", "commands"},
    {"cli", "background"},
    {"app"},
    {"wsgi_handler"},
)
RANK = {part: rank for rank, row in enumerate(LAYERS) for part in row}
WITHOUT_FLASK = {
    "rates",
    "metrics",
    "counters",
    "refinery",
    "settings",
    "records",
    "secret_settings",
    "schemas",
    "storage",
    "stores",
    "clients",
    "terminal",
    "commands",
}


def _modules() -> Iterator[tuple[str, Path]]:
    for part in RANK:
        single = ROOT / f"{part}.py"
        for path in [single] if single.exists() else sorted((ROOT / part).rglob("*.py")):
            yield part, path


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


MODULES = [pytest.param(part, path, id=str(path.relative_to(ROOT))) for part, path in _modules()]


@pytest.mark.parametrize(("part", "path"), MODULES)
def test_imports_point_one_way(part: str, path: Path) -> None:
    """A module imports only parts below its own; `storage` alone reaches up, to open the store that a URL names."""
    upward = {name for name in _imports(path) if name in RANK and name != part and RANK[name] >= RANK[part]}
    assert upward <= ({"stores"} if part == "storage" else set())


@pytest.mark.parametrize(("part", "path"), MODULES)
def test_only_the_edge_knows_flask_and_only_the_engine_openai(part: str, path: Path) -> None:
    """The refinery, the stores and the settings do not import Flask, and one module imports `openai`."""
    imported = _imports(path)
    assert not (part in WITHOUT_FLASK and imported & {"flask", "werkzeug"})
    assert "openai" not in imported or path.name == "openai_engine.py"
