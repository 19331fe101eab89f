"""Prometheus' protobuf format: messages ``io.prometheus.client.MetricFamily``, each after its length.

It has what no text has: exponential histograms as native histograms.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence

from rimp_otel.analysis.metrics import Distribution
from rimp_otel.otlp.protobuf_writer import encode_varint, length_prefix
from rimp_otel.prometheus.families import Family, Member, ShownExemplar, exemplar_of
from rimp_otel.prometheus.text_format import Escaping
from rimp_otel.prometheus.totals import HistogramTotal, SummaryTotal, scale_of
from rimp_otel.prometheus.writer import PageWriter

__all__ = ["ProtobufWriter"]

_NANOS = 10**9
_MAX_SCHEMA = 8
_ZERO_THRESHOLD = 1e-128
_TYPES = {"counter": 0, "gauge": 1, "info": 1, "summary": 2, "histogram": 4}
_MAX_UINT64 = 2**64 - 1
_pack_double = struct.Struct("<d").pack


class ProtobufWriter(PageWriter):
    """Writes families of one table as a page. For one thread at a time.

    Args:
        escaping: of names.
    """

    def __init__(self, escaping: Escaping = Escaping.UNDERSCORES) -> None:
        super().__init__()
        self._escaping = escaping

    def write(self, families: Iterable[Family]) -> bytes:
        """Return the page."""
        parts: list[bytes] = []
        for family in families:
            data = b"".join(
                [
                    _string_field(1, self._escape(family.name, True)),
                    _string_field(2, family.help),
                    _varint_field(3, _TYPES[family.kind]),
                    *self._write_members(family),
                    _string_field(5, family.unit),
                ]
            )
            parts += (length_prefix(data), data)
        return b"".join(parts)

    def _escape(self, name: str, is_metric: bool) -> str:
        # Nothing needs quotes here.
        if self._escaping is Escaping.ALLOW_UTF8:
            return name
        return self._escaping.escape(name, is_metric)

    def _write_member(self, family: Family, member: Member) -> bytes:
        labels = b"".join([_label(self._escape(name, False), text) for name, text in member.labels])
        return _message_field(4, labels + self._value(family.kind, member))

    def _value(self, kind: str, member: Member) -> bytes:
        series, value = member.series, member.value
        if series is None:
            return _message_field(2, _double_field(1, value))
        found = {bucket: exemplar_of(one) for bucket, one in series.exemplars.items()}
        created = _timestamp_data(series.start) if series.start else None
        if isinstance(value, HistogramTotal):
            return _message_field(7, _histogram_data(value, found) + _optional_field(15, created))
        if isinstance(value, Distribution):
            newest = [one for one in found.values() if one is not None and one.time]
            return _message_field(
                7, _native_histogram_data(value, newest) + _optional_field(15, created)
            )
        if isinstance(value, SummaryTotal):
            return _message_field(4, _summary_data(value) + _optional_field(4, created))
        if kind == "counter":
            exemplar = found.get(0)
            shown = _optional_field(2, None if exemplar is None else _exemplar_data(exemplar))
            return _message_field(3, _double_field(1, value) + shown + _optional_field(3, created))
        return _message_field(2, _double_field(1, value))


# Messages.


def _histogram_data(value: HistogramTotal, exemplars: Mapping[int, ShownExemplar | None]) -> bytes:
    parts = [_varint_field(1, value.count), _double_field(2, _known_sum(value.sum))]
    total = 0
    for number, (bound, count) in enumerate(
        zip((*value.bounds, math.inf), value.counts, strict=True)
    ):
        total += count
        exemplar = exemplars.get(number)
        shown = _optional_field(3, None if exemplar is None else _exemplar_data(exemplar))
        parts.append(_message_field(3, _varint_field(1, total) + _double_field(2, bound) + shown))
    return b"".join(parts)


def _native_histogram_data(value: Distribution, exemplars: Sequence[ShownExemplar]) -> bytes:
    if scale_of(value) > _MAX_SCHEMA:
        value = value.at_scale(_MAX_SCHEMA)
    return b"".join(
        [
            _varint_field(1, value.count),
            _double_field(2, _known_sum(value.sum)),
            _varint_field(5, _zigzag(scale_of(value))),
            _double_field(6, value.zero_threshold or _ZERO_THRESHOLD),
            _varint_field(7, value.zeros),
            *_spans_and_deltas(9, value.negative),
            *_spans_and_deltas(12, value.counts),
            *[_message_field(16, _exemplar_data(one)) for one in exemplars],
        ]
    )


def _spans_and_deltas(field: int, counts: Mapping[int, int]) -> list[bytes]:
    """Return the buckets as spans of consecutive ones, and the differences from each to the next.

    Prometheus counts a bucket by its upper bound, OpenTelemetry by its lower one.
    """
    spans: list[tuple[int, int]] = []
    deltas = []
    end = before = 0
    for index, count in sorted(counts.items()):
        bucket = index + 1
        if spans and bucket == end:
            spans[-1] = spans[-1][0], spans[-1][1] + 1
        else:
            spans.append((bucket - end, 1))
        deltas.append(encode_varint(_zigzag(count - before) & _MAX_UINT64))
        end, before = bucket + 1, count
    parts = [
        _message_field(field, _varint_field(1, _zigzag(gap)) + _varint_field(2, size))
        for gap, size in spans
    ]
    if deltas:
        parts.append(_message_field(field + 1, b"".join(deltas)))
    return parts


def _summary_data(value: SummaryTotal) -> bytes:
    quantiles = [
        _message_field(3, _double_field(1, share) + _double_field(2, quantile))
        for share, quantile in value.quantiles
    ]
    return _varint_field(1, value.count) + _double_field(2, value.sum) + b"".join(quantiles)


def _exemplar_data(found: ShownExemplar) -> bytes:
    labels = b"".join(_label(name, text) for name, text in found.labels)
    time = _optional_field(3, _timestamp_data(found.time) if found.time else None)
    return labels + _double_field(2, found.value) + time


def _label(name: str, text: str) -> bytes:
    return _message_field(1, _string_field(1, name) + _string_field(2, text))


def _timestamp_data(nanos: int) -> bytes:
    return _varint_field(1, nanos // _NANOS) + _varint_field(2, nanos % _NANOS)


def _known_sum(found: float | None) -> float:
    return math.nan if found is None else found


# Fields.


def _varint_field(field: int, value: int) -> bytes:
    return encode_varint(field << 3) + encode_varint(value & _MAX_UINT64)


def _double_field(field: int, value: float) -> bytes:
    return encode_varint(field << 3 | 1) + _pack_double(value)


def _message_field(field: int, data: bytes) -> bytes:
    return b"".join((encode_varint(field << 3 | 2), length_prefix(data), data))


def _optional_field(field: int, data: bytes | None) -> bytes:
    return b"" if data is None else _message_field(field, data)


def _string_field(field: int, text: str) -> bytes:
    return _message_field(field, text.encode("utf-8", "replace")) if text else b""


def _zigzag(value: int) -> int:
    return value << 1 ^ value >> 63 if value < 0 else value << 1
