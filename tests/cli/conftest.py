"""A known environment, recordings, and the command in this process."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.cli.main import main
from rimp_otel.models.records import HistogramPoint, MetricKind, ResourceInfo, TelemetryMetric
from rimp_otel.storage import FileStorage
from tests.cli.records import MS, T0, checkout


class Result(NamedTuple):
    """The exit code of a command, and its output."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def known_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Set UTC, 100 columns, an empty working directory and no colour variables."""
    for name in ("NO_COLOR", "FORCE_COLOR", "RIMP_STORAGE_BACKEND", "RIMP_STORAGE_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def rimp(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Return a function that runs the command in this process."""

    def run(*argv: str) -> Result:
        try:
            code = main(argv)
        except SystemExit as exit:
            code = int(exit.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that adds steps, one to do in each pause; after the last, an interrupt."""
    steps: list[Callable[[], object]] = []
    sleep_really = time.sleep

    def sleep(seconds: float) -> None:
        if threading.current_thread() is not threading.main_thread():
            sleep_really(seconds)
            return
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr(time, "sleep", sleep)
    return lambda *further: steps.extend(further)


@pytest.fixture
def no_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make protobuf impossible to import."""
    for name in ("message", "json_format"):
        monkeypatch.setitem(sys.modules, f"google.protobuf.{name}", None)
    for signal in ("trace", "logs", "metrics"):
        monkeypatch.setitem(sys.modules, f"opentelemetry.proto.{signal}.v1.{signal}_pb2", None)


@pytest.fixture
def record() -> Callable[[TelemetryData], Path]:
    """Return a function that appends to the default recording."""

    def append(data: TelemetryData) -> Path:
        storage = FileStorage("telemetry")
        storage.store(data)
        return Path("telemetry")

    return append


@pytest.fixture
def shop(record: Callable[[TelemetryData], Path]) -> Path:
    """Make a recording of one checkout with two metrics."""
    spans, events = checkout()
    return record(TelemetryData(spans=spans, events=events, metrics=[queue(), latency()]))


def queue() -> TelemetryMetric:
    """Return a gauge."""
    resource = ResourceInfo({"service.name": "shop"})
    return TelemetryMetric("queue.length", 4, "{job}", {"queue": "mail"}, T0, resource=resource)


def latency() -> TelemetryMetric:
    """Return a histogram."""
    return TelemetryMetric(
        "http.server.duration",
        0.8,
        "s",
        {"method": "GET"},
        T0 + 250 * MS,
        kind=MetricKind.HISTOGRAM,
        point=HistogramPoint(4, 0.8, max=0.5),
        resource=ResourceInfo({"service.name": "shop"}),
    )
