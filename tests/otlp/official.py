"""Makes the official encoder's messages and ours comparable.

``_MASKS`` lists all differences that are allowed; everything else must be the same, to the byte.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from google.protobuf import json_format
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource

from rimp_otel.batch import TelemetryData, skipped_count
from rimp_otel.models.records import Signal

__all__ = [
    "MESSAGES",
    "assert_same",
    "binary",
    "data_of",
    "differences",
    "lines_of",
    "message_of",
    "official_message",
    "our_message",
    "parsed",
]

MESSAGES: dict[Signal, Any] = {
    Signal.TRACES: trace_pb2.TracesData,
    Signal.LOGS: logs_pb2.LogsData,
    Signal.METRICS: metrics_pb2.MetricsData,
}
_ENCODERS: dict[Signal, Callable[[Any], Any]] = {
    Signal.TRACES: encode_spans,
    Signal.LOGS: encode_logs,
    Signal.METRICS: encode_metrics,
}
_ID_DIGITS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}
_W3C_FLAGS = 0xFF


def data_of(signal: Signal, records: Any) -> TelemetryData:
    """Return the batch that our exporter of the signal makes of the SDK's records."""
    if signal is Signal.TRACES:
        return TelemetryData(spans=records)
    if signal is Signal.LOGS:
        return TelemetryData.from_log_records(records)
    return TelemetryData.from_metrics_data(records)


def lines_of(signal: Signal, records: Any) -> list[bytes]:
    """Return our lines, which must hold every record."""
    data = data_of(signal, records)
    lines = data.otlp_json(signal)
    assert skipped_count(data, signal) == 0
    assert not any(byte < 0x20 for line in lines for byte in line)
    return lines


def parsed(signal: Signal, line: bytes) -> Any:
    """Return the message that protobuf's own JSON parser reads from a line, with hex ids as base64."""
    plain = json.loads(line, object_pairs_hook=_with_base64_ids, parse_constant=_refuse)
    return json_format.ParseDict(plain, MESSAGES[signal]())


