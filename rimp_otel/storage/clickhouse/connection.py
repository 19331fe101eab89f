"""The server: its URL, the client library, and what its errors mean."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from rimp_otel.errors import ConfigurationError, MissingExtraError, StorageError
from rimp_otel.process import call_in_forked_child, describe_error, importing

__all__ = [
    "ClickHouseConnection",
    "RefusedRowsError",
    "ServerAddress",
    "ServerError",
    "import_client",
    "parse_server_url",
]

_SCHEMES = {"clickhouse+http": "http", "clickhouse+https": "https"}
_PORTS = {"http": 8123, "https": 8443}
_OPTIONS = {"cluster", "create", "extend", "prefix"}
_EXAMPLE = "clickhouse+http://HOST:8123/DATABASE"


class ServerAddress(NamedTuple):
    """A server, a database, and what a URL says of the tables in it."""

    interface: str
    host: str
    port: int
    database: str
    user: str
    password: str
    #: The cluster on which tables are made; "" for one server.
    cluster: str
    #: What the tables' names begin with.
    prefix: str
    #: True to make tables that are missing.
    creates: bool
    #: True to add what they lack to tables that others have made.
    extends: bool
    #: The URL without user and password, for messages.
    shown: str


def parse_server_url(url: str) -> ServerAddress:
    """Return what a URL such as ``clickhouse+http://user:password@host:8123/database`` says.

    Raises:
        ConfigurationError: it is not such a URL.
    """
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"a ClickHouse URL must be like {_EXAMPLE}") from None
    shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
    interface = _SCHEMES.get(parts.scheme.lower())
    if interface is None or not parts.hostname:
        raise ConfigurationError(f"a ClickHouse URL must be like {_EXAMPLE}, got {shown!r}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise ConfigurationError(
            f"{shown!r} has the unknown parameter {unknown[0]!r}: give {', '.join(sorted(_OPTIONS))}"
        )
    database = unquote(parts.path.strip("/")) or "default"
    prefix = options.get("prefix", "otel")
    if not prefix or "/" in database:
        raise ConfigurationError(
            f"a ClickHouse URL must be like {_EXAMPLE}, got {shown!r}: its path is one database, and a"
            " prefix is not empty"
        )
    return ServerAddress(
        interface,
        parts.hostname,
        port or _PORTS[interface],
        database,
        unquote(parts.username or "default"),
        unquote(parts.password or ""),
        options.get("cluster", ""),
        prefix,
        _flag(shown, options, "create", True),
        _flag(shown, options, "extend", False),
        shown,
    )


def _flag(shown: str, options: Mapping[str, str], name: str, default: bool) -> bool:
    value = options.get(name, "yes" if default else "no")
    if value not in ("yes", "no"):
        raise ConfigurationError(f"{name} must be yes or no, got {value!r} in {shown!r}")
    return value == "yes"


# Errors.


class ServerError(StorageError):
    """The server could not be asked, or said no.

    Args:
        message: what is wrong.
        code: the server's number of the error; None if it did not answer.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class RefusedRowsError(Exception):
    """The server does not take these rows, and never will."""


_REFUSED_ROWS = frozenset({6, 26, 27, 33, 38, 41, 53, 69, 72, 117, 130, 131, 349, 407, 441, 469})
"""Codes that say that what was sent cannot be read, or breaks a constraint."""

_SETTINGS: dict[str, Any] = {
    # Of what is sent; the same whatever the server's profiles say.
    "async_insert": 0,
    "date_time_input_format": "basic",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "input_format_null_as_default": 1,
}
_READING = {
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_denormals": 1,
    "output_format_json_validate_utf8": 1,
    "max_bytes_before_external_sort": 1 << 30,
}
_CHUNK = 256 * 1024


