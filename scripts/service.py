"""The service as a process of its own, on a free port, for as long as somebody needs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[1]
START_SECONDS = 60
_LISTENING = re.compile(r"Listening at: (http://\S+)")


class Service:
    """`gunicorn "app:create_app()"`, its output in a file. Use it as a context manager.

    `environ` comes on top of this process's environment, `under` in front of the command. Raises: `RuntimeError` with
    the output when it does not start.
    """

    def __init__(self, environ: Mapping[str, str], log: Path, under: Sequence[str] = ()) -> None:
        self._command = [*under, sys.executable, "-m", "gunicorn", "app:create_app()"]
        self._environ = {**os.environ, "HOST": "127.0.0.1", "PORT": "0", **environ}
        self.log = log
        self.url = ""

    def __enter__(self) -> Self:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environ,
                stdout=output,
                stderr=output,
            )
        try:
            self.url = self._wait_until_listening()
        except RuntimeError:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the service as a deploy would, and wait until it is gone."""
        self.process.terminate()
        self.process.wait(timeout=60)

    def _wait_until_listening(self) -> str:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self.process.poll() is None:
            listening = _LISTENING.search(self.log.read_text("utf-8"))
            if listening:
                return listening[1]
            time.sleep(0.05)
        raise RuntimeError(f"the service did not start:\n{self.log.read_text('utf-8')}")
