"""Imports of packages whose `__init__` imports hundreds of modules that a service never names.

`openai.types` is one: it defines every object of OpenAI's API as a pydantic model, and takes most of the time and the
memory that `import openai` takes (docs/performance.md has the figures).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from threading import RLock
from types import ModuleType
from typing import Any

_lock = RLock()


def defer(package: str) -> None:
    """From now on, the `__init__` of a package, and of each package below, does not run when it is imported.

    It runs when a name is looked up that the package does not have yet, as PEP 562 lets a module do it: whoever uses
    the package sees no difference. Modules in it are imported as ever. One below must need no name of the one above at
    its own import: the other way round is how they are written, and both at once would be a circle.
    """
    # It stays: to take one away while another thread imports would make that thread miss the finder behind it.
    sys.meta_path.insert(0, _Finder(package))


class _Finder:
    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._package and not name.startswith(f"{self._package}."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.submodule_search_locations is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        run = super().exec_module
        names = vars(module)
        waiting = True

        def __getattr__(name: str) -> Any:  # noqa: N807
            nonlocal waiting
            # The import system asks for some of its own that a package need not have.
            if name.startswith("__"):
                raise AttributeError(name)
            # Other threads wait for the names; this one may come by again from within.
            with _lock:
                if waiting:
                    waiting = False
                    run(module)
            if name not in names:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return names[name]

        names["__getattr__"] = __getattr__
