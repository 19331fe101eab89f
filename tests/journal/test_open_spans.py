"""The table of open spans: what it notes, whoever interrupts it, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from rimp_otel.journal import open_spans
from rimp_otel.journal.interrupted import read_open_spans
from rimp_otel.journal.open_spans import ENTRIES_START, ENTRY_SIZE, OpenSpanTable


class TableProcessor(SpanProcessor):
    """A processor that does what the collector does with the table."""

    def __init__(self, table):
        self.table = table

    def on_start(self, span, parent_context=None):
        self.table.add(span)

    def on_end(self, span):
        self.table.mark_ending(span)
        self.table.remove_span(span)


@pytest.fixture
def table(tmp_path):
    """An empty table of 16 entries."""
    made = OpenSpanTable.create(tmp_path, 7, most=16)
    yield made
    made.close()


def tracer_of(table, resource=None):
    """Return a tracer whose spans go into the table."""
    provider = TracerProvider(
        resource=resource or Resource({"service.name": "shop"}), shutdown_on_exit=False
    )
    provider.add_span_processor(TableProcessor(table))
    return provider.get_tracer("test", "1.0")


def entries(table):
    """Return what another process reads in the table."""
    left = read_open_spans(table.path)
    assert left.damaged == 0
    return [span.entry for span in left.spans]


def test_file_is_private_and_whole(tmp_path):
    """All pages are allocated, so that no write into the table can fail."""
    table = OpenSpanTable.create(tmp_path, 7)
    status = table.path.stat()
    assert table.path.name == "000007.open"
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == table.size == ENTRIES_START + 4_096 * ENTRY_SIZE
    assert status.st_blocks * 512 >= status.st_size
    table.close()
    assert list(tmp_path.iterdir()) == []


def test_never_takes_a_file_that_is_there(tmp_path):
    """An existing file, or a link, is an error."""
    (tmp_path / "000001.open").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        OpenSpanTable.create(tmp_path, 1)
    assert not (tmp_path / "elsewhere").exists()


def test_leaves_nothing_where_it_cannot_be_made(tmp_path, monkeypatch):
    """A full disk is an error of the creation, and leaves no file."""

    def full(file, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        OpenSpanTable.create(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_an_open_span_is_in_the_table(table):
    """An entry has all that the span had when it started."""
    remote = SpanContext(0xABC, 0xDEF, True, TraceFlags(1), TraceState([("vendor", "x")]))
    context = set_span_in_context(NonRecordingSpan(remote))
    attributes = {"a": "é", "b": 1, "c": True, "d": 2.5, "e": ("x", "y")}
    tracer_of(table).start_span(
        "GET /", context, SpanKind.SERVER, attributes=attributes, start_time=123
    )
    (span,) = entries(table)
    assert int.from_bytes(span.trace_id, "big") == 0xABC
    assert (span.parent_span_id, span.flags & 0x301, span.kind) == (0xDEF, 0x301, 2)
    assert (span.name, span.start_time_unix_nano, span.trace_state) == ("GET /", 123, "vendor=x")
    assert span.attributes == {**attributes, "e": ["x", "y"]}
    assert (span.dropped_attributes_count, span.is_cut) == (0, False)


def test_a_span_that_ended_is_gone(table):
    """The entry of a span that ended is free for the next one."""
    tracer = tracer_of(table)
    for _ in range(100):
        tracer.start_span("a").end()
    assert (entries(table), table.tracked, table.untracked) == ([], 0, 0)


def test_ending_is_marked(table):
    """While an end is being recorded, the entry says so."""
    span = tracer_of(table).start_span("a")
    table.mark_ending(span)
    (left,) = read_open_spans(table.path).spans
    assert left.is_ending
    assert table.is_ending
    table.remove_span(span)
    assert entries(table) == []
    assert not table.is_ending


def test_a_full_table_counts_what_it_cannot_take(table):
    """A full table counts what it cannot take, and takes spans again once there is room."""
    tracer = tracer_of(table)
    spans = [tracer.start_span(f"{number}") for number in range(20)]
    assert (table.tracked, table.untracked) == (16, 4)
    for span in spans:
        span.end()
    tracer.start_span("again")
    assert [span.name for span in entries(table)] == ["again"]


def test_a_span_that_was_not_added_may_end(table):
    """Ending a span that was not added changes nothing."""
    other = tracer_of(SimpleNamespace(add=lambda span: None)).start_span("a")
    table.mark_ending(other)
    table.remove_span(other)
    table.remove_span(other)
    assert len(table._free) == 16


def test_the_same_ids_twice(table):
    """Of two spans with the same ids the first is added, and no entry is lost."""
    span = tracer_of(table).start_span("a")
    table.add(span)
    assert (table.tracked, table.untracked) == (1, 1)
    span.end()
    assert len(table._free) == 16


def test_a_span_that_ended_before_it_was_added(table):
    """A processor before ours can hand a span to a thread that ends it first."""
    span = tracer_of(SimpleNamespace(**dict.fromkeys(("add", "mark_ending", "remove_span"), id)))
    span = span.start_span("a")
    span.end()
    table.add(span)
    assert (table.tracked, len(table._free)) == (0, 16)


@pytest.mark.parametrize("odd", [None, object(), SimpleNamespace(context=None), 5])
def test_what_is_no_span_is_counted(table, odd):
    """An object that is no span is counted, and raises nothing."""
    table.add(odd)
    table.mark_ending(odd)
    table.remove_span(odd)
    assert (table.untracked, len(table._free)) == (1, 16)


def test_an_exception_of_the_application_passes(table):
    """A timeout that a signal handler raises is not swallowed."""

    class Timeout(Exception):
        pass

    class Interrupted:
        @property
        def _context(self):
            raise Timeout

    with pytest.raises(Timeout):
        table.add(Interrupted())


def test_long_names_and_attributes(table):
    """Small attributes are kept rather than long ones; a name is cut between characters."""
    tracer = tracer_of(table)
    tracer.start_span("é" * 90, attributes={"query": "x" * 5_000, "n": 1}, start_time=1)
    tracer.start_span("n", attributes={f"key{i}": "v" * 60 for i in range(50)}, start_time=2)
    tracer.start_span("é" * 5_000, attributes={"n": 1}, start_time=3)
    first, second, third = entries(table)
    assert (first.name, first.attributes, first.dropped_attributes_count) == ("é" * 90, {"n": 1}, 1)
    assert (second.attributes, second.dropped_attributes_count) == ({}, 50)
    assert (third.name, third.is_cut) == ("é" * 300 + "…", True)


def test_values_that_do_not_fit_are_repaired(table):
    """Odd values are repaired as in a span that ended."""
    tracer = tracer_of(table)
    given = tracer.start_span("a\ud800", attributes={"big": 2**70, "odd": "\ud800", "bytes": b"\0"})
    (span,) = entries(table)
    assert (span.name, span.attributes) == (
        "a\ufffd",
        # The oldest SDK makes text of bytes.
        {"big": str(2**70), "odd": "\ufffd", "bytes": given.attributes["bytes"]},
    )


@pytest.mark.parametrize(("odd", "start"), [(1.5, 1), (None, 0), ("9", 9), (-1, 0)])
def test_a_start_that_is_no_integer(table, odd, start):
    """A start that is no integer becomes one, and a name that is no text becomes empty."""
    span = tracer_of(table).start_span(None, start_time=1)
    span.end()
    span._start_time, span._end_time = odd, None
    table.add(span)
    (left,) = entries(table)
    assert (left.name, max(left.start_time_unix_nano, 0)) == ("", start)


def test_without_the_private_fields(table):
    """The public properties say the same as the private fields."""
    real = tracer_of(table).start_span("a", attributes={"k": (1, 2)}, start_time=5)
    (fast,) = entries(table)
    real.end()
    names = [
        "context",
        "parent",
        "name",
        "kind",
        "start_time",
        "attributes",
        "resource",
        "instrumentation_scope",
    ]
    table.add(SimpleNamespace(**{name: getattr(real, name) for name in names}))
    assert entries(table) == [fast]


def test_a_scope_is_defined_once(table):
    """Equal scopes share a definition, however many objects say it."""
    tracer = tracer_of(table)
    spans = [tracer.start_span("a") for _ in range(3)]
    for number in range(300):
        tracer._instrumentation_scope = InstrumentationScope("same", "1")
        tracer.start_span(f"{number}").end()
    spans.append(tracer.start_span("b"))
    spans.append(tracer_of(table, Resource({"service.name": "bank\ud800"})).start_span("c"))
    envelopes = [span.envelopes for span in read_open_spans(table.path).spans]
    assert len(set(envelopes)) == 3
    assert '"test"' in envelopes[0][1].head
    assert '"same"' in envelopes[3][1].head
    assert '"bank\ufffd"' in envelopes[4][0].head
    assert len(table._by_scope) <= 256


def test_too_many_scopes(table):
    """Without room for a definition, a span keeps no scope; those before it keep theirs."""
    tracer = tracer_of(table)
    for number in range(1_100):
        tracer._instrumentation_scope = InstrumentationScope(f"{number}" * 100)
        span = tracer.start_span("a")
        if number:
            span.end()
    tracer.start_span("b")
    first, last = read_open_spans(table.path).spans
    assert first.envelopes is not None
    assert (last.envelopes, last.entry.name) == (None, "b")


def test_closing(tmp_path):
    """Spans that start after closing are counted, and raise nothing."""
    table = OpenSpanTable.create(tmp_path, 1, most=4)
    tracer = tracer_of(table)
    span = tracer.start_span("a")
    table.close()
    table.close()
    span.end()
    tracer.start_span("b").end()
    table.mark_alive(5)
    assert (table.untracked, table.is_ending) == (1, False)
    assert list(tmp_path.iterdir()) == []


def test_closing_without_deleting(table):
    """The file then says which spans were open."""
    tracer_of(table).start_span("a")
    table.close(delete=False)
    assert [span.name for span in entries(table)] == ["a"]


def test_the_heartbeat(table):
    """The table has the last sign of life, from its creation on."""
    assert read_open_spans(table.path).alive_unix_nano > 0
    table.mark_alive(1_234)
    left = read_open_spans(table.path)
    assert (left.alive_unix_nano, left.pid) == (1_234, os.getpid())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_changes_nothing(table):
    """A child that releases the table leaves the parent's entries alone."""
    span = tracer_of(table).start_span("a")
    before = table.path.read_bytes()
    child = os.fork()
    if not child:
        try:
            table.release()
            span.end()
            table.add(span)
            table.mark_alive(9)
            table.close()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert table.path.read_bytes() == before
    span.end()
    assert entries(table) == []


