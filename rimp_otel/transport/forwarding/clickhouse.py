"""The destinations ``clickhouse+http:`` and ``clickhouse+https:``: a database in ClickHouse.

Records are inserted as ``ClickHouseStorage`` does, into the same tables. A batch is acknowledged once the server
has it. It has a name, which is the same if it is sent again, so that it is there once also where the forwarder
was killed between the insert and the cursor.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.process import describe_error
from rimp_otel.storage.clickhouse.connection import (
    ClickHouseConnection,
    RefusedRowsError,
    ServerAddress,
    ServerError,
    import_client,
    parse_server_url,
)
from rimp_otel.storage.clickhouse.writer import ClickHouseTables, ClickHouseWriter
from rimp_otel.transport.forwarding.destination import (
    Batch,
    Delivered,
    Destination,
    Outcome,
    Refused,
    RetryLater,
    SecretTexts,
    Stopped,
    destination_name,
    uninstrumented,
)
from rimp_otel.transport.forwarding.destination_options import DestinationOptions
from rimp_otel.transport.forwarding.sources import PortionLimits

__all__ = ["ClickHouseDestination", "open_clickhouse"]

_MAX_REQUEST = 64 * 1024 * 1024
_TIMEOUT = 60.0
# Of a user, a database, a table, a column or a right that there is not.
_STOPPING = frozenset({16, 60, 62, 81, 115, 164, 192, 193, 194, 195, 497, 516})
# The server has no memory for a batch, which may be too large, or merges too slowly.
_THROTTLING = frozenset({202, 241, 252, 290})
_STATUS = re.compile(r"HTTP status (401|403|404|405|407)\b")


def open_clickhouse(url: str, options: DestinationOptions) -> Destination:
    """Return the destination of a URL such as ``clickhouse+http://user:password@host:8123/database``.

    Where the URL has no user, CLICKHOUSE_USER and CLICKHOUSE_PASSWORD of the environment say who it is.

    Raises:
        ConfigurationError: the URL is not allowed.
        MissingExtraError: clickhouse-connect is not installed.
    """
    address = parse_server_url(url.partition("#")[0])
    import_client()
    return ClickHouseDestination(destination_name(url), _log_in(address, url, os.environ), options)


def _log_in(address: ServerAddress, url: str, env: Mapping[str, str]) -> ServerAddress:
    if "@" in url.partition("://")[2].partition("/")[0]:
        return address
    user = env.get("CLICKHOUSE_USER", "").strip() or address.user
    return address._replace(user=user, password=env.get("CLICKHOUSE_PASSWORD", ""))


class ClickHouseDestination:
    """Inserts batches, by ``open_clickhouse``.

    Args:
        name: of the destination.
        address: of the server.
        options: how to reach it.
    """

    #: A batch that is sent again under its name is there once.
    knows_repetitions = True
    #: Thousands of rows at once: the server writes files for each insert, and merges them.
    portion_limits = PortionLimits(8 * 1024 * 1024, 50_000)

    def __init__(self, name: str, address: ServerAddress, options: DestinationOptions) -> None:
        self.name = name
        self.max_request_size = options.max_request_size or _MAX_REQUEST
        self._secrets = SecretTexts([address.password, *options.headers.values()])
        pool: dict[str, Any] = {
            "ca_cert": options.ca_file,
            "client_cert": options.certificate_file,
            "client_cert_key": options.key_file,
        }
        self._connection = ClickHouseConnection(
            address,
            timeout=options.longest_timeout(_TIMEOUT),
            options={key: value for key, value in pool.items() if value},
            headers=options.headers,
        )
        self._writer = ClickHouseWriter(self._connection, ClickHouseTables(self._connection))

    def send(self, batch: Batch, timeout: float) -> Outcome:
        """Insert a batch. Raises nothing."""
        with uninstrumented():
            return self._secrets.hide_in(self._insert(batch))

    def _insert(self, batch: Batch) -> Outcome:
        try:
            self._writer.write_lines(batch.lines, batch.token or None)
        except (RefusedRowsError, DecodeError) as error:
            return Refused(str(error))
        except ServerError as error:
            return _outcome_of(error)
        except StorageError as error:  # a table that cannot be used
            return Stopped(str(error))
        except Exception as error:
            return RetryLater(describe_error(error))
        return Delivered()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()


def _outcome_of(error: ServerError) -> Outcome:
    if error.code in _STOPPING or (error.code is None and _STATUS.search(str(error))):
        return Stopped(str(error))
    return RetryLater(str(error), is_throttled=error.code in _THROTTLING)
