"""`docs/api.md`: each of its examples, as a reader runs them, against the service."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from records import utc_now
from scripts.run import local_key
from scripts.service import ROOT, Service
from settings import load_settings
from tests import upstream as fake
from tests.e2e.test_service import environment
from tests.examples import Example, Printed, Shell, answered, documented, examples_in
from tests.upstream import Reply, Upstream

EXAMPLES = examples_in((ROOT / "docs" / "api.md").read_text("utf-8"))

# `<!-- upstream: … -->` in front of an example: how the model's server answers while it runs.
LOSS = fake.completion(
    '{"refined_prompt": "Write a mail about the delay.", "changes": [], "assumptions": []}',
    usage={"prompt_tokens": 1109, "completion_tokens": 31},
)
OVERLOADED = fake.status(503, headers={"Retry-After": "0"})
UPSTREAMS: Mapping[str, tuple[Reply, ...]] = {
    "loses the placeholder": (LOSS,),
    "works on the first": (fake.echo(),),
    "refuses": (fake.completion(None, refusal="No."),),
    "overloaded": (fake.status(429, headers={"Retry-After": "30"}),),
    "overloaded, then well": (*[OVERLOADED] * 3, fake.echo(lambda draft: f"{draft} Keep it short.")),
    "silent": (fake.silent(),),
}
# It says what the page says that it said.
AS_DOCUMENTED = "answers"


def replies_for(example: Example) -> tuple[Reply, ...]:
    """How the model's server answers while the example runs."""
    if example.upstream != AS_DOCUMENTED:
        return UPSTREAMS[str(example.upstream)]
    body = json.loads(example.answer)
    usage = {"prompt_tokens": body["usage"]["input_tokens"], "completion_tokens": body["usage"]["output_tokens"]}
    if "generated_text" in body:
        return (fake.completion(body["generated_text"], finish_reason=body["finish_reason"], usage=usage),)
    content = {name: body[name] for name in ("refined_prompt", "changes", "assumptions")}
    return (fake.completion(json.dumps(content), usage=usage),)


