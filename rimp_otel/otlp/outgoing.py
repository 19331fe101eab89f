"""OTLP requests made of lines, and lines split into their records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import DATA_KEYS
from rimp_otel.otlp.messages import (
    SIGNAL_ATTRIBUTES,
    check_one_signal,
    check_signal,
    decode_json,
    no_recursion_error,
    repair_line,
)
from rimp_otel.otlp.protobuf import normalize_line
from rimp_otel.otlp.protobuf_lines import protobuf_of_line
from rimp_otel.otlp.requests import RequestFormat

__all__ = ["request_from_lines", "split_line"]


class _RawLine(Struct, rename="camel", gc=False):
    """A line whose list of resources is left as text."""

    resource_spans: Raw | UnsetType = UNSET
    resource_logs: Raw | UnsetType = UNSET
    resource_metrics: Raw | UnsetType = UNSET


_RAW_LINE = msgspec.json.Decoder(_RawLine)
_ENVELOPE = msgspec.json.Decoder(dict[str, Raw] | None)
_ITEMS = msgspec.json.Decoder(list[Raw] | None)
_encode = msgspec.json.Encoder().encode


def request_from_lines(signal: Signal, lines: Iterable[bytes], format: RequestFormat) -> bytes:
    """Return the body of the export request that holds the records of all lines, in order.

    Args:
        signal: the signal of all lines.
        lines: OTLP JSON, each without its end.
        format: protobuf or JSON.

    Raises:
        DecodeError: a line is not OTLP JSON of this signal.
    """
    if format is RequestFormat.PROTOBUF:
        return b"".join([protobuf_of_line(signal, line) for line in lines])
    resources = [text for line in lines if (text := _resources_text(signal, line))]
    return b'{"%b":[%b]}' % (signal.resource_key.encode(), b",".join(resources))


def _resources_text(signal: Signal, line: bytes) -> bytes:
    """Return what stands between the brackets of a line's list of resources, as strict OTLP JSON."""
    found = decode_json(_RAW_LINE, _make_strict_line(signal, line))
    check_signal(found, signal)
    text = bytes(getattr(found, SIGNAL_ATTRIBUTES[signal])).strip()
    if text == b"null":
        return b""
    if text[:1] != b"[":
        raise DecodeError(f"{signal.resource_key} is not a list")
    return text[1:-1].strip()


def _make_strict_line(signal: Signal, line: bytes) -> bytes:
    """Return a line as strict OTLP JSON, if it is of another form and can be read."""
    sound = repair_line(line)
    return normalize_line(sound) if _is_foreign(signal, sound) else sound


# Protobuf's own JSON mapping has ids in base64 and enumerations by name. Where one record of a line has
# them, all have: looking at the first ones is enough. A quotation mark within a text has a backslash
# before it, so that no text looks like these.
_HEX_ID = re.compile(rb'"traceId"\s*:\s*"(?:[0-9a-fA-F]{32})?"')
_NAMED_ENUM = re.compile(rb'"[a-zA-Z]+"\s*:\s*"[A-Z]')
_ENUM_KEYS = {
    Signal.TRACES: b'"kind"',
    Signal.LOGS: b'"severityNumber"',
    Signal.METRICS: b'"aggregationTemporality"',
}
_STATUS_NAME = b'"STATUS_CODE_'
_OLD_KEY = b'"instrumentationLibrary'  # of OTLP before 0.15


def _is_foreign(signal: Signal, line: bytes) -> bool:
    """Return True if a line may be of another form than strict OTLP JSON."""
    at = line.find(b'"traceId"')
    if at >= 0 and not _HEX_ID.match(line, at):
        return True
    at = line.find(_ENUM_KEYS[signal])
    if at >= 0 and _NAMED_ENUM.match(line, at):
        return True
    if signal is Signal.TRACES and _STATUS_NAME in line:
        return True
    return f'"{signal.scope_key}"'.encode() not in line and _OLD_KEY in line


@no_recursion_error
def split_line(line: bytes) -> list[bytes]:
    """Return a line for each record of a line, in order, in its resource, scope and metric.

    All fields are kept as they stand, also those that OTLP does not define.

    Raises:
        DecodeError: the line is not OTLP JSON.
    """
    sound = repair_line(line)
    found = decode_json(_RAW_LINE, normalize_line(sound) if _OLD_KEY in sound else sound)
    signal = check_one_signal(found)
    keys = [signal.resource_key, signal.scope_key, signal.record_key]
    raw = getattr(found, SIGNAL_ATTRIBUTES[signal])
    return list(_split_items(raw, keys, b'{"%b":[' % keys[0].encode(), b"]}"))


def _split_items(raw: Raw, keys: Sequence[str], head: bytes, tail: bytes) -> Iterator[bytes]:
    """Yield a line for each record in a list of envelopes, or of records if ``keys`` has only one."""
    for item in decode_json(_ITEMS, bytes(raw)) or ():
        if len(keys) > 1:
            envelope = decode_json(_ENVELOPE, bytes(item)) or {}
            yield from _split_envelope(envelope, keys[1:], head, tail)
        elif keys[0] == Signal.METRICS.record_key:
            yield from _split_metric(item, head, tail)
        else:
            yield b"%b%b%b" % (head, item, tail)


def _split_metric(raw: Raw, head: bytes, tail: bytes) -> Iterator[bytes]:
    metric = decode_json(_ENVELOPE, bytes(raw)) or {}
    kinds = [key for key in DATA_KEYS.values() if key in metric and bytes(metric[key]) != b"null"]
    if len(kinds) > 1:
        raise DecodeError("a metric has points of one kind only")
    for kind in kinds:
        data = decode_json(_ENVELOPE, bytes(metric.pop(kind))) or {}
        opening = b'%b%b"%b":' % (head, _open_object(metric), kind.encode())
        yield from _split_envelope(data, ["dataPoints"], opening, b"}" + tail)


def _split_envelope(
    envelope: dict[str, Raw], keys: Sequence[str], head: bytes, tail: bytes
) -> Iterator[bytes]:
    items = envelope.pop(keys[0], None)
    if items is not None:
        opening = b'%b%b"%b":[' % (head, _open_object(envelope), keys[0].encode())
        yield from _split_items(items, keys, opening, b"]}" + tail)


def _open_object(fields: dict[str, Raw]) -> bytes:
    """Return an object's text up to where one more field can be written."""
    return _encode(fields)[:-1] + b"," if fields else b"{"
