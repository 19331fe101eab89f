"""A client of servers of the Model Context Protocol, which are other people's ways to read our APIs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["McpServer", "mcp_server"]

_VERSION = "2025-06-18"
_PATIENCE = 60.0


class McpServer:
    """A server that runs, spoken to over its standard input and output."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log
        self._number = 0

    def initialize(self) -> None:
        """Agree on a version."""
        client = {"name": "tests", "version": "1"}
        parameters = {"protocolVersion": _VERSION, "capabilities": {}, "clientInfo": client}
        self._ask("initialize", parameters)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool: str, **arguments: Any) -> Any:
        """Return what a tool answers, as JSON."""
        result = self._ask("tools/call", {"name": tool, "arguments": arguments})
        assert not result.get("isError"), result
        found = result.get("structuredContent") or {"result": result["content"][0]["text"]}
        return json.loads(found["result"]) if found.keys() == {"result"} else found

    def _ask(self, method: str, parameters: Mapping[str, Any]) -> Any:
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": parameters}
        self._send(request)
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            answer = json.loads(line)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
        raise AssertionError(f"it ended: {self._log.read_text()[-4000:]}")

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()


@contextmanager
def mcp_server(command: Sequence[str], log: Path, **environment: str) -> Iterator[McpServer]:
    """Run a server until the block ends.

    Args:
        command: the words to start it with.
        log: the file for what it says on standard error.
        environment: further variables.
    """
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env={**os.environ, **environment},
        )
    try:
        server = McpServer(process, log)
        server.initialize()
        yield server
    finally:
        process.terminate()
        process.communicate(timeout=_PATIENCE)
