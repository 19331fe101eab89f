"""Frames: what is written is read, and damage costs only itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel import TelemetryEvent
from rimp_otel.journal.format import (
    Definitions,
    encode_definition,
    find_frames_end,
    line_of_frames,
    parse_frames,
    readable_frames,
)
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.encode_logs import encode_event
from rimp_otel.otlp.lines import Envelope

RESOURCE, SCOPE = Envelope('{"resource":{},', "}"), Envelope('{"scope":{"name":"s"},', "}")
METRIC = Envelope('{"name":"m","gauge":{"dataPoints":[', "]}}")
ONE = encode_definition(1, (RESOURCE, SCOPE, None)).encode()


def log(text):
    """A record's frame."""
    return f'l1 {{"body":{{"stringValue":"{text}"}}}}\n'.encode()


def test_frames_are_read():
    """With their positions, counted from the first."""
    frames = parse_frames(ONE + log("a") + log("b"), 100, Definitions())
    assert frames.damaged == []
    assert [(f.offset, f.signal, f.text) for f in frames.records] == [
        (100 + len(ONE), Signal.LOGS, '{"body":{"stringValue":"a"}}'),
        (100 + len(ONE) + len(log("a")), Signal.LOGS, '{"body":{"stringValue":"b"}}'),
    ]
    assert frames.records[0].envelopes == (RESOURCE, SCOPE, None)


def test_line_of_frames():
    """Is OTLP JSON, grouped by origin."""
    frames = parse_frames(ONE + log("a") + log("b"), 0, Definitions()).records
    assert line_of_frames(Signal.LOGS, frames) == (
        b'{"resourceLogs":[{"resource":{},"scopeLogs":[{"scope":{"name":"s"},"logRecords":['
        b'{"body":{"stringValue":"a"}},{"body":{"stringValue":"b"}}]}]}]}'
    )


def test_metrics_have_a_wrapping_more():
    """Around the data points of one metric."""
    data = (
        encode_definition(2, (RESOURCE, SCOPE, METRIC)).encode()
        + b'm2 {"asInt":"1"}\nm2 {"asInt":"2"}\n'
    )
    frames = parse_frames(data, 0, Definitions()).records
    line = line_of_frames(Signal.METRICS, frames)
    assert line.count(b'"name":"m"') == 1
    assert [metric.value for metric in decode_line(line).records] == [1, 2]


@pytest.mark.parametrize(
    "damage",
    [
        b"x1 {}\n",
        b"l9 {}\n",
        b"l1{}\n",
        b"d3 [1]\n",
        b"d3 {\n",
        b'd3 ["a"]\n',
        b"\0\0\0\n",
        b"l1 \xff\n",
        b"l1 a\0b\n",
        b" \n",
    ],
)
def test_what_is_no_frame(damage):
    """Is counted, and its neighbours are read."""
    frames = parse_frames(ONE + log("a") + damage + log("b"), 0, Definitions())
    assert frames.damaged == [len(ONE) + len(log("a"))]
    assert len(frames.records) == 2


def test_unreadable_text():
    """Is told from its neighbours."""
    data = ONE + log("a") + b'l1 {"body":\n' + log("b")
    kept, damaged = readable_frames(Signal.LOGS, parse_frames(data, 0, Definitions()).records)
    assert len(kept) == 2
    assert damaged == [len(ONE) + len(log("a"))]


def test_text_that_closes_what_stands_around_it():
    """Is no record, although the line could be read with it."""
    data = ONE + b'l1 {}]}]},{"scopeLogs":[{"logRecords":[{}\n'
    kept, damaged = readable_frames(Signal.LOGS, parse_frames(data, 0, Definitions()).records)
    assert (kept, damaged) == ([], [len(ONE)])


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", 0),
        (b"\0\0", 0),
        (b"a\nb\n\0\0", 4),
        (b"a\nb", 2),
        (b"a\nb\0\0", 2),
        (b"a\nb\0c\n\0", 2),
        (b"a\n\0\0\nb\n", 7),
    ],
)
def test_end_of_frames(data, end):
    """A frame that was being written does not count; what lies behind a gap does."""
    assert find_frames_end(data) == end


@given(
    st.text(st.characters(exclude_categories=())), st.text(), st.dictionaries(st.text(), st.text())
)
def test_any_text_is_one_frame(message, source, metadata):
    """JSON escaping keeps line ends and NUL out, of records and of definitions."""
    fragment = encode_event(TelemetryEvent(source, message, metadata=metadata))
    origin = (fragment.resource, fragment.scope, None)
    frame = encode_definition(1, origin) + f"l1 {fragment.text}\n"
    data = frame.encode("utf-8", "replace")
    assert b"\0" not in data
    assert data.count(b"\n") == 2
    frames = parse_frames(data, 0, Definitions())
    assert frames.damaged == []
    assert len(frames.records) == 1
