"""The intake: every request is recorded as a whole, refused with a reason, or can be sent again."""

from __future__ import annotations

import os
import threading

import pytest

from rimp_otel import TelemetryConfig
from rimp_otel.errors import ConfigurationError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.requests import RequestFormat
from rimp_otel.storage.recording import open_recording
from rimp_otel.transport.receiving import intake as intakes
from rimp_otel.transport.receiving.intake import (
    Accepted,
    Intake,
    IntakeLimits,
    Invalid,
    TooLarge,
    Unavailable,
)
from tests.transport.serving import gauges, logs, span, span_names, traces

MEBIBYTE = 1024 * 1024


def receive(intake, text, signal=Signal.TRACES):
    """Give an intake a request in JSON."""
    return intake.receive(signal, text.encode(), RequestFormat.JSON)


@pytest.fixture
def intake(tmp_path):
    """An intake that drains only at its end."""
    made = Intake(tmp_path / "telemetry", TelemetryConfig(flush_interval=1e6))
    made.start()
    yield made
    made.stop()


def test_counts_add_up(intake, tmp_path):
    """Requests and records, taken and refused, by reason and signal."""
    assert receive(intake, traces(span(1), span(2, spanId="x"), span(3))).refused == 1
    assert receive(intake, logs("a", "b"), Signal.LOGS) == Accepted()
    assert receive(intake, gauges(1), Signal.METRICS) == Accepted()
    assert receive(intake, "{}") == Accepted()
    assert isinstance(receive(intake, "{"), Invalid)
    refused = receive(intake, traces(span(1, traceId="x")))
    assert isinstance(refused, Invalid)
    assert "traceId" in refused.reason
    stats = intake.stats()
    assert stats.requests == 4
    assert stats.requests_refused == {"invalid": 2}
    assert stats.records == {Signal.TRACES: 2, Signal.LOGS: 2, Signal.METRICS: 1}
    assert stats.records_refused == {Signal.TRACES: 2}
    assert stats.collector.collected == stats.collector.pending == 5
    assert intake.stop()
    assert intake.stats().collector.stored == 5
    assert span_names(tmp_path / "telemetry") == ["span-1", "span-3"]


def test_what_is_answered_is_in_the_journal(intake, tmp_path):
    """Another process that reads finds it at once, before anything is drained."""
    assert receive(intake, traces(span(1))) == Accepted()
    assert intake.stats().collector.stored == 0
    assert span_names(tmp_path / "telemetry") == ["span-1"]


def test_the_environment_of_the_recorder_does_not_matter(tmp_path):
    """It records whatever the configuration says about recording oneself."""
    config = TelemetryConfig(enabled=False, journal=False, storage_backend="file")
    intake = Intake(tmp_path / "t", config)
    intake.start()
    assert receive(intake, traces(span(1))) == Accepted()
    assert intake.stop()
    assert span_names(tmp_path / "t") == ["span-1"]


def test_into_sqlite(tmp_path):
    """The path says which storage it is."""
    intake = Intake(tmp_path / "t.db")
    intake.start()
    assert receive(intake, traces(span(1))) == Accepted()
    assert intake.stop()
    assert (tmp_path / "t.db").is_file()
    assert span_names(tmp_path / "t.db") == ["span-1"]


def test_a_path_that_cannot_be_written(tmp_path):
    """It is said at the start, not to each sender."""
    (tmp_path / "blocked").write_text("a file")
    for path in (tmp_path / "blocked" / "telemetry", tmp_path / "blocked" / "t.db"):
        with pytest.raises(StorageError, match=r"cannot record into .*blocked is no directory"):
            Intake(path)


