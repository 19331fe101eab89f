"""Starting and ending the peers: on free ports of this machine, each by its own process id."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Running", "free_port", "is_listening", "start", "wait_until"]

_PATIENCE = 60.0


class Running:
    """A peer that runs; its output is in a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it in order, and return its exit code; kill it where it takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def start(
    command: Sequence[str | Path],
    log: Path,
    is_ready: Callable[[Running], bool],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run a command until the block ends.

    Args:
        command: the words to start it with.
        log: the file for its output, which stays there.
        is_ready: asked again and again until it is true.
        environment: its variables; those of this process by default.
    """
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    running = Running(process, log)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(running), lambda: running.output)
        assert process.poll() is None, f"{command[0]} ended: {running.output[-4000:]}"
        yield running
    finally:
        running.end()


def wait_until(
    condition: Callable[[], object],
    explain: Callable[[], object] = lambda: "",
    patience: float = _PATIENCE,
) -> None:
    """Wait for a condition; fail with an explanation where it does not come true."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen: {str(explain())[-4000:]}"
        time.sleep(0.02)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Return True if somebody listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def get(port: int, path: str = "/") -> int:
    """Ask a server on 127.0.0.1 for a page, and return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
