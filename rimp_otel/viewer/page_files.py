"""The files of the page: read once, kept compressed, and served by their exact names alone."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rimp_otel.viewer.single_page import bundle_modules

__all__ = ["PAGE_DIRECTORY", "PageFiles"]

PAGE_DIRECTORY = Path(__file__).with_name("page")
"""Where the page's files lie."""

_INDEX = "index.html"
_ENTRY = "main.js"
_TEXT = "; charset=utf-8"
_TYPES = {
    ".css": "text/css" + _TEXT,
    ".html": "text/html" + _TEXT,
    ".ico": "image/x-icon",
    ".js": "text/javascript" + _TEXT,
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
"""The files that are served, by the ends of their names."""
_COMPRESSED = frozenset({".ico", ".png", ".woff2"})


class _File(NamedTuple):
    content_type: str
    tag: str
    body: bytes
    #: None if it is not smaller.
    zipped: bytes | None


class PageFiles:
    """The files of a page, in memory.

    ``main.js`` is answered with all that it imports: a page of many modules would ask for them one
    level after the other.

    Args:
        directory: where they lie; those that are changed later are served as they were.
    """

    def __init__(self, directory: Path = PAGE_DIRECTORY) -> None:
        self._files = dict(_read_files(directory))
        self._has_bundle = f"/{_ENTRY}" in self._files
        if self._has_bundle:
            script = bundle_modules(directory, _ENTRY).encode()
            self._files[f"/{_ENTRY}"] = _make_file(".js", script)
        if (index := self._files.get(f"/{_INDEX}")) is not None:
            self._files["/"] = index

    @property
    def paths(self) -> frozenset[str]:
        """The paths, each beginning with a slash; "/" is ``index.html``."""
        return frozenset(self._files)

    @property
    def transfer_size(self) -> int:
        """Bytes of all files that the page asks for, as they are sent, each once."""
        return sum(
            len(file.zipped or file.body)
            for path, file in self._files.items()
            if path != "/" and not self._is_bundled(path)
        )

    def _is_bundled(self, path: str) -> bool:
        return self._has_bundle and path.endswith(".js") and path != f"/{_ENTRY}"

    def routes(self) -> list[BaseRoute]:
        """Return a route for each path."""
        return [Route(path, self._answer, methods=["GET"]) for path in self._files]

    async def _answer(self, request: Request) -> Response:
        file = self._files[request.scope["path"]]
        headers = {
            # Asked for anew each time, and mostly answered with 304.
            "Cache-Control": "no-cache",
            "ETag": file.tag,
            "Vary": "Accept-Encoding",
        }
        if _names_tag(request.headers.get("if-none-match", ""), file.tag):
            return Response(status_code=304, headers=headers)
        body = file.body
        if file.zipped is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
            body = file.zipped
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers={**headers, "Content-Type": file.content_type})


def _read_files(directory: Path) -> Iterator[tuple[str, _File]]:
    for path in sorted(directory.rglob("*")):
        if path.suffix in _TYPES and path.is_file():
            name = path.relative_to(directory).as_posix()
            yield f"/{name}", _make_file(path.suffix, path.read_bytes())


def _make_file(suffix: str, body: bytes) -> _File:
    zipped = None if suffix in _COMPRESSED else gzip.compress(body, 9, mtime=0)
    if zipped is not None and len(zipped) >= len(body):
        zipped = None
    # Weak: of the same file compressed and not, the bytes differ.
    tag = f'W/"{hashlib.sha256(body).hexdigest()[:20]}"'
    return _File(_TYPES[suffix], tag, body, zipped)


def _names_tag(header: str, tag: str) -> bool:
    wanted = {part.strip().removeprefix("W/") for part in header.split(",")}
    return "*" in wanted or tag.removeprefix("W/") in wanted


def _takes_gzip(header: str) -> bool:
    for part in header.lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in ("gzip", "*"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
