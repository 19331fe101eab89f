"""A server that takes OTLP/HTTP and keeps the bodies, or discards them, in a process that imports nothing
slow. ``GET`` returns the bodies, each after its length in 8 bytes."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

_DISCARD = "--discard"
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def sink(keeps: bool = True) -> Iterator[str]:
    """Return the address of a server that runs during the block."""
    command = [sys.executable, "-I", "-S", __file__, *([] if keeps else [_DISCARD])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/traces"
        finally:
            process.kill()


def read_bodies(url: str) -> Iterator[bytes]:
    """Return the bodies that were posted to a sink."""
    with urllib.request.urlopen(url) as answer:
        while length := answer.read(8):
            yield answer.read(int.from_bytes(length, "big"))


def serve(keeps: bool) -> None:
    """Serve one connection after another, until killed."""
    kept: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _serve(connection, kept if keeps else None)


def _serve(connection: socket.socket, kept: list[bytes] | None) -> None:
    stream = connection.makefile("rb", 1 << 20)
    while first := stream.readline():
        length = 0
        while (line := stream.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if first.startswith(b"GET"):
            _give_back(connection, kept or [])
            return
        body = stream.read(length)
        if kept is not None:
            kept.append(body)
        connection.sendall(_OK)


def _give_back(connection: socket.socket, kept: list[bytes]) -> None:
    size = sum(map(len, kept)) + 8 * len(kept)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    for body in kept:
        connection.sendall(len(body).to_bytes(8, "big") + body)


if __name__ == "__main__":
    serve(keeps=_DISCARD not in sys.argv)
