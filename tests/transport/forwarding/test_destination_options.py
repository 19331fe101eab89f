"""How a destination is reached: options, a file of headers, the environment."""

from __future__ import annotations

import pytest

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal
from rimp_otel.transport.forwarding.destination_options import (
    DestinationOptions,
    destination_of_environment,
    options_of_environment,
    parse_headers,
    read_headers,
)

PREFIX = "OTEL_EXPORTER_OTLP_"


def env(**variables):
    """Return an environment with variables of OTLP exporters."""
    return {f"{PREFIX}{name}": value for name, value in variables.items()}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"compression": "zstd"}, "compression must be gzip or none, got 'zstd'"),
        ({"encoding": "xml"}, "encoding must be protobuf or json, got 'xml'"),
        ({"timeout": 0}, "timeout must be more than 0 seconds, got 0"),
        ({"timeout": float("nan")}, "timeout must be more than 0"),
        ({"max_request_size": 0}, "1 byte or more"),
        ({"key_file": "k"}, "key k needs its certificate"),
        ({"headers": {"a b": "c"}}, "name of a header must be an HTTP token, got 'a b'"),
        ({"headers": {"": "c"}}, "name of a header"),
        ({"headers": {"X": "secret\r\nY: z"}}, "header 'X' has a control character"),
        ({"headers": {"Content-Length": "1"}}, "cannot be set"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(options, why):
    """No message shows the value of a header."""
    with pytest.raises(ConfigurationError, match=why) as raised:
        DestinationOptions(**options)
    assert "secret" not in str(raised.value)


def test_headers_and_endpoints_are_not_in_the_repr():
    """They are likely to be secrets."""
    signals = {Signal.LOGS: DestinationOptions({"A": "hidden"}, endpoint="http://h/?k=hidden")}
    assert "hidden" not in repr(DestinationOptions({"A": "hidden"}, signals=signals))


def test_changes_hold_for_all_signals():
    """Headers are added, and win whatever their case; None changes nothing."""
    own = DestinationOptions({"a": "own", "c": "own"}, endpoint="http://own/", timeout=3.0)
    options = DestinationOptions({"a": "1", "b": "2"}, signals={Signal.LOGS: own})
    changed = options.with_changes(headers={"A": "new"}, compression="gzip", timeout=None)
    assert changed.headers == {"b": "2", "A": "new"}
    logs = changed.of(Signal.LOGS)
    assert (logs.headers, logs.endpoint) == ({"c": "own", "A": "new"}, "http://own/")
    assert (logs.compression, logs.timeout) == ("gzip", 3.0)
    assert changed.of(Signal.TRACES) is changed


def test_headers_of_a_variable_are_percent_decoded():
    """As the specification has it; spaces around are none of theirs."""
    text = " Authorization = Basic%20dXM6cHc= ,x-a=b%2Cc=d,,empty=,X-A=last"
    assert parse_headers(text, "VARIABLE") == {
        "Authorization": "Basic dXM6cHc=",
        "empty": "",
        "X-A": "last",
    }
    with pytest.raises(ConfigurationError, match="VARIABLE: header 2 must be name=value") as raised:
        parse_headers("a=b,token", "VARIABLE")
    assert "token" not in str(raised.value)


def test_headers_of_a_file(tmp_path):
    """One a line; empty lines and comments are left out."""
    path = tmp_path / "headers"
    path.write_text("# ours\n\nAuthorization: Bearer a:b\nX-Tenant:caf\u00e9 \nx-tenant: b\n")
    assert read_headers(path) == {"Authorization": "Bearer a:b", "x-tenant": "b"}
    path.write_text("X: y\nsecret\n")
    with pytest.raises(
        ConfigurationError, match=r"headers:2: a header must be written as"
    ) as raised:
        read_headers(path)
    assert "secret" not in str(raised.value)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_headers(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        read_headers(tmp_path / "none")


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "otlp+http://localhost:4318"),
        ({"ENDPOINT": " "}, "otlp+http://localhost:4318"),
        ({"ENDPOINT": "http://c:1/p/"}, "otlp+http://c:1/p/"),
        ({"ENDPOINT": "HTTPS://c"}, "otlp+https://c:443"),
        ({"ENDPOINT": "http://c"}, "otlp+http://c:80"),
        ({"ENDPOINT": "http://u:p@[::1]"}, "otlp+http://u:p@[::1]:80"),
        ({"PROTOCOL": "http/json"}, "otlp+http://localhost:4318"),
        ({"PROTOCOL": "grpc"}, "otlp+grpc://localhost:4317"),
        ({"PROTOCOL": "grpc", "ENDPOINT": "https://c:5"}, "otlp+grpcs://c:5"),
        ({"PROTOCOL": "grpc", "ENDPOINT": "c:5"}, "otlp+grpcs://c:5"),
        ({"PROTOCOL": "grpc", "ENDPOINT": "c:5", "INSECURE": "TRUE"}, "otlp+grpc://c:5"),
        ({"PROTOCOL": "grpc", "ENDPOINT": "https://c:5", "INSECURE": "true"}, "otlp+grpcs://c:5"),
        ({"TRACES_ENDPOINT": "http://t/"}, "otlp+http://localhost:4318"),
    ],
)
def test_the_destination_of_the_environment(variables, url):
    """The endpoint by the specification's rules; without a port it is that of its scheme."""
    assert destination_of_environment(env(**variables)) == url


