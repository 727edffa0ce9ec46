"""The command line as users have it: a process of its own, with pipes or a terminal before it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from settings import Settings

ROOT = Path(__file__).parents[1]
BOUND = 60.0
FLASK = (sys.executable, "-m", "flask")
SECRET = "shell-secret-" + "x" * 40


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Every setting said, so that neither this shell nor a `.env` has a say; the records are in `folder`."""
    unset = {name.upper(): "" for name in Settings.__dataclass_fields__}
    fixed = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "LOGNAME": "someone"}
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    given = {"DATA_DIR": str(folder), "JWT_SECRETS": f"k1:{SECRET}", "TERM": "xterm-256color"}
    url = {"DATABASE_URL": f"sqlite:///{folder / 'shell.sqlite3'}", "AWS_LAMBDA_FUNCTION_NAME": ""}
    return {**fixed, **measured, **unset, **given, **url, **settings}


def command(*arguments: str | bytes) -> list[str | bytes]:
    return [*FLASK, *arguments]


def flask(
    environ: Mapping[str, str], *arguments: str | bytes, given: bytes | None = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, with `given` on its standard input."""
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environ, input=given, capture_output=True, timeout=BOUND, check=False
    )


class Terminal:
    """A command with a terminal of its own as its standard streams, but for those that a test puts elsewhere."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *arguments: str | bytes,
        program: Sequence[str] = FLASK,
        columns: int = 100,
        **streams: Any,
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        given = {"stdin": theirs, "stdout": theirs, "stderr": theirs, **streams}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AS_SESSION, *program, *arguments],
            cwd=ROOT,
            env=environ,
            **given,
        )
        os.close(theirs)
        self.shown = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def read_until(self, text: bytes) -> None:
        """Block until the terminal has shown the text."""
        while text not in self.shown:
            assert self._read(), f"the terminal shows only {self.shown!r}"

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        return self.process.wait(BOUND)

    def _read(self) -> bool:
        readable, _, _ = select.select([self._ours], [], [], BOUND)
        assert readable, f"nothing comes any more; the terminal shows {self.shown!r}"
        try:
            chunk = os.read(self._ours, 65536)
        except OSError:
            # Linux says so when the last process has let go of the terminal.
            return False
        self.shown += chunk
        return bool(chunk)


# A session of its own with the terminal as its controlling one, so that a typed Ctrl-C arrives as SIGINT.
_AS_SESSION = """
import fcntl, os, sys, termios
os.setsid()
terminal = next(number for number in (0, 1, 2) if os.isatty(number))
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
