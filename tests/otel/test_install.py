"""install(), the configurator, and the ways in without code; each in a process of its own."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from textwrap import dedent

import pytest

from rimp_otel import FileStorage
from tests.processes import run, run_process

USE = """
import logging
from opentelemetry import _logs, metrics, trace
with trace.get_tracer("t").start_as_current_span("span"):
    logging.getLogger("app").warning("stdlib %s", "log")
_logs.get_logger("l").emit(body="log record")
metrics.get_meter("m").create_counter("counter").add(1)
"""

INSTALL = (
    """
import sys, rimp_otel
telemetry = rimp_otel.install()
telemetry.collector.collect_event("native", "event")
telemetry.collector.collect_metric("native", 1)
"""
    + USE
)


def recorded(path):
    """Return the names and bodies of a recording's records, sorted."""
    data = FileStorage(path).retrieve()
    assert len({str(m.resource) for m in data.metrics if m.name == "counter"}) <= 1
    return (
        [span.name for span in data.spans],
        sorted(event.body for event in data.events),
        sorted({metric.name for metric in data.metrics}),
    )


def has(module):
    """Return True if a module can be imported here."""
    try:
        __import__(module)
    except ImportError:
        return False
    return True


INSTALLED = bool(entry_points(group="opentelemetry_configurator", name="rimp"))
INSTRUMENT = Path(sys.executable).parent / "opentelemetry-instrument"

installed = pytest.mark.skipif(not INSTALLED, reason="needs this package installed")
instrumented = pytest.mark.skipif(
    not INSTALLED or not INSTRUMENT.exists(),
    reason="needs opentelemetry-instrument, and this package installed",
)


def run_in(directory, script, **env):
    """Run a script in a directory."""
    return run(f"import os\nos.chdir({str(directory)!r})\n" + dedent(script), **env)


def test_install_records_all_signals(tmp_path):
    """Native records, spans, log records, metrics and the standard library's logging are recorded."""
    run(INSTALL, RIMP_STORAGE_PATH=str(tmp_path / "t"))
    assert recorded(tmp_path / "t") == (
        ["span"],
        sorted(["event", "log record", "stdlib log"]),
        ["counter", "native"],
    )


def test_install_puts_logs_into_their_span(tmp_path):
    """A log record carries the ids of the span that it was logged in."""
    run(INSTALL, RIMP_STORAGE_PATH=str(tmp_path / "t"))
    data = FileStorage(tmp_path / "t").retrieve()
    (log,) = [event for event in data.events if event.body == "stdlib log"]
    assert (log.trace_id, log.span_id) == (
        data.spans[0].context.trace_id,
        data.spans[0].context.span_id,
    )
    assert (log.source, log.event_type.name) == ("app", "WARNING")


def test_install_without_logging(tmp_path):
    """``capture_logging=False`` leaves the standard library's logging alone."""
    text = INSTALL.replace("install()", "install(capture_logging=False)")
    run(text, RIMP_STORAGE_PATH=str(tmp_path / "t"))
    assert recorded(tmp_path / "t")[1] == ["event", "log record"]


def test_install_names_the_service(tmp_path):
    """The service's name is in all signals, native and not."""
    run(
        INSTALL,
        RIMP_STORAGE_PATH=str(tmp_path / "t"),
        OTEL_SERVICE_NAME="shop",
        OTEL_RESOURCE_ATTRIBUTES="team=blue",
    )
    data = FileStorage(tmp_path / "t").retrieve()
    resources = [record.resource for record in [*data.spans, *data.events, *data.metrics]]
    assert {(r.attributes["service.name"], r.attributes["team"]) for r in resources} == {
        ("shop", "blue")
    }


def test_install_beside_what_there_is(tmp_path):
    """The application's providers get our components in addition."""
    text = """
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracing)
    logs, meters = LoggerProvider(), MeterProvider(metric_readers=[reader])
    _logs.set_logger_provider(logs)
    metrics.set_meter_provider(meters)
    """
    text = "\n".join(line.strip() for line in text.splitlines()) + INSTALL
    text += """
assert trace.get_tracer_provider() is tracing
assert _logs.get_logger_provider() is logs
assert metrics.get_meter_provider() is meters
print(len(spans.get_finished_spans()), len(reader.get_metrics_data().resource_metrics))
print(hasattr(meters, "add_metric_reader"))
"""
    counts, takes_readers = run(text, RIMP_STORAGE_PATH=str(tmp_path / "t")).splitlines()
    assert counts == "1 1"
    spans, bodies, names = recorded(tmp_path / "t")
    assert (spans, bodies) == (["span"], sorted(["event", "log record", "stdlib log"]))
    assert names == (["counter", "native"] if takes_readers == "True" else ["native"])


