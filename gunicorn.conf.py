"""How gunicorn serves the app: `gunicorn "app:create_app()"` reads this file by itself."""

import os
from typing import Any

from background import PARTS
from settings import SettingsError, load_settings
from storage import open_storage

# Said here once, rather than by each worker in turn.
try:
    _settings = load_settings()
    open_storage(_settings.database_url).close()
except SettingsError as error:
    raise SystemExit(f"klamala: {error}") from None
except ValueError as error:
    raise SystemExit(f"klamala: DATABASE_URL: {error}") from None

bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
worker_class = "gthread"
workers = _settings.web_concurrency
threads = _settings.web_threads
# Longer than a request may take, so that a deploy cuts none off.
graceful_timeout = _settings.request_deadline_seconds + 5
# Nobody manages a running server over a socket that gunicorn would put into the user's home.
control_socket_disable = True

# `access_token` was the first design's name for the API key header. gunicorn drops names with an underscore unless the
# peer is a trusted proxy; here each peer is, for this name alone: no other header may set anything, scheme included.
forwarder_headers = "ACCESS_TOKEN"
forwarded_allow_ips = "*"
secure_scheme_headers: dict[str, str] = {}


def post_worker_init(worker: Any) -> None:
    """Have each worker bring what an earlier one left in the outbox, do its jobs, and sweep the log.

    None of that delays its start.
    """
    for name in PARTS:
        part = worker.wsgi.extensions.get(name)
        if part is not None:
            part.start()


def worker_exit(_server: Any, worker: Any) -> None:
    """Let a worker that is told to go finish its jobs; after `graceful_timeout` it is killed, and others do them."""
    jobs = getattr(worker, "wsgi", None) and worker.wsgi.extensions.get("jobs")
    if jobs is not None:
        jobs.stop()
