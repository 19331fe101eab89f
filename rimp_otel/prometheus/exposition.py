"""The page that Prometheus scrapes: series as families of samples, in the format that it asks for.

Needs prometheus-client, the extra ``prometheus``, as all modules that import this one do. It writes the
formats: the text format 0.0.4, OpenMetrics 1.0, and 2.0 with native histograms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client.core import Exemplar, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.samples import BucketSpan, NativeHistogram
from prometheus_client.utils import floatToGoString

from rimp_otel.analysis.metrics import Distribution
from rimp_otel.models.records import MetricKind
from rimp_otel.otlp.decode_common import attributes_of
from rimp_otel.otlp.messages import OtlpExemplar
from rimp_otel.prometheus.names import TranslationStrategy, label_name, metric_name, unit_name
from rimp_otel.prometheus.series import HistogramTotal, Series, SeriesTable, SummaryTotal

__all__ = ["ExpositionFormat", "Page", "write_page"]

_MAX_EXEMPLAR = 128  # characters of its labels
_MIN_SCHEMA, _MAX_SCHEMA = -4, 8
_MAX_BUCKETS = 40
_ZERO_THRESHOLD = 1e-128
_NANOS = 1e9
_OWN_RESOURCE_KEYS = ("service.name", "service.namespace", "service.instance.id")

_TYPES = {
    MetricKind.GAUGE: "gauge",
    MetricKind.SUM: "gauge",  # one that goes down too
    MetricKind.HISTOGRAM: "histogram",
    MetricKind.EXPONENTIAL_HISTOGRAM: "histogram",
    MetricKind.SUMMARY: "summary",
}


class Page(NamedTuple):
    """What is answered to a scrape."""

    body: bytes
    content_type: str
    #: Series that are not in it, by reason.
    dropped: Mapping[str, int]


class ExpositionFormat(NamedTuple):
    """What the format that was asked for can say."""

    content_type: str
    #: True for exemplars, units and times of creation.
    is_openmetrics: bool
    #: True for native histograms.
    has_native: bool

    @classmethod
    def of(cls, content_type: str) -> ExpositionFormat:
        """Return the format of a content type that prometheus-client has chosen."""
        is_openmetrics = content_type.startswith("application/openmetrics-text")
        return cls(content_type, is_openmetrics, is_openmetrics and "version=2" in content_type)


def write_page(
    table: SeriesTable,
    accept: str,
    now: int,
    strategy: TranslationStrategy = TranslationStrategy.UNDERSCORES_WITH_SUFFIXES,
) -> Page:
    """Return the page with all series that are measured still.

    Args:
        table: the series.
        accept: the request's header; empty for none.
        now: nanoseconds since the epoch.
        strategy: how names are translated.
    """
    encode, content_type = choose_encoder(accept)
    families = _Families(strategy, ExpositionFormat.of(content_type))
    for series, value in table.current(now):
        families.add(series, value)
    families.add_targets(table.resources)
    body = encode(_Collected(list(families)))
    return Page(body, content_type, dict(table.dropped + families.dropped))


class _Collected:
    """Families, as prometheus-client collects them."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        return self._families


@dataclass
class _Family:
    metric: Metric
    #: What the series of the family must have in common.
    kind: str
    #: The labels of its series.
    labels: set[tuple[tuple[str, str], ...]] = field(default_factory=set)


