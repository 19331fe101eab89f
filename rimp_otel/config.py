"""The configuration: its options, their validation, and their environment variables."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from rimp_otel.errors import ConfigurationError

__all__ = [
    "BACKENDS",
    "COMPRESSIONS",
    "DEFAULT_PATHS",
    "SYNC_POLICIES",
    "TelemetryConfig",
]

BACKENDS = ("memory", "file", "sqlite", "clickhouse")
"""The storages that ``storage_backend`` can name."""

DEFAULT_PATHS = {"file": "telemetry", "sqlite": "telemetry.db"}
"""The path of each storage that persists, if none is configured."""

COMPRESSIONS = ("zstd", "gzip", "none")
"""The compressions of sealed files."""

SYNC_POLICIES = ("interval", "always", "never")
"""The policies of when files are forced to the device."""

GAUGE_POLICIES = ("mostrecent", "sum", "min", "max", "mean", "all")
"""How a gauge of several processes becomes one; with "all" it does not."""

_MAX_PORT = 65_535
_PROMETHEUS_PORT = 9_464


class _DefaultBackend(str):
    """The default of ``storage_backend``, told from the same text that was configured."""

    __slots__ = ()


class _ServerUrl(str):
    """The URL of a server, which is shown without its password."""

    __slots__ = ()

    def __repr__(self) -> str:
        scheme, _, rest = self.partition("://")
        login, at, host = rest.rpartition("@")
        user = login.partition(":")[0]
        return repr(f"{scheme}://{user}{':***' * (':' in login)}{at}{host}")


class DefaultSize(int):
    """The default of ``retain_size``: an upper bound, on a small disk a tenth of that."""

    __slots__ = ()

    def on_disk(self, path: str | os.PathLike[str]) -> int:
        """Return the bound for a recording at a path that exists."""
        try:
            return min(self, shutil.disk_usage(path).total // 10)
        except OSError:
            return self


@dataclass(frozen=True)
class TelemetryConfig:
    """The options of a collector, its stream and its storage. Immutable, hashable, and valid
    once it exists.

    Args:
        enabled: False makes everything a cheap no-op.
        buffer_size: records in the buffer that make the stream drain it before its interval is
            over; without a stream, the most that the buffer holds (then the oldest is dropped).
        buffer_limit: records that may wait while a stream is attached but behind (a burst, or a
            storage that is down); past it the oldest is dropped and counted. Never less than
            ``buffer_size``.
        flush_interval: seconds between two drains.
        metric_interval: seconds between two collections of the OpenTelemetry instruments.
        metric_checkpoint_interval: seconds between two collections whose points are only kept in the
            journal, for the case that the process dies, if the storage persists; None or 0 keeps
            none, so that a death costs up to ``metric_interval`` of measurements.
        realtime_mode: call the listeners at once, on the thread that collects.
        storage_backend: "memory", "file", "sqlite" or "clickhouse"; default: the kind that ``storage_path``
            stands for ("clickhouse" if it is a URL ``clickhouse+http://…``, "sqlite" if it ends in .db, .sqlite
            or .sqlite3, else "file"), and "memory" without one.
        storage_path: where a persistent storage records. For "file" a directory (default:
            "telemetry"), or a family of files if it ends in ``.jsonl``; for "sqlite" a file
            (default: "telemetry.db"); for "clickhouse" the URL of a database.
        journal: buffer on disk, where no death of the process loses a record, if the storage
            persists; False buffers in memory.
        journal_path: the directory for the journals of storages that have no place of their own
            for them: ClickHouse's (default: "telemetry.clickhouse"), and custom ones, which without it are
            buffered in memory.
        journal_size: bytes of records that may wait in the journal while the storage is behind or
            down; past it new ones are dropped and counted.
        record_open_spans: record each span's start in the journal, so that a span that was open
            when the process died comes back as an interrupted span.
        record_crashes: enable ``faulthandler`` into the journal, so that the stacks of a crash
            come back as an event (and are no longer printed to standard error).
        rotate_size: bytes after which the file storage seals a file and begins another.
        rotate_age: seconds after which the file storage seals a file and begins another.
        compression: the compression of sealed files: "zstd", "gzip" or "none".
        retain_size: bytes of sealed files, or of SQLite's file, that are kept, the newest; None (in the
            environment: ``none``) keeps all. Default: 1 GB, or a tenth of the disk if that is less.
        retain_age: seconds for which sealed files, or SQLite's records, are kept; None keeps all.
        parquet: have a background process make Parquet copies of sealed files (extra ``sql``).
        sync: when files are forced to the device: "interval", "always" (before ``store`` returns)
            or "never". Matters only to a loss of power.
        sync_interval: seconds between two syncs, with "interval".
        memory_max_records, memory_max_bytes: bounds of the memory storage; the oldest goes first.
        consumer_queue_size: batches that wait for one consumer before it misses some.
        flush_timeout: seconds that ``flush()`` and ``stop()`` wait at most by default.
        service_name: ``service.name`` of native records (default: OTEL_SERVICE_NAME).
        resource_attributes: further attributes of the resource of native records.
        seal: older name of ``parquet``, which it sets; None once the configuration exists.
        forward: URLs of destinations that the stream forwards the recording to, over HTTP or into files:
            ``otlp+http://``, ``otlp+https://``, ``file:``. Headers and certificates come from
            OTEL_EXPORTER_OTLP_*. In the environment: separated by commas.
        prometheus_port: where this process serves `/metrics` for Prometheus, of all processes that record
            into the path; None for no such server.
        prometheus_host: the name or address that it listens at.
        prometheus_gauges: how a gauge of several processes becomes one: "mostrecent", "sum", "min", "max",
            "mean" or "all" (it does not) by the name of the metric, or by "*" for all others.

    Raises:
        ConfigurationError: a field has a value that is not allowed.
    """

    enabled: bool = True
    buffer_size: int = 2_048
    buffer_limit: int = 131_072
    flush_interval: float = 1.0
    metric_interval: float = 10.0
    metric_checkpoint_interval: float | None = 1.0
    realtime_mode: bool = False
    storage_backend: str = _DefaultBackend("memory")
    storage_path: str | os.PathLike[str] | None = None
    journal: bool = True
    journal_path: str | os.PathLike[str] | None = None
    journal_size: int = 1024 * 1024 * 1024
    record_open_spans: bool = True
    record_crashes: bool = False
    rotate_size: int = 64 * 1024 * 1024
    rotate_age: float = 24 * 60 * 60.0
    compression: str = "zstd"
    retain_size: int | None = DefaultSize(10**9)
    retain_age: float | None = None
    parquet: bool = False
    sync: str = "interval"
    sync_interval: float = 5.0
    memory_max_records: int = 100_000
    memory_max_bytes: int = 256 * 1024 * 1024
    consumer_queue_size: int = 1_024
    flush_timeout: float = 5.0
    service_name: str | None = None
    # Not hashed, since it holds anything; equal configurations have equal hashes anyway.
    resource_attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    seal: bool | None = field(default=None, repr=False)
    # Not shown, since a URL may have a password.
    forward: Sequence[str] = field(default=(), repr=False)
    prometheus_port: int | None = None
    prometheus_host: str = "localhost"
    prometheus_gauges: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for entry in fields(self):
            _CHECKS[entry.name](entry.name, getattr(self, entry.name))
        object.__setattr__(self, "forward", tuple(self.forward))
        if self.storage_path is not None and is_server_url(self.storage_path):
            object.__setattr__(self, "storage_path", _ServerUrl(self.storage_path))
        if self.storage_path is not None and not self.names_storage:
            object.__setattr__(self, "storage_backend", _backend_of(self.storage_path))
        if self.seal is not None:
            object.__setattr__(self, "parquet", self.parquet or self.seal)
            object.__setattr__(self, "seal", None)

    @property
    def names_storage(self) -> bool:
        """True if a backend or a path is configured."""
        return not isinstance(self.storage_backend, _DefaultBackend)

    @property
    def path(self) -> Path:
        """The path of a persistent storage: ``storage_path`` or its default."""
        return Path(self.storage_path or DEFAULT_PATHS.get(self.storage_backend, "telemetry"))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **defaults: Any) -> TelemetryConfig:
        """Return the configuration that the environment asks for.

        Each field is read from ``RIMP_<FIELD IN CAPITALS>``; empty means not set. A field that is not
        set there is taken from ``defaults``, then from OpenTelemetry's own variables
        (OTEL_SDK_DISABLED, OTEL_SERVICE_NAME, OTEL_METRIC_EXPORT_INTERVAL, and with
        OTEL_METRICS_EXPORTER=prometheus OTEL_EXPORTER_PROMETHEUS_HOST and _PORT), then from this class.
        OTEL_RESOURCE_ATTRIBUTES needs no field here: the SDK's resource honours it.

        Raises:
            ConfigurationError: a variable holds a value that is not allowed.
        """
        env = os.environ if environ is None else environ
        values = {**_values_from_opentelemetry(env), **defaults, **_values_from_rimp(env)}
        if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            values["enabled"] = False
        return cls(**values)


def is_server_url(path: str | os.PathLike[str]) -> bool:
    """Return True if a ``storage_path`` is the URL of a server, and no path."""
    return isinstance(path, str) and path.lower().startswith(
        ("clickhouse+http:", "clickhouse+https:")
    )


def _backend_of(path: str | os.PathLike[str]) -> str:
    if is_server_url(path):
        return "clickhouse"
    return "sqlite" if Path(path).suffix in {".db", ".sqlite", ".sqlite3"} else "file"


# Settings that have no effect where others are as they are.

_COMPANION_SETTINGS = {"forward", "prometheus_port", "prometheus_host", "prometheus_gauges"}
_STORAGE_SETTINGS = {
    "file": {
        *("rotate_size", "rotate_age", "compression", "retain_size", "retain_age", "parquet"),
        *_COMPANION_SETTINGS,
    },
    "sqlite": {"retain_size", "retain_age", *_COMPANION_SETTINGS},
    "clickhouse": {"retain_age"},
    "memory": {"memory_max_records", "memory_max_bytes"},
}
_JOURNAL_SETTINGS = {
    "journal_path",
    "journal_size",
    "record_crashes",
    "metric_checkpoint_interval",
}


class JournalPlace(Enum):
    """Where a stream's journal lies."""

    NONE = "none"
    #: In the directory ``journal_path``.
    CONFIGURED = "configured"
    #: Beside what the storage stores.
    OWN = "own"


