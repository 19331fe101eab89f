"""Reading OTLP files of other tools."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import pytest
import zstandard

from rimp_otel.models.records import Signal
from rimp_otel.otlp.files import FileMessage, ReadLimits, read_messages
from rimp_otel.otlp.protobuf import protobuf_from_line, signal_of_protobuf
from rimp_otel.otlp.scan import count_records

FOLDER = Path(__file__).parents[3] / "shared" / "conformance"
COUNTS = {
    "logs": 81,
    "metrics_exponential_histogram": 2,
    "metrics_gauge": 3,
    "metrics_histogram": 3,
    "metrics_mixed": 3,
    "metrics_sum": 4,
    "metrics_summary": 2,
    "traces": 19,
}
conformance = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"not there: {FOLDER}")

SPAN = (
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"%032x","spanId":"00000000000000a1",'
    b'"name":"a","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}'
)
SPANS = [SPAN % number for number in (1, 2, 3)]
LOG = (
    b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","severityNumber":9,'
    b'"body":{"stringValue":"m"}}]}]}]}'
)
GAUGE = (
    b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"sixteen byte nam","gauge":'
    b'{"dataPoints":[{"timeUnixNano":"1","asInt":"7"}]}}]}]}]}'
)
PRETTY = b'{\n  "resourceLogs": [\n  ]\n}\n'
zstd = zstandard.ZstdCompressor().compress


DEFAULT = ReadLimits()


def read(data: bytes, limits: ReadLimits = DEFAULT) -> list[FileMessage]:
    """Return the messages of a file with this content."""
    return list(read_messages(io.BytesIO(data), limits))


def lines(data: bytes, limits: ReadLimits = DEFAULT) -> list[bytes | None]:
    """Return the lines of messages."""
    return [message.line for message in read(data, limits)]


def binary(line: bytes) -> bytes:
    """Return a line's message in protobuf."""
    return protobuf_from_line(line).SerializeToString()


def framed(*messages: bytes) -> bytes:
    """Return messages with lengths, as the Collector's file exporter writes them."""
    return b"".join(struct.pack(">I", len(message)) + message for message in messages)


@pytest.mark.parametrize(
    "data",
    [
        b"\n".join(SPANS),
        b"\r\n".join(SPANS) + b"\r\n\r\n",
        b"\xef\xbb\xbf" + b"\n".join(SPANS),
        b"\n\n" + b"\n\n".join(SPANS),
        zstd(b"\n".join(SPANS)),
        b"".join(zstd(line + b"\n") for line in SPANS),
        gzip.compress(b"\n".join(SPANS)),
        b"".join(gzip.compress(line + b"\n") for line in SPANS),
        framed(*SPANS),
        framed(*map(zstd, SPANS)),
        framed(*map(binary, SPANS)),
        framed(*(zstd(binary(line)) for line in SPANS)),
        gzip.compress(framed(*map(binary, SPANS))),
        b"".join(line.replace(b"{", b"{\n") + b"\n" for line in SPANS),
    ],
    ids=range(14),
)
def test_however_it_is_written(data: bytes) -> None:
    """The same three messages are read from every form."""
    assert lines(data) == SPANS


def test_one_message() -> None:
    """A single protobuf message has no length before it."""
    assert read(binary(SPANS[0])) == [FileMessage(1, SPANS[0], unit="message")]


@pytest.mark.parametrize(
    ("line", "signal"), [(SPANS[0], Signal.TRACES), (LOG, Signal.LOGS), (GAUGE, Signal.METRICS)]
)
def test_the_signal_of_a_message_in_protobuf(line: bytes, signal: Signal) -> None:
    """The signal is that by which the fields make sense."""
    assert signal_of_protobuf(binary(line)) is signal


def test_signals_may_change() -> None:
    """A file may hold all three signals, as of a Collector's pipelines."""
    messages = [SPANS[0], LOG, GAUGE, SPANS[1]]
    assert lines(b"\n".join(messages)) == messages
    assert lines(framed(*map(binary, messages))) == messages


@conformance
@pytest.mark.parametrize("name", COUNTS)
def test_real_files(name: str) -> None:
    """Both files of a recording have the same records, however they are compressed."""
    for suffix in ("pb", "jsonl"):
        data = (FOLDER / "recordings" / f"{name}.{suffix}").read_bytes()
        for packed in (data, zstd(data), gzip.compress(data)):
            found = lines(packed)
            assert sum(count_records(line) for line in found if line) == COUNTS[name]
            assert None not in found


@conformance
def test_examples_of_the_specification() -> None:
    """Each example is one message over several lines."""
    for path in sorted((FOLDER / "otlp-examples").iterdir()):
        (message,) = read(path.read_bytes())
        assert (message.number, message.unit) == (1, "line")
        assert message.line


@conformance
@pytest.mark.parametrize(
    ("name", "number", "reason"),
    [
        ("log_invalid_severity", 1, "severityNumber='INVALID_SEVERITY_VALUE' is not a name"),
        ("malformed", 21, "JSON is malformed: Expecting ',' delimiter"),
        ("metrics_invalid_temporality", 1, "aggregationTemporality='INVALID_TEMPORALITY_VALUE'"),
        ("trace_invalid_base64", 1, "traceId='!!!INVALID_BASE64!!!' is neither 32 hex digits"),
        ("trace_invalid_kind", 1, "kind='SPAN_KIND_INVALID_TYPE' is not a name"),
        ("trace_mixed_encoding", 1, "traceId='zzz' is neither 32 hex digits nor base64"),
    ],
)
def test_invalid_files(name: str, number: int, reason: str) -> None:
    """An invalid file is refused once, with line and reason."""
    (message,) = read((FOLDER / "invalid" / f"{name}.json").read_bytes())
    assert (message.number, message.line) == (number, None)
    assert reason in message.reason


