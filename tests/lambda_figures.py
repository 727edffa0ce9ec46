"""What the artifact costs on this machine under AWS's emulator: `python -m tests.lambda_figures` prints it.

Sizes; the start with and without bytecode, in turn; warm calls; and one refinement as the function answers it, by a
model that is the tests' own and answers at once.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median

from scripts.artifact import report
from tests import upstream as fake
from tests.artifacts import PYTHON, build, no_node
from tests.aws import moto_server
from tests.e2e.cloud import API, Cloud, cloud_of, through
from tests.emulator import Emulator, not_here
from tests.events import Call, http_api
from tests.stores import NxServer

STARTS, CALLS = 7, 50
HEALTH = http_api(Call(path="/health"))
DRAFT = "write a mail to {{name}} that there order {{order_id}} is late. see https://example.com/orders for the status"
REFINED = """Write a short e-mail to {{name}}.

Tell them that their order {{order_id}} is late, apologise once, and point them to https://example.com/orders, where \
they can follow its status.

Keep to at most 120 words, in a friendly and factual tone."""
CHANGES = (
    {"reason": "Names the kind of text and its length.", "before": "write a mail", "after": "Write a short e-mail"},
    {"reason": "Corrects the spelling.", "before": "there order", "after": "their order"},
    {"reason": "Sets a tone and a limit.", "before": "", "after": "at most 120 words, in a friendly and factual tone"},
)
ASSUMPTIONS = ("The reader is a customer.", "The reason of the delay is not known.")


def main() -> None:
    if missing := no_node() or not_here():
        raise SystemExit(missing)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = build(folder / "checkout", architecture="x86_64")
        show(report(built.zip, bytecode=f"bytecode of Python {PYTHON}"))
        code, bare = built.unpack(folder / "task"), built.unpack(folder / "bare")
        for bytecode in list(bare.rglob("__pycache__")):
            shutil.rmtree(bytecode)
        logs = folder / "functions"
        logs.mkdir()
        with NxServer(folder / "nx") as nx, moto_server() as moto, cloud_of(built, code, logs, nx, moto) as cloud:
            measure(cloud, bare)


def measure(cloud: Cloud, bare: Path) -> None:
    """Print what is measured of the functions. `bare` is the code without bytecode."""
    # The first start compiles what is the runtime's and not ours.
    started(cloud)
    pairs = [(started(cloud), started(replace(cloud, code=bare))) for _ in range(STARTS)]
    starts, bare_starts = map(median, zip(*pairs, strict=True))
    show([f"start: {starts:.0f} ms; {bare_starts:.0f} ms without bytecode, {bare_starts / starts:.1f} times as long"])
    # Past the proxies of the tests, which take their own time.
    direct = {"DATABASE_URL": cloud.direct, "OPENAI_BASE_URL": cloud.upstream.url, "RATE_LIMIT": "none"}
    with cloud.function(API, **direct) as function:
        cloud.upstream.script(fake.refinement(REFINED, CHANGES, ASSUMPTIONS))
        caller = cloud.caller(through(function))
        refined = caller.post("/refine", {"prompt": DRAFT})
        health = warm(function, lambda: function.invoke(HEALTH))
        refine = warm(function, lambda: caller.post("/refine", {"prompt": DRAFT}))
        show([f"warm: /health {health:.1f} ms, /refine {refine:.1f} ms"])
        show([json.dumps(refined.json, indent=2, ensure_ascii=False)])


def started(cloud: Cloud) -> float:
    """The milliseconds of one start."""
    with cloud.function(API) as function:
        function.invoke(HEALTH)
        return function.init_ms()


def warm(function: Emulator, call: Callable[[], object]) -> float:
    """The median of some calls in milliseconds."""
    for _ in range(CALLS):
        call()
    return median(function.call_ms()[-CALLS:])


def show(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
