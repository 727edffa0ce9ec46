"""What `scripts.artifact` makes of an archive, on small ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from scripts.artifact import finish, is_needed, runtime_python

ROOT = Path(__file__).parents[1]
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"


def archive(path: Path, *names: str) -> Path:
    """An archive of small modules, in the order of their names as given."""
    with ZipFile(path, "w") as made:
        for name in names:
            made.writestr(name, f"NAMES = {{'a', 'b', {name!r}}}\n")
    return path


def program(folder: Path, name: str, text: str) -> Path:
    """An executable that prints a text, whatever it is asked."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho {text}\n")
    path.chmod(0o755)
    return path


def test_equal_content_makes_an_equal_archive(tmp_path: Path) -> None:
    """Order, dates and folders of what came in make no difference, with bytecode too."""
    (tmp_path / "elsewhere").mkdir()
    first = archive(tmp_path / "first.zip", "a.py", "b/c.py")
    second = archive(tmp_path / "elsewhere" / "second.zip", "b/c.py", "a.py")
    for path in (first, second):
        assert finish(path, THIS, os.environ)
    assert first.read_bytes() == second.read_bytes()
    with ZipFile(first) as made:
        tag = sys.implementation.cache_tag
        assert made.namelist() == [f"__pycache__/a.{tag}.pyc", "a.py", f"b/__pycache__/c.{tag}.pyc", "b/c.py"]
        assert all(entry.external_attr >> 16 == 0o100644 for entry in made.infolist())
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["elsewhere"]


def test_a_module_that_cannot_be_compiled_stops_the_build(tmp_path: Path) -> None:
    """It would fail at its import, on Lambda."""
    path = tmp_path / "broken.zip"
    with ZipFile(path, "w") as made:
        made.writestr("broken.py", "def")
    with pytest.raises(SystemExit, match="cannot be compiled"):
        finish(path, THIS, os.environ)


def test_without_the_runtimes_python_there_is_a_warning(tmp_path: Path) -> None:
    """The archive is finished without bytecode, and the last line says what that costs and how to mend it."""
    path = archive(tmp_path / "small.zip", "a.py", "bin/flask")
    environ = {"PATH": os.defpath, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "scripts.artifact", path, "3.99"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    with ZipFile(path) as made:
        assert made.namelist() == ["a.py"]
    assert done.stdout.startswith("small.zip: ")
    assert "1 files, no bytecode" in done.stdout
    assert done.stderr.startswith("warning: no Python 3.99 here")
    assert "LAMBDA_PYTHON" in done.stderr


def test_the_runtimes_python_is_looked_for(tmp_path: Path) -> None:
    """The one that is named comes first, then this one, the path's, and pyenv's; a shim without a version is none."""
    shims, homes = tmp_path / "shims", tmp_path / "home"
    place = homes / ".pyenv" / "versions" / "3.99.1" / "bin"
    for folder in (shims, place):
        folder.mkdir(parents=True)
    program(shims, "python3.99", "pyenv: version not installed")
    environ = {"PATH": str(shims), "HOME": str(homes)}
    assert runtime_python("3.99", environ) is None
    in_pyenv = program(place, "python", "cpython-399")
    assert runtime_python("3.99", environ) == str(in_pyenv)
    on_path = program(shims, "python3.99", "cpython-399")
    assert runtime_python("3.99", environ) == str(on_path)
    named = program(tmp_path, "named", "cpython-399")
    assert runtime_python("3.99", {**environ, "LAMBDA_PYTHON": str(named)}) == str(named)
    assert runtime_python(THIS, environ) == sys.executable
    shutil.rmtree(shims)
    assert runtime_python("3.99", {"HOME": "/", "PYENV_ROOT": str(homes / ".pyenv")}) == str(in_pyenv)


@pytest.mark.parametrize("named", ["/nonexistent/python", sys.executable])
def test_another_python_than_the_runtimes_is_refused(named: str) -> None:
    """A LAMBDA_PYTHON that is not there, or of another version, is said, and nothing else is taken for it."""
    with pytest.raises(SystemExit, match=f"LAMBDA_PYTHON: {named} is not a Python 3.99"):
        runtime_python("3.99", {**os.environ, "LAMBDA_PYTHON": named})


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("app.py", True),
        ("refinery/strategies/general.md", True),
        ("flask/__init__.py", True),
        ("flask-3.1.3.dist-info/METADATA", True),
        ("flask-3.1.3.dist-info/licenses/LICENSE.txt", True),
        ("flask-3.1.3.dist-info/RECORD", False),
        ("flask_swagger_ui/dist/swagger-ui.css", True),
        ("flask_swagger_ui/dist/swagger-ui.js", False),
        ("flask_swagger_ui/__init__.py", False),
        ("bin/flask", False),
        ("sniffio/_tests/test_sniffio.py", False),
        ("bson/_cbsonmodule.c", False),
        ("flask/sansio/README.md", False),
    ],
)
def test_what_never_runs_is_left_out(path: str, needed: bool) -> None:
    """Code, data, metadata and licences stay; commands, tests, sources in C and what pip left behind go."""
    assert is_needed(path) is needed
