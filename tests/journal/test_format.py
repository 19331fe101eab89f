"""The bytes of a segment: frames are read back, and a header survives a death at any store."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import accumulate, combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel import TelemetryEvent
from rimp_otel.journal.format import (
    HEADER_SIZE,
    Definitions,
    Header,
    Intent,
    encode_definition,
    find_frames_end,
    line_of_frames,
    parse_frames,
    read_header,
    readable_frames,
)
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.encode_logs import encode_event
from rimp_otel.otlp.lines import Envelope

RESOURCE, SCOPE = Envelope('{"resource":{},', "}"), Envelope('{"scope":{"name":"s"},', "}")
OTHER = Envelope('{"scope":{"name":"o"},', "}")
METRIC = Envelope('{"name":"m","gauge":{"dataPoints":[', "]}}")
ONE = encode_definition(1, (RESOURCE, SCOPE, None)).encode()


def log(text):
    """Return a record's frame."""
    return f'l1 {{"body":{{"stringValue":"{text}"}}}}\n'.encode()


def test_frames_are_read():
    """Frames are read back, with their offsets."""
    frames = parse_frames(ONE + log("a") + log("b"), 100, Definitions())
    assert frames.damaged == []
    assert [(f.offset, f.signal, f.text) for f in frames.records] == [
        (100 + len(ONE), Signal.LOGS, '{"body":{"stringValue":"a"}}'),
        (100 + len(ONE) + len(log("a")), Signal.LOGS, '{"body":{"stringValue":"b"}}'),
    ]
    assert frames.records[0].envelopes == (RESOURCE, SCOPE, None)


def test_line_of_frames():
    """A line of frames is OTLP JSON, grouped by resource and scope."""
    frames = parse_frames(ONE + log("a") + log("b"), 0, Definitions()).records
    assert line_of_frames(Signal.LOGS, frames) == (
        b'{"resourceLogs":[{"resource":{},"scopeLogs":[{"scope":{"name":"s"},"logRecords":['
        b'{"body":{"stringValue":"a"}},{"body":{"stringValue":"b"}}]}]}]}'
    )


def test_data_points_have_a_third_envelope():
    """Data points of one metric share a third envelope."""
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
    """Damage is counted, and its neighbours are read."""
    frames = parse_frames(ONE + log("a") + damage + log("b"), 0, Definitions())
    assert frames.damaged == [len(ONE) + len(log("a"))]
    assert len(frames.records) == 2


def test_unreadable_text():
    """A record that cannot be decoded is told from its neighbours."""
    data = ONE + log("a") + b'l1 {"body":\n' + log("b")
    kept, damaged = readable_frames(Signal.LOGS, parse_frames(data, 0, Definitions()).records)
    assert len(kept) == 2
    assert damaged == [len(ONE) + len(log("a"))]


def test_text_that_closes_its_envelope():
    """A text that closes its envelope is no record, even if the line can be read with it."""
    data = ONE + b'l1 {}]}]},{"scopeLogs":[{"logRecords":[{}\n'
    kept, damaged = readable_frames(Signal.LOGS, parse_frames(data, 0, Definitions()).records)
    assert (kept, damaged) == ([], [len(ONE)])


@pytest.mark.parametrize(
    ("data", "stop", "torn"),
    [
        (b"", 0, 0),
        (b"\0\0", 0, 0),
        (b"a\nb\n\0\0", 4, 4),
        (b"a\nb", 2, 2),
        (b"a\nb\0\0", 2, 2),
        (b"a\nb\0c\n\0", 6, 2),
        (b"a\n\0\0\nb\n", 7, 7),
        (b"a\nb\x1ec\n", 6, 6),
        (b"a\nb\x1ec\0", 4, 2),
        (b"a\n\0\x1ec\x1ed\0\0", 6, 2),
        (b"a\n\0\0\x1ec\n\0", 7, 2),
    ],
)
def test_frames_end(data, stop, torn):
    """A write that was broken off is told from damage; a frame behind a gap counts."""
    assert find_frames_end(data) == (stop, torn)
    assert find_frames_end(data, 100) == (100 + stop, 100 + torn)


