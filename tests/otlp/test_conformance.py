"""Real recordings and the specification's examples, compared with protobuf's parsers.

The files are not part of the project: without their folder beside it, these tests are skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.lines import EncodedRecord, join_line
from rimp_otel.otlp.protobuf import line_from_protobuf, normalize_line, protobuf_from_line
from rimp_otel.otlp.requests import RequestFormat, decode_request
from rimp_otel.otlp.scan import count_records, signal_of_line

FOLDER = Path(__file__).parents[3] / "shared" / "conformance"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the conformance files are not there: {FOLDER}"
)

RECORDS = {
    "logs": 81,
    "metrics_exponential_histogram": 2,
    "metrics_gauge": 3,
    "metrics_histogram": 3,
    "metrics_mixed": 3,
    "metrics_sum": 4,
    "metrics_summary": 2,
    "traces": 19,
}
EXAMPLES = {"events": 1, "logs": 1, "metrics": 4, "trace": 1}


def signal_named(name: str) -> Signal:
    """Return the signal that a recording's name begins with."""
    return Signal(name.split("_")[0])


@pytest.mark.parametrize(("name", "count"), EXAMPLES.items())
def test_the_examples_of_the_specification_decode(name, count):
    """The examples decode, and strict JSON of them is the same message."""
    text = (FOLDER / "otlp-examples" / f"{name}.json").read_text()
    assert len(decode_line(text).records) == count_records(text) == count
    assert protobuf_from_line(normalize_line(text)) == protobuf_from_line(text)


@pytest.mark.parametrize(("name", "count"), RECORDS.items())
def test_protobuf_recordings_become_lines_without_loss(name, count):
    """Parsed back, the line of a protobuf recording is the same message."""
    signal = signal_named(name)
    data = (FOLDER / "recordings" / f"{name}.pb").read_bytes()
    line = line_from_protobuf(signal, data)
    message = protobuf_from_line(line)
    assert message == type(message).FromString(data)
    assert signal_of_line(line) is signal
    assert len(decode_line(line).records) == count_records(line) == count


@pytest.mark.parametrize(("name", "count"), RECORDS.items())
def test_recordings_in_the_dialect_become_the_same_messages(name, count):
    """Base64 ids and named enumerations become those of the binary recording of the same name."""
    lines = (FOLDER / "recordings" / f"{name}.jsonl").read_bytes().splitlines()
    data = (FOLDER / "recordings" / f"{name}.pb").read_bytes()
    first, *others = [protobuf_from_line(normalize_line(line)) for line in lines]
    for other in others:
        first.MergeFrom(other)
    assert first == type(first).FromString(data)
    assert sum(len(decode_line(line).records) for line in lines) == count


def test_the_dialect_and_strict_json_decode_to_the_same_ids():
    """The ids of each span are those of the binary recording."""
    data = (FOLDER / "recordings" / "traces.pb").read_bytes()
    strict = decode_line(line_from_protobuf(Signal.TRACES, data)).records
    lines = (FOLDER / "recordings" / "traces.jsonl").read_bytes().splitlines()
    dialect = [span for line in lines for span in decode_line(line).records]
    assert [span.context for span in dialect] == [span.context for span in strict]
    assert [span.parent for span in dialect] == [span.parent for span in strict]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("log_invalid_severity", "severityNumber='INVALID_SEVERITY_VALUE' is not a name"),
        ("malformed", "JSON is malformed: expected ',' or '}'"),
        ("metrics_invalid_temporality", "aggregationTemporality='INVALID_TEMPORALITY_VALUE'"),
        ("trace_invalid_base64", "traceId='!!!INVALID_BASE64!!!' is neither 32 hex digits"),
        ("trace_invalid_kind", "kind='SPAN_KIND_INVALID_TYPE' is not a name"),
        ("trace_mixed_encoding", "traceId='zzz' is neither 32 hex digits nor base64 of 16 bytes"),
    ],
)
def test_invalid_files_are_refused_with_a_reason(name, reason):
    """Both readers refuse each file, for what is wrong in it."""
    text = (FOLDER / "invalid" / f"{name}.json").read_text()
    for read in (decode_line, normalize_line):
        with pytest.raises(DecodeError) as caught:
            read(text)
        assert reason in caught.value.reason


def text_of(signal: Signal, records: list[EncodedRecord]) -> list[bytes]:
    """Return the line of each record."""
    return [join_line(signal, {record[1:4]: record.text.encode()}) for record in records]


@pytest.mark.parametrize(("name", "count"), RECORDS.items())
def test_protobuf_recordings_are_requests(name, count):
    """Received as protobuf, or as the JSON that it stands for, a recording has the same records."""
    signal = signal_named(name)
    data = (FOLDER / "recordings" / f"{name}.pb").read_bytes()
    found = decode_request(signal, data, RequestFormat.PROTOBUF)
    assert (len(found.records), found.refused, found.reason) == (count, 0, "")
    line = line_from_protobuf(signal, data)
    assert decode_request(signal, line, RequestFormat.JSON) == found
    assert all(record.text.encode() in line for record in found.records)


@pytest.mark.parametrize(("name", "count"), RECORDS.items())
def test_recordings_in_the_dialect_are_no_requests(name, count):
    """What has ids in base64 or enumerations by name is refused, and says why; metrics have neither."""
    signal = signal_named(name)
    for line in (FOLDER / "recordings" / f"{name}.jsonl").read_bytes().splitlines():
        found = decode_request(signal, line, RequestFormat.JSON)
        if b"AGGREGATION_TEMPORALITY_" in line or b"SPAN_KIND_" in line or b"SEVERITY_" in line:
            assert found.refused
            assert "protobuf's own JSON mapping" in found.reason
        assert len(found.records) + found.refused == count_records(line)


@pytest.mark.parametrize(("name", "count"), EXAMPLES.items())
def test_the_examples_of_the_specification_are_requests(name, count):
    """Each example is taken whole, as strict JSON."""
    text = (FOLDER / "otlp-examples" / f"{name}.json").read_bytes()
    signal = signal_of_line(text)
    found = decode_request(signal, text, RequestFormat.JSON)
    assert (len(found.records), found.refused, found.reason) == (count, 0, "")
    messages = [protobuf_from_line(line) for line in text_of(signal, found.records)]
    if count == 1:
        assert messages == [protobuf_from_line(text)]


@pytest.mark.parametrize(
    "name",
    [
        "log_invalid_severity",
        "metrics_invalid_temporality",
        "trace_invalid_base64",
        "trace_invalid_kind",
        "trace_mixed_encoding",
    ],
)
def test_the_records_of_invalid_files_are_refused(name):
    """Each costs its own record only, with place and reason."""
    text = (FOLDER / "invalid" / f"{name}.json").read_bytes()
    found = decode_request(signal_of_line(text), text, RequestFormat.JSON)
    assert (found.records, found.refused) == ([], 1)
    assert found.reason.startswith("resource")