def settings_without_effect(
    config: TelemetryConfig, storage: str, makes_storage: bool, place: JournalPlace
) -> list[str]:
    """Return a sentence for each reason why settings that were changed have no effect.

    Args:
        config: the configuration.
        storage: the kind of the storage that is used.
        makes_storage: whether it is the one that the configuration names; no setting of a storage
            has an effect on one that was made by hand.
        place: of the journal.
    """
    changed = [
        entry.name
        for entry in fields(config)
        if getattr(config, entry.name) not in (_DEFAULTS[entry.name], None)
    ]
    has_files = makes_storage and config.storage_backend != "memory"
    unused = {"storage_path"}.union(*_STORAGE_SETTINGS.values())
    reason = f"the {storage} was not made from the configuration"
    if makes_storage:
        unused -= _STORAGE_SETTINGS[config.storage_backend]
        unused -= {"storage_path"} if has_files else set()
        reason = f"a {storage} takes no such setting"
    found = [(unused, reason)]
    if not config.journal:
        found.append((_JOURNAL_SETTINGS, "there is no journal with journal=False"))
    elif place is JournalPlace.NONE:
        found.append((_JOURNAL_SETTINGS, f"a {storage} has no journal without journal_path"))
    elif place is JournalPlace.OWN:
        found.append(({"journal_path"}, f"a {storage} keeps its journal beside what it stores"))
    if place is JournalPlace.NONE and not has_files:
        found.append(({"sync", "sync_interval"}, f"a {storage} takes no such setting"))
    elif config.sync != "interval":
        found.append(({"sync_interval"}, f"it counts with sync='interval', not {config.sync!r}"))
    sentences = []
    for names, reason in found:
        if listed := [name for name in changed if name in names]:
            sentences.append(f"{_format_settings(listed)} no effect: {reason}")
    return sentences