@pytest.mark.parametrize(
    "copied", [range(64, 200), range(3, 90), range(130), [*range(60), *range(120, 190)]]
)
def test_write_of_many_frames_that_a_death_broke_off(copied):
    """Wherever the copy stopped, and in whatever order it went: nothing is damaged, what is whole is read."""
    frames = [log(str(n)).rstrip(b"\n") for n in range(8)]
    write = b"\x1e".join(frames) + b"\n"
    left = bytearray(len(write) + 50)
    for place in copied:
        left[place] = write[place]
    data = ONE + log("a") + bytes(left)
    end = find_frames_end(data)
    read = parse_frames(data[: end.stop], 0, Definitions(), end.torn)
    assert read.damaged == []
    assert read.records[0].text == '{"body":{"stringValue":"a"}}'
    assert {frame.text for frame in read.records[1:]} <= {frame[3:].decode() for frame in frames}


def test_damage_before_a_write_that_a_death_broke_off():
    """Only the last write can be torn: NULs in one before it are damage."""
    data = ONE + log("a")[:5] + b"\0\0\0" + log("b")[8:] + b"\0\0" + log("c")[2:] + b"\0"
    end = find_frames_end(data)
    assert parse_frames(data[: end.stop], 0, Definitions(), end.torn).damaged == [len(ONE)]


@pytest.mark.one_python
def test_torn_write():
    """Of a write of frames, whatever of it is missing, those are read that are there; none is damaged."""
    before = ONE + log("a") + log("b")
    texts = [f"{n}" * 9 for n in range(4)]
    definition = encode_definition(2, (RESOURCE, OTHER, None)).encode()
    frames = [definition, *[b"l2" + log(text)[2:-1] + b"\x1e" for text in texts]]
    write = b"".join(frames)[:-1] + b"\n"
    ends = [*accumulate(map(len, frames))]
    places = list(zip([0, *ends[:-1]], ends, strict=True))
    edges = sorted({0, 1, 31, 32, 64, *ends, *[end - 1 for end in ends], len(write)})
    first_bytes = [(0, 0), (0, 32), (70, 71)]
    for holes in product(combinations(edges, 2), first_bytes):
        left = bytearray(write)
        for start, stop in holes:
            left[start:stop] = bytes(stop - start)
        data = before + left + bytes(9)
        stop, torn = find_frames_end(data)
        assert torn == len(before)
        found = parse_frames(data[:stop], 0, Definitions(), torn)
        assert found.damaged == []
        # With the end of the one before: without that, nobody knows where it begins.
        is_there = [
            write[max(start - 1, 0) : stop] == left[max(start - 1, 0) : stop]
            for start, stop in places
        ]
        kept = [text for n, text in enumerate(texts, 1) if is_there[0] and is_there[n]]
        said = [json.loads(frame.text)["body"]["stringValue"] for frame in found.records]
        assert said == ["a", "b", *kept]


def test_segments_of_before_are_read():
    """A line end after each frame, as it was written before, is read as well."""
    data = (ONE[:-1] + b"\n" + log("a") + log("b") + b"\0").replace(b"\x1e", b"\n")
    stop, torn = find_frames_end(data)
    assert (stop, torn) == (len(data) - 1, len(data) - 1)
    assert len(parse_frames(data[:stop], 0, Definitions(), torn).records) == 2


@given(
    st.text(st.characters(exclude_categories=())), st.text(), st.dictionaries(st.text(), st.text())
)
def test_any_text_is_one_frame(message, source, metadata):
    """JSON escaping keeps line ends and NUL out of records and of definitions."""
    encoded = encode_event(TelemetryEvent(source, message, metadata=metadata))
    origin = (encoded.resource, encoded.scope, None)
    frame = encode_definition(1, origin) + f"l1 {encoded.text}\n"
    data = frame.encode("utf-8", "replace")
    assert b"\0" not in data
    assert (data.count(b"\n"), data.count(b"\x1e")) == (1, 1)
    frames = parse_frames(data, 0, Definitions())
    assert frames.damaged == []
    assert len(frames.records) == 1


TRACES, LOGS, METRICS = tuple(Signal)


