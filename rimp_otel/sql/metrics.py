"""Metric data points as a table, of which the view of each kind shows its own columns.

There is one table for the five kinds, since one file holds them all; a column that a kind does not
have is null, which takes no room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.decode_common import TEMPORALITIES, check_boolean, enum_number
from rimp_otel.sql.builder import TableBuilder, are_hex_ids
from rimp_otel.sql.columns import (
    MAP,
    NestedColumn,
    TextCodes,
    attribute_entries,
    attribute_list_column,
    attribute_map_columns,
    count_column,
    float_column,
    int32_column,
    optional_integer_column,
    repeat_maps,
    repeat_texts,
    string_column,
    time_column,
)
from rimp_otel.sql.extras import pyarrow

__all__ = ["KINDS", "MetricBuilder"]

KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
"""The values of ``MetricType``, in which the names of the views end."""

_string, _int64, _double = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
_uint32, _timestamp, _int32 = pyarrow.uint32(), pyarrow.timestamp("ns"), pyarrow.int32()


def _exemplar_columns(
    exemplars: Sequence[messages.OtlpExemplar], key_codes: TextCodes
) -> dict[str, Any]:
    return {
        "attributes": attribute_list_column([e.filtered_attributes for e in exemplars], key_codes),
        "TimeUnix": time_column([exemplar.time_unix_nano for exemplar in exemplars]),
        "Value": float_column([_value_of(exemplar) for exemplar in exemplars]),
        "SpanId": string_column([exemplar.span_id for exemplar in exemplars]),
        "TraceId": string_column([exemplar.trace_id for exemplar in exemplars]),
    }


_EXEMPLARS = NestedColumn(
    _exemplar_columns,
    {
        "FilteredAttributes": MAP,
        "TimeUnix": _timestamp,
        "Value": _double,
        "SpanId": _string,
        "TraceId": _string,
        "FilteredAttributeTypes": MAP,
    },
    "FilteredAttributes",
)
_QUANTILES = pyarrow.struct(
    [("Quantile", pyarrow.list_(_double)), ("Value", pyarrow.list_(_double))]
)
_SCHEMA = pyarrow.schema(
    [
        ("MetricType", _string),
        ("ResourceAttributes", MAP),
        ("ResourceSchemaUrl", _string),
        ("ScopeName", _string),
        ("ScopeVersion", _string),
        ("ScopeAttributes", MAP),
        ("ScopeDroppedAttrCount", _uint32),
        ("ScopeSchemaUrl", _string),
        ("ServiceName", _string),
        ("MetricName", _string),
        ("MetricDescription", _string),
        ("MetricUnit", _string),
        ("Attributes", MAP),
        ("StartTimeUnix", _timestamp),
        ("TimeUnix", _timestamp),
        ("Value", _double),
        ("Count", _int64),
        ("Sum", _double),
        ("BucketCounts", pyarrow.list_(_int64)),
        ("ExplicitBounds", pyarrow.list_(_double)),
        ("Scale", _int32),
        ("ZeroCount", _int64),
        ("ZeroThreshold", _double),
        ("PositiveOffset", _int32),
        ("PositiveBucketCounts", pyarrow.list_(_int64)),
        ("NegativeOffset", _int32),
        ("NegativeBucketCounts", pyarrow.list_(_int64)),
        ("ValueAtQuantiles", _QUANTILES),
        ("Exemplars", _EXEMPLARS.type),
        ("Flags", _uint32),
        ("Min", _double),
        ("Max", _double),
        ("AggregationTemporality", _int32),
        ("IsMonotonic", pyarrow.bool_()),
        ("IntValue", _int64),
        ("AttributeTypes", MAP),
        ("MetricMetadata", MAP),
        ("ResourceAttributeTypes", MAP),
        ("ResourceDroppedAttrCount", _uint32),
        ("ScopeAttributeTypes", MAP),
    ]
)


class _MetricKey(NamedTuple):
    """The fields that the points of one metric have in common."""

    kind: str
    name: str
    description: str
    unit: str
    temporality: int
    is_monotonic: bool | None
    metadata: tuple[tuple[str, str], ...]


class _PointRow(NamedTuple):
    """A point, with the number of its metric."""

    metric: int
    point: Any


class MetricBuilder(TableBuilder):
    """Makes tables of data points."""

    signal = Signal.METRICS
    schema = _SCHEMA

    def _begin(self) -> None:
        super()._begin()
        self._metrics: dict[_MetricKey, int] = {}

    def _records_of(self, of_scope: list[messages.Metric]) -> list[_PointRow]:
        return [row for metric in of_scope for row in self._point_rows(metric)]

    def _point_rows(self, metric: messages.Metric) -> list[_PointRow]:
        for kind in KINDS:
            data = getattr(metric, kind)
            if data is not None:
                key = _key_of(metric, kind, data)
                number = self._metrics.setdefault(key, len(self._metrics))
                return [_PointRow(number, point) for point in data.data_points or ()]
        return []

    def _is_strict(self, rows: Sequence[_PointRow]) -> bool:
        exemplars = [e for row in rows for e in getattr(row.point, "exemplars", None) or ()]
        return are_hex_ids([e.trace_id for e in exemplars], 16) and are_hex_ids(
            [e.span_id for e in exemplars], 8
        )

    def _make_columns(self, rows: Sequence[_PointRow]) -> dict[str, Any]:
        metrics, points = list(self._metrics), [row.point for row in rows]
        exemplars = [getattr(point, "exemplars", None) for point in points]
        return {
            "time": time_column([point.time_unix_nano for point in points]),
            "name": int32_column(
                [self.name_codes[_sort_text(metrics[row.metric])] for row in rows]
            ),
            "metric": int32_column([row.metric for row in rows]),
            "Attributes": attribute_list_column(
                [point.attributes for point in points], self.key_codes
            ),
            "StartTimeUnix": time_column([point.start_time_unix_nano for point in points]),
            "Flags": count_column([point.flags for point in points]),
            "Exemplars": _EXEMPLARS.lists(exemplars, self.key_codes),
            **_number_columns(points),
            **_histogram_columns(points),
            **_exponential_columns(points),
            "ValueAtQuantiles": _quantile_column(points),
        }

    def _finish_columns(self, columns: dict[str, Any]) -> dict[str, Any]:
        attributes = attribute_map_columns(columns["Attributes"], self.key_codes)
        return {
            **columns,
            **self._metric_columns(columns["metric"]),
            "TimeUnix": columns["time"].cast(_timestamp),
            "StartTimeUnix": columns["StartTimeUnix"].cast(_timestamp),
            "Attributes": attributes.values,
            "AttributeTypes": attributes.types,
            "Exemplars": _EXEMPLARS.structs(columns["Exemplars"], self.key_codes),
        }

    def _metric_columns(self, numbers: Any) -> dict[str, Any]:
        metrics = list(self._metrics)
        monotonic = pyarrow.array([metric.is_monotonic for metric in metrics], pyarrow.bool_())
        temporality = pyarrow.array([metric.temporality for metric in metrics], _int32)
        return {
            "MetricType": repeat_texts([metric.kind for metric in metrics], numbers),
            "MetricName": repeat_texts([metric.name for metric in metrics], numbers),
            "MetricDescription": repeat_texts([metric.description for metric in metrics], numbers),
            "MetricUnit": repeat_texts([metric.unit for metric in metrics], numbers),
            "MetricMetadata": repeat_maps(
                [metric.metadata for metric in metrics],
                [(number, 1) for number in numbers.to_pylist()],
            ),
            "IsMonotonic": monotonic.take(numbers),
            "AggregationTemporality": temporality.take(numbers),
        }


def _key_of(metric: messages.Metric, kind: str, data: Any) -> _MetricKey:
    temporality = getattr(data, "aggregation_temporality", None)
    monotonic = getattr(data, "is_monotonic", None)
    return _MetricKey(
        kind,
        metric.name or "",
        metric.description or "",
        metric.unit or "",
        enum_number(temporality, TEMPORALITIES, "aggregationTemporality"),
        check_boolean(monotonic or False, "isMonotonic") if kind == "sum" else None,
        tuple(attribute_entries(metric.metadata)[0]),
    )


def _sort_text(key: _MetricKey) -> str:
    """Return what rows are sorted by within a service: the kind first, since a view has one kind."""
    return f"{key.kind}\0{key.name}"


def _value_of(point: messages.NumberDataPoint | messages.OtlpExemplar) -> float | None:
    value = point.as_double if point.as_double is not None else point.as_int
    return None if value is None else float(value)


def _number_columns(points: Sequence[Any]) -> dict[str, Any]:
    is_number = [type(point) is messages.NumberDataPoint for point in points]
    pairs = list(zip(points, is_number, strict=True))
    return {
        "Value": float_column([_value_of(point) if is_it else None for point, is_it in pairs]),
        "IntValue": optional_integer_column(
            [point.as_int if is_it else None for point, is_it in pairs]
        ),
    }


def _histogram_columns(points: Sequence[Any]) -> dict[str, Any]:
    has_count = [type(point) is not messages.NumberDataPoint for point in points]
    return {
        "Count": optional_integer_column(
            [(p.count or 0) if has else None for p, has in zip(points, has_count, strict=True)]
        ),
        "Sum": float_column([getattr(point, "sum", None) for point in points]),
        "Min": float_column([getattr(point, "min", None) for point in points]),
        "Max": float_column([getattr(point, "max", None) for point in points]),
        "BucketCounts": _number_lists(points, messages.HistogramDataPoint, "bucket_counts", _int64),
        "ExplicitBounds": _number_lists(
            points, messages.HistogramDataPoint, "explicit_bounds", _double
        ),
    }


def _exponential_columns(points: Sequence[Any]) -> dict[str, Any]:
    kind = messages.ExponentialHistogramDataPoint
    own = [point if type(point) is kind else None for point in points]
    positive = [point and (point.positive or messages.OtlpBuckets()) for point in own]
    negative = [point and (point.negative or messages.OtlpBuckets()) for point in own]
    return {
        "Scale": pyarrow.array([point and (point.scale or 0) for point in own], _int32),
        "ZeroCount": optional_integer_column(
            [None if point is None else point.zero_count or 0 for point in own]
        ),
        "ZeroThreshold": float_column(
            [None if point is None else point.zero_threshold or 0.0 for point in own]
        ),
        "PositiveOffset": pyarrow.array([b and (b.offset or 0) for b in positive], _int32),
        "PositiveBucketCounts": _number_lists(
            positive, messages.OtlpBuckets, "bucket_counts", _int64
        ),
        "NegativeOffset": pyarrow.array([b and (b.offset or 0) for b in negative], _int32),
        "NegativeBucketCounts": _number_lists(
            negative, messages.OtlpBuckets, "bucket_counts", _int64
        ),
    }


def _number_lists(points: Sequence[Any], kind: type, field: str, item: Any) -> Any:
    """Return a list of numbers for each point of this kind, null for others."""
    rows = [list(getattr(point, field) or ()) if type(point) is kind else None for point in points]
    try:
        return pyarrow.array(rows, pyarrow.list_(item))
    except OverflowError:
        cut = [row and [min(number, 2**63 - 1) for number in row] for row in rows]
        return pyarrow.array(cut, pyarrow.list_(item))


def _quantile_column(points: Sequence[Any]) -> Any:
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
