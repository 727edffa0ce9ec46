"""Finish the artifact for AWS Lambda: leave out what never runs, add bytecode, pack it the same way each time.

`python -m scripts.artifact .serverless/klamala.zip 3.13` rewrites the archive that the serverless command has made;
serverless-plugin.js calls it. It needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

# Where AWS Lambda unpacks it: what the bytecode names in the place of the folder that it was made in.
RUNTIME_FOLDER = "/var/task"
LARGEST = 10

# `*` stands for slashes too.
LEFT_OUT = (
    "bin/*",  # commands that pip makes for a shell
    "requirements.txt",
    "flask_swagger_ui/*",
    "*/tests/*",
    "*/_tests/*",
    "*/README.md",
    "*.c",
    "*.h",
    "*.pyi",
    "*/py.typed",
    # What pip would need to remove a package. The rest of the metadata stays: it is read at run time.
    "*.dist-info/INSTALLER",
    "*.dist-info/RECORD",
    "*.dist-info/REQUESTED",
)
KEPT = (
    # What /docs serves of Swagger UI, and its licences.
    "flask_swagger_ui/dist/favicon-32x32.png",
    "flask_swagger_ui/dist/swagger-ui-bundle.js",
    "flask_swagger_ui/dist/swagger-ui.css",
    "flask_swagger_ui/*LICENSE",
)


def finish(artifact: Path, version: str, environ: Mapping[str, str]) -> bool:
    """Rewrite an archive for the runtime's Python `version`, such as 3.13. Returns whether it has bytecode.

    Raises: `SystemExit` when LAMBDA_PYTHON names another Python, or when a module cannot be compiled.
    """
    python = runtime_python(version, environ)
    with tempfile.TemporaryDirectory(dir=artifact.parent) as name:
        folder = Path(name)
        with ZipFile(artifact) as archive:
            archive.extractall(folder, [entry for entry in archive.namelist() if is_needed(entry)])
        if python:
            compile_all(folder, python)
        pack(folder, artifact)
    return python is not None


def is_needed(path: str) -> bool:
    """Whether a file of the archive is used at run time, or has to go with what is."""
    return any(fnmatch(path, kept) for kept in KEPT) or not any(fnmatch(path, pattern) for pattern in LEFT_OUT)


def runtime_python(version: str, environ: Mapping[str, str]) -> str | None:
    """A Python of this version: LAMBDA_PYTHON, or this one, or one of the path, or of pyenv.

    Bytecode is a minor version's own. Raises: `SystemExit` when LAMBDA_PYTHON is of another version.
    """
    named = environ.get("LAMBDA_PYTHON")
    found = next(
        (python for python in ([named] if named else _pythons(version, environ)) if _is(python, version)), None
    )
    if named and not found:
        raise SystemExit(f"LAMBDA_PYTHON: {named} is not a Python {version}")
    return found


def _pythons(version: str, environ: Mapping[str, str]) -> Iterator[str]:
    yield sys.executable
    yield shutil.which(f"python{version}", path=environ.get("PATH")) or ""
    pyenv = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "/")) / ".pyenv")
    yield from sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")))


def _is(python: str, version: str) -> bool:
    # Found on the path, it can still be a shim of pyenv without such a version behind it.
    command = [python, "-I", "-c", "import sys; print(sys.implementation.cache_tag)"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return asked.stdout.strip() == f"cpython-{version.replace('.', '')}"


def compile_all(folder: Path, python: str) -> None:
    """Write bytecode that is used whatever the date and content of the source, as no date survives the upload.

    https://docs.python.org/3/library/py_compile.html#py_compile.PycInvalidationMode
    """
    mode = ["--invalidation-mode", "unchecked-hash"]
    place = ["-s", str(folder), "-p", RUNTIME_FOLDER]
    # The order of a set in the bytecode goes by the hash seed.
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [python, "-P", "-m", "compileall", "-q", "-f", *mode, *place, str(folder)]
    if subprocess.run(command, env=environ, check=False).returncode:
        raise SystemExit("a module of the artifact cannot be compiled")


def pack(folder: Path, artifact: Path) -> None:
    """Write the files in the order of their names, each with one date and mode: equal content, equal archive."""
    draft = artifact.with_suffix(".draft")
    with ZipFile(draft, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = ZipInfo(path.relative_to(folder).as_posix())
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, path.read_bytes())
    draft.replace(artifact)


def report(artifact: Path, *, bytecode: str) -> Iterator[str]:
    """Lines with the sizes of the archive and of its largest parts."""
    zipped: defaultdict[str, int] = defaultdict(int)
    unpacked: defaultdict[str, int] = defaultdict(int)
    with ZipFile(artifact) as archive:
        entries = archive.infolist()
    for entry in entries:
        part = entry.filename.partition("/")[0]
        zipped[part] += entry.compress_size
        unpacked[part] += entry.file_size
    total = f"{_mb(artifact.stat().st_size)} zipped, {_mb(sum(unpacked.values()))} unpacked, {len(entries)} files"
    yield f"{artifact.name}: {total}, {bytecode}"
    for part in sorted(unpacked, key=lambda each: unpacked[each], reverse=True)[:LARGEST]:
        yield f"{_mb(zipped[part]):>9} {_mb(unpacked[part]):>9}  {part}"


def _mb(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.artifact")
    parser.add_argument("artifact", type=Path)
    parser.add_argument("version", help="the runtime's Python, such as 3.13")
    arguments = parser.parse_args()
    version = arguments.version
    has_bytecode = finish(arguments.artifact, version, os.environ)
    bytecode = f"bytecode of Python {version}" if has_bytecode else "no bytecode"
    for line in report(arguments.artifact, bytecode=bytecode):
        print(line)
    if not has_bytecode:
        advice = f"install Python {version} or name one in LAMBDA_PYTHON"
        print(
            f"warning: no Python {version} here, so no bytecode: cold starts take twice as long; {advice}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