class Words(list):
    """Memory that a process dies in after a number of stores."""

    def __init__(self):
        super().__init__([0] * (HEADER_SIZE // 8))
        self.left = 10**9

    def __setitem__(self, index, value):
        if self.left <= 0:
            raise InterruptedError
        self.left -= 1
        super().__setitem__(index, value)

    def to_bytes(self):
        """Return the words as they lie in the file."""
        return b"".join(word.to_bytes(8, "little") for word in self)


@pytest.fixture
def words():
    """The memory of a new header."""
    words = Words()
    header = Header(words)
    header.initialize(7)
    header.complete()
    return words


def test_new_header(words):
    """A new header says that nothing is stored."""
    state = read_header(words.to_bytes())
    assert state.number == 7
    assert state.stored_until == dict.fromkeys(tuple(Signal), HEADER_SIZE)
    assert state.file_ends == dict.fromkeys(tuple(Signal), End(0, 0))
    assert state.intent is None


def test_incomplete_header():
    """A header without its magic number is none, whatever else it holds."""
    words = Words()
    Header(words).initialize(7)
    assert read_header(words.to_bytes()) is None
    assert read_header(b"RIMPJNL1") is None


def test_intent_and_finish(words):
    """An intent says what is being stored; finish says that it has been."""
    header = Header(words)
    intent = Intent(LOGS, HEADER_SIZE, 5_000, End(3, 100), 50)
    header.intend(intent)
    assert header.state().intent == intent
    header.finish(LOGS, 5_000, End(3, 150), 9)
    state = header.state()
    assert (state.intent, state.generation) == (None, 9)
    assert state.stored_until == {TRACES: HEADER_SIZE, LOGS: 5_000, METRICS: HEADER_SIZE}
    assert state.file_ends[LOGS] == End(3, 150)


@pytest.mark.parametrize("stores", range(22))
def test_death_between_any_two_stores(words, stores):
    """Any death leaves the state before or after, or an intent that decides which."""
    header = Header(words)
    header.intend(Intent(LOGS, HEADER_SIZE, 4_500, End(3, 0), 100))
    header.finish(LOGS, 4_500, End(3, 100), 1)
    words.left = stores
    with suppress(InterruptedError):
        header.intend(Intent(LOGS, 4_500, 5_000, End(3, 100), 50))
        header.finish(LOGS, 5_000, End(3, 150), 2)
    state = read_header(words.to_bytes())
    if state.intent is None:
        pair = state.stored_until[LOGS], state.file_ends[LOGS]
        assert pair in {(4_500, End(3, 100)), (5_000, End(3, 150))}
    else:
        assert state.intent == Intent(LOGS, 4_500, 5_000, End(3, 100), 50)


def test_cleared_intent(words):
    """A cleared intent is as if it had never been."""
    header = Header(words)
    before = header.state()
    header.intend(Intent(TRACES, HEADER_SIZE, 5_000, End(3, 100), 50))
    header.clear_intent()
    assert header.state() == before


def test_roll_back(words):
    """A header goes back to what was stored at the last sync."""
    header = Header(words)
    header.finish(LOGS, 5_000, End(3, 150), 1)
    header.set_synced({LOGS: 5_000}, {LOGS: End(3, 150)})
    header.finish(LOGS, 6_000, End(3, 250), 2)
    header.roll_back()
    assert header.stored_until(LOGS) == 5_000
    assert header.state().file_ends[LOGS] == End(3, 150)


def test_roll_back_without_a_readable_sync(words):
    """Where the last sync cannot be read, a header goes back to the start, of the file too."""
    header = Header(words)
    header.finish(LOGS, 5_000, End(3, 150), 1)
    header.set_synced({LOGS: 5_000}, {LOGS: End(3, 150)})
    words[25] ^= 1 << 20
    header.roll_back()
    assert header.stored_until(LOGS) == HEADER_SIZE
    assert header.state().file_ends[LOGS] == End(3, 0)


@pytest.mark.parametrize("bit", [0, 7, 63])
@pytest.mark.parametrize("index", range(16, 24))
def test_damaged_intent(words, index, bit):
    """A damaged intent is none."""
    header = Header(words)
    header.intend(Intent(Signal.METRICS, HEADER_SIZE, 5_000, End(3, 100), 50))
    words[index] ^= 1 << bit
    assert header.state().intent is None


def test_damaged_word(words):
    """A damaged word shows, with both candidates for its value."""
    header = Header(words)
    header.set_stored_until(TRACES, 5_000)
    words[4] = 2**50
    assert header.state().stored_until == {TRACES: 0, LOGS: HEADER_SIZE, METRICS: HEADER_SIZE}
    assert header.state().candidates[TRACES] == (2**50, 5_000)
