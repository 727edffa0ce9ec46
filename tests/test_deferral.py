"""What is imported, and when: packages whose `__init__` waits, and a model's client that nobody has asked for."""

from __future__ import annotations

import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest

from refinery.opening import ModelEngine
from tests.artifacts import ROOT
from tests.harness import FIRST_SECRET
from tests.test_openai_engine import GOOD, soon, task
from tests.upstream import Upstream


def run(program: str, *arguments: str, **environ: str) -> list[str]:
    """The lines that a program prints in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that says when its `__init__` runs, with one below it that does too and imports its parent's names."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "outer" / "__init__.py").write_text("print('outer runs')\nfrom .inner import deep\nname = 'outer'\n")
    (inner / "__init__.py").write_text("print('inner runs')\nfrom ..plain import value\ndeep = 'inner'\n")
    (tmp_path / "outer" / "plain.py").write_text("print('plain runs')\nvalue = 1\n")
    return tmp_path


def deferred(package: Path, program: str) -> list[str]:
    return run(f"from refinery.deferral import defer; defer('outer'); {program}", PYTHONPATH=f"{ROOT}:{package}")


def test_a_package_runs_when_a_name_of_it_is_wanted(package: Path) -> None:
    """Importing it, or a module in it, does not run its `__init__`; looking up a name does, once."""
    program = "import outer.plain; print(outer.plain.value); print(outer.name, outer.deep, outer.name)"
    printed = deferred(package, program)
    assert printed == ["plain runs", "1", "outer runs", "inner runs", "outer inner outer"]


def test_from_import_finds_the_names(package: Path) -> None:
    """A name in a `from` import is one that is wanted; a module's is the module."""
    assert deferred(package, "from outer.inner import deep; print(deep)")[-1] == "inner"
    assert deferred(package, "from outer import plain; print(plain.value)")[-1] == "1"


def test_a_name_that_is_not_there_is_an_attribute_error(package: Path) -> None:
    """As of any module, and the package has run by then."""
    printed = deferred(package, "import outer; print(hasattr(outer, 'missing'), outer.name)")
    assert printed[-1] == "False outer"


def test_threads_that_want_a_name_at_once_get_it(package: Path) -> None:
    """Whoever comes while the package runs waits for its end."""
    (package / "outer" / "__init__.py").write_text("import time; time.sleep(0.2); name = 'outer'")
    program = """
import outer
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    print({*pool.map(lambda number: outer.name, range(8))})
"""
    assert deferred(package, program) == ["{'outer'}"]


@pytest.mark.parametrize("package", ["openai.types", "chat", "openai.types.responses"])
def test_openai_has_all_its_types(package: str) -> None:
    """Whoever wants one of them finds the same names as without the deferral."""
    look = f"import openai, openai.types.chat as chat; getattr({package}, 'none', 0); print(dir({package}))"
    plain = set(literal_eval(run(look)[-1]))
    late = set(literal_eval(run(f"from refinery.deferral import defer; defer('openai.types'); {look}")[-1]))
    assert plain - late <= {"__getattr__"}
    assert late - plain <= {"__getattr__"}


_EACH = """
import os, pkgutil, sys
from importlib import import_module
from refinery.deferral import defer
defer("openai.types")
import openai
found = [name for _, name, package in pkgutil.walk_packages(openai.types.__path__, "openai.types.") if package]
for name in found:
    # Each by itself, for what one runs the next one has.
    if not (child := os.fork()):
        package = import_module(name)
        getattr(package, "none", None)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
print(len(found))
"""


def test_each_package_of_openais_types_can_run_first() -> None:
    """None of them needs a name of the one above it, which waits."""
    assert int(run(_EACH)[-1]) > 10


def test_openai_comes_without_most_of_its_types() -> None:
    """With the deferral, four in five of the modules that it defines types in are not imported."""
    count = "import sys, openai; print(sum(name.startswith('openai.types') for name in sys.modules))"
    plain = int(run(count)[-1])
    late = int(run(f"from refinery.deferral import defer; defer('openai.types'); {count}")[-1])
    assert late * 5 < plain


_ROUTES = """
import sys
from app import create_app
http = create_app().test_client()
http.post("/token", json={}), http.post("/log-request", json={}), http.get("/log-request"), http.get("/models")
print("openai" in sys.modules, "dotenv" in sys.modules, "cli" in sys.modules)
"""
_ON_LAMBDA = {
    "AWS_LAMBDA_FUNCTION_NAME": "klamala-test-api",
    "DATABASE_URL": "mongodb://127.0.0.1:1/klamala",
    "OPENAI_API_KEY": "sk-test",
    "JWT_SECRETS": f"k1:{FIRST_SECRET}",
    "OUTBOX_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/outbox",
    "JOBS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/jobs",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


def test_a_route_without_a_model_starts_without_its_client() -> None:
    """On Lambda neither `openai`, nor what reads `.env`, nor the command line is imported for the other routes."""
    assert run(_ROUTES, **_ON_LAMBDA)[-1] == "False False False"


def test_a_model_that_was_primed_answers(upstream: Upstream) -> None:
    """Whoever calls while the client is made waits for it, and gets the one that was made."""
    upstream.script(GOOD)
    engine = ModelEngine("sk-test", upstream.url)
    engine.prime()
    engine.prime()
    assert engine.rewrite(task(), soon()).refined_prompt
    assert engine.rewrite(task(), soon()).refined_prompt
    engine.close()
    assert upstream.connections == 1
