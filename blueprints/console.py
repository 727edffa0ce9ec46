"""`GET /`: the web console, as `make console` has built it."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, abort

from .static import static

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # No script can have text parsed as markup or run as code (https://www.w3.org/TR/trusted-types/).
        "require-trusted-types-for 'script'",
        "trusted-types klamala",
    )
)
# A file's name changes with its content, so that it may be kept for good (RFC 8246).
MAX_AGE_SECONDS = 31_536_000

_ROOT = Path(__file__).parents[1]
BUILT = _ROOT / "console" / "dist"
# Said here, because what Python takes a suffix for differs with its version and with the system's tables.
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}


def console_blueprint(built: Path = BUILT) -> Blueprint:
    """The page and its files, which are read once: no path of a request reaches the disk.

    Where nothing is built, the page says so: the API does without it.
    """
    blueprint = Blueprint("console", __name__)
    index = built / "index.html"
    page = (index if index.exists() else _ROOT / "pages" / "console" / "missing.html").read_bytes()
    files = {
        path.name: (path.read_bytes(), _MEDIA_TYPES[path.suffix])
        for path in built.glob("*")
        if path.suffix in _MEDIA_TYPES
    }

    @blueprint.get("/")
    def console() -> Response:
        return Response(page, mimetype="text/html", headers=_HEADERS)

    @blueprint.get("/console/<name>")
    def console_file(name: str) -> Response:
        if name not in files:
            abort(404)
        response = static(*files[name], MAX_AGE_SECONDS, immutable=True)
        # A worker obeys the policy that its own script came with.
        response.headers.update(_HEADERS)
        return response

    return blueprint
