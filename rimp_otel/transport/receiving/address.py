"""Addresses that a server listens at: ``HOST:PORT``, or ``unix:PATH`` for a socket in the file system."""

from __future__ import annotations

import errno
import os
import socket
import stat
from ipaddress import ip_address
from typing import NamedTuple

from rimp_otel.errors import ConfigurationError, RimpError

__all__ = ["ListenAddress", "is_loopback_host", "listen_error", "open_sockets", "parse_address"]

_BACKLOG = 2_048


class ListenAddress(NamedTuple):
    """An address to listen at: a host and a port, or the path of a Unix socket."""

    #: A name, or an IP address without brackets; "" of a Unix socket.
    host: str
    #: 0 for any that is free.
    port: int
    #: Of a Unix socket; "" of a host.
    path: str = ""

    @property
    def is_loopback(self) -> bool:
        """True if only this machine reaches it."""
        return bool(self.path) or is_loopback_host(self.host)

    def with_port(self, port: int) -> ListenAddress:
        """Return the address with the port that was taken."""
        return self._replace(port=port)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, option: str) -> ListenAddress:
    """Return the address that ``127.0.0.1:4318``, ``[::1]:4318``, ``:4318``, ``4318`` or ``unix:/run/x``
    stands for; without a host it is 127.0.0.1.

    Args:
        text: the address.
        option: where it comes from, for messages.

    Raises:
        ConfigurationError: it is none of these.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if path:
            return ListenAddress("", 0, path)
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigurationError(
            f"{option} must be HOST:PORT, got {text!r}: write an IPv6 address as [{text}]:4318"
        )
    if not port.isdecimal() or not port.isascii() or int(port) > 65_535:
        raise ConfigurationError(
            f"{option} must be HOST:PORT with a port from 0 to 65535, unix:PATH or off, got {text!r}"
        )
    return ListenAddress(host or "127.0.0.1", int(port))


def is_loopback_host(host: str) -> bool:
    """Return True if a host is this machine alone: ``localhost``, 127.0.0.0/8 or ::1."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def open_sockets(address: ListenAddress) -> list[socket.socket]:
    """Return sockets that listen at an address: one for each IP address that the host stands for.

    Raises:
        OSError: it is taken, or there is no such address; ``listen_error`` says so in words.
    """
    if address.path:
        return [_open_unix_socket(address.path)]
    infos = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    opened: list[socket.socket] = []
    port = address.port
    try:
        for family, place in dict.fromkeys((info[0], info[4]) for info in infos):
            listener = socket.socket(family, socket.SOCK_STREAM)
            opened.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((place[0], port, *place[2:]))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            port = listener.getsockname()[1]
    except OSError:
        for listener in opened:
            listener.close()
        raise
    return opened


def _open_unix_socket(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        remove_abandoned_socket(path)
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def remove_abandoned_socket(path: str) -> None:
    """Remove the file of a Unix socket that nobody listens at any more.

    Raises:
        OSError: somebody listens at it, or it cannot be told.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is no socket is there", path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "somebody listens at it", path)


def listen_error(address: ListenAddress, option: str, error: OSError) -> RimpError:
    """Return the error that says why a server cannot listen at an address, and what to do."""
    if error.errno == errno.EADDRINUSE:
        cure = f"stop what listens there, or give another address with {option}"
        if not address.path:
            cure += f", such as {address.with_port(0)} for any free port"
        return RimpError(f"cannot listen at {address}: the address is in use; {cure}")
    reason = error.strerror or str(error)
    return RimpError(f"cannot listen at {address}: {reason}; give another address with {option}")