class _Families:
    """Series, put together by their names."""

    def __init__(self, strategy: TranslationStrategy, format: ExpositionFormat) -> None:
        self._strategy = strategy
        self._format = format
        self._families: dict[str, _Family] = {}
        self._services: set[str] = set()
        self.dropped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Metric]:
        for name in sorted(self._families):
            yield self._families[name].metric

    def add(self, series: Series, value: Any) -> None:
        """Add a series, unless another one has its name and labels."""
        kind = "counter" if _is_counter(series) else _TYPES[series.key.kind]
        if isinstance(value, Distribution) and not _has_schema(value):
            self.dropped["scale_below_-4"] += 1
            return
        family = self._family_of(series, kind)
        if family.kind != kind:
            self.dropped["type_conflict"] += 1
            return
        labels = self._labels_of(series)
        identity = tuple(sorted(labels.items()))
        if identity in family.labels:
            self.dropped["same_name_and_labels"] += 1
            return
        family.labels.add(identity)
        self._services.add(series.key.owner.service)
        self._add_samples(family.metric, labels, series, value)

    def add_targets(self, resources: Mapping[str, Mapping[str, Any]]) -> None:
        """Add the attributes of the services' resources."""
        target = Metric("target", "Target metadata", "info")
        for service in sorted(self._services & set(resources)):
            own = {
                key: value
                for key, value in resources[service].items()
                if key not in _OWN_RESOURCE_KEYS
            }
            labels = self._join_labels(own.items())
            target.add_sample("target_info", {**labels, **_job(service)}, 1)
        if target.samples:
            self._families["target"] = _Family(target, "info")

    def _family_of(self, series: Series, kind: str) -> _Family:
        key = series.key
        word = kind if kind == "counter" or key.kind is MetricKind.GAUGE else ""
        name = metric_name(key.name, key.unit, word, self._strategy)
        if kind == "counter":
            # Without the suffix, OpenMetrics has no counters.
            if not name.endswith("_total"):
                kind = "unknown"
            name = name.removesuffix("_total") or name
        found = self._families.get(name)
        if found is None:
            unit = unit_name(key.unit) if self._strategy.has_suffixes else ""
            unit = unit if unit and name.endswith(f"_{unit}") else ""
            if not self._format.is_openmetrics:
                unit = ""
            metric = Metric(name, series.description, kind, unit)
            found = self._families[name] = _Family(metric, "counter" if word == "counter" else kind)
        elif found.metric.documentation != series.description:
            found.metric.documentation = min(found.metric.documentation, series.description)
        return found

    def _labels_of(self, series: Series) -> dict[str, str]:
        owner = series.key.owner
        labels = self._join_labels(series.key.attributes)
        scope = {
            "otel_scope_name": owner.scope_name,
            "otel_scope_version": owner.scope_version,
            "otel_scope_schema_url": owner.scope_schema_url,
        }
        for key, value in owner.scope_attributes:
            scope.setdefault(f"otel_scope_{label_name(key, self._strategy)}", _label_text(value))
        labels.update({name: text for name, text in scope.items() if text})
        return {**labels, **_job(owner.service)}

    def _join_labels(self, attributes: Iterable[tuple[str, Any]]) -> dict[str, str]:
        """Return labels; the values of those that become one are joined in the order of their keys."""
        labels: dict[str, str] = {}
        for key, value in sorted(attributes):
            name = label_name(key, self._strategy)
            text = _label_text(value)
            labels[name] = f"{labels[name]};{text}" if name in labels else text
        return labels

    # Samples.

    def _add_samples(
        self, metric: Metric, labels: dict[str, str], series: Series, value: Any
    ) -> None:
        name = metric.name
        if isinstance(value, HistogramTotal):
            self._add_histogram(metric, labels, series, value)
        elif isinstance(value, Distribution):
            self._add_exponential(metric, labels, value)
        elif isinstance(value, SummaryTotal):
            for share, quantile in value.quantiles:
                metric.add_sample(name, {**labels, "quantile": _number_text(share)}, quantile)
            metric.add_sample(f"{name}_count", labels, value.count)
            metric.add_sample(f"{name}_sum", labels, value.sum)
        elif metric.type == "counter":
            exemplar = self._exemplar_of(series.exemplars.get(0))
            metric.add_sample(f"{name}_total", labels, value, exemplar=exemplar)
        else:
            metric.add_sample(name, labels, value)
        is_counted = metric.type in ("counter", "histogram", "summary")
        if self._format.is_openmetrics and is_counted and series.start:
            metric.add_sample(f"{name}_created", labels, series.start / _NANOS)

    def _add_histogram(
        self, metric: Metric, labels: dict[str, str], series: Series, value: HistogramTotal
    ) -> None:
        total = 0
        for bucket, (bound, count) in enumerate(
            zip((*value.bounds, math.inf), value.counts, strict=True)
        ):
            total += count
            exemplar = self._exemplar_of(series.exemplars.get(bucket))
            metric.add_sample(
                f"{metric.name}_bucket",
                {**labels, "le": _number_text(bound)},
                total,
                exemplar=exemplar,
            )
        metric.add_sample(f"{metric.name}_count", labels, total)
        if value.sum is not None:
            metric.add_sample(f"{metric.name}_sum", labels, value.sum)

    def _add_exponential(self, metric: Metric, labels: dict[str, str], value: Distribution) -> None:
        if self._format.has_native:
            native = _native_histogram(value)
            metric.add_sample(metric.name, labels, 0.0, native_histogram=native)
            return
        total = 0
        for one in _few_buckets(value).ranges():
            total += one.values
            if not math.isinf(one.upper):
                le = {**labels, "le": _number_text(one.upper)}
                metric.add_sample(f"{metric.name}_bucket", le, total)
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": "+Inf"}, value.count)
        metric.add_sample(f"{metric.name}_count", labels, value.count)
        if value.sum is not None:
            metric.add_sample(f"{metric.name}_sum", labels, value.sum)

    def _exemplar_of(self, found: OtlpExemplar | None) -> Exemplar | None:
        if found is None or not self._format.is_openmetrics:
            return None
        number = found.as_double if found.as_double is not None else found.as_int
        if number is None:
            return None
        labels: dict[str, str] = {}
        for name, text in (("trace_id", found.trace_id), ("span_id", found.span_id)):
            if text:
                labels[name] = text.lower()
        attributes = attributes_of(found.filtered_attributes, tuple)
        for key, value in sorted(attributes.items()):
            name = label_name(key, TranslationStrategy.UNDERSCORES_WITH_SUFFIXES)
            more = {**labels, name: labels.get(name, _label_text(value))}
            if sum(map(len, [*more, *more.values()])) <= _MAX_EXEMPLAR:
                labels = more
        time = found.time_unix_nano
        return Exemplar(labels, number, time / _NANOS if time else None)