def test_each_signal_has_its_own_variables():
    """A signal's variable takes the place of the general one; its endpoint is used as it is."""
    variables = env(
        ENDPOINT="http://c:1",
        HEADERS="a=1",
        TRACES_HEADERS="b=2",
        TRACES_ENDPOINT="http://t/own?x=y",
        TIMEOUT="2500",
        LOGS_TIMEOUT="100",
        COMPRESSION="gzip",
        LOGS_COMPRESSION="none",
        CERTIFICATE="/ca",
        CLIENT_CERTIFICATE="/cert",
        CLIENT_KEY="/key",
        METRICS_PROTOCOL="http/json",
    )
    options = options_of_environment(variables, "otlp+http://c:1")
    assert options == DestinationOptions(
        {"a": "1"}, "/ca", "/cert", "/key", "gzip", 2.5, signals=options.signals
    )
    assert set(options.signals) == set(Signal)
    traces, logs, metrics = (options.of(s) for s in (Signal.TRACES, Signal.LOGS, Signal.METRICS))
    assert (traces.headers, traces.endpoint) == ({"b": "2"}, "http://t/own?x=y")
    assert (logs.headers, logs.timeout, logs.compression) == ({"a": "1"}, 0.1, "none")
    assert (metrics.encoding, metrics.timeout, metrics.endpoint) == ("json", 2.5, None)


def test_headers_are_not_sent_to_another_host():
    """A token is the endpoint's that the variables name; without one, the destination's."""
    named = env(ENDPOINT="https://c/p", HEADERS="token=x", CERTIFICATE="/ca")
    assert options_of_environment(named, "otlp+https://C:443/other").headers == {"token": "x"}
    assert options_of_environment(named, "otlp+http://127.0.0.1:1") == DestinationOptions()
    unnamed = env(HEADERS="token=x")
    assert options_of_environment(unnamed, "otlp+http://127.0.0.1:1").headers == {"token": "x"}
    assert options_of_environment(unnamed, "/tmp/x.jsonl") == DestinationOptions()


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        (
            {"PROTOCOL": "http"},
            "OTEL_EXPORTER_OTLP_PROTOCOL must be grpc, http/protobuf, http/json",
        ),
        ({"ENDPOINT": "c:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL"),
        ({"ENDPOINT": "http://u:hidden@c:x"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL"),
        ({"TIMEOUT": "10s"}, "OTEL_EXPORTER_OTLP_TIMEOUT must be milliseconds"),
        ({"LOGS_TIMEOUT": "0"}, "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT must be milliseconds"),
        ({"COMPRESSION": "zip"}, "OTEL_EXPORTER_OTLP_COMPRESSION must be gzip or none"),
        ({"HEADERS": "hidden"}, "OTEL_EXPORTER_OTLP_HEADERS: header 1 must be name=value"),
        ({"CLIENT_KEY": "/k"}, "needs its certificate"),
        ({"PROTOCOL": "grpc", "LOGS_ENDPOINT": "l:1"}, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT differs"),
    ],
)
def test_a_variable_that_is_not_allowed_is_named(variables, why):
    """And no secret is shown."""
    with pytest.raises(ConfigurationError, match=why) as raised:
        options_of_environment(env(**variables), destination_of_environment(env(**variables)))
    assert "hidden" not in str(raised.value)
