"""A thread of the process's own that works beside its requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Event, Lock, Thread


class Daemon(ABC):
    """One daemon thread, started where it is first wanted: a fork does not take it along. It keeps no process alive.

    `_run` works until `_stopping`, and waits for `_woken` in between.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._woken = Event()
        self._stopping = False
        self._starting = Lock()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the thread unless it runs."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """There is something to do: have it done now."""
        self._woken.set()
        self.start()

    def stop(self) -> None:
        """End the thread, and wait for what it is at."""
        self._stopping = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join()

    @abstractmethod
    def _run(self) -> None: ...
