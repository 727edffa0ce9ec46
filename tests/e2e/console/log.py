"""Records as the console finds them, put straight into the service's storage: also those that the API would refuse."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from records import OBSERVED, REPORTED, Kind, Record, Status, new_id, utc_now
from storage import open_storage
from tests.stores import bulk

INTEGRITY = {
    "ok": True,
    "attempts": 1,
    "placeholders": {"kept": ["{{name}}"], "lost": [], "added": []},
    "code_blocks": {"kept": 0, "lost": 0},
    "urls": {"kept": 1, "lost": []},
    "script_changed": False,
}
REFINED = {
    "strategy": "general",
    "instructions": None,
    "parent_id": None,
    "refined": True,
    "changes": [{"reason": "It is shorter.", "before": "could you please", "after": ""}],
    "assumptions": ["Length: not given in the draft."],
    "integrity": INTEGRITY,
    "rejected": None,
    "corrective_failure": None,
}


class Log:
    """The records of the client with this key, in the database of a running service. Use it as a context manager."""

    def __init__(self, url: str, api_key: str) -> None:
        self.client_id = api_key.partition(".")[0]
        self._storage = open_storage(url)
        self._begin = utc_now()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.close()

    def record(self, age: float = 0, **changes: Any) -> Record:
        """A refinement of the client's own that succeeded `age` seconds ago."""
        moment = self._begin - timedelta(seconds=age)
        values = {
            "id": new_id(),
            "kind": Kind.REFINE,
            "source": OBSERVED,
            "status": Status.SUCCEEDED,
            "user_id": self.client_id,
            "client_id": self.client_id,
            "request_id": "request-1",
            "prompt": "could you please greet {{name}}",
            "response": "Greet {{name}}.",
            "detail": REFINED,
            "model": "gpt-test",
            "engine": "openai",
            "usage": {"input_tokens": 11, "output_tokens": 7},
            "latency_ms": 321,
            "timestamp": moment,
            "completed_at": moment + timedelta(milliseconds=321),
        }
        return Record(**{**values, **changes})

    def failure(self, age: float = 0, **changes: Any) -> Record:
        """A generation that failed."""
        values = {
            "kind": Kind.GENERATE,
            "status": Status.FAILED,
            "response": None,
            "detail": {"max_length": 150, "failure": "UpstreamUnavailable", "upstream_status": 503},
            "usage": None,
            "error": {
                "type": "/problems/upstream-unavailable",
                "title": "The model is not available",
                "status": 503,
                "detail": "The model's server is overloaded.",
            },
        }
        return self.record(age, **{**values, **changes})

    def report(self, age: float = 0, **changes: Any) -> Record:
        """A call that the client reported."""
        values = {
            "kind": Kind.CLIENT,
            "source": REPORTED,
            "detail": {},
            "engine": None,
            "usage": None,
            "latency_ms": None,
            "metadata": {"session": 12345678901234567890, "ratio": 1.0},
        }
        return self.record(age, **{**values, **changes})

    def put(self, *records: Record) -> None:
        """Store records as they are."""
        bulk(self._storage, records)
