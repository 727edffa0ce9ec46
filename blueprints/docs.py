"""`GET /docs`: the OpenAPI document as a page, drawn by Swagger UI."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, Response, abort

from .static import static

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Swagger UI's stylesheet holds its icons as data URLs.
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
# Their names bear no version: this is how long a browser may draw with the files of the release before.
MAX_AGE_SECONDS = 3600

_PAGE = Path(__file__).parents[1] / "pages" / "docs"
# Said here, because what Python takes a suffix for differs with its version and with the system's tables.
_OWN_FILES = {"init.js": "text/javascript", "page.css": "text/css"}
_RENDERER_FILES = {
    "favicon-32x32.png": "image/png",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}


def docs_blueprint() -> Blueprint:
    """The page and its files, each of which is named here: no path of a request reaches the disk.

    Raises: `ModuleNotFoundError` when the renderer is not installed.
    """
    blueprint = Blueprint("docs", __name__)
    page = (_PAGE / "index.html").read_bytes()
    renderer = _renderer()
    files = {name: (_PAGE / name, media_type) for name, media_type in _OWN_FILES.items()}
    files |= {name: (renderer / name, media_type) for name, media_type in _RENDERER_FILES.items()}

    @blueprint.get("/docs")
    def docs() -> Response:
        return Response(page, mimetype="text/html", headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    @blueprint.get("/docs/<name>")
    def docs_file(name: str) -> Response:
        if name not in files:
            abort(404)
        path, media_type = files[name]
        return static(path.read_bytes(), media_type, MAX_AGE_SECONDS)

    return blueprint


def _renderer() -> Path:
    """The folder of Swagger UI's files in the package `flask-swagger-ui`.

    The package is looked up and not imported: its code, which is not used, wants its metadata, and that may have been
    left out of an artifact.
    """
    spec = find_spec("flask_swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("flask-swagger-ui is not installed", name="flask_swagger_ui")
    return Path(spec.submodule_search_locations[0]) / "dist"
