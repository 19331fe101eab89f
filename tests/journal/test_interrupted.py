"""What a dead process leaves comes back as records: its open spans, and its crash."""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import subprocess
import sys
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode

from rimp_otel.journal.interrupted import (
    CrashFile,
    InterruptedSpan,
    OpenSpansLeft,
    encode_crash_event,
    encode_interrupted_span,
    encode_interrupted_spans,
    parse_open_spans,
    read_crash,
    read_open_spans,
)
from rimp_otel.journal.open_spans import ENTRIES_START, ENTRY_SIZE, OpenSpanEntry, OpenSpanTable
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.encode_spans import span_json
from rimp_otel.otlp.lines import Envelope, join_lines, resource_envelope
from tests.otlp import strategies
from tests.otlp.official import assert_same, parsed
from tests.processes import ROOT

RESOURCE = Resource({"service.name": "shop"})

PROGRAM = """
import os, signal, sys
from pathlib import Path
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from rimp_otel.journal.interrupted import CrashFile
from rimp_otel.journal.open_spans import OpenSpanTable

directory = Path(sys.argv[1])
table = OpenSpanTable.create(directory, 1, most=32)
crash = CrashFile.create(directory, 1)

class Noting(SpanProcessor):
    def on_start(self, span, parent_context=None):
        table.add(span)

    def on_end(self, span):
        table.mark_ending(span)
        table.remove_span(span)

provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
provider.add_span_processor(Noting())
tracer = provider.get_tracer("checkout", "2.0")
with tracer.start_as_current_span("GET /pay", attributes={"user": "é", "n": 3}) as outer:
    with tracer.start_as_current_span("finished"):
        pass
    with tracer.start_as_current_span("query") as inner:
        for span in (outer, inner):
            context = span.context
            print(context.trace_id, context.span_id, span.start_time, flush=True)
        os.kill(os.getpid(), int(sys.argv[2]))
"""


def die(directory, number):
    """Run a program with two open spans that dies of a signal; return the ids and start of each."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(PROGRAM), str(directory), str(int(number))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -number, done.stderr
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


def table_with(directory, spans, **more):
    """Return the table that a process left with spans of these names open."""
    table = OpenSpanTable.create(directory, 1, most=8)
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    tracer = provider.get_tracer("test")
    started = [tracer.start_span(name, start_time=i + 1, **more) for i, name in enumerate(spans)]
    for span in started:
        table.add(span)
    table.mark_alive(1_000)
    return table, started


def spans_of(encoded_records):
    """Return the spans as whoever reads the recording gets them."""
    found = []
    for line in join_lines(Signal.TRACES, encoded_records):
        parsed(Signal.TRACES, line)
        found += decode_line(line).records
    return found


def never(span_id):
    """Return False: no span was finished."""
    return False


def entry_of_span(**changes):
    """Return the entry of a span."""
    fields = {
        "trace_id": bytes(15) + b"\1",
        "span_id": 2,
        "parent_span_id": 0,
        "flags": 0x101,
        "kind": 1,
        "start_time_unix_nano": 5,
        "definition": 0,
        "trace_state": "",
        "is_cut": False,
        "name": "a",
        "dropped_attributes_count": 0,
        "attributes": {},
    }
    return OpenSpanEntry(**{**fields, **changes})


def test_killed_with_spans_open(tmp_path):
    """Spans come back with their ids, parent, name, start and attributes, in error."""
    said = die(tmp_path, signal.SIGKILL)
    left = read_open_spans(tmp_path / "000001.open")
    assert left.damaged == 0
    outer, inner = spans_of(encode_interrupted_spans(left, 0, never))
    assert [(s.context.trace_id, s.context.span_id, s.start_time) for s in (outer, inner)] == said
    assert [outer.name, inner.name] == ["GET /pay", "query"]
    assert (outer.parent, inner.parent.span_id) == (None, outer.context.span_id)
    assert outer.attributes == {"user": "é", "n": 3, "rimp.interrupted": True}
    assert outer.status.status_code is StatusCode.ERROR
    assert outer.status.description == "process terminated"
    assert inner.end_time == max(left.alive_unix_nano, inner.start_time)
    assert outer.resource.attributes == {"service.name": "shop"}
    assert (outer.instrumentation_scope.name, outer.instrumentation_scope.version) == (
        "checkout",
        "2.0",
    )
    assert read_crash(tmp_path / "000001.crash") is None


BUSY = """
import os, sys, threading
from pathlib import Path
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from rimp_otel.journal.open_spans import OpenSpanTable

