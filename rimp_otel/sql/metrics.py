"""Metric data points as one table, of which each kind's view shows its columns.

One table for the five kinds, since one file holds them all; what a kind does not have is null,
which takes no room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.decode_common import TEMPORALITIES, check_boolean, enum_number
from rimp_otel.sql.builder import Builder, are_ids
from rimp_otel.sql.columns import (
    MAP,
    Names,
    Nested,
    attribute_columns,
    attribute_lists,
    attribute_pairs,
    codes,
    counts,
    floats,
    integers,
    optional_integers,
    spread_maps,
    spread_texts,
    texts,
)
from rimp_otel.sql.extras import pyarrow

__all__ = ["KINDS", "MetricBuilder"]

KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
"""What ``MetricType`` says, and what the names of the views end in."""

_text, _int, _double = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
_count, _time, _whole = pyarrow.uint32(), pyarrow.timestamp("ns"), pyarrow.int32()


def _exemplar_fields(exemplars: Sequence[messages.OtlpExemplar], keys: Names) -> dict[str, Any]:
    return {
        "attributes": attribute_lists([e.filtered_attributes for e in exemplars], keys),
        "TimeUnix": integers([exemplar.time_unix_nano for exemplar in exemplars]),
        "Value": floats([_value_of(exemplar) for exemplar in exemplars]),
        "SpanId": texts([exemplar.span_id for exemplar in exemplars]),
        "TraceId": texts([exemplar.trace_id for exemplar in exemplars]),
    }


_EXEMPLARS = Nested(
    _exemplar_fields,
    {
        "FilteredAttributes": MAP,
        "TimeUnix": _time,
        "Value": _double,
        "SpanId": _text,
        "TraceId": _text,
        "FilteredAttributeTypes": MAP,
    },
    "FilteredAttributes",
)
_QUANTILES = pyarrow.struct(
    [("Quantile", pyarrow.list_(_double)), ("Value", pyarrow.list_(_double))]
)
_SCHEMA = pyarrow.schema(
    [
        ("MetricType", _text),
        ("ResourceAttributes", MAP),
        ("ResourceSchemaUrl", _text),
        ("ScopeName", _text),
        ("ScopeVersion", _text),
        ("ScopeAttributes", MAP),
        ("ScopeDroppedAttrCount", _count),
        ("ScopeSchemaUrl", _text),
        ("ServiceName", _text),
        ("MetricName", _text),
        ("MetricDescription", _text),
        ("MetricUnit", _text),
        ("Attributes", MAP),
        ("StartTimeUnix", _time),
        ("TimeUnix", _time),
        ("Value", _double),
        ("Count", _int),
        ("Sum", _double),
        ("BucketCounts", pyarrow.list_(_int)),
        ("ExplicitBounds", pyarrow.list_(_double)),
        ("Scale", _whole),
        ("ZeroCount", _int),
        ("ZeroThreshold", _double),
        ("PositiveOffset", _whole),
        ("PositiveBucketCounts", pyarrow.list_(_int)),
        ("NegativeOffset", _whole),
        ("NegativeBucketCounts", pyarrow.list_(_int)),
        ("ValueAtQuantiles", _QUANTILES),
        ("Exemplars", _EXEMPLARS.type),
        ("Flags", _count),
        ("Min", _double),
        ("Max", _double),
        ("AggregationTemporality", _whole),
        ("IsMonotonic", pyarrow.bool_()),
        ("IntValue", _int),
        ("AttributeTypes", MAP),
        ("MetricMetadata", MAP),
        ("ResourceAttributeTypes", MAP),
        ("ResourceDroppedAttrCount", _count),
        ("ScopeAttributeTypes", MAP),
    ]
)


class _Series(NamedTuple):
    """What the points of one metric have in common."""

    kind: str
    name: str
    description: str
    unit: str
    temporality: int
    is_monotonic: bool | None
    metadata: tuple[tuple[str, str], ...]


class _Row(NamedTuple):
    """A point, with the number of its series."""

    series: int
    point: Any


class MetricBuilder(Builder):
    """Makes tables of data points."""

    signal = Signal.METRICS

    def _begin(self) -> None:
        super()._begin()
        self._series: dict[_Series, int] = {}

    @classmethod
    def schema(cls) -> Any:
        """The columns."""
        return _SCHEMA

    def _blocks(self, line: messages.OtlpLine) -> Iterable[tuple[int, list[Any]]]:
        for group in line.resource_metrics or ():
            for scoped in group.scope_metrics or ():
                number = self.origins.number(
                    group.resource, group.schema_url, scoped.scope, scoped.schema_url
                )
                yield number, [row for m in scoped.metrics or () for row in self._rows_of(m)]

    def _rows_of(self, metric: messages.Metric) -> list[_Row]:
        for kind in KINDS:
            data = getattr(metric, kind)
            if data is not None:
                series = _series_of(metric, kind, data)
                number = self._series.setdefault(series, len(self._series))
                return [_Row(number, point) for point in data.data_points or ()]
        return []

    def _is_strict(self, rows: Sequence[_Row]) -> bool:
        exemplars = [e for row in rows for e in getattr(row.point, "exemplars", None) or ()]
        return are_ids([e.trace_id for e in exemplars], 16) and are_ids(
            [e.span_id for e in exemplars], 8
        )

    def _columns(self, rows: Sequence[_Row]) -> dict[str, Any]:
        series, points = list(self._series), [row.point for row in rows]
        exemplars = [getattr(point, "exemplars", None) for point in points]
        return {
            "time": integers([point.time_unix_nano for point in points]),
            "name": codes([self.names[_order_of(series[row.series])] for row in rows]),
            "series": codes([row.series for row in rows]),
            "Attributes": attribute_lists([point.attributes for point in points], self.keys),
            "StartTimeUnix": integers([point.start_time_unix_nano for point in points]),
            "Flags": counts([point.flags for point in points]),
            "Exemplars": _EXEMPLARS.rows(exemplars, self.keys),
            **_number_columns(points),
            **_histogram_columns(points),
            **_exponential_columns(points),
            "ValueAtQuantiles": _quantiles(points),
        }

    def _finish(self, columns: dict[str, Any]) -> dict[str, Any]:
        attributes = attribute_columns(columns["Attributes"], self.keys)
        return {
            **columns,
            **self._series_columns(columns["series"]),
            "TimeUnix": columns["time"].cast(_time),
            "StartTimeUnix": columns["StartTimeUnix"].cast(_time),
            "Attributes": attributes.values,
            "AttributeTypes": attributes.types,
            "Exemplars": _EXEMPLARS.column(columns["Exemplars"], self.keys),
        }

    def _series_columns(self, numbers: Any) -> dict[str, Any]:
        series = list(self._series)
        monotonic = pyarrow.array([one.is_monotonic for one in series], pyarrow.bool_())
        temporality = pyarrow.array([one.temporality for one in series], _whole)
        return {
            "MetricType": spread_texts([one.kind for one in series], numbers),
            "MetricName": spread_texts([one.name for one in series], numbers),
            "MetricDescription": spread_texts([one.description for one in series], numbers),
            "MetricUnit": spread_texts([one.unit for one in series], numbers),
            "MetricMetadata": spread_maps(
                [one.metadata for one in series], [(number, 1) for number in numbers.to_pylist()]
            ),
            "IsMonotonic": monotonic.take(numbers),
            "AggregationTemporality": temporality.take(numbers),
        }


def _series_of(metric: messages.Metric, kind: str, data: Any) -> _Series:
    temporality = getattr(data, "aggregation_temporality", None)
    monotonic = getattr(data, "is_monotonic", None)
    return _Series(
        kind,
        metric.name or "",
        metric.description or "",
        metric.unit or "",
        enum_number(temporality, TEMPORALITIES, "aggregationTemporality"),
        check_boolean(monotonic or False, "isMonotonic") if kind == "sum" else None,
        tuple(attribute_pairs(metric.metadata)[0]),
    )


def _order_of(series: _Series) -> str:
    """What rows are sorted by within a service: the kind first, since each view wants one."""
    return f"{series.kind}\0{series.name}"


def _value_of(point: messages.NumberDataPoint | messages.OtlpExemplar) -> float | None:
    value = point.as_double if point.as_double is not None else point.as_int
    return None if value is None else float(value)


def _number_columns(points: Sequence[Any]) -> dict[str, Any]:
    is_number = [type(point) is messages.NumberDataPoint for point in points]
    pairs = list(zip(points, is_number, strict=True))
    return {
        "Value": floats([_value_of(point) if is_it else None for point, is_it in pairs]),
        "IntValue": optional_integers([point.as_int if is_it else None for point, is_it in pairs]),
    }


def _histogram_columns(points: Sequence[Any]) -> dict[str, Any]:
    has_count = [type(point) is not messages.NumberDataPoint for point in points]
    return {
        "Count": optional_integers(
            [(p.count or 0) if has else None for p, has in zip(points, has_count, strict=True)]
        ),
        "Sum": floats([getattr(point, "sum", None) for point in points]),
        "Min": floats([getattr(point, "min", None) for point in points]),
        "Max": floats([getattr(point, "max", None) for point in points]),
        "BucketCounts": _numbers(points, messages.HistogramDataPoint, "bucket_counts", _int),
        "ExplicitBounds": _numbers(points, messages.HistogramDataPoint, "explicit_bounds", _double),
    }


def _exponential_columns(points: Sequence[Any]) -> dict[str, Any]:
    kind = messages.ExponentialHistogramDataPoint
    own = [point if type(point) is kind else None for point in points]
    positive = [point and (point.positive or messages.OtlpBuckets()) for point in own]
    negative = [point and (point.negative or messages.OtlpBuckets()) for point in own]
    return {
        "Scale": pyarrow.array([point and (point.scale or 0) for point in own], _whole),
        "ZeroCount": optional_integers(
            [None if point is None else point.zero_count or 0 for point in own]
        ),
        "ZeroThreshold": floats(
            [None if point is None else point.zero_threshold or 0.0 for point in own]
        ),
        "PositiveOffset": pyarrow.array([b and (b.offset or 0) for b in positive], _whole),
        "PositiveBucketCounts": _numbers(positive, messages.OtlpBuckets, "bucket_counts", _int),
        "NegativeOffset": pyarrow.array([b and (b.offset or 0) for b in negative], _whole),
        "NegativeBucketCounts": _numbers(negative, messages.OtlpBuckets, "bucket_counts", _int),
    }


def _numbers(points: Sequence[Any], kind: type, field: str, item: Any) -> Any:
    """A list of numbers for each row of this kind."""
    rows = [list(getattr(point, field) or ()) if type(point) is kind else None for point in points]
    try:
        return pyarrow.array(rows, pyarrow.list_(item))
    except OverflowError:
        cut = [row and [min(number, 2**63 - 1) for number in row] for row in rows]
        return pyarrow.array(cut, pyarrow.list_(item))


def _quantiles(points: Sequence[Any]) -> Any:
    rows = [
        None
        if type(point) is not messages.SummaryDataPoint
        else {
            "Quantile": [q.quantile or 0.0 for q in point.quantile_values or ()],
            "Value": [q.value or 0.0 for q in point.quantile_values or ()],
        }
        for point in points
    ]
    return pyarrow.array(rows, _QUANTILES)
