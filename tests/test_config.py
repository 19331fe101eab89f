"""TelemetryConfig: its validation, and its environment variables."""

from __future__ import annotations

import shutil
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest

from rimp_otel import ConfigurationError, FileStorage, TelemetryConfig
from rimp_otel.config import DefaultSize

WRONG = [
    ("enabled", 1, "enabled must be True or False, got 1"),
    ("enabled", "yes", "enabled must be True or False, got 'yes'"),
    ("buffer_size", 0, "buffer_size must be an integer >= 1, got 0"),
    ("buffer_size", True, "buffer_size must be an integer >= 1, got True"),
    ("buffer_size", 1.5, "buffer_size must be an integer >= 1, got 1.5"),
    ("buffer_limit", -1, "buffer_limit must be an integer >= 1, got -1"),
    ("flush_interval", 0, "flush_interval must be a number of seconds > 0, got 0"),
    (
        "flush_interval",
        float("nan"),
        "flush_interval must be a number of seconds > 0, got nan",
    ),
    (
        "metric_interval",
        float("inf"),
        "metric_interval must be a number of seconds > 0, got inf",
    ),
    (
        "metric_checkpoint_interval",
        -1,
        "metric_checkpoint_interval must be a number of seconds >= 0 or None, got -1",
    ),
    (
        "metric_checkpoint_interval",
        False,
        "metric_checkpoint_interval must be a number of seconds >= 0 or None, got False",
    ),
    ("realtime_mode", None, "realtime_mode must be True or False, got None"),
    (
        "storage_backend",
        "tape",
        "storage_backend must be 'memory', 'file', 'sqlite' or 'clickhouse', got 'tape'",
    ),
    (
        "storage_backend",
        ["file"],
        "storage_backend must be 'memory', 'file', 'sqlite' or 'clickhouse', got ['file']",
    ),
    ("storage_path", "", "storage_path must be a path or None, got ''"),
    ("storage_path", b"x", "storage_path must be a path or None, got b'x'"),
    ("journal", 1, "journal must be True or False, got 1"),
    ("journal_path", "", "journal_path must be a path or None, got ''"),
    (
        "journal_size",
        1024,
        "journal_size must be an integer >= 1048576, got 1024",
    ),
    ("record_open_spans", None, "record_open_spans must be True or False, got None"),
    ("record_crashes", 2, "record_crashes must be True or False, got 2"),
    ("rotate_size", 0, "rotate_size must be an integer >= 1, got 0"),
    ("rotate_age", 0, "rotate_age must be a number of seconds > 0, got 0"),
    ("compression", "rar", "compression must be 'zstd', 'gzip' or 'none', got 'rar'"),
    ("retain_size", -1, "retain_size must be an integer >= 0, got -1"),
    ("prometheus_port", 70_000, "prometheus_port must be a port of 0 to 65535, or None, got 70000"),
    ("prometheus_host", "", "prometheus_host must be the name or address of a host, got ''"),
    (
        "prometheus_gauges",
        {"queue": "best"},
        "prometheus_gauges['queue'] must be one of mostrecent, sum, min, max, mean, all, got 'best'",
    ),
    ("forward", "otlp+http://a", "forward must be a list of URLs, such as otlp+http://HOST:4318"),
    ("retain_age", 0, "retain_age must be a number of seconds > 0, got 0"),
    ("parquet", "yes", "parquet must be True or False, got 'yes'"),
    ("seal", "yes", "seal must be True or False, got 'yes'"),
    ("sync", "often", "sync must be 'interval', 'always' or 'never', got 'often'"),
    ("sync_interval", 0, "sync_interval must be a number of seconds > 0, got 0"),
    (
        "memory_max_records",
        0,
        "memory_max_records must be an integer >= 1, got 0",
    ),
    ("memory_max_bytes", "1", "memory_max_bytes must be an integer >= 1, got '1'"),
    (
        "consumer_queue_size",
        0,
        "consumer_queue_size must be an integer >= 1, got 0",
    ),
    ("flush_timeout", -5.0, "flush_timeout must be a number of seconds > 0, got -5.0"),
    ("flush_timeout", True, "flush_timeout must be a number of seconds > 0, got True"),
    ("service_name", "", "service_name must be a non-empty string or None, got ''"),
    ("service_name", 7, "service_name must be a non-empty string or None, got 7"),
    (
        "resource_attributes",
        [("a", 1)],
        "resource_attributes must be a mapping with non-empty strings as keys, got [('a', 1)]",
    ),
    (
        "resource_attributes",
        {"": 1},
        "resource_attributes must be a mapping with non-empty strings as keys, got {'': 1}",
    ),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_wrong_value_is_named(name, value, message):
    """The error names the field, what it must be, and the value."""
    with pytest.raises(ConfigurationError) as caught:
        TelemetryConfig(**{name: value})
    assert str(caught.value) == message


def test_every_field_has_a_wrong_value_above():
    """Every field is validated."""
    assert {name for name, _, _ in WRONG} == {field.name for field in fields(TelemetryConfig)}


def test_number_beyond_floats_is_named():
    """10**400 seconds is a ConfigurationError, not an OverflowError."""
    with pytest.raises(ConfigurationError, match=r"^flush_interval must be .* got 1000"):
        TelemetryConfig(flush_interval=10**400)


def test_config_is_immutable():
    """A valid configuration stays valid."""
    with pytest.raises(FrozenInstanceError):
        TelemetryConfig().buffer_size = 0  # type: ignore[misc]


def test_path_has_a_default():
    """Without a path, files go to ``telemetry``."""
    assert TelemetryConfig().path == Path("telemetry")
    assert TelemetryConfig(storage_path="x.jsonl").path == Path("x.jsonl")


FROM_ENV = [
    ("RIMP_ENABLED", "off", "enabled", False),
    ("RIMP_BUFFER_SIZE", " 17 ", "buffer_size", 17),
    ("RIMP_BUFFER_LIMIT", "99", "buffer_limit", 99),
    ("RIMP_FLUSH_INTERVAL", "0.5", "flush_interval", 0.5),
    ("RIMP_METRIC_INTERVAL", "3", "metric_interval", 3.0),
    ("RIMP_METRIC_CHECKPOINT_INTERVAL", "0", "metric_checkpoint_interval", 0.0),
    ("RIMP_REALTIME_MODE", "True", "realtime_mode", True),
    ("RIMP_STORAGE_BACKEND", "file", "storage_backend", "file"),
    ("RIMP_STORAGE_PATH", "/tmp/x", "storage_path", "/tmp/x"),
    ("RIMP_JOURNAL", "false", "journal", False),
    ("RIMP_JOURNAL_PATH", "/tmp/j", "journal_path", "/tmp/j"),
    ("RIMP_JOURNAL_SIZE", "2000000", "journal_size", 2_000_000),
    ("RIMP_RECORD_OPEN_SPANS", "0", "record_open_spans", False),
    ("RIMP_RECORD_CRASHES", "1", "record_crashes", True),
    ("RIMP_ROTATE_SIZE", "1000", "rotate_size", 1_000),
    ("RIMP_ROTATE_AGE", "60", "rotate_age", 60.0),
    ("RIMP_COMPRESSION", "gzip", "compression", "gzip"),
    ("RIMP_RETAIN_SIZE", "9", "retain_size", 9),
    ("RIMP_RETAIN_SIZE", "none", "retain_size", None),
    ("RIMP_FORWARD", "otlp+http://a, file:b", "forward", ("otlp+http://a", "file:b")),
    ("RIMP_RETAIN_AGE", "None", "retain_age", None),
    ("RIMP_RETAIN_AGE", "3600", "retain_age", 3_600.0),
    ("RIMP_PARQUET", "1", "parquet", True),
    ("RIMP_SEAL", "1", "parquet", True),
    ("RIMP_SYNC", "never", "sync", "never"),
    ("RIMP_SYNC_INTERVAL", "0.5", "sync_interval", 0.5),
    ("RIMP_MEMORY_MAX_RECORDS", "5", "memory_max_records", 5),
    ("RIMP_MEMORY_MAX_BYTES", "6", "memory_max_bytes", 6),
    ("RIMP_PROMETHEUS_PORT", "9464", "prometheus_port", 9_464),
    ("RIMP_PROMETHEUS_HOST", "::", "prometheus_host", "::"),
    (
        "RIMP_PROMETHEUS_GAUGES",
        "queue=sum,*=max",
        "prometheus_gauges",
        {"queue": "sum", "*": "max"},
    ),
    ("RIMP_CONSUMER_QUEUE_SIZE", "7", "consumer_queue_size", 7),
    ("RIMP_FLUSH_TIMEOUT", "2.5", "flush_timeout", 2.5),
    ("RIMP_SERVICE_NAME", "shop", "service_name", "shop"),
    ("RIMP_RESOURCE_ATTRIBUTES", "a=1, b=x=y", "resource_attributes", {"a": "1", "b": "x=y"}),
]


@pytest.mark.parametrize(("variable", "text", "name", "value"), FROM_ENV)
def test_field_from_environment(variable, text, name, value):
    """Each field is read from its variable, as its own type."""
    config = TelemetryConfig.from_env({variable: text})
    assert getattr(config, name) == value
    assert type(getattr(config, name)) is type(value)


def test_every_field_has_a_variable_above():
    """from_env reads every field."""
    known = {variable for variable, *_ in FROM_ENV}
    assert known == {f"RIMP_{field.name.upper()}" for field in fields(TelemetryConfig)}


def test_seal_is_the_older_name_of_parquet():
    """Either name turns it on, and a copy with other values has those."""
    config = TelemetryConfig(seal=True)
    assert config == TelemetryConfig(parquet=True)
    assert "seal" not in repr(config)
    assert not replace(config, parquet=False).parquet
    assert TelemetryConfig(parquet=True, seal=False).parquet
    assert FileStorage("telemetry", seal=True).policy.parquet


def test_empty_variable_is_not_set():
    """An empty variable counts as not set, as OpenTelemetry specifies."""
    empty = {variable: " " for variable, *_ in FROM_ENV}
    assert TelemetryConfig.from_env(empty) == TelemetryConfig()


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("RIMP_ENABLED", "maybe", "RIMP_ENABLED must be true or false, got 'maybe'"),
        ("RIMP_BUFFER_SIZE", "1.5", "RIMP_BUFFER_SIZE must be an integer, got '1.5'"),
        ("RIMP_BUFFER_SIZE", "0", "buffer_size must be an integer >= 1, got 0"),
        ("RIMP_FLUSH_INTERVAL", "soon", "RIMP_FLUSH_INTERVAL must be a number, got 'soon'"),
        (
            "RIMP_RESOURCE_ATTRIBUTES",
            "a",
            "RIMP_RESOURCE_ATTRIBUTES must be of the form key1=value1,key2=value2, got 'a'",
        ),
    ],
)
def test_wrong_variable_is_named(variable, text, message):
    """The error names the variable, so that it can be found."""
    with pytest.raises(ConfigurationError) as caught:
        TelemetryConfig.from_env({variable: text})
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["true", "TRUE", " True "])
def test_sdk_disabled_disables(text):
    """OTEL_SDK_DISABLED wins over RIMP_ENABLED."""
    config = TelemetryConfig.from_env({"OTEL_SDK_DISABLED": text, "RIMP_ENABLED": "true"})
    assert config.enabled is False
    assert TelemetryConfig.from_env({"OTEL_SDK_DISABLED": "1"}).enabled is True


