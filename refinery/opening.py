"""Which engine there is, by what is configured."""

from __future__ import annotations

from .engines import Engine


def open_engine(api_key: str | None, base_url: str | None) -> Engine:
    """The model behind `base_url` (OpenAI's without one), or the built-in rules where neither is set.

    Imported on demand: nobody pays for an engine that is not used.
    """
    if api_key is None and base_url is None:
        from .offline import OfflineEngine

        return OfflineEngine()
    from .openai_engine import OpenAIEngine

    return OpenAIEngine(api_key, base_url)
