"""Spans that were open when a process died, and its crash: they come back once."""

from __future__ import annotations

import os

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import TelemetryCollector, TelemetryConfig
from rimp_otel.batch import decode_batch
from rimp_otel.collector.collector import CollectorBuffer
from rimp_otel.journal.journal import Journal
from rimp_otel.journal.orphans import convert_orphans, read_orphans
from rimp_otel.journal.reader import read_journal
from rimp_otel.journal.slots import is_owned
from rimp_otel.process import Reporter
from tests.journal.records import FileTarget, die


class Stream:
    """The stream of a collector that nobody drains."""

    held = 0

    def wake(self):
        """Do nothing."""


@pytest.fixture
def journal(tmp_path):
    """A journal that is not open yet."""
    journal = Journal(FileTarget(tmp_path), 64 * 1024 * 1024, Reporter())
    yield journal
    journal.reset_after_fork()


@pytest.fixture
def tracer(journal):
    """A tracer whose spans are recorded in the journal."""
    collector = TelemetryCollector(TelemetryConfig())
    CollectorBuffer(collector).attach(Stream(), journal)
    resource = Resource({"service.name": "shop"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(collector)
    return provider.get_tracer("t")


def spans_in(directory):
    """Return the names that a reader finds, and whether each span was interrupted."""
    contents = read_journal(directory, lambda *_: False)
    assert contents.damaged == []
    return sorted(
        (span.name, "rimp.interrupted" in span.attributes)
        for _, line, _ in contents.lines
        for span in decode_batch(line).spans
    )


def test_open_spans_of_the_dead(journal, tracer, tmp_path):
    """Readers see a dead process's open spans, before and after they become a segment."""
    with tracer.start_as_current_span("done"):
        pass
    tracer.start_span("open")
    directory = tmp_path / "journal"
    assert spans_in(directory) == [("done", False)]
    die(journal)
    assert not is_owned(directory)
    expected = [("done", False), ("open", True)]
    assert spans_in(directory) == expected
    assert convert_orphans(directory) == 0
    assert sorted(os.listdir(directory)) == ["000001.seg", "000002.seg", "lock"]
    assert spans_in(directory) == expected
    assert read_orphans(directory, []) == ([], [])


def test_conversion_that_was_killed(journal, tracer, tmp_path):
    """Killed before the segment was there, or before the table was gone: the spans come once."""
    tracer.start_span("open")
    die(journal)
    directory = tmp_path / "journal"
    table = (directory / "000001.open").read_bytes()
    (directory / "000001.tmp").write_bytes(b"half")
    convert_orphans(directory)
    (directory / "000001.open").write_bytes(table)
    assert spans_in(directory) == [("open", True)]
    convert_orphans(directory)
    assert sorted(os.listdir(directory)) == ["000001.seg", "000002.seg", "lock"]
    assert spans_in(directory) == [("open", True)]


def test_span_that_was_just_being_recorded(journal, tracer, tmp_path):
    """A span is interrupted if its own record is missing, whoever else names it."""
    lost, kept = tracer.start_span("lost"), tracer.start_span("kept")
    tracer.start_span("child", links=[]).end()
    journal.open_spans.mark_ending(lost)
    journal.open_spans.remove = lambda key: None
    kept.end()
    die(journal)
    assert spans_in(tmp_path / "journal") == [("child", False), ("kept", False), ("lost", True)]


def test_span_whose_record_was_being_written(journal, tracer, tmp_path):
    """A span is interrupted if its own record is there in part."""
    tracer.start_span("done").end()
    span = tracer.start_span("torn", attributes={"x": "y" * 100})
    journal.open_spans.remove = lambda key: None
    span.end()
    (segment,) = journal.segments
    end = segment.frames_end()
    segment._memory[end - 32 : end] = bytes(32)
    die(journal)
    assert spans_in(tmp_path / "journal") == [("done", False), ("torn", True)]
    assert convert_orphans(tmp_path / "journal") == 0
    assert spans_in(tmp_path / "journal") == [("done", False), ("torn", True)]


def test_no_segment_is_deleted_while_a_span_ends(journal, tracer):
    """A segment that may hold the record of a span that is ending is kept."""
    span = tracer.start_span("a")
    journal.open_spans.mark_ending(span)
    journal.finished.append(journal.segments.popleft())
    journal.delete_finished()
    assert len(journal.finished) == 1
    journal.open_spans.remove_span(span)
    journal.delete_finished()
    assert len(journal.finished) == 0


def test_a_span_whose_end_was_broken_off_keeps_only_so_much(journal, tracer):
    """A span that a signal handler left half ended must not fill the journal."""
    span = tracer.start_span("a")
    journal.open_spans.mark_ending(span)
    journal.finished.append(journal.segments.popleft())
    journal._limit = journal.finished[0].size
    journal.delete_finished()
    assert len(journal.finished) == 0


def test_damaged_table(journal, tracer, tmp_path):
    """What can be read is recovered, the table is kept, and the damage counted."""
    tracer.start_span("one")
    tracer.start_span("two")
    die(journal)
    path = tmp_path / "journal" / "000001.open"
    data = bytearray(path.read_bytes())
    data[data.index(b"two")] ^= 1
    path.write_bytes(data)
    (damage,) = read_journal(path.parent, lambda *_: False).damaged
    assert damage == (path, 0, "open spans in it are damaged")
    assert convert_orphans(path.parent) == 1
    assert spans_in(path.parent) == [("one", True)]
    assert path.with_name("000001.open.damaged").read_bytes() == bytes(data)


def test_crash(journal, tracer, tmp_path):
    """A crash comes back as an event of the resource that the process had."""
    tracer.start_span("open")
    die(journal)
    directory = tmp_path / "journal"
    (directory / "000001.crash").write_text("Fatal Python error: Segmentation fault\n\nstack\n")
    contents = read_journal(directory, lambda *_: False)
    (event,) = [event for _, line, _ in contents.lines for event in decode_batch(line).events]
    assert event.message == "process crashed: Fatal Python error: Segmentation fault"
    assert event.event_name == "rimp.crash"
    assert event.severity_number == 21
    assert event.metadata["exception.stacktrace"].endswith("stack\n")
    assert event.resource.attributes["service.name"] == "shop"
    convert_orphans(directory)
    assert not (directory / "000001.crash").exists()


def test_no_crash(journal, tmp_path):
    """An empty crash file is no crash."""
    journal.open()
    die(journal)
    (tmp_path / "journal" / "000001.crash").write_text("")
    assert read_orphans(tmp_path / "journal", []) == ([], [])