table = OpenSpanTable.create(Path(sys.argv[1]), 1, most=64)

class Noting(SpanProcessor):
    def on_start(self, span, parent_context=None):
        table.add(span)

    def on_end(self, span):
        table.mark_ending(span)
        table.remove_span(span)

provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(Noting())
tracer = provider.get_tracer("busy")

def work():
    while True:
        outer = tracer.start_span("outer", attributes={"thread": threading.get_ident()})
        inner = tracer.start_span("inner", attributes={"text": "x" * 500})
        for span in (outer, inner):
            os.write(1, b"o%016x" % span.context.span_id)
        for span in (inner, outer):
            os.write(1, b"e%016x" % span.context.span_id)
            span.end()
            os.write(1, b"g%016x" % span.context.span_id)

for _ in range(4):
    threading.Thread(target=work).start()
"""


@pytest.mark.parametrize("spans", [500, 597, 801])
def test_killed_at_any_moment(tmp_path, spans):
    """Of four threads, the open spans are in the table; those that ended are not."""
    command = [sys.executable, "-c", BUSY, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        said = child.stdout.read(17 * spans)
        child.kill()
        said += child.stdout.read()
    words = [said[i : i + 17].decode() for i in range(0, len(said), 17)]
    opened, ending, gone = ({word[1:] for word in words if word[0] == kind} for kind in "oeg")
    left = read_open_spans(tmp_path / "000001.open")
    found = {span.span_id for span in left.spans}
    assert left.damaged == 0
    assert opened - ending <= found
    assert not gone & found
    assert {span.span_id for span in left.spans if span.is_ending} <= ending


def test_the_end_is_the_last_sign_of_life(tmp_path):
    """A span ends at the last sign of life in table or journal, or at its own start."""
    table, _ = table_with(tmp_path, ["a"])
    left = read_open_spans(table.path)
    ends = [
        spans_of(encode_interrupted_spans(left, last, never))[0].end_time for last in (0, 2_000)
    ]
    assert ends == [1_000, 2_000]
    late = InterruptedSpan(entry_of_span(start_time_unix_nano=5_000), None, False)
    assert spans_of([encode_interrupted_span(late, 1_000)])[0].end_time == 5_000
    table.close()


def test_a_parent_ends_no_earlier_than_its_open_children_began():
    """A span that began after the last sign of life is one of the spans above it, and of no other."""
    chain = [(1, 0, 10), (2, 1, 20), (3, 2, 3_000), (4, 0, 30)]  # id, parent and start
    spans = [
        InterruptedSpan(
            entry_of_span(span_id=i, parent_span_id=above, start_time_unix_nano=start), None, False
        )
        for i, above, start in chain
    ]
    left = OpenSpansLeft(spans, 0, 1_000, 7)
    found = spans_of(encode_interrupted_spans(left, 0, never))
    assert [span.end_time for span in found] == [3_000, 3_000, 3_000, 1_000]


def test_a_span_that_was_being_recorded(tmp_path):
    """A span whose end was recorded is left out; the others are not looked up."""
    table, spans = table_with(tmp_path, ["a", "b", "c"])
    table.mark_ending(spans[0])
    table.mark_ending(spans[1])
    asked = []

    def is_finished(span_id):
        asked.append(span_id)
        return span_id == f"{spans[0].context.span_id:016x}"

    found = spans_of(encode_interrupted_spans(read_open_spans(table.path), 0, is_finished))
    assert [span.name for span in found] == ["b", "c"]
    assert asked == [f"{span.context.span_id:016x}" for span in spans[:2]]
    table.close()


def test_a_name_that_was_cut_says_so():
    """An attribute says that a name was cut."""
    entry = entry_of_span(is_cut=True, name="a…", dropped_attributes_count=3)
    (span,) = spans_of([encode_interrupted_span(InterruptedSpan(entry, None, False), 9)])
    assert span.attributes == {"rimp.interrupted": True, "rimp.name_cut": True}
    assert span.dropped_attributes == 3
    assert (span.resource.attributes, span.instrumentation_scope.name) == ({}, "")


def test_the_text_is_that_of_a_finished_span(tmp_path):
    """The text is that of a finished span, but for the end, the status and our attribute."""
    table, (span,) = table_with(tmp_path, ["a"], attributes={"k": "v"}, kind=SpanKind.CLIENT)
    (left,) = read_open_spans(table.path).spans
    span.set_attribute("rimp.interrupted", True)
    span.set_status(StatusCode.ERROR, "process terminated")
    span.end(1_000)
    assert encode_interrupted_span(left, 1_000).text == span_json(span)
    table.close()


@strategies.generated
@given(spans=strategies.spans)
def test_any_span_is_written_as_the_official_encoder_would(tmp_path_factory, spans):
    """Any ids, attributes and trace state become what the official encoder writes."""
    table = OpenSpanTable.create(tmp_path_factory.mktemp("table"), 1, most=64)
    for span in spans:
        span._end_time = None
        table.add(span)
    left = read_open_spans(table.path)
    table.close()
    assert left.damaged == 0
    assert len(left.spans) == len({(s.context.trace_id, s.context.span_id) for s in spans})
    written = list(join_lines(Signal.TRACES, encode_interrupted_spans(left, 7, never)))
    again = [record for line in written for record in decode_line(line).records]
    assert len(again) == len(left.spans)
    if again:
        assert_same(Signal.TRACES, written, again)


def test_a_file_cut_anywhere(tmp_path):
    """A file that is cut gives its whole spans, and raises nothing."""
    table, _ = table_with(tmp_path, ["a", "b", "c"])
    data = table.path.read_bytes()
    table.close()
    for end in [*range(4_400), *range(ENTRIES_START - 3, ENTRIES_START + 3 * ENTRY_SIZE + 3)]:
        left = parse_open_spans(data[:end])
        assert len(left.spans) == min(max(end - ENTRIES_START, 0) // ENTRY_SIZE, 3)
        assert len(list(encode_interrupted_spans(left, 0, never))) == len(left.spans)


def test_a_byte_flipped_anywhere(tmp_path):
    """A flipped byte costs the span it is in, and is counted; nothing is raised."""
    table, _ = table_with(tmp_path, ["a", "b", "c"], attributes={"k": "v", "n": 5})
    data = bytearray(table.path.read_bytes()[: ENTRIES_START + 3 * ENTRY_SIZE])
    table.close()
    whole = {span.entry.name: span.entry for span in parse_open_spans(bytes(data)).spans}
    for place in [*range(4_400), *range(ENTRIES_START, len(data))]:
        data[place] ^= 0x55
        left = parse_open_spans(bytes(data))
        data[place] ^= 0x55
        assert len(left.spans) >= 2
        assert all(whole[span.entry.name] == span.entry for span in left.spans)
        assert left.damaged or len(left.spans) == 3
        if not place % 16:
            spans_of(encode_interrupted_spans(left, 0, never))


def test_foreign_content(tmp_path):
    """Any other content gives no spans, and no error."""
    path = tmp_path / "1.open"
    for content in (b"", b"x", b"x" * (ENTRIES_START + 5_000), os.urandom(ENTRIES_START + 5_000)):
        path.write_bytes(content)
        left = read_open_spans(path)
        assert (left.spans, left.damaged > 0) == ([], bool(content))
    path.write_bytes(bytes(ENTRIES_START + 5_000))
    assert read_open_spans(path) == OpenSpansLeft([], 0, 0, 0)


def test_no_link_is_followed(tmp_path):
    """A file of somebody else's is not read."""
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "1.open").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        read_open_spans(tmp_path / "1.open")


