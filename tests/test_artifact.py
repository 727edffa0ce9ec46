"""The artifact for AWS Lambda: what is in it, how large it is, and that the runtime's Python can use it."""

from __future__ import annotations

import json
import platform
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.artifacts import NO_RUNTIME, ROOT, RUNTIME, Build

MAX_ZIPPED, MAX_UNPACKED = 20_000_000, 60_000_000
NOT_OURS_AT_RUN_TIME = {"tests", "scripts", "docs", "evals", "bench"}
UNCHECKED_HASH = 1

needs_runtime = pytest.mark.skipif(RUNTIME is None, reason=NO_RUNTIME)
runs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="this machine does not run x86_64")


def run(folder: Path, program: str, *arguments: str) -> str:
    """What a program prints that knows the unpacked artifact and the standard library alone."""
    assert RUNTIME
    # -P: the artifact comes after the standard library, as on Lambda; -S: no packages of this machine.
    started = f"import sys; sys.path.append({str(folder)!r}); {program}"
    done = subprocess.run(
        [RUNTIME, "-P", "-S", "-B", "-c", started, *arguments],
        cwd=folder,
        env={"DATA_DIR": str(folder / "data"), "DATABASE_URL": "mongodb://127.0.0.1:1/klamala"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def product_modules(names: set[str]) -> list[str]:
    """Every module of the service that an archive has, but for the one that needs AWS to be imported."""
    ours = {path.name for path in ROOT.iterdir()} - NOT_OURS_AT_RUN_TIME
    sources = [name for name in names if name.endswith(".py") and name.partition("/")[0] in ours]
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in sorted(sources)]
    return [module for module in modules if module != "wsgi_handler"]


@pytest.fixture(scope="session")
def unpacked(x86: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact that this machine can run."""
    return x86.unpack(tmp_path_factory.mktemp("unpacked"))


def test_the_artifact_keeps_its_budget(arm: Build) -> None:
    """It has at most 20 MB zipped and 60 MB unpacked, bytecode included."""
    with ZipFile(arm.zip) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    assert arm.zip.stat().st_size <= MAX_ZIPPED
    assert unpacked <= MAX_UNPACKED


def test_all_that_the_service_reads_is_packed(arm: Build) -> None:
    """Every module of the service, and every file that one of them reads, is in the artifact as it is here."""
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"pages", "console/dist"}
    kept = [path for name in folders - NOT_OURS_AT_RUN_TIME for path in (ROOT / name).rglob("*") if path.is_file()]
    modules = [path for path in ROOT.glob("*.py") if path.name != "gunicorn.conf.py"]
    expected = {path.relative_to(ROOT) for path in kept + modules if path.suffix != ".pyc"}
    assert Path("wsgi_handler.py") in expected
    read = ("pages/docs/index.html", "openapi/introduction.md", "console/dist/index.html")
    assert {Path(name) for name in read} <= expected
    with ZipFile(arm.zip) as archive:
        for path in expected:
            assert archive.read(path.as_posix()) == (ROOT / path).read_bytes()


def test_nothing_else_of_the_checkout_is_packed(arm: Build) -> None:
    """No test, script, document, setting of this machine, or configuration of another server gets in."""
    names = arm.names()
    tops = {name.partition("/")[0] for name in names}
    assert not tops & (NOT_OURS_AT_RUN_TIME | {"data", "bin", "node_modules", "gunicorn.conf.py", "requirements.txt"})
    assert not [name for name in names if name.startswith("console/") and not name.startswith("console/dist/")]
    unwanted = ("*.env*", "*/tests/*", "*README*", "*.toml", "*.yml", "package*.json", "Makefile", "*.c", "*.pyi")
    assert not [name for name in names if any(fnmatch(name, pattern) for pattern in unwanted)]


def test_what_the_runtime_has_and_what_nobody_asked_for_is_left_out(arm: Build) -> None:
    """boto3 is the runtime's, and the driver for PostgreSQL comes only when it is asked for."""
    tops = {name.partition("/")[0].removesuffix(".py") for name in arm.names()}
    assert not tops & {"boto3", "botocore", "s3transfer", "sqlalchemy", "psycopg", "psycopg_binary", "gunicorn", "moto"}
    assert {"flask", "openai", "pymongo", "jwt", "pydantic", "serverless_wsgi"} <= tops


@pytest.mark.parametrize(("built", "machine"), [("arm", "aarch64"), ("x86", "x86_64")])
def test_compiled_modules_are_of_the_architecture(built: str, machine: str, request: pytest.FixtureRequest) -> None:
    """Each is for the runtime's Python and for the architecture that the functions have in the template."""
    artifact: Build = request.getfixturevalue(built)
    compiled = [name for name in artifact.names() if name.endswith(".so")]
    assert any("pydantic_core" in name for name in compiled)
    tagged = [name for name in compiled if ".cpython-" in name]
    assert all(f".cpython-313-{machine}-linux-gnu.so" in name for name in tagged), tagged
    architectures = {"aarch64": "arm64"}.get(machine, machine)
    functions = [each for each in artifact.template["Resources"].values() if each["Type"] == "AWS::Lambda::Function"]
    assert all(each["Properties"]["Architectures"] == [architectures] for each in functions)


@needs_runtime
def test_every_module_has_bytecode_that_is_never_checked(arm: Build) -> None:
    """Beside each source is bytecode of the runtime's version, of the kind that asks for no date and no content."""
    assert RUNTIME
    asked = "import importlib.util as u; print(u.MAGIC_NUMBER.hex())"
    magic = bytes.fromhex(subprocess.check_output([RUNTIME, "-c", asked], text=True))
    with ZipFile(arm.zip) as archive:
        sources = [Path(name) for name in archive.namelist() if name.endswith(".py")]
        assert len(sources) > 1000
        for source in sources:
            header = archive.read((source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc").as_posix())[:8]
            assert header == magic + UNCHECKED_HASH.to_bytes(4, "little")


@needs_runtime
@runs_x86
def test_the_bytecode_is_what_runs(unpacked: Path, tmp_path: Path) -> None:
    """A source that was changed after it was compiled is not read."""
    folder = tmp_path / "changed"
    folder.mkdir()
    for name in ("rates.py", "__pycache__/rates.cpython-313.pyc"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((unpacked / name).read_bytes())
    (folder / "rates.py").write_text("raise SystemExit('the source was read')")
    assert run(folder, "import rates; print(rates.parse_rate('60/minute'))").startswith("Rate(")


_IMPORTS = """
import importlib, json
missing = {}
for module in sys.argv[1:]:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing[module] = error.name.partition('.')[0]
print(json.dumps(missing))
"""


@needs_runtime
@runs_x86
def test_every_module_of_the_service_can_be_imported(unpacked: Path, x86: Build) -> None:
    """With nothing but the artifact; only stores for SQL databases miss what was not asked for."""
    modules = product_modules(x86.names())
    assert {"app", "lambda_events", "stores.mongo", "refinery.openai_engine"} <= set(modules)
    missing = json.loads(run(unpacked, f"exec({_IMPORTS!r})", *modules))
    assert {module.partition(".")[0] for module in missing} == {"stores"}
    assert set(missing.values()) == {"sqlalchemy", "psycopg"}


_PAGES = """
import json
from app import create_app
from refinery.openai_engine import OpenAIEngine
OpenAIEngine('key', None)
http = create_app().test_client()
paths = ['/', '/health', '/docs', '/openapi.json', *sys.argv[1:]]
print(json.dumps({path: [(a := http.get(path)).status_code, len(a.data)] for path in paths}))
"""


@needs_runtime
@runs_x86
def test_the_service_answers_from_the_artifact(unpacked: Path) -> None:
    """Strategies, pages and descriptions are read from files, and the model's client is made."""
    drawn = ("init.js", "page.css", "swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
    console = [path.name for path in (ROOT / "console" / "dist").iterdir() if path.suffix in (".css", ".js", ".svg")]
    files = [*(f"/docs/{name}" for name in drawn), *(f"/console/{name}" for name in console)]
    answers = json.loads(run(unpacked, f"exec({_PAGES!r})", *files).splitlines()[-1])
    assert len(answers) == 4 + len(drawn) + len(console)
    assert answers["/"][1] == (ROOT / "console" / "dist" / "index.html").stat().st_size
    for path, (status, size) in answers.items():
        assert status == 200, path
        assert size > 20, path


def test_of_swagger_ui_only_what_is_served_is_packed(arm: Build) -> None:
    """The page's three files, and the licences under which they are handed on."""
    packed = {name.removeprefix("flask_swagger_ui/") for name in arm.names() if name.startswith("flask_swagger_ui/")}
    served = {"dist/favicon-32x32.png", "dist/swagger-ui-bundle.js", "dist/swagger-ui.css"}
    assert packed == served | {"LICENSE", "dist/LICENSE"}


def test_the_build_says_what_it_made(arm: Build) -> None:
    """The output names both sizes and the ten largest parts."""
    lines = arm.output.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("klamala.zip: "))
    assert "MB zipped" in lines[start]
    assert "MB unpacked" in lines[start]
    parts = [line.split()[-1] for line in lines[start + 1 : start + 11]]
    assert parts[0] == "openai"
    assert len(set(parts)) == 10
    assert set(parts) <= {name.partition("/")[0] for name in arm.names()}