@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED=true", "RIMP_ENABLED=false"])
def test_install_where_it_is_disabled(tmp_path, variable):
    """There is no file, no thread and no provider."""
    text = (
        INSTALL
        + """
import threading
print([t.name for t in threading.enumerate()])
print(telemetry.shutdown(), hasattr(trace.get_tracer_provider(), "add_span_processor"))
"""
    )
    name, value = variable.split("=")
    out = run(text, **{name: value, "RIMP_STORAGE_PATH": str(tmp_path / "t")})
    assert out == "['MainThread']\nTrue False\n"
    assert list(tmp_path.iterdir()) == []


def test_install_with_all_of_its_arguments():
    """It takes a configuration, a storage and a resource, and is a context manager."""
    script = """
    import rimp_otel
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    storage = rimp_otel.MemoryStorage()
    config = rimp_otel.TelemetryConfig(buffer_size=7)
    resource = Resource({"service.name": "given"})
    with rimp_otel.install(config, storage=storage, resource=resource) as telemetry:
        assert telemetry.storage is storage and telemetry.collector.config is config
        trace.get_tracer("t").start_span("s").end()
        telemetry.collector.collect_event("a", "b")
    data = storage.retrieve()
    print([r.resource.attributes["service.name"] for r in [*data.spans, *data.events]])
    trace.get_tracer("t").start_span("after").end()
    print(telemetry.shutdown(), telemetry.shutdown(1.0), len(storage.retrieve().spans))
    """
    assert run(script) == "['given', 'given']\nTrue True 2\n"


def test_a_second_install_returns_the_first_recorder(tmp_path):
    """A notebook's cell that is run again records nothing twice; what it asks for anew is
    reported."""
    script = """
    import logging, sys
    import rimp_otel
    from opentelemetry import trace
    sys.stderr = sys.stdout
    first = rimp_otel.install()
    second = rimp_otel.install()
    third = rimp_otel.install(path="elsewhere")
    print(first is second is third)
    trace.get_tracer("t").start_span("s").end()
    logging.getLogger("t").error("log")
    first.shutdown()
    fourth = rimp_otel.install(path="elsewhere")
    trace.get_tracer("t").start_span("later").end()
    fourth.shutdown()
    print(fourth is first, [len(t.storage.retrieve()) for t in (first, fourth)])
    """
    out = run_in(tmp_path, script, RIMP_STORAGE_PATH="t")
    # An SDK before 1.45 cannot have the second one's metrics from the first one's provider.
    lines = [line for line in out.splitlines(keepends=True) if "takes no reader" not in line]
    assert "".join(lines) == (
        "rimp: recording in t\n"
        "rimp: install() was called before, so this call's storage_path is ignored; "
        "shut the first recorder down before you install another\n"
        "True\nlog\nrimp: recording in elsewhere\nFalse [2, 1]\n"
    )


def test_install_with_settings_by_keyword(tmp_path):
    """A service's name, or a configuration with one, still means files."""
    script = """
    import rimp_otel
    with rimp_otel.install(path="here", service_name="shop", quiet=True) as telemetry:
        telemetry.collector.collect_event("a", "b")
    print(telemetry.storage.retrieve().events[0].resource.attributes["service.name"])
    config = rimp_otel.TelemetryConfig(service_name="shop")
    with rimp_otel.install(config, quiet=True) as telemetry:
        print(telemetry.collector.config.storage_backend, telemetry.collector.config.path)
    try:
        rimp_otel.install(servicename="shop")
    except rimp_otel.ConfigurationError as error:
        print(error)
    with rimp_otel.install(path="x.db", quiet=True) as telemetry:
        print(type(telemetry.storage).__name__)
    """
    assert run_in(tmp_path, script) == (
        "shop\nfile telemetry\n"
        "unknown setting 'servicename': see TelemetryConfig for the fields there are\nSQLiteStorage\n"
    )
    assert (tmp_path / "here" / "logs.jsonl").exists()


