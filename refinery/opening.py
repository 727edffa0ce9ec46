"""Which engine there is, by what is configured."""

from __future__ import annotations

from functools import cached_property
from threading import Lock, Thread
from typing import TYPE_CHECKING

from .deadline import Deadline
from .deferral import defer
from .engines import Engine, Generation, Rewrite, Task

if TYPE_CHECKING:
    from .openai_engine import OpenAIEngine


def open_engine(api_key: str | None, base_url: str | None) -> Engine:
    """The model behind `base_url` (OpenAI's without one), or the built-in rules where neither is set.

    Imported on demand: nobody pays for an engine that is not used.
    """
    if api_key is None and base_url is None:
        from .offline import OfflineEngine

        return OfflineEngine()
    return ModelEngine(api_key, base_url)


class ModelEngine:
    """The model, whose client is imported and built for the first call: other routes start without it."""

    name = "openai"

    def __init__(self, api_key: str | None, base_url: str | None) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._lock = Lock()
        self._begun = False

    def prime(self) -> None:
        """Begin to import and build the client beside what the caller does next, if nobody has yet."""
        if not self._begun:
            self._begun = True
            Thread(target=self._ready, name="prime", daemon=True).start()

    def model_for(self, requested: str) -> str:
        return requested

    def rewrite(self, task: Task, deadline: Deadline) -> Rewrite:
        """As `OpenAIEngine.rewrite`."""
        return self._ready().rewrite(task, deadline)

    def generate(self, prompt: str, *, model: str, max_tokens: int, deadline: Deadline) -> Generation:
        """As `OpenAIEngine.generate`."""
        return self._ready().generate(prompt, model=model, max_tokens=max_tokens, deadline=deadline)

    def close(self) -> None:
        """Give back connections. No call comes after."""
        if "_engine" in vars(self):
            self._engine.close()

    def _ready(self) -> OpenAIEngine:
        with self._lock:
            return self._engine

    @cached_property
    def _engine(self) -> OpenAIEngine:
        defer("openai.types")
        from .openai_engine import OpenAIEngine

        return OpenAIEngine(self._api_key, self._base_url)