IDS = st.integers(1, 2**64 - 1)
VALUES = st.one_of(
    st.text(), st.integers(-(2**66), 2**66), st.floats(allow_nan=False), st.booleans(), st.binary()
)


@given(
    name=st.text(),
    ids=st.tuples(st.integers(1, 2**128 - 1), IDS),
    attributes=st.dictionaries(st.text(min_size=1), VALUES, max_size=40),
    start=st.integers(0, 2**64 - 1),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_span_is_called(table, name, ids, attributes, start):
    """Ids and start come back exactly; name and attributes, or a part of them that says so."""
    parent = SpanContext(ids[0], ids[1], False, TraceFlags(1))
    context = set_span_in_context(NonRecordingSpan(parent))
    span = tracer_of(table).start_span(name, context, attributes=attributes, start_time=start)
    (found,) = entries(table)
    assert int.from_bytes(found.trace_id, "big") == ids[0]
    assert (found.span_id, found.parent_span_id) == (span.context.span_id, ids[1])
    assert found.start_time_unix_nano == (start or span.start_time)
    assert found.name == name or (found.is_cut and found.name.endswith("…"))
    assert len(found.attributes) + found.dropped_attributes_count == len(span.attributes)
    span.end()
    assert len(table._free) == 16


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_threads_and_a_signal_handler(tmp_path):
    """Each entry has one owner at a time, and none is lost."""
    table = OpenSpanTable.create(tmp_path, 1, most=64)
    tracer = tracer_of(table)
    handled = []

    def handler(number, frame):
        with tracer.start_as_current_span("handled", attributes={"k": 1}):
            handled.append(tracer.start_span("child"))
        handled.pop().end()

    def work():
        for number in range(1_500):
            spans = [tracer.start_span("w", attributes={"n": number}) for _ in range(3)]
            table.add(spans[0])
            for span in spans:
                span.end()

    before = signal.signal(signal.SIGALRM, handler)
    threads = [threading.Thread(target=work) for _ in range(3)]
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert sorted(table._free) == list(range(0, 64 * 128, 128))
    assert (entries(table), table.tracked, table.untracked) == ([], 0, 4 * 1_500)
    table.close()


def test_interrupted_at_every_step(table):
    """Another span may start and end between any two instructions of the first."""
    tracer = tracer_of(table)
    others = [tracer.start_span(f"{number}") for number in range(3)]
    inner = tracer_of(table)
    steps = []
    code = {
        OpenSpanTable.add.__code__,
        OpenSpanTable.mark_ending.__code__,
        OpenSpanTable.remove_span.__code__,
    }

    def tracing(frame, event, argument):
        if frame.f_code not in code:
            return None
        frame.f_trace_opcodes = True
        sys.settrace(None)
        inner.start_span("inner").end()
        steps.append(event)
        if others:
            others.pop().end()
        sys.settrace(tracing)
        return tracing

    sys.settrace(tracing)
    try:
        span = tracer.start_span("outer")
        span.end()
    finally:
        sys.settrace(None)
    assert len(steps) > 100
    assert (len(table._free), table.tracked, table.untracked) == (16, 0, 0)
    assert entries(table) == []


def test_the_layout_leaves_room():
    """A name of 180 bytes fits whatever else there is."""
    assert ENTRY_SIZE - open_spans.ENTRY_HEAD_SIZE > open_spans._NAME_ROOM + 180
