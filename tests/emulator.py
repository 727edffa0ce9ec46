"""AWS Lambda on this machine: a function of the unpacked artifact under AWS's own Runtime Interface Emulator.

The emulator is a program inside the wheel of aws-sam-cli (https://docs.aws.amazon.com/lambda/latest/dg/images-test.html);
`make test` puts it, and what Lambda's Python brings along, into `.venv/lambda`.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

import requests

from tests.artifacts import NO_RUNTIME, ROOT, RUNTIME
from tests.stores import free_port

BOUND = 120.0
_INSTALLED = ROOT / ".venv" / "lambda"
_EMULATOR = _INSTALLED / "emulator" / "samcli" / "local" / "rapid" / "aws-lambda-rie-x86_64"
_RUNTIME_FOLDER = _INSTALLED / "runtime"
# Chmod is no barrier to root; a mount of the process's own is.
_IN_NAMESPACE = ("--user", "--map-root-user", "--mount", "sh", "-c")
_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"'
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
_ALWAYS = {
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    # A folder that is not there.
    "HOME": "/home/sbx_user1051",
    "LANG": "en_US.UTF-8",
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    "TZ": ":UTC",
}


class InvocationFailed(Exception):
    """Lambda has no answer of the function: it did not start, died, or took too long."""


def not_here() -> str | None:
    """Why no function can be run here, if so."""
    if RUNTIME is None:
        return NO_RUNTIME
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return "the emulator's tests run an x86_64 artifact on Linux, which this machine is not"
    return None if _EMULATOR.exists() else "AWS's emulator is not installed: `make test` does it"


class Emulator:
    """One execution environment of a function: made at the first call, and then there for one call at a time.

    `environ` is the function's, on top of what Lambda sets itself. `log` gets what the function prints, between the
    emulator's lines about each call. The code cannot be written to. Use it as a context manager.
    """

    def __init__(self, code: Path, handler: str, environ: Mapping[str, str], log: Path) -> None:
        self._code = code
        self._handler = handler
        self._environ = environ
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        for _ in range(3):
            # Another process may take the ports first.
            if self._listens(self._spawn()):
                return self
            self.stop()
        raise AssertionError(f"the emulator did not start:\n{self._own_log.read_text('utf-8')}")

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the emulator, which kills the function, and wait until both are gone."""
        if self._process:
            self._process.terminate()
            self._process.wait(BOUND)
            self._process = None

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """What the function answers. Raises: `InvocationFailed`."""
        url = f"http://127.0.0.1:{self._port}/2015-03-31/functions/function/invocations"
        answer = requests.post(url, json=dict(event), timeout=BOUND)
        try:
            answer.raise_for_status()
            return answer.json()
        except requests.RequestException as error:
            raise InvocationFailed(f"{answer.status_code} {answer.text}") from error

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside, every thread of the function stands still, as Lambda has it between two calls."""
        group = os.getpgid(self._function())
        os.killpg(group, signal.SIGSTOP)
        try:
            self._wait_until_still()
            yield
        finally:
            os.killpg(group, signal.SIGCONT)

    def seen(self, path: Path) -> Path:
        """A way to this path on the function's own view of the disk."""
        return Path(f"/proc/{self._function()}/root{path}")

    def printed(self) -> list[str]:
        """The function's own lines."""
        emulators = ("START RequestId: ", "END RequestId: ", "REPORT RequestId: ")
        return [line for line in self.log.read_text("utf-8").splitlines() if line and not line.startswith(emulators)]

    def init_ms(self) -> float:
        """How long it took, by the emulator, until the function could take its first call."""
        line = next(line for line in self._own_log.read_text("utf-8").splitlines() if "INIT REPORT" in line)
        return float(line.partition("durationMs: ")[2].rstrip(")"))

    def call_ms(self) -> list[float]:
        """How long each call took, by the emulator; the first one with the start."""
        reports = [line for line in self.log.read_text("utf-8").splitlines() if line.startswith("REPORT RequestId: ")]
        return [float(line.partition("\tDuration: ")[2].partition(" ms")[0]) for line in reports]

    @property
    def _own_log(self) -> Path:
        return self.log.with_suffix(".emulator")

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._port, runtime_port = free_port(), free_port()
        emulator = [str(_EMULATOR), "--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"]
        emulator += ["--runtime-api-address", f"127.0.0.1:{runtime_port}"]
        # -P and -S: what is imported is the function's, the runtime's, or the standard library's.
        function = [str(RUNTIME), "-P", "-S", "-m", "awslambdaric", self._handler]
        with self.log.open("ab") as output, self._own_log.open("ab") as errors:
            self._process = subprocess.Popen(
                _without_writing(self._code, [*emulator, *function]),
                cwd=self._code,
                env={
                    **_ALWAYS,
                    "LAMBDA_TASK_ROOT": str(self._code),
                    "LAMBDA_RUNTIME_DIR": str(_RUNTIME_FOLDER),
                    "PYTHONPATH": f"{self._code}{os.pathsep}{_RUNTIME_FOLDER}",
                    **self._environ,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
        return self._process

    def _listens(self, process: subprocess.Popen[bytes]) -> bool:
        ends = time.monotonic() + BOUND
        while process.poll() is None and time.monotonic() < ends:
            with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self._port), 1)):
                return process.poll() is None
            time.sleep(0.02)
        return False

    def _function(self) -> int:
        """The process id of the function's Python, which is the emulator's only child."""
        assert self._process
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        (child,) = [int(child) for path in threads for child in path.read_text("ascii").split()]
        return child

    def _wait_until_still(self) -> None:
        states = list(Path(f"/proc/{self._function()}/task").glob("*/stat"))
        ends = time.monotonic() + BOUND
        while any(state.read_text("ascii").rpartition(")")[2].split()[0] != "T" for state in states):
            assert time.monotonic() < ends, "the function goes on"
            time.sleep(0.01)


def _without_writing(code: Path, command: Sequence[str]) -> list[str]:
    """The command in a view of the disk in which the code cannot be written to, where such a view can be made."""
    program = namespaces()
    return [program, *_IN_NAMESPACE, _READ_ONLY, str(code), *command] if program else list(command)


@cache
def namespaces() -> str | None:
    """The program that makes a view of the disk of a process's own, where it may."""
    program = shutil.which("unshare")
    probe = [str(program), *_IN_NAMESPACE, _READ_ONLY, str(ROOT / "tests"), "true"]
    return program if program and subprocess.run(probe, capture_output=True, check=False).returncode == 0 else None