def test_native_records_have_the_resource_of_the_applications_provider(tmp_path):
    """It knows the service's name if the environment does not."""
    script = """
    import rimp_otel
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    trace.set_tracer_provider(TracerProvider(resource=Resource({"service.name": "theirs"})))
    with rimp_otel.install(path="t", quiet=True) as telemetry:
        telemetry.collector.collect_event("a", "b")
    print(telemetry.storage.retrieve().events[0].resource.attributes["service.name"])
    """
    assert run_in(tmp_path, script) == "theirs\n"


def test_providers_that_are_set_later_are_joined(tmp_path):
    """The application's exporters get all records, also from tracers made before; so does the
    recorder."""
    script = """
    import sys
    import rimp_otel
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    sys.stderr = sys.stdout
    telemetry = rimp_otel.install(path="t", quiet=True)
    early = trace.get_tracer("early")
    early.start_span("before").end()
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    _logs.set_logger_provider(LoggerProvider())
    print(trace.get_tracer_provider() is provider)
    with early.start_as_current_span("early"):
        trace.get_tracer("late").start_span("late").end()
    metrics.get_meter("m").create_counter("counter").add(1)
    telemetry.shutdown()
    print([span.name for span in exporter.get_finished_spans()])
    data = telemetry.storage.retrieve()
    print(sorted(span.name for span in data.spans), [metric.name for metric in data.metrics])
    """
    out = run_in(tmp_path, script)
    if "takes no reader" in out:  # an SDK before 1.45
        out = out.replace(out.splitlines()[0] + "\n", "").replace("[]\n", "['counter']\n")
    assert out == ("True\n['late', 'early']\n['before', 'early', 'late'] ['counter']\n")


def test_wrong_setting_is_named():
    """The error comes before anything is installed."""
    script = """
    import rimp_otel
    try:
        rimp_otel.install()
    except rimp_otel.ConfigurationError as error:
        print(error)
    """
    out = run(script, RIMP_BUFFER_SIZE="many")
    assert out == "RIMP_BUFFER_SIZE must be an integer, got 'many'\n"


CONFIGURATOR = """
import os
from rimp_otel.otel.configurator import RimpConfigurator
before = dict(os.environ)
RimpConfigurator().configure()
assert dict(os.environ) == before, set(dict(os.environ).items()) ^ set(before.items())
"""


@installed
def test_configurator(tmp_path):
    """It records all signals, and leaves the environment as it was."""
    run(
        CONFIGURATOR + USE,
        OTEL_PYTHON_CONFIGURATOR="rimp",
        RIMP_STORAGE_PATH=str(tmp_path / "t"),
        OTEL_SERVICE_NAME="shop",
    )
    spans, bodies, names = recorded(tmp_path / "t")
    assert spans == ["span"]
    assert "log record" in bodies
    assert names == ["counter"]
    data = FileStorage(tmp_path / "t").retrieve()
    resources = [record.resource for record in [*data.spans, *data.events, *data.metrics]]
    assert {r.attributes["service.name"] for r in resources} == {"shop"}


@installed
def test_configurator_with_exporters_named_beside_it(tmp_path):
    """Each record is stored once, even if rimp is named again; other exporters work on."""
    out = run(
        CONFIGURATOR + USE,
        OTEL_PYTHON_CONFIGURATOR="rimp",
        RIMP_STORAGE_PATH=str(tmp_path / "t"),
        OTEL_TRACES_EXPORTER="rimp,console",
        OTEL_METRICS_EXPORTER="rimp",
        OTEL_LOGS_EXPORTER="none",
    )
    assert '"name": "span"' in out
    spans, bodies, _ = recorded(tmp_path / "t")
    assert spans == ["span"]
    assert bodies.count("log record") == 1


def test_configurator_that_is_not_selected(tmp_path, monkeypatch):
    """An application that merely has the package installed is not recorded."""
    monkeypatch.chdir(tmp_path)
    run(CONFIGURATOR + USE, RIMP_STORAGE_PATH=str(tmp_path / "t"))
    assert list(tmp_path.iterdir()) == []


