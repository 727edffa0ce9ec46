"""The examples of a Markdown page: found, run in one shell in their order, and compared with the answers below them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ADDRESS = "http://127.0.0.1:8000"
# What runs a script of each language; `sh` runs in the shell itself, so that it can set variables.
RUNNERS = {"sh": "source ./script", "python": "python3 ./script", "js": "node ./script.mjs"}
ANSWERS = ("json", "http", "text")

# In front of an example, invisible to who reads the page: how the model's server behaves, for one that needs a model,
# or why it cannot be run here.
_MARK = r"(?:<!-- (?:upstream: (?P<upstream>.+)|elsewhere: (?P<elsewhere>.+)) -->\n)?"
_BLOCK = re.compile(r"^" + _MARK + r"```(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$", re.M)

# What varies from run to run is compared by its shape.
_VARYING_TEXT = {
    "<id>": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "<client>": r"klm_[0-9A-Za-z]{16}",
    "<secret>": r"\bkls_(…|[0-9A-Za-z]{49}\b)",
    "<request id>": r"\b[0-9a-f]{32}\b",
    "<time>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "<day>": r"\b\d{4}-\d\d-\d\d\b",
    "<token>": r"\beyJ[\w-]+(…|\.[\w-]+\.[\w-]+)",
    "<cursor>": r"^[\w-]{60,}$",
    "<version>": r"^\d+\.\d+\.\d+$",
}
_VARYING_NUMBERS = {"latency_ms", "mean", "max"}
_VARYING_HEADERS = {"retry-after": r"[1-9]\d*"}


@dataclass(frozen=True)
class Example:
    """A script of the page, and the answer that stands below it: `None` for a script that prints nothing.

    `upstream` says how the model's server behaves, `elsewhere` why the script cannot be run here.
    """

    line: int
    language: str
    script: str
    upstream: str | None
    elsewhere: str | None = None
    kind: str | None = None
    answer: str = ""


@dataclass(frozen=True)
class Printed:
    """What a script printed, and how it ended; on standard error, only the status of each of its calls with curl."""

    output: str
    error: str
    exit_status: int


def examples_in(page: str) -> list[Example]:
    """The examples, in their order. Raises: `ValueError` for a block that is neither a script nor a script's answer."""
    found: list[Example] = []
    blocks = list(_BLOCK.finditer(page))
    for block in blocks:
        line, language = page.count("\n", 0, block.start()) + 1, block["language"]
        if language in RUNNERS:
            found.append(Example(line, language, block["text"], block["upstream"], block["elsewhere"]))
        elif language in ANSWERS and found and found[-1].kind is None and not _marked(block):
            found[-1] = replace(found[-1], kind=language, answer=block["text"])
        else:
            raise ValueError(f"line {line}: neither a script nor the answer to one")
    if len(re.findall(r"^\s*(?:```|~~~)", page, re.M)) != 2 * len(blocks):
        raise ValueError("a block is not closed, or indented")
    if page.count("<!--") != sum(_marked(block) for block in blocks):
        raise ValueError("a comment is not in front of an example")
    return found


def _marked(block: re.Match[str]) -> bool:
    return bool(block["upstream"] or block["elsewhere"])


def documented(example: Example) -> str:
    """The answer as the page has it, in comparable form."""
    if example.kind == "http":
        return _shape_of_http(example.answer, _header_names(example.answer))
    return _shape_of_body(example.answer, example.kind)


def answered(example: Example, printed: Printed) -> str:
    """What the service answered, in the same form; of its headers, those that the page shows."""
    # A status other than 2xx is to be seen on the page.
    statuses = r"([1-5]\d\d\n)*" if example.kind == "http" else r"(2\d\d\n)*"
    if printed.exit_status or not re.fullmatch(statuses, printed.error):
        return f"exit status {printed.exit_status}: {printed.error}{printed.output}"
    if example.kind == "http":
        return _shape_of_http(printed.output, _header_names(example.answer))
    return _shape_of_body(printed.output, example.kind)


def _shape_of_body(text: str, kind: str | None) -> str:
    if kind not in ("json", "http") or not text.strip():
        return str(_shape(text))
    try:
        return json.dumps(_shape(json.loads(text)), indent=1)
    except ValueError:
        return f"no JSON: {text}"


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape_of_field(name, part) for name, part in value.items()}
    if isinstance(value, list):
        return [_shape(part) for part in value]
    if isinstance(value, str):
        for name, pattern in _VARYING_TEXT.items():
            value = re.sub(pattern, name, value)
    return value


def _shape_of_field(name: str, value: Any) -> Any:
    if name in _VARYING_NUMBERS and type(value) in (int, float) and value >= 0:
        return "<number>"
    return _shape(value)


def _header_names(text: str) -> list[str]:
    head = text.partition("\n\n")[0]
    return [line.partition(":")[0].lower() for line in head.splitlines()[1:]]


def _shape_of_http(text: str, names: Iterable[str]) -> str:
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    status, *lines = head.splitlines() or [""]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    shown = [f"{name}: {_shape_of_header(name, headers.get(name, '(none)'))}" for name in names]
    return "\n".join([status.strip(), *shown, "", _shape_of_body(body, "http")])


def _shape_of_header(name: str, value: str) -> str:
    return "<number>" if re.fullmatch(_VARYING_HEADERS.get(name, r"(?!)"), value) else str(_shape(value))


class Shell:
    """One bash for many scripts, in `folder`, which holds all that they need. Use it as a context manager."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        # Each call's status goes to the standard error, whatever its options; no proxy has a part in it.
        (folder / ".curlrc").write_text('write-out = "%{stderr}%{http_code}\\n"\nnoproxy = "*"\nmax-time = 120\n')
        self._environ = {"HOME": str(folder), "CURL_HOME": str(folder), "LANG": "C.UTF-8", **environ}

    def __enter__(self) -> Self:
        command = ["bash", "--noprofile", "--norc"]
        self._bash = subprocess.Popen(
            command, cwd=self._folder, env=self._environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bash.communicate()

    def run(
        self, example: Example, address: str, after_a_first: Callable[[], None] | None = None, given: str = ""
    ) -> Printed:
        """Run the example's script, with `address` in the place of the page's, and `given` on its standard input.

        With `after_a_first`, the script runs a first time in the background, and again once that has returned.
        """
        run = RUNNERS[example.language]
        script, stdin, output, error = (self._folder / name for name in (run.split()[1], "input", "output", "error"))
        script.write_text(example.script.replace(ADDRESS, address), "utf-8")
        stdin.write_text(given, "utf-8")
        if after_a_first:
            self._tell(f"({run}) >/dev/null 2>&1 &")
            after_a_first()
        exit_status = self._ask(f"{run} <{stdin} >{output} 2>{error}; echo $?")
        return Printed(output.read_text("utf-8"), error.read_text("utf-8"), int(exit_status))

    def wait(self) -> None:
        """Return when nothing runs in the background any more."""
        self._ask("wait; echo")

    def _tell(self, command: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{command}\n")
        self._bash.stdin.flush()

    def _ask(self, command: str) -> str:
        assert self._bash.stdout is not None
        self._tell(command)
        return self._bash.stdout.readline()