class Stage:
    """What a reader has: `make run` in a checkout, one shell; and where an example needs it, a model."""

    def __init__(self, folder: Path, upstream: Upstream, stack: ExitStack) -> None:
        self._folder = folder
        self._upstream = upstream
        self._stack = stack
        self._services: dict[tuple[tuple[str, str], ...], Service] = {}
        self._environ = environment(folder / "data", JWT_SECRETS="", WEB_CONCURRENCY="1")
        local_key(load_settings(self._environ))
        (folder / ".venv").symlink_to(sys.prefix)
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self._shell = stack.enter_context(Shell(folder, {"PATH": path, "FLASK_APP": str(ROOT / "app.py")}))

    def run(self, example: Example) -> Printed:
        """Run an example, with the model's server as the page wants it."""
        if example.upstream is None:
            return self._shell.run(example, self._address())
        self._upstream.script(*replies_for(example))
        hurried = {"REQUEST_DEADLINE_SECONDS": "1"} if example.upstream == "silent" else {}
        address = self._address(OPENAI_BASE_URL=self._upstream.url, **hurried)
        if example.upstream != "works on the first":
            return self._shell.run(example, address)
        first = len(self._upstream.requests) + 1
        self._upstream.hold()
        printed = self._shell.run(example, address, lambda: self._upstream.wait_for(first))
        self._upstream.release()
        self._shell.wait()
        return printed

    def _address(self, **settings: str) -> str:
        """The service with these settings. Whatever they are, its records and clients are the same."""
        key = tuple(settings.items())
        if key not in self._services:
            log = self._folder / f"service-{len(self._services)}.log"
            self._services[key] = self._stack.enter_context(Service({**self._environ, **settings}, log))
        return self._services[key].url


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(folder, stack.enter_context(Upstream()), stack)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Printed]:
    """What each example printed, by its line: all were run once, in their order, on one UTC day."""
    for tool in ("bash", "curl"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    while True:
        day = utc_now().date()
        with staged(tmp_path_factory.mktemp("checkout")) as stage:
            found = {example.line: stage.run(example) for example in EXAMPLES if runnable(example)}
        if utc_now().date() == day:
            return found


def runnable(example: Example) -> bool:
    return example.language != "js" or shutil.which("node") is not None


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line {example.line}")
def test_an_example_gets_the_answer_below_it(example: Example, printed: dict[int, Printed]) -> None:
    """Status, fields and values are those of the page, but for what varies from run to run; without an answer on the
    page, nothing is printed."""
    if not runnable(example):
        pytest.skip("node is not installed")
    assert answered(example, printed[example.line]) == documented(example)


def test_every_example_is_run() -> None:
    """None of this page is marked as one for elsewhere."""
    assert not [example.line for example in EXAMPLES if example.elsewhere]


PAGE = """
Text.

```sh
curl -s http://127.0.0.1:8000/x
```

```json
{"id": "01a1fb2e-5607-74d5-940f-acac43493f90", "ok": true, "count": 1,
 "latency_ms": 3, "at": "2026-11-20T12:00:00.005Z"}
```
"""
HTTP_ANSWER = 'HTTP/1.1 404 NOT FOUND\nRetry-After: 5\n\n{"token": "eyJh…"}\n'
OUTPUT = (
    '{"id": "01a1fb2e-6666-74d5-940f-acac43493f90", "ok": true, "count": 1, "latency_ms": 17, "at": '
    '"2026-11-21T01:02:03.004Z"}'
)


def test_what_varies_is_no_drift() -> None:
    """Ids, times, latencies and tokens may be others, and headers that the page does not show may come and go."""
    example = examples_in(PAGE)[0]
    assert answered(example, Printed(OUTPUT, "200\n", 0)) == documented(example)
    example = replace(example, kind="http", answer=HTTP_ANSWER)
    printed = 'HTTP/1.1 404 NOT FOUND\r\nServer: x\r\nretry-after: 25\r\n\r\n{"token":"eyJh.bbb.ccc"}'
    assert answered(example, Printed(printed, "404\n", 0)) == documented(example)


@pytest.mark.parametrize(
    "printed",
    [
        Printed(OUTPUT, "404\n", 0),
        Printed(OUTPUT, "200\ncurl: (7) refused\n", 0),
        Printed(OUTPUT, "200\n", 1),
        Printed(OUTPUT.replace('"ok": true', '"ok": 1'), "200\n", 0),
        Printed(OUTPUT.replace('"count": 1', '"count": 2'), "200\n", 0),
        Printed(OUTPUT.replace('"ok": true, ', ""), "200\n", 0),
        Printed(OUTPUT.replace('"ok": true', '"ok": true, "more": null'), "200\n", 0),
        Printed(OUTPUT.replace("17", "null"), "200\n", 0),
        Printed(OUTPUT.replace("2026-11-21T", ""), "200\n", 0),
        Printed("", "200\n", 0),
    ],
)
def test_a_drift_is_seen(printed: Printed) -> None:
    """Another status, field, type, value or shape is a difference, and so is a script that fails or complains."""
    example = examples_in(PAGE)[0]
    assert answered(example, printed) != documented(example)


@pytest.mark.parametrize(
    "answer",
    [
        'HTTP/1.1 403 FORBIDDEN\nRetry-After: 5\n\n{"token": "eyJh.b.c"}',
        'HTTP/1.1 404 NOT FOUND\n\n{"token": "eyJh.b.c"}',
        'HTTP/1.1 404 NOT FOUND\nRetry-After: 0\n\n{"token": "eyJh.b.c"}',
        'HTTP/1.1 404 NOT FOUND\nRetry-After: 5\n\n{"token": "secret"}',
        "HTTP/1.1 404 NOT FOUND\nRetry-After: 5",
        "",
    ],
)
def test_a_drift_of_status_or_headers_is_seen(answer: str) -> None:
    """The status line, and each header that the page shows, must come."""
    example = replace(examples_in(PAGE)[0], kind="http", answer=HTTP_ANSWER)
    assert answered(example, Printed(answer, "404\n", 0)) != documented(example)


def test_an_example_without_an_answer_must_print_nothing() -> None:
    """What an example prints is shown, or the example fails."""
    example = examples_in("```sh\ncurl -s x\n```\n")[0]
    assert answered(example, Printed("", "200\n", 0)) == documented(example)
    assert answered(example, Printed("{}", "200\n", 0)) != documented(example)


@pytest.mark.parametrize(
    "page",
    [
        "```\nx\n```\n",
        "```bash\nx\n```\n",
        "```json\n{}\n```\n",
        "```sh\nx\n```\n```json\n{}\n```\n```json\n{}\n```\n",
        "```sh\nx\n```\n<!-- upstream: answers -->\n```json\n{}\n```\n",
        "<!-- upstream: answers -->\n\nText.\n\n```sh\nx\n```\n",
        "```sh\nx\n",
        "```sh\nx\n```\n\n  ```sh\n  x\n  ```\n",
        "~~~sh\nx\n~~~\n",
    ],
)
def test_a_block_that_would_not_be_run_is_refused(page: str) -> None:
    """No block escapes: each is a script that is run, or the answer to one."""
    with pytest.raises(ValueError, match=r"line|block|comment"):
        examples_in(page)