def _with_base64_ids(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    message = dict(pairs)
    assert len(message) == len(pairs), f"a key is there twice: {pairs}"
    for name in _ID_DIGITS.keys() & message.keys():
        digits = message[name]
        assert len(digits) == _ID_DIGITS[name]
        assert digits == digits.lower()
        message[name] = b64encode(bytes.fromhex(digits)).decode()
    return message


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def message_of(signal: Signal, lines: Sequence[bytes]) -> Any:
    """Return the message of several lines, as if they were one."""
    messages = [parsed(signal, line) for line in lines]
    return messages[0] if len(messages) == 1 else _joined(signal, messages)


def _joined(signal: Signal, messages: Iterable[Any]) -> Any:
    joined = MESSAGES[signal]()
    levels = [signal.resource_key, signal.scope_key, signal.record_key]
    fields = [_snake(level) for level in levels]
    if signal is Signal.METRICS:
        fields.append("data_points")
    for message in messages:
        _join(message, joined, fields)
    return joined


def _join(source: Any, target: Any, fields: list[str]) -> None:
    """Append the items of ``source`` to those items of ``target`` that have the same envelope."""
    items, others = _items(source, fields[0]), _items(target, fields[0])
    if len(fields) == 1:
        others.MergeFrom(items)
        return
    known = {_shell(item, fields[1]): item for item in others}
    for item in items:
        shell = _shell(item, fields[1])
        if shell not in known:
            known[shell] = others.add()
            known[shell].ParseFromString(shell)
        _join(item, known[shell], fields[1:])


def _items(owner: Any, field: str) -> Any:
    return getattr(_data(owner) if field == "data_points" else owner, field)


def _data(metric: Any) -> Any:
    return getattr(metric, metric.WhichOneof("data"))


def _shell(item: Any, field: str) -> bytes:
    """Return an item without the items of the next level."""
    if isinstance(item, (trace_pb2.Span, logs_pb2.LogRecord)):
        return b""
    shell = type(item)()
    shell.CopyFrom(item)
    del _items(shell, field)[:]
    return binary(shell)


def _snake(camel: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in camel)


def official_message(signal: Signal, records: Any) -> Any:
    """Return the official encoder's message, without the fields that our encoder leaves out."""
    request = _ENCODERS[signal](records)
    message = MESSAGES[signal].FromString(request.SerializeToString())
    if signal is Signal.METRICS:
        _prune(message.resource_metrics, "scope_metrics", "metrics", "data_points")
    if _LEAVES_NONE_OUT:
        _name_none(message)
    return message


def our_message(signal: Signal, lines: Sequence[bytes]) -> Any:
    """Return the message of our lines, without the fields that the official encoder loses."""
    message = message_of(signal, lines)
    _MASKS[signal](message)
    for group in getattr(message, _snake(signal.resource_key)):
        group.resource.ClearField("dropped_attributes_count")
        for scoped in getattr(group, _snake(signal.scope_key)):
            scoped.scope.ClearField("dropped_attributes_count")
    return message


def _mask_spans(message: trace_pb2.TracesData) -> None:
    """Clear the W3C trace flags of spans and links, and the trace state of links."""
    for group in message.resource_spans:
        for scoped in group.scope_spans:
            for span in scoped.spans:
                span.flags &= ~_W3C_FLAGS
                for link in span.links:
                    link.flags &= ~_W3C_FLAGS
                    link.ClearField("trace_state")


def _mask_logs(message: logs_pb2.LogsData) -> None:
    """Clear nothing."""


def _mask_metrics(message: metrics_pb2.MetricsData) -> None:
    """Clear the start time of gauges."""
    for group in message.resource_metrics:
        for scoped in group.scope_metrics:
            for metric in scoped.metrics:
                for point in metric.gauge.data_points if metric.HasField("gauge") else ():
                    point.ClearField("start_time_unix_nano")


_MASKS: dict[Signal, Callable[[Any], None]] = {
    Signal.TRACES: _mask_spans,
    Signal.LOGS: _mask_logs,
    Signal.METRICS: _mask_metrics,
}


def _prune(groups: Any, *fields: str) -> None:
    """Remove scopes and resources without a data point, which no record belongs to."""
    for group in list(groups):
        if fields[1:]:
            _prune(getattr(group, fields[0]), *fields[1:])
        is_metric = fields[0] == "data_points"
        is_empty = group.WhichOneof("data") is None if is_metric else not getattr(group, fields[0])
        if is_empty:
            groups.remove(group)


def _leaves_none_out() -> bool:
    record = ReadableLogRecord(LogRecord(observed_timestamp=1), Resource({}))
    message = encode_logs([record])
    return not message.resource_logs[0].scope_logs[0].log_records[0].HasField("body")


# Of the SDK's floor: there, None is not written within log records, and later as an empty value.
_LEAVES_NONE_OUT = _leaves_none_out()


def _name_none(message: Any) -> None:
    """Set the empty values that the official encoder at the SDK's floor leaves out."""
    if isinstance(message, common_pb2.KeyValue):
        message.value.SetInParent()
    if isinstance(message, logs_pb2.LogRecord):
        message.body.SetInParent()
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for item in value if hasattr(value, "add") else [value]:
                _name_none(item)


def binary(message: Any) -> bytes:
    """Return a message as bytes, to compare; as messages, a NaN would differ from itself."""
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def assert_same(signal: Signal, lines: Sequence[bytes], records: Any) -> None:
    """Check that our lines hold what the official encoder writes, field by field and as a whole."""
    ours, theirs = our_message(signal, lines), official_message(signal, records)
    assert list(differences(ours, theirs)) == []
    assert binary(ours) == binary(theirs)


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Return the fields in which two messages of one type differ."""
    our_fields = {field.name: value for field, value in ours.ListFields()}
    their_fields = {field.name: value for field, value in theirs.ListFields()}
    for name in sorted(our_fields.keys() | their_fields.keys()):
        yield from _field_differences(
            our_fields.get(name), their_fields.get(name), f"{path}.{name}"
        )


def _field_differences(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    if hasattr(ours, "ListFields") and hasattr(theirs, "ListFields"):
        yield from differences(ours, theirs, path)
    elif hasattr(ours, "extend") and hasattr(theirs, "extend") and len(ours) == len(theirs):
        for index, (our_item, their_item) in enumerate(zip(ours, theirs, strict=True)):
            yield from _field_differences(our_item, their_item, f"{path}[{index}]")
    elif ours != theirs and not (_is_nan(ours) and _is_nan(theirs)):
        yield f"{path}: {str(ours)[:200]!r} is not {str(theirs)[:200]!r}"


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value
