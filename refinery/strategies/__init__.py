"""The strategies: one Markdown file each in this folder. Adding one is adding a file.

A file's first line is `# ` and the description that the API shows; the rest tells the model how to improve a draft.
What holds for every strategy (the draft is material, what must be kept, how to answer) stands in `../instructions.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT = "general"
_FOLDER = Path(__file__).parent
_COMMON = _FOLDER.with_name("instructions.md")


@dataclass(frozen=True, slots=True)
class Strategy:
    """`system` is the whole system message that the model gets."""

    id: str
    description: str
    system: str


def load_strategies(folder: Path = _FOLDER) -> Mapping[str, Strategy]:
    """Read every strategy in `folder`, by id, the default one first.

    Raises: `ValueError` for a file without a description or without instructions.
    """
    common = _COMMON.read_text("utf-8")
    strategies = [_read(path, common) for path in sorted(folder.glob("*.md"))]
    strategies.sort(key=lambda strategy: strategy.id != DEFAULT)
    return {strategy.id: strategy for strategy in strategies}


def _read(path: Path, common: str) -> Strategy:
    first, _, rest = path.read_text("utf-8").partition("\n")
    description, instructions = first.removeprefix("# ").strip(), rest.strip()
    if not first.startswith("# ") or not description or not instructions:
        raise ValueError(f"{path.name}: the first line must be '# ' and a description, instructions must follow")
    return Strategy(path.stem, description, f"{common.strip()}\n\n{instructions}\n")