@pytest.mark.skipif(not hasattr(signal, "SIGSEGV"), reason="no such signal")
def test_a_crash_leaves_its_stack(tmp_path):
    """A crash becomes a log record of the process that died."""
    die(tmp_path, signal.SIGSEGV)
    left = read_open_spans(tmp_path / "000001.open")
    crash = read_crash(tmp_path / "000001.crash")
    resource = left.spans[0].envelopes[0]
    encoded = encode_crash_event(crash.text, resource, crash.time_unix_nano, left.pid)
    (line,) = join_lines(Signal.LOGS, [encoded])
    parsed(Signal.LOGS, line)
    (event,) = decode_line(line).records
    assert event.body == "process crashed: Fatal Python error: Segmentation fault"
    assert (event.severity_number, event.event_name, event.source) == (
        21,
        "rimp.crash",
        "rimp_otel",
    )
    assert 'File "<string>", line' in event.metadata["exception.stacktrace"]
    assert event.metadata["process.pid"] == left.pid > 0
    assert event.time_unix_nano == crash.time_unix_nano
    assert event.resource.attributes == {"service.name": "shop"}


@given(text=st.text(st.characters()), time=st.integers(0, 2**64 - 1))
def test_any_text_of_a_crash(text, time):
    """Any text of a crash becomes a line that protobuf can read."""
    encoded = encode_crash_event(text, resource_envelope(None), time, 0)
    (line,) = join_lines(Signal.LOGS, [encoded])
    parsed(Signal.LOGS, line)
    (event,) = decode_line(line).records
    assert "process.pid" not in event.metadata
    assert event.body.startswith("process crashed: ")