def _format_settings(names: list[str]) -> str:
    *others, last = names
    if others:
        return f"the settings {', '.join(others)} and {last} have"
    return f"the setting {last} has"


# Checks of fields. Each takes the field's name and its value.

FieldCheck = Callable[[str, Any], None]


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _invalid_setting(name, value, "True or False")


def _check_count(minimum: int) -> FieldCheck:
    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise _invalid_setting(name, value, f"an integer >= {minimum}")

    return check


def _check_seconds(name: str, value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value <= sys.float_info.max:
        raise _invalid_setting(name, value, "a number of seconds > 0")


def _check_seconds_or_none(name: str, value: Any) -> None:
    if value is None or (value == 0 and not isinstance(value, bool)):
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value <= sys.float_info.max:
        raise _invalid_setting(name, value, "a number of seconds >= 0 or None")


def _check_choice(*choices: str) -> FieldCheck:
    *most, last = map(repr, choices)

    def check(name: str, value: Any) -> None:
        if value not in choices:
            raise _invalid_setting(name, value, f"{', '.join(most)} or {last}")

    return check


def _allow_none(check: FieldCheck) -> FieldCheck:
    def check_unless_none(name: str, value: Any) -> None:
        if value is not None:
            check(name, value)

    return check_unless_none


def _check_path(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise _invalid_setting(name, value, "a path or None")


def _check_text(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise _invalid_setting(name, value, "a non-empty string or None")


def _check_forward(name: str, value: Any) -> None:
    is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    if not is_list or not all(isinstance(url, str) and url for url in value):
        # The value is not shown, since a URL may have a password.
        raise ConfigurationError(f"{name} must be a list of URLs, such as otlp+http://HOST:4318")
    for url in value:
        scheme = url.partition(":")[0].lower()
        if scheme.startswith("otlp+grpc"):
            raise ConfigurationError(
                f"{name} cannot forward over {scheme} in this process: a fork breaks the connections of gRPC,"
                " and with them the child; forward over otlp+http, or run 'rimp forward'"
            )


def _check_resource_attributes(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key for key in value):
        raise _invalid_setting(name, value, "a mapping with non-empty strings as keys")


def _check_host(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise _invalid_setting(name, value, "the name or address of a host")


def _check_port(name: str, value: Any) -> None:
    is_port = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_PORT
    if value is not None and not is_port:
        raise _invalid_setting(name, value, f"a port of 0 to {_MAX_PORT}, or None")


def check_gauges(name: str, value: Any) -> None:
    """Check policies of gauges, by the names of metrics.

    Raises:
        ConfigurationError: one is not in ``GAUGE_POLICIES``.
    """
    if not isinstance(value, Mapping):
        raise _invalid_setting(name, value, "a mapping of names to policies")
    for metric, policy in value.items():
        if not isinstance(metric, str) or policy not in GAUGE_POLICIES:
            expected = f"one of {', '.join(GAUGE_POLICIES)}"
            raise _invalid_setting(f"{name}[{metric!r}]", policy, expected)


def _invalid_setting(name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{name} must be {expected}, got {value!r}")


_CHECKS: dict[str, FieldCheck] = {
    "enabled": _check_flag,
    "buffer_size": _check_count(1),
    "buffer_limit": _check_count(1),
    "flush_interval": _check_seconds,
    "metric_interval": _check_seconds,
    "metric_checkpoint_interval": _check_seconds_or_none,
    "realtime_mode": _check_flag,
    "storage_backend": _check_choice(*BACKENDS),
    "storage_path": _check_path,
    "journal": _check_flag,
    "journal_path": _check_path,
    "journal_size": _check_count(1024 * 1024),
    "record_open_spans": _check_flag,
    "record_crashes": _check_flag,
    "rotate_size": _check_count(1),
    "rotate_age": _check_seconds,
    "compression": _check_choice(*COMPRESSIONS),
    "retain_size": _allow_none(_check_count(0)),
    "retain_age": _allow_none(_check_seconds),
    "parquet": _check_flag,
    "sync": _check_choice(*SYNC_POLICIES),
    "sync_interval": _check_seconds,
    "memory_max_records": _check_count(1),
    "memory_max_bytes": _check_count(1),
    "consumer_queue_size": _check_count(1),
    "flush_timeout": _check_seconds,
    "forward": _check_forward,
    "prometheus_port": _check_port,
    "prometheus_host": _check_host,
    "prometheus_gauges": check_gauges,
    "service_name": _check_text,
    "resource_attributes": _check_resource_attributes,
    "seal": _allow_none(_check_flag),
}


_DEFAULTS = {
    entry.name: entry.default if entry.default_factory is MISSING else entry.default_factory()
    for entry in fields(TelemetryConfig)
}


# The environment.


def _values_from_opentelemetry(env: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if name := env.get("OTEL_SERVICE_NAME", "").strip():
        values["service_name"] = name
    millis = env.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip()
    try:
        values["metric_interval"] = max(float(millis), 1.0) / 1_000
    except ValueError:
        pass  # OpenTelemetry's specification wants a wrong value of its variables ignored
    exporters = {name.strip() for name in env.get("OTEL_METRICS_EXPORTER", "").split(",")}
    if "prometheus" in exporters:
        port = env.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip()
        is_port = port.isascii() and port.isdigit() and int(port) <= _MAX_PORT
        values["prometheus_port"] = int(port) if is_port else _PROMETHEUS_PORT
        if host := env.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip():
            values["prometheus_host"] = host
    return values


def _values_from_rimp(env: Mapping[str, str]) -> dict[str, Any]:
    known = {f"RIMP_{entry.name.upper()}": entry for entry in fields(TelemetryConfig)}
    values: dict[str, Any] = {}
    for variable, text in env.items():
        if variable in known and text.strip():
            entry = known[variable]
            if entry.name in _BOUNDS and text.strip().lower() == "none":
                values[entry.name] = None
                continue
            values[entry.name] = _parse_variable(
                variable, text.strip(), _EXAMPLES.get(entry.name, entry.default)
            )
    return values


_BOUNDS = {"retain_size", "retain_age"}
"""The fields that a variable can set to None."""

# A value of the right type, for fields whose default does not show it.
_EXAMPLES: dict[str, Any] = {
    "resource_attributes": {},
    "retain_size": 1,
    "retain_age": 1.0,
    "seal": False,
    "prometheus_port": 1,
    "prometheus_gauges": {},
}


def _parse_variable(variable: str, text: str, example: Any) -> Any:
    """Return a variable's value in the type of ``example``."""
    if isinstance(example, bool):
        return _parse_flag(variable, text)
    if isinstance(example, tuple):
        return tuple(url.strip() for url in text.split(",") if url.strip())
    if isinstance(example, int):
        return int(_parse_number(variable, text, int))
    if isinstance(example, float):
        return _parse_number(variable, text)
    return _parse_pairs(variable, text) if isinstance(example, dict) else text


def _parse_flag(variable: str, text: str) -> bool:
    word = text.lower()
    if word in {"true", "1", "yes", "on"}:
        return True
    if word in {"false", "0", "no", "off"}:
        return False
    raise _invalid_setting(variable, text, "true or false")


def _parse_number(variable: str, text: str, kind: Callable[[str], float] = float) -> float:
    try:
        return kind(text)
    except ValueError:
        expected = "an integer" if kind is int else "a number"
        raise _invalid_setting(variable, text, expected) from None


def _parse_pairs(variable: str, text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        raise _invalid_setting(variable, text, "of the form key1=value1,key2=value2")
    return {key.strip(): value.strip() for key, _, value in pairs}
