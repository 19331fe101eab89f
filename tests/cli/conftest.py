"""A known environment, a recording to look at, and the command to look with."""

from __future__ import annotations

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
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def known_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """UTC, 100 columns, an empty working directory, no colour variables."""
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
    """Runs the command in this process."""

    def run(*argv: str) -> Result:
        try:
            code = main(argv)
        except SystemExit as exit:
            code = int(exit.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def record() -> Callable[[TelemetryData], Path]:
    """Appends to the recording that the commands look at by default."""

    def append(data: TelemetryData) -> Path:
        storage = FileStorage("telemetry")
        storage.store(data)
        return Path("telemetry")

    return append


@pytest.fixture
def shop(record: Callable[[TelemetryData], Path]) -> Path:
    """A recording of one checkout, with two metrics."""
    spans, events = checkout()
    return record(TelemetryData(spans=spans, events=events, metrics=[queue(), latency()]))


def queue() -> TelemetryMetric:
    """A gauge."""
    resource = ResourceInfo({"service.name": "shop"})
    return TelemetryMetric("queue.length", 4, "{job}", {"queue": "mail"}, T0, resource=resource)


def latency() -> TelemetryMetric:
    """A histogram."""
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