class ClickHouseConnection:
    """Asks one server. Safe for several threads; connects when it is asked for the first time.

    Args:
        address: of the server.
        connect_timeout: seconds to wait for a connection.
        timeout: seconds to wait for an answer.
        options: further arguments of ``clickhouse_connect``'s pool, such as certificates.
        headers: further headers of all requests.
    """

    def __init__(
        self,
        address: ServerAddress,
        connect_timeout: float = 10.0,
        timeout: float = 60.0,
        options: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.address = address
        self._timeouts = connect_timeout, timeout
        self._options = dict(options or {})
        self._headers = dict(headers or {})
        self._renew()
        call_in_forked_child(self._renew)

    def _renew(self) -> None:
        # A forked child has none of its parent's connections.
        self._lock = threading.Lock()
        self._client: Any = None
        self._pool: Any = None

    def _connect(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client

    def _make_client(self) -> Any:
        connect, util = import_client()
        address = self.address
        # A pool of our own: that of the library would take the environment's proxies.
        self._pool = util.get_pool_manager(**self._options)
        connect_timeout, timeout = self._timeouts
        return connect.get_client(
            interface=address.interface,
            host=address.host,
            port=address.port,
            username=address.user,
            password=address.password,
            database=None,
            pool_mgr=self._pool,
            connect_timeout=max(1, round(connect_timeout)),
            send_receive_timeout=max(1, round(timeout)),
            autogenerate_session_id=False,
            compress=False,
            query_limit=0,
            query_retries=0,
            show_clickhouse_errors="scrub",
            settings=dict(_SETTINGS),
            headers=self._headers or None,
        )

    def close(self) -> None:
        """Close the connections; the next question opens one."""
        with self._lock:
            client, pool = self._client, self._pool
            self._client = self._pool = None
        if client is not None:
            client.close()
        if pool is not None:
            pool.clear()

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn what the library raises into errors of ours, and keep it from logging them."""
        was_quiet = _quiet.is_on
        _quiet.is_on = True
        try:
            yield
        except (StorageError, ConfigurationError, MissingExtraError):
            raise
        except OSError as error:
            raise self._error(doing, error) from error
        except Exception as error:
            code = getattr(error, "code", None)
            if code in _REFUSED_ROWS:
                raise RefusedRowsError(str(self._error(doing, error))) from error
            raise self._error(doing, error, code) from error
        finally:
            _quiet.is_on = was_quiet

    def _error(self, doing: str, error: Exception, code: int | None = None) -> ServerError:
        reason = " ".join(describe_error(_cause_of(error)).split())
        for secret in (self.address.password, *self._headers.values()):
            if len(secret) > 3:
                reason = reason.replace(secret, "***")
        return ServerError(f"cannot {doing} {self.address.shown}: {reason[:500]}", code)

    def command(self, statement: str, in_database: bool = True) -> None:
        """Run a statement that returns nothing.

        Raises:
            ServerError: that failed.
        """
        with self._errors("change"):
            self._connect().command(
                statement,
                use_database=False,
                transport_settings=None,
                settings={"database": self.address.database} if in_database else None,
            )

    def ask(
        self, query: str, parameters: Mapping[str, Any] | None = None, in_database: bool = True
    ) -> bytes:
        """Return the answer to a query, as JSON arrays, one a line.

        Raises:
            ServerError: that failed.
        """
        with self._errors("read"):
            found: bytes = self._connect().raw_query(
                query,
                parameters=dict(parameters or {}),
                fmt="JSONCompactEachRow",
                use_database=False,
                settings=self._reading(in_database),
            )
            return found

    def stream(
        self, query: str, parameters: Mapping[str, Any] | None = None
    ) -> Iterator[list[bytes]]:
        """Iterate over the answer to a query, as JSON arrays, some at a time.

        The connection is closed with the iterator.

        Raises:
            ServerError: that failed.
        """
        with self._errors("read"):
            source = self._connect().raw_stream(
                query,
                parameters=dict(parameters or {}),
                fmt="JSONCompactEachRow",
                use_database=False,
                settings=self._reading(True),
            )
        rest = b""
        try:
            while True:
                with self._errors("read"):
                    data = source.read(_CHUNK)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                if lines:
                    yield lines
            if rest:
                yield [rest]
        finally:
            source.close()

    def _reading(self, in_database: bool) -> dict[str, Any]:
        database = {"database": self.address.database} if in_database else {}
        return {**_READING, **database}

    def insert(
        self, table: str, columns: Sequence[str], rows: bytes, settings: Mapping[str, Any]
    ) -> None:
        """Insert rows, which are JSON arrays, one a line. Returns once the server has them.

        Raises:
            ServerError: that failed, or nobody knows whether it did.
            RefusedRowsError: the server cannot read the rows.
        """
        with self._errors("write"):
            self._connect().raw_insert(
                table,
                columns,
                rows,
                settings={**settings, "database": self.address.database},
                fmt="JSONCompactEachRow",
            )


def _cause_of(error: BaseException) -> BaseException:
    """Return what has no answer of the server at its root, such as a refused connection."""
    seen: BaseException | None = error
    while seen is not None and getattr(error, "code", None) is None:
        error = seen
        reason = getattr(seen, "reason", None)
        seen = reason if isinstance(reason, Exception) else seen.__cause__ or seen.__context__
    return error


class _Quiet(threading.local):
    """True in a thread that asks a server."""

    is_on = False


_quiet = _Quiet()


class _QuietFilter(logging.Filter):
    """Drops what the library logs when it raises an error: a log that is recorded would come back here."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _quiet.is_on


_FILTER = _QuietFilter()


def _keep_quiet() -> None:
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("clickhouse_connect", "urllib3")):
            logging.getLogger(name).addFilter(_FILTER)


def import_client() -> tuple[Any, Any]:
    """Import the client library; return it, and its module that makes pools of connections.

    Raises:
        MissingExtraError: it is not installed.
    """
    with importing():
        try:
            client = importlib.import_module("clickhouse_connect")
            util = importlib.import_module("clickhouse_connect.driver.httputil")
        except ImportError:
            raise MissingExtraError("clickhouse-connect", "clickhouse") from None
    _keep_quiet()
    return client, util
