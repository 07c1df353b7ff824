"""The files of the web console: its page, its style, its scripts."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files

from pyserving.api.exchange import HttpHandler, HttpRequest, HttpResponse

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, no script and no style within the page, no frame around it."""

_HEADERS = (
    ("Cache-Control", "no-cache"),
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


def console_files() -> Mapping[str, HttpHandler]:
    """By path: ``/`` and ``/console/NAME``. They are read here, once."""
    found: dict[str, HttpHandler] = {}
    for file in files("pyserving").joinpath("console").iterdir():
        kind = _TYPES.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/console/{file.name}"
            found[path] = _File(file.read_bytes(), kind).answer
    return found


class _File:
    def __init__(self, body: bytes, kind: str) -> None:
        self._tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        headers = (*_HEADERS, ("ETag", self._tag))
        self._whole = HttpResponse(200, body, kind, headers)
        self._unchanged = HttpResponse(304, b"", "", headers)

    async def answer(self, request: HttpRequest) -> HttpResponse:
        return self._unchanged if request.headers.get("if-none-match") == self._tag else self._whole
