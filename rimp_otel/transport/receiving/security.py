"""Who may send to a server, and over what: tokens, TLS, origins of browsers, names of hosts."""

from __future__ import annotations

import hmac
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from rimp_otel.errors import ConfigurationError
from rimp_otel.process import Reporter, describe_error
from rimp_otel.transport.receiving.address import ListenAddress, is_loopback_host

__all__ = ["TOKEN_VARIABLE", "ServerSecurity", "read_tokens"]

TOKEN_VARIABLE = "RIMP_SERVE_TOKEN"
"""The environment variable that has the token."""

_SHORTEST_TOKEN = 8
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://[^/?#@\s]+", re.IGNORECASE)


@dataclass(frozen=True)
class ServerSecurity:
    """Who may send, and over what. Immutable; valid once it exists.

    Args:
        tokens: of which a sender must have one; empty lets in everybody. In no ``repr``.
        certificate, key: of the server, in PEM; both or neither. With them it speaks only TLS.
        client_ca: certificates, in PEM, one of which a sender's must be signed by.
        allowed_origins: of web pages that may send, such as ``https://app.example.com``.
        allowed_hosts: further names that senders may call the server by.
        is_insecure: listen at any address without what ``check_address`` demands.
        is_local: the server is for this machine's own browsers, which call it by names of this
            machine alone, whatever token they have.

    Raises:
        ConfigurationError: a value is not allowed, or a file cannot be read.
    """

    tokens: tuple[str, ...] = field(default=(), repr=False)
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    is_insecure: bool = False
    is_local: bool = False

    def __post_init__(self) -> None:
        for token in self.tokens:
            if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
                raise ConfigurationError(
                    f"a token must be {_SHORTEST_TOKEN} or more characters of printable ASCII; "
                    "make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
                )
        if (self.certificate is None) is not (self.key is None):
            raise ConfigurationError("--certificate and --key must be given together")
        if self.client_ca is not None and self.certificate is None:
            raise ConfigurationError(
                "--client-ca needs TLS: give the server's own --certificate and --key as well"
            )
        for option, path in (
            ("--certificate", self.certificate),
            ("--key", self.key),
            ("--client-ca", self.client_ca),
        ):
            if path is not None:
                _check_readable(option, path)
        for origin in self.allowed_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigurationError(
                    f"--allow-origin must be a scheme and a host such as https://app.example.com, got {origin!r}"
                )

    @property
    def has_tls(self) -> bool:
        """True if the server speaks TLS only."""
        return self.certificate is not None

    @property
    def authenticates(self) -> bool:
        """True if a sender has to prove who it is."""
        return bool(self.tokens) or self.client_ca is not None

    def check_address(self, address: ListenAddress, option: str) -> None:
        """Check that a server may listen at an address.

        Raises:
            ConfigurationError: other machines reach it, and there is neither a token nor a
                certificate to know senders by, or no TLS.
        """
        if address.is_loopback or self.is_insecure:
            return
        missing = []
        if not self.authenticates:
            missing.append(f"--token-file, {TOKEN_VARIABLE} or --client-ca")
        if not self.has_tls:
            missing.append("--certificate and --key")
        if missing:
            raise ConfigurationError(
                f"{option} {address} can be reached from other machines: give {', and '.join(missing)}; "
                "or --insecure if that is meant"
            )

    def make_ssl_context(self) -> ssl.SSLContext | None:
        """Return what TLS needs of the server; None if it speaks none.

        Raises:
            ConfigurationError: the certificate and the key do not fit, or are none.
        """
        if self.certificate is None or self.key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # Without a password it would be asked for on the terminal.
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"cannot use --certificate {self.certificate} with --key {self.key}: "
                f"{_ssl_reason(error)}; give a certificate and its key in PEM, not encrypted"
            ) from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ValueError) as error:
                raise ConfigurationError(
                    f"cannot use --client-ca {self.client_ca}: {_ssl_reason(error)}; give certificates in PEM"
                ) from None
            context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["http/1.1"])
        return context

    def make_current_ssl_context(self) -> ssl.SSLContext | None:
        """Return what TLS needs of the server, as the files are when each connection is made.

        Raises:
            ConfigurationError: as ``make_ssl_context``.
        """
        context = self.make_ssl_context()
        if context is not None:
            context.sni_callback = _CurrentContext(self, context)
        return context

    def file_stamps(self) -> list[tuple[int, int, int]]:
        """Return what tells whether the files for TLS have changed.

        Raises:
            OSError: one of them is gone.
        """
        paths = [path for path in (self.certificate, self.key, self.client_ca) if path]
        stats = [os.stat(path) for path in paths]
        return [(found.st_mtime_ns, found.st_size, found.st_ino) for found in stats]

    def is_authorized(self, header: str | None) -> bool:
        """Return True if a sender has a token, or needs none.

        Args:
            header: the value of ``Authorization``; of gRPC's metadata ``authorization``.
        """
        if not self.tokens:
            return True
        match = _BEARER.fullmatch(header or "")
        given = match[1].encode() if match else b""
        # All of them: how long it takes tells nothing.
        found = [hmac.compare_digest(given, token.encode()) for token in self.tokens]
        return any(found)

    def is_allowed_host(self, header: str | None) -> bool:
        """Return True if a sender may call the server by this name.

        Where senders need not prove who they are, a name of a public domain must be on the list: a
        page in a browser could have made its own name stand for this machine (DNS rebinding).

        Args:
            header: the value of ``Host``.
        """
        if self.is_local:
            return is_loopback_host(_host_of(header or ""))
        if self.authenticates or not header:
            return True
        host = _host_of(header)
        if "." not in host or is_loopback_host(host) or _is_ip_address(host):
            return True
        return host in {name.lower().rstrip(".") for name in self.allowed_hosts}

    def describe_host(self, host: str) -> str:
        """Return what to do about a host that is not allowed."""
        if self.is_local:
            return "open the link as it was printed, which is of this machine"
        return f"start rimp serve with --allow-host {host}, or send to the server's IP address"

    def is_allowed_origin(self, origin: str) -> bool:
        """Return True if web pages of this origin may send."""
        return origin.lower() in {allowed.lower() for allowed in self.allowed_origins}