def test_requests_that_are_too_large(tmp_path):
    """More bytes than a request may have, or than the journal can ever take at once."""
    config = TelemetryConfig(journal_size=MEBIBYTE, flush_interval=1e6)
    intake = Intake(tmp_path / "t", config, IntakeLimits(4 * MEBIBYTE))
    intake.start()
    large = traces(*(span(n, name="x" * 1_000) for n in range(2_000)))
    answer = receive(intake, large)
    assert isinstance(answer, TooLarge)
    assert "RIMP_JOURNAL_SIZE" in answer.reason
    assert isinstance(receive(intake, large * 3), TooLarge)
    assert intake.stats().requests_refused == {"too_large": 2}
    assert receive(intake, traces(span(1))) == Accepted()
    assert intake.stop()
    assert span_names(tmp_path / "t") == ["span-1"]


def test_a_journal_that_is_full(tmp_path, capfd):
    """Requests are refused for a time, as a whole, and it is said once."""
    config = TelemetryConfig(journal_size=MEBIBYTE, flush_interval=1e6, buffer_size=10**6)
    intake = Intake(tmp_path / "t", config)
    intake.start()
    request = traces(*(span(n, name="x" * 1_000) for n in range(100)))
    taken = 0
    intake.stream._drain._lock.acquire()  # the storage hangs
    try:
        while receive(intake, request) == Accepted():
            taken += 100
        answer = receive(intake, request)
        assert isinstance(answer, Unavailable)
        assert answer.retry_after > 0
        assert intake.stats().requests_refused == {"storage": 2}
        assert intake.stats().collector.collected == taken
    finally:
        intake.stream._drain._lock.release()
    assert intake.stop()
    assert len(span_names(tmp_path / "t")) == taken >= 300
    assert capfd.readouterr().err.count("requests are refused") == 1


def test_an_error_of_ours_is_no_loss(intake, monkeypatch, capfd):
    """The sender may try again; it is counted, and said once."""

    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(intakes, "decode_request", fail)
    for _ in range(3):
        assert isinstance(receive(intake, "{}"), Unavailable)
    assert intake.stats().requests_refused == {"error": 3}
    assert capfd.readouterr().err.count("RuntimeError: a bug") == 1


def test_large_requests_are_decoded_one_at_a_time(intake, monkeypatch):
    """Their memory is several times their size."""
    inside, most = [], []
    both = threading.Barrier(2)
    decode = intakes.decode_request

    def watch(*args):
        inside.append(1)
        most.append(len(inside))
        try:
            return decode(*args)
        finally:
            inside.pop()

    monkeypatch.setattr(intakes, "decode_request", watch)
    large = "{}" + " " * 5 * MEBIBYTE

    def send():
        both.wait()
        for _ in range(5):
            assert receive(intake, large) == Accepted()

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 10


def test_memory_is_reserved_up_to_a_bound(intake):
    """What is released can be reserved again."""
    limit = intake.limits.in_flight
    assert intake.reserve(limit - 10)
    assert not intake.reserve(11)
    assert intake.reserve(10)
    intake.release(limit)
    assert intake.reserve(limit)


def test_bounds_that_are_not_allowed():
    """They are said when they are made."""
    with pytest.raises(ConfigurationError, match="must be 1 byte or more, got 0"):
        IntakeLimits(0)
    with pytest.raises(ConfigurationError, match="as large as one request"):
        IntakeLimits(10, 9)


def test_many_threads_and_several_intakes(tmp_path):
    """Each has a slot of its own; nothing is lost or twice."""
    path = tmp_path / "t"
    intakes = [Intake(path) for _ in range(2)]
    for intake in intakes:
        intake.start()

    def send(first):
        for number in range(first, first + 20):
            assert receive(intakes[number % 2], traces(span(number))) == Accepted()

    threads = [threading.Thread(target=send, args=(first,)) for first in range(0, 100, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([name for name in os.listdir(path) if name.startswith("journal")]) == 2
    for intake in intakes:
        assert intake.stop()
    assert span_names(path) == sorted(f"span-{number}" for number in range(100))
    assert len(open_recording(path).retrieve().spans) == 100