def _is_counter(series: Series) -> bool:
    return series.key.kind is MetricKind.SUM and series.key.is_monotonic


def _job(service: str) -> dict[str, str]:
    return {"job": service} if service else {}


def _label_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _number_text(value: float) -> str:
    """Return a number as Prometheus writes it, so that equal bounds are equal labels."""
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


# Exponential histograms.


def _scale_in(value: Distribution) -> int:
    assert isinstance(value.layout, int)
    return value.layout


def _has_schema(value: Distribution) -> bool:
    return _scale_in(value) >= _MIN_SCHEMA


def _few_buckets(value: Distribution) -> Distribution:
    """Return the distribution at a scale at which it has few buckets: in text each is a series."""
    while len(value.counts) + len(value.negative) > _MAX_BUCKETS and _scale_in(value) > _MIN_SCHEMA:
        value = value.at_scale(_scale_in(value) - 1)
    return value


def _native_histogram(value: Distribution) -> NativeHistogram:
    if _scale_in(value) > _MAX_SCHEMA:
        value = value.at_scale(_MAX_SCHEMA)
    positive, positive_deltas = _spans_of(value.counts)
    negative, negative_deltas = _spans_of(value.negative)
    return NativeHistogram(
        count_value=value.count,
        sum_value=math.nan if value.sum is None else value.sum,
        schema=_scale_in(value),
        zero_threshold=value.zero_threshold or _ZERO_THRESHOLD,
        zero_count=value.zeros,
        pos_spans=positive,
        neg_spans=negative,
        pos_deltas=positive_deltas,
        neg_deltas=negative_deltas,
    )


def _spans_of(counts: Mapping[int, int]) -> tuple[list[BucketSpan] | None, list[int] | None]:
    """Return the buckets as spans of consecutive ones, and the differences from each to the next.

    Prometheus counts a bucket by its upper bound, OpenTelemetry by its lower one.
    """
    spans: list[BucketSpan] = []
    deltas = []
    end = before = 0
    for index, count in sorted(counts.items()):
        bucket = index + 1
        if spans and bucket == end:
            spans[-1] = spans[-1]._replace(length=spans[-1].length + 1)
        else:
            spans.append(BucketSpan(bucket - end, 1))
        deltas.append(count - before)
        end, before = bucket + 1, count
    return (spans, deltas) if spans else (None, None)