def refused(data: bytes, limits: ReadLimits = DEFAULT) -> list[tuple[int, str]]:
    """Return the number and reason of each refused message of a file."""
    return [
        (message.number, message.reason) for message in read(data, limits) if message.line is None
    ]


@pytest.mark.parametrize(
    "bad", [b"{", b"nonsense", b'{"a":1}', b'{"resourceSpans":7}', b"\xff", b"["]
)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_bad_line_costs_itself(bad: bytes, at: int) -> None:
    """A damaged line costs itself alone, wherever it stands."""
    # At the start of a file, anything but a brace is the mark of another kind of file.
    bad = bad if at or bad[:1] == b"{" else b"{" + bad
    content = [*SPANS[:at], bad, *SPANS[at:]]
    assert [line for line in lines(b"\n".join(content)) if line] == SPANS
    assert [number for number, _ in refused(b"\n".join(content))] == [at + 1]


def test_messages_over_lines_and_others_after_them() -> None:
    """Messages over several lines and lines after them are read, and lines are counted on."""
    assert [m[:2] for m in read(PRETTY + SPANS[0] + b"\nx\n")] == [
        (1, b'{"resourceLogs":[]}'),
        (5, SPANS[0]),
        (6, None),
    ]
    assert [m[:2] for m in read(PRETTY + PRETTY + b"{")] == [
        (1, b'{"resourceLogs":[]}'),
        (5, b'{"resourceLogs":[]}'),
        (9, None),
    ]


def test_a_bad_message_among_those_with_lengths_costs_itself() -> None:
    """A damaged message with a length costs itself alone."""
    good = [binary(SPANS[0]), binary(LOG)]
    data = framed(good[0], b"\x0a\xff\xff", b"", zstd(good[1])[:-4], b'{"x"}', good[1])
    assert [line for line in lines(data) if line] == [SPANS[0], LOG]
    numbers, reasons = zip(*refused(data), strict=True)
    assert numbers == (2, 4, 5)
    assert reasons[0] == "not OTLP protobuf: neither TracesData, LogsData nor MetricsData"
    assert reasons[1] == "decompression failed: the last zstd frame is truncated"


def test_torn_ends() -> None:
    """Messages before a torn end are read."""
    data = framed(binary(SPANS[0]), binary(SPANS[1]))
    assert refused(data[:-3]) == [(2, f"truncated: 3 of {len(binary(SPANS[1]))} bytes are missing")]
    assert refused(data + b"\0") == [(3, "not an OTLP message")]
    for packed in (zstd(b"\n".join(SPANS)), gzip.compress(b"\n".join(SPANS))):
        ((number, reason),) = refused(packed[:-5])
        assert number == 0
        assert reason.startswith("decompression failed before the end: ")
    damaged = bytearray(zstd(b"\n".join(SPANS)))
    damaged[5] ^= 0xFF
    assert all(line is None or line in SPANS for line in lines(bytes(damaged)))


@pytest.mark.parametrize(
    "data",
    [b"hello world\n", b"\x89PNG\r\n\x1a\n" + bytes(99), b"[1]", b"\x1f\x8b\x08"],
    ids=range(4),
)
def test_foreign_files(data: bytes) -> None:
    """A file of another kind is refused once, with the forms that can be read."""
    assert len(refused(data)) == 1
    assert lines(data) == [None]


def test_empty_files() -> None:
    """An empty file has no messages, which is not an error."""
    assert read(b"") == read(b"\n \n") == read(zstd(b"")) == []


def test_what_is_too_long() -> None:
    """A message has a limit, so that a file cannot take all memory; the next one is read."""
    long = SPAN.replace(b'"a"', b'"' + b"a" * 400 + b'"') % 7
    limits = ReadLimits(300, message_advice="; see --x")
    reason = "longer than 0.000286102 MiB, the limit of a message; see --x"
    assert refused(SPANS[0] + b"\n" + long + b"\n" + SPANS[1], limits) == [(2, reason)]
    assert lines(SPANS[0] + b"\n" + long + b"\n" + SPANS[1], limits) == [SPANS[0], None, SPANS[1]]
    assert refused(binary(long), limits) == [(1, reason)]
    assert refused(PRETTY[:-3] + b"\n" * 400, limits) == [(1, reason)]
    bomb = zstd(b"\0" * 1_000_000)
    assert [number for number, _ in refused(framed(bomb, SPANS[0]), limits)] == [1]


@pytest.mark.parametrize("pack", [zstd])
@pytest.mark.parametrize("content", [b"\n", b" ", b"\0"])
def test_bombs(pack: Any, content: bytes) -> None:
    """A file that holds more than 500 times its size is refused, after a bounded part of it."""
    bomb = pack(content * (16 * 1024 * 1024))
    found = refused(bomb, ReadLimits(message=1024 * 1024 * 1024))
    assert len(found) >= 1
    limited = refused(pack(SPANS[0] + b"\n" * 400), ReadLimits(file=500, file_advice="; see --y"))
    assert limited == [(0, "unpacks to more than 0.000476837 MiB, the limit of a file; see --y")]


def test_endless_zeros() -> None:
    """Zeros are read as empty messages, but not for ever."""
    assert len(refused(b"\0" * 1_000_000)) == 1


def test_a_message_with_its_length_is_skipped_where_it_is_too_long() -> None:
    """The next one is read."""
    text = framed(SPANS[0], b"{" + b" " * 5_000, SPANS[1])
    assert [line is None for line in lines(text, ReadLimits(1_000))] == [False, True, False]