def test_configurator_where_the_sdk_is_disabled(tmp_path, monkeypatch):
    """Nothing is recorded."""
    monkeypatch.chdir(tmp_path)
    run(CONFIGURATOR + USE, OTEL_PYTHON_CONFIGURATOR="rimp", OTEL_SDK_DISABLED="true")
    assert list(tmp_path.iterdir()) == []


def instrument(tmp_path, **env):
    """Run a program under ``opentelemetry-instrument``."""
    (tmp_path / "program.py").write_text(USE)
    command = [str(INSTRUMENT), sys.executable, str(tmp_path / "program.py")]
    env = {"RIMP_STORAGE_PATH": str(tmp_path / "t"), **env}
    done = run_process(command, **env)
    assert done.returncode == 0, done.stderr
    if "can't create new thread at interpreter shutdown" in done.stderr:
        # The instrumentation's own logging handler, on Python 3.12, whoever records; not ours.
        assert "opentelemetry/instrumentation/logging/handler.py" in done.stderr
        assert done.stderr.count("Traceback") == 1
    else:
        assert "Traceback" not in done.stderr
    assert "rimp_otel/" not in done.stderr
    return done


@instrumented
def test_instrument_with_the_configurator(tmp_path):
    """The collector is a processor, and records all signals."""
    instrument(tmp_path, OTEL_PYTHON_CONFIGURATOR="rimp")
    spans, bodies, names = recorded(tmp_path / "t")
    assert spans == ["span"]
    assert set(bodies) >= {"log record"}
    assert "counter" in names


@instrumented
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_instrument_with_an_otlp_exporter_that_is_not_there(tmp_path, protocol):
    """``opentelemetry-distro`` names it, installed or not; the program is recorded all the same."""
    name = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}[protocol]
    if entry_points(group="opentelemetry_traces_exporter", name=name):
        pytest.skip("it is there")
    instrument(
        tmp_path,
        OTEL_PYTHON_CONFIGURATOR="rimp",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_METRICS_EXPORTER="otlp",
        OTEL_LOGS_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
    )
    assert recorded(tmp_path / "t")[0] == ["span"]


@instrumented
def test_instrument_with_exporters(tmp_path):
    """The exporters work behind the SDK's own processors."""
    names = {f"OTEL_{signal}_EXPORTER": "rimp" for signal in ("TRACES", "METRICS", "LOGS")}
    instrument(tmp_path, **names)
    spans, bodies, metrics = recorded(tmp_path / "t")
    assert spans == ["span"]
    assert "log record" in bodies
    assert "counter" in metrics


@instrumented
def test_instrument_with_neither(tmp_path):
    """Nothing is recorded."""
    names = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    instrument(tmp_path, **names)
    assert not (tmp_path / "t").exists()


DECLARATIVE = """
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: declared
tracer_provider:
  processors:
    - {processor}:
        exporter:
          rimp:
            path: {path}
logger_provider:
  processors:
    - {processor}:
        exporter:
          rimp:
            path: {path}
meter_provider:
  readers:
    - periodic:
        exporter:
          rimp:
"""


@instrumented
@pytest.mark.parametrize("processor", ["simple", "batch"])
@pytest.mark.parametrize("configurator", [{}, {"OTEL_PYTHON_CONFIGURATOR": "rimp"}], ids=len)
def test_declarative_configuration(tmp_path, processor, configurator):
    """The exporter ``rimp`` takes arguments or none; the file wins over the configurator."""
    if not has("opentelemetry.configuration"):
        pytest.skip("opentelemetry-configuration is not installed")
    file = tmp_path / "sdk.yaml"
    file.write_text(DECLARATIVE.format(processor=processor, path=tmp_path / "t"))
    instrument(tmp_path, OTEL_CONFIG_FILE=str(file), **configurator)
    spans, bodies, names = recorded(tmp_path / "t")
    assert spans == ["span"]
    assert bodies.count("log record") == 1
    assert "counter" in names
    (ended,) = FileStorage(tmp_path / "t").retrieve().spans
    assert ended.resource.attributes["service.name"] == "declared"
