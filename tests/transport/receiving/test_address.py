"""Addresses to listen at: how they are written, and listening at them."""

from __future__ import annotations

import errno
import socket
import stat

import pytest

from rimp_otel.errors import ConfigurationError
from rimp_otel.transport.receiving.address import (
    ListenAddress,
    is_loopback_host,
    listen_error,
    open_sockets,
    parse_address,
    remove_abandoned_socket,
)


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("127.0.0.1:4318", ListenAddress("127.0.0.1", 4318), "127.0.0.1:4318"),
        ("[::1]:4318", ListenAddress("::1", 4318), "[::1]:4318"),
        (":0", ListenAddress("127.0.0.1", 0), "127.0.0.1:0"),
        ("4318", ListenAddress("127.0.0.1", 4318), "127.0.0.1:4318"),
        ("collector:1", ListenAddress("collector", 1), "collector:1"),
        ("unix:/run/rimp.sock", ListenAddress("", 0, "/run/rimp.sock"), "unix:/run/rimp.sock"),
        ("unix:///run/rimp.sock", ListenAddress("", 0, "/run/rimp.sock"), "unix:/run/rimp.sock"),
    ],
)
def test_addresses(text, address, shown):
    """Each form is read, and written so that it can be read again."""
    assert parse_address(text, "--http") == address
    assert str(address) == shown
    assert parse_address(shown, "--http") == address


@pytest.mark.parametrize("text", ["", "::1:4318", "host", "host:", "host:x", "h:65536", "unix:"])
def test_what_is_no_address(text):
    """The message names the option, and the address as it was given."""
    with pytest.raises(ConfigurationError, match="--http must be HOST:PORT") as raised:
        parse_address(text, "--http")
    assert repr(text) in str(raised.value)


def test_loopback():
    """Only this machine reaches these."""
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST.", "a.localhost"):
        assert is_loopback_host(host)
    assert is_loopback_host("::ffff:127.0.0.1")
    for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "example.com", ""):
        assert not is_loopback_host(host)
    assert parse_address("unix:/run/x", "--http").is_loopback


def test_listening_at_a_name():
    """A port that is taken for one of its addresses is taken for all of them."""
    sockets = open_sockets(ListenAddress("localhost", 0))
    ports = {listener.getsockname()[1] for listener in sockets}
    assert len(ports) == 1
    with pytest.raises(OSError) as raised:
        open_sockets(ListenAddress("127.0.0.1", *ports))
    assert raised.value.errno == errno.EADDRINUSE
    for listener in sockets:
        listener.close()


def test_messages_name_the_address_and_the_cure():
    """They say what is wrong, and what to do."""
    address = ListenAddress("127.0.0.1", 4318)
    taken = listen_error(address, "--http", OSError(errno.EADDRINUSE, "in use"))
    assert str(taken) == (
        "cannot listen at 127.0.0.1:4318: the address is in use; stop what listens there, or give "
        "another address with --http, such as 127.0.0.1:0 for any free port"
    )
    denied = listen_error(address, "--http", OSError(errno.EACCES, "Permission denied"))
    assert str(denied).endswith("Permission denied; give another address with --http")


def test_unix_sockets(tmp_path):
    """What a dead process left is replaced; what somebody listens at, or another file, is not."""
    path = tmp_path / "socket"
    (listener,) = open_sockets(ListenAddress("", 0, str(path)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OSError) as raised:
        open_sockets(ListenAddress("", 0, str(path)))
    assert raised.value.errno == errno.EADDRINUSE
    listener.close()
    (again,) = open_sockets(ListenAddress("", 0, str(path)))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    again.close()
    remove_abandoned_socket(str(path))
    assert not path.exists()
    path.write_text("a file")
    with pytest.raises(OSError, match="a file that is no socket"):
        open_sockets(ListenAddress("", 0, str(path)))
    assert path.read_text() == "a file"
