"""Foreign lines: characters that are none cost a character, and older OTLP is read or refused."""

from __future__ import annotations

import json

import pytest

from rimp_otel import FileStorage, SQLiteStorage, TelemetryData
from rimp_otel.errors import DecodeError
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.protobuf import normalize_line
from rimp_otel.otlp.scan import count_records, summarize_line

ID = "0af7651916cd43dd8448eb211c80319c"


def log_line(body: str) -> str:
    """Return a line of one log record, with a body as it stands in JSON."""
    return (
        '{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name",'
        f'"value":{{"stringValue":"{body}"}}}}]}},"scopeLogs":[{{"scope":{{"name":"{body}"}},'
        f'"logRecords":[{{"timeUnixNano":"5","body":{{"stringValue":"{body}"}}}}]}}]}}]}}'
    )


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (rb"a\ud83dz", "a\ufffdz"),
        (rb"a\uDE00z", "a\ufffdz"),
        (rb"a\ud83d\ud83d\ude00z", "a\ufffd\U0001f600z"),
        (rb"\ud83d", "\ufffd"),
        (rb"\\ud83d\ud83d", "\\ud83d\ufffd"),
        ("a\ud83dz".encode("utf-8", "surrogatepass"), "a\ufffdz"),
        (b"a\xff\xfez", "a\ufffd\ufffdz"),
        (rb"a\ud83d\ude00z", "a\U0001f600z"),
    ],
)
def test_a_character_that_is_none(body, read):
    """It is read as U+FFFD, in resource, scope and record, and whatever reads the line."""
    line = b"".join(body if part == "@" else part.encode() for part in _split(log_line("@")))
    ((_, (event,)),) = [decode_line(line)]
    assert (event.message, event.source) == (read, read)
    assert event.resource.attributes == {"service.name": read}
    assert count_records(line) == 1
    assert summarize_line(line).services == {read}
    strict = json.loads(normalize_line(line))["resourceLogs"][0]
    assert strict["scopeLogs"][0]["logRecords"][0]["body"] == {"stringValue": read}


def _split(text: str) -> list[str]:
    return [part for piece in text.split("@") for part in ("@", piece)][1:]


@pytest.mark.parametrize("storage", [FileStorage, SQLiteStorage])
def test_such_a_line_is_stored(tmp_path, storage):
    """A batch of it can be stored and retrieved."""
    stored = storage(tmp_path / "t.db" if storage is SQLiteStorage else tmp_path / "t")
    stored.store(TelemetryData.from_otlp_json([log_line(r"a\ud83dz"), log_line("b\ud83dz")]))
    assert [event.message for event in stored.retrieve().events] == ["a\ufffdz", "b\ufffdz"]
    stored.close()


def test_another_error_has_its_reason():
    """What is wrong besides is said."""
    with pytest.raises(DecodeError, match="truncated"):
        decode_line(log_line(r"\ud83d")[:-5])
    with pytest.raises(DecodeError, match="timeUnixNano"):
        decode_line(log_line(r"\ud83d").replace('"5"', '"soon"'))


SPAN = {"traceId": ID, "spanId": "b7ad6b7169203331", "name": "n", "startTimeUnixNano": "5"}
LIBRARY = {"name": "old", "version": "1"}


def old_line(signal: str, record: dict[str, object], key: str) -> str:
    """Return a line of OTLP before 0.15."""
    scope = {"instrumentationLibrary": LIBRARY, key: [record]}
    return json.dumps({f"resource{signal}": [{f"instrumentationLibrary{signal}": [scope]}]})


GAUGE = {"name": "m", "gauge": {"dataPoints": [{"timeUnixNano": "5", "asInt": "7"}]}}


@pytest.mark.parametrize(
    ("signal", "record", "key"),
    [
        ("Spans", SPAN, "spans"),
        ("Logs", {"timeUnixNano": "5", "body": {"stringValue": "b"}}, "logs"),
        ("Logs", {"timeUnixNano": "5", "body": {"stringValue": "b"}}, "logRecords"),
        ("Metrics", GAUGE, "metrics"),
    ],
)
@pytest.mark.parametrize("storage", [FileStorage, SQLiteStorage])
def test_otlp_before_0_15(tmp_path, storage, signal, record, key):
    """Instrumentation libraries are scopes."""
    line = old_line(signal, record, key)
    assert count_records(line) == 1
    assert (summarize_line(line.encode()).first, summarize_line(line.encode()).last) == (5, 5)
    assert b'"scope":{"name":"old","version":"1"}' in normalize_line(line)
    stored = storage(tmp_path / "t.db" if storage is SQLiteStorage else tmp_path / "t")
    stored.store(TelemetryData.from_otlp_json([line]))
    data = stored.retrieve()
    assert len(data) == 1
    (found,) = [*data.spans, *data.events, *data.metrics]
    scope = found.instrumentation_scope if data.spans else found.scope
    assert scope.name == "old"
    stored.close()


def test_text_that_looks_like_an_old_key():
    """Only keys are renamed."""
    text = '{"instrumentationLibrary": 1, "logs": 2}'
    record = {"timeUnixNano": "5", "body": {"stringValue": text}}
    (_, (event,)) = decode_line(old_line("Logs", record, "logs"))
    assert event.message == text


@pytest.mark.parametrize("kind", ["intSum", "doubleHistogram", "intGauge"])
def test_otlp_before_0_9(kind):
    """It is refused, not read as nothing."""
    line = old_line("Metrics", {"name": "m", kind: {"dataPoints": [{"value": "5"}]}}, "metrics")
    with pytest.raises(DecodeError, match=f"{kind} is of OTLP before 0.9"):
        decode_line(line)