def test_opentelemetry_variables_are_honoured():
    """They count if ours are not set."""
    env = {"OTEL_SERVICE_NAME": "shop", "OTEL_METRIC_EXPORT_INTERVAL": "2500"}
    config = TelemetryConfig.from_env(env)
    assert (config.service_name, config.metric_interval) == ("shop", 2.5)
    assert TelemetryConfig.from_env({**env, "RIMP_SERVICE_NAME": "x"}).service_name == "x"


@pytest.mark.parametrize(("text", "interval"), [("x", 10.0), ("", 10.0), ("-5", 0.001)])
def test_wrong_values_of_opentelemetry_variables_are_ignored(text, interval):
    """The application starts, with the default or the bound, as OpenTelemetry specifies."""
    config = TelemetryConfig.from_env({"OTEL_METRIC_EXPORT_INTERVAL": text})
    assert config.metric_interval == interval


def test_defaults_stand_between():
    """A caller's default wins over OpenTelemetry's variables, and loses to ours."""
    env = {"OTEL_SERVICE_NAME": "otel", "RIMP_BUFFER_SIZE": "3"}
    config = TelemetryConfig.from_env(env, service_name="caller", buffer_size=9)
    assert (config.service_name, config.buffer_size) == ("caller", 3)


def test_process_environment_is_the_default(monkeypatch):
    """Without a mapping, os.environ is read."""
    monkeypatch.setenv("RIMP_BUFFER_SIZE", "12")
    assert TelemetryConfig.from_env().buffer_size == 12


def test_the_default_bound(tmp_path: Path) -> None:
    """1 GB, or a tenth of the disk if that is less."""
    assert TelemetryConfig().retain_size == 10**9
    tenth = shutil.disk_usage(tmp_path).total // 10
    assert DefaultSize(10**30).on_disk(tmp_path) == tenth
    assert DefaultSize(7).on_disk(tmp_path) == 7
    assert DefaultSize(7).on_disk(tmp_path / "gone") == 7