class _CurrentContext:
    """Replaces the context of a connection that is made by one of the files as they are now.

    Called by each handshake. Files that do not fit each other, as while they are being replaced, change
    nothing.
    """

    def __init__(self, security: ServerSecurity, context: ssl.SSLContext) -> None:
        self._security = security
        self._context = context
        self._stamps = security.file_stamps()
        self._reporter = Reporter()

    def __call__(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        try:
            stamps = self._security.file_stamps()
            if stamps != self._stamps:
                found = self._security.make_ssl_context()
                assert found is not None
                self._context, self._stamps = found, stamps
        except (ConfigurationError, OSError) as error:
            message = f"the files for TLS are not read anew: {describe_error(error)}"
            self._reporter.warn("tls", message)
        connection.context = self._context


def read_tokens(path: str | os.PathLike[str] | None, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tokens of a file, one a line, or the one of the environment.

    Several let senders change from one to the next at their own time.

    Raises:
        ConfigurationError: the file cannot be read, or holds none.
    """
    if path is None:
        token = env.get(TOKEN_VARIABLE, "").strip()
        return (token,) if token else ()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(f"cannot read --token-file {os.fspath(path)}: {reason}") from None
    tokens = tuple(filter(None, map(str.strip, text.splitlines())))
    if not tokens:
        raise ConfigurationError(
            f"--token-file {os.fspath(path)} holds no token: write one into it"
        )
    return tokens


def _check_readable(option: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(f"cannot read {option} {path}: {error.strerror}") from None


def _ssl_reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)


def _host_of(header: str) -> str:
    try:
        host = urlsplit(f"//{header}").hostname
    except ValueError:
        host = None
    return (host or header).lower().rstrip(".")


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
