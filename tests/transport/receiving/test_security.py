"""Who may send: tokens, TLS, origins and hosts."""

from __future__ import annotations

import pytest

from rimp_otel.errors import ConfigurationError
from rimp_otel.transport.receiving.address import ListenAddress
from rimp_otel.transport.receiving.security import ServerSecurity, read_tokens
from tests.transport.certificates import Authority

TOKEN = "correct-horse-battery"
ELSEWHERE = ListenAddress("0.0.0.0", 4318)


def test_tokens():
    """One of the tokens lets in; anything else does not, and nothing is needed without tokens."""
    security = ServerSecurity((TOKEN, "another-token"))
    assert security.is_authorized(f"Bearer {TOKEN}")
    assert security.is_authorized("bearer  another-token ")
    for header in (None, "", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é", "Bearer"):
        assert not security.is_authorized(header)
    assert ServerSecurity().is_authorized(None)
    assert TOKEN not in repr(security)


@pytest.mark.parametrize("token", ["short", "with\nnewline-in-it", "ünicode-token"])
def test_tokens_that_are_none(token):
    """The message does not repeat the token."""
    with pytest.raises(ConfigurationError, match="a token must be 8 or more") as raised:
        ServerSecurity((token,))
    assert token not in str(raised.value)


def test_tokens_of_a_file_and_of_the_environment(tmp_path):
    """The file, one a line, goes before the variable."""
    file, env = tmp_path / "tokens", {"RIMP_SERVE_TOKEN": " from-environment\n"}
    file.write_text(f"\n{TOKEN}\n  second-token\n")
    assert read_tokens(file, env) == (TOKEN, "second-token")
    assert read_tokens(None, env) == ("from-environment",)
    assert read_tokens(None, {}) == ()
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match="holds no token"):
        read_tokens(file, env)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="it is not text"):
        read_tokens(file, env)
    with pytest.raises(ConfigurationError, match="No such file"):
        read_tokens(tmp_path / "missing", env)


def test_addresses_that_other_machines_reach(tmp_path):
    """They need to know senders, and TLS, unless that is not wanted."""
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    tls = {"certificate": pair.certificate, "key": pair.key}
    with pytest.raises(ConfigurationError) as raised:
        ServerSecurity().check_address(ELSEWHERE, "--http")
    assert str(raised.value) == (
        "--http 0.0.0.0:4318 can be reached from other machines: give --token-file, RIMP_SERVE_TOKEN "
        "or --client-ca, and --certificate and --key; or --insecure if that is meant"
    )
    with pytest.raises(ConfigurationError, match="give --certificate and --key; or"):
        ServerSecurity((TOKEN,)).check_address(ELSEWHERE, "--http")
    with pytest.raises(ConfigurationError, match="give --token-file, RIMP_SERVE_TOKEN or --client"):
        ServerSecurity(**tls).check_address(ELSEWHERE, "--http")
    ServerSecurity((TOKEN,), **tls).check_address(ELSEWHERE, "--http")
    ServerSecurity(client_ca=authority.certificate, **tls).check_address(ELSEWHERE, "--http")
    ServerSecurity(is_insecure=True).check_address(ELSEWHERE, "--http")
    ServerSecurity().check_address(ListenAddress("::1", 1), "--http")


def test_files_for_tls(tmp_path):
    """What cannot be used is named; a certificate without its key is nothing."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    pair, wrong = authority.issue("server"), other.issue("wrong")
    assert ServerSecurity().make_ssl_context() is None
    good = ServerSecurity(
        certificate=pair.certificate, key=pair.key, client_ca=authority.certificate
    )
    assert good.make_ssl_context() is not None
    with pytest.raises(ConfigurationError, match="must be given together"):
        ServerSecurity(certificate=pair.certificate)
    with pytest.raises(ConfigurationError, match="--client-ca needs TLS"):
        ServerSecurity(client_ca=authority.certificate)
    with pytest.raises(ConfigurationError, match=r"cannot read --key .*No such file"):
        ServerSecurity(certificate=pair.certificate, key=tmp_path / "missing")
    with pytest.raises(ConfigurationError, match=r"cannot use --certificate .*KEY_VALUES_MISMATCH"):
        ServerSecurity(certificate=pair.certificate, key=wrong.key).make_ssl_context()
    with pytest.raises(ConfigurationError, match="cannot use --client-ca"):
        ServerSecurity(
            certificate=pair.certificate, key=pair.key, client_ca=pair.key
        ).make_ssl_context()


def test_hosts():
    """A name of a public domain must be listed where senders need not prove who they are."""
    security = ServerSecurity(allowed_hosts=("Collector.example.com",))
    for host in (
        *("127.0.0.1:4318", "localhost", "localhost:4318", "[::1]:4318", "[fe80::1%25eth0]"),
        *(
            "rimp:4318",
            "10.0.0.7",
            "collector.example.com:4318",
            "COLLECTOR.EXAMPLE.COM.",
            "",
            None,
        ),
    ):
        assert security.is_allowed_host(host), host
    for host in ("evil.example:4318", "example.com", "127.0.0.1.nip.io", "a.b:x", "[evil.example"):
        assert not security.is_allowed_host(host), host
    assert ServerSecurity((TOKEN,)).is_allowed_host("evil.example")


def test_origins():
    """Only those that are listed, without any pattern."""
    security = ServerSecurity(allowed_origins=("https://app.example.com",))
    assert security.is_allowed_origin("https://APP.example.com")
    for origin in ("http://app.example.com", "https://app.example.com:8443", "null", "*"):
        assert not security.is_allowed_origin(origin)
    for origin in ("*", "app.example.com", "https://app.example.com/", "null", "https://"):
        with pytest.raises(ConfigurationError, match="--allow-origin must be"):
            ServerSecurity(allowed_origins=(origin,))
