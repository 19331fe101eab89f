"""A viewer that serves a recording in this process, and questions to it over real HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from rimp_otel.transport.receiving.address import ListenAddress
from rimp_otel.transport.receiving.security import ServerSecurity
from rimp_otel.viewer.server import Viewer, ViewerServer
from tests.transport.serving import DEADLINE, Response

TOKEN = "correct-horse-battery"
OURS = {"Authorization": f"Bearer {TOKEN}"}


class Shown:
    """The server of ``rimp ui`` over a recording; a context manager.

    Args:
        path: of the recording.
        options: of the viewer.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        self.viewer = Viewer(path, **options)
        security = ServerSecurity((TOKEN,), is_local=True)
        self._server = ViewerServer(self.viewer, ListenAddress("127.0.0.1", 0), security)
        self.address = self._server.start()

    def __enter__(self) -> Shown:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server.stop(DEADLINE)

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.address.port, timeout=DEADLINE)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] = OURS,
        body: bytes | str | None = None,
    ) -> Response:
        """Return the answer to a request."""
        connection = self.connect()
        try:
            connection.request(method, target, body, dict(headers))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, fields, response.read())
        finally:
            connection.close()

    def get(self, target: str, expected: int = 200, /, **query: Any) -> Any:
        """Return the JSON of an answer."""
        text = f"?{urlencode(query, doseq=True)}" if query else ""
        response = self.request("GET", target + text)
        assert response.status == expected, response
        assert response.headers["content-type"] == "application/json"
        return json.loads(response.body)