def test_a_long_crash_is_cut():
    """A crash is cut to 64 KiB, between characters."""
    encoded = encode_crash_event("é" * 100_000, Envelope('{"resource":{},', "}"), 1, 1)
    (line,) = join_lines(Signal.LOGS, [encoded])
    (event,) = decode_line(line).records
    assert event.metadata["exception.stacktrace"] == "é" * 32_768


@pytest.fixture
def no_faulthandler():
    """Disable faulthandler during the test, and restore it."""
    was_enabled, stderr = faulthandler.is_enabled(), sys.__stderr__
    faulthandler.disable()
    yield
    if was_enabled:
        faulthandler.enable(stderr)


@pytest.mark.parametrize("was_enabled", [True, False])
def test_faulthandler_is_put_back(tmp_path, no_faulthandler, was_enabled):
    """Faulthandler is enabled after if it was before, and an empty file is deleted."""
    with (tmp_path / "other").open("w") as other:
        if was_enabled:
            faulthandler.enable(other)
        crash = CrashFile.create(tmp_path, 1)
        assert faulthandler.is_enabled()
        assert crash.path.stat().st_mode & 0o777 == 0o600
        crash.close()
        crash.close()
        assert faulthandler.is_enabled() is was_enabled
        assert not crash.path.exists()
        faulthandler.disable()


def test_a_standard_error_that_is_no_file(tmp_path, no_faulthandler, monkeypatch):
    """A standard error that is no file raises nothing."""
    faulthandler.enable(sys.__stderr__)
    crash = CrashFile.create(tmp_path, 1)
    monkeypatch.setattr(sys, "__stderr__", io.StringIO())
    crash.close()
    assert not faulthandler.is_enabled()


def test_a_file_with_a_crash_stays(tmp_path, no_faulthandler):
    """A file with a crash stays, also when a forked child releases it."""
    crash = CrashFile.create(tmp_path, 1)
    crash.release()
    assert crash.path.exists()
    crash.path.unlink()
    crash = CrashFile.create(tmp_path, 2)
    os.write(crash._file, b"Fatal Python error")
    crash.close()
    assert read_crash(crash.path).text == "Fatal Python error"


def test_a_descriptor_that_became_the_applications_stays_open(tmp_path, no_faulthandler):
    """A descriptor that a program closed and opened anew is left alone."""
    crash = CrashFile.create(tmp_path, 1)
    file = crash._file
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.dup2(other, file)
    crash.close()
    os.close(file)
    os.close(other)
    assert os.listdir(tmp_path) == ["other"]


def test_interrupted_spans_fit_into_frames(tmp_path):
    """Interrupted spans hold no line end and no NUL, whatever their names."""
    table, _ = table_with(tmp_path, ["a\n\0b"])
    (encoded,) = encode_interrupted_spans(read_open_spans(table.path), 0, never)
    assert "\n" not in encoded.text
    assert "\0" not in encoded.text
    table.close()
