"""A container of the image that `tests/image.py` makes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.image import BOUND, Image, program


class Container:
    """`docker run --read-only --tmpfs /tmp` of an image with variables. Use it as a context manager."""

    def __init__(self, image: Image, log: Path, environ: Mapping[str, str]) -> None:
        self._image = image
        self._environ = {**image.last.environ, **environ}
        self.log = log

    def __enter__(self) -> Self:
        namespace = (program("unshare"), "--pid", "--fork")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._image.entered(self._image.last.command, namespace),
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self

    def __exit__(self, *_: object) -> None:
        # The end of a namespace's first process is the end of all in it, and of who waits for it.
        if self._process.poll() is None:
            os.kill(int(self.first_process().name), signal.SIGKILL)
            self._process.wait(BOUND)

    def healthy(self) -> bool:
        """Whether the image's own check succeeds."""
        environ = {name: self._environ[name] for name in self._environ if name in ("PORT", "HOST")}
        return self._image.run(self._image.last.check, **environ).returncode == 0

    def wait_until_healthy(self) -> None:
        ends = time.monotonic() + BOUND
        while not self.healthy():
            assert self._process.poll() is None, self.log.read_text("utf-8")
            assert time.monotonic() < ends, self.log.read_text("utf-8")
            time.sleep(0.1)

    def first_process(self) -> Path:
        """Where this machine shows the process that is the container's first."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text("ascii")
        return Path("/proc") / children.split()[0]

    def wait(self) -> int:
        """The exit status, once the first process has ended by itself."""
        return self._process.wait(BOUND)

    def stop(self) -> int:
        """Send the image's stop signal to the first process, and wait for its exit status."""
        os.kill(int(self.first_process().name), signal.Signals[self._image.last.stop_signal])
        return self._process.wait(BOUND)
