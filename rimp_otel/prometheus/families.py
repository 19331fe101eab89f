"""Series put together into families, with names and labels as Prometheus has them."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

from rimp_otel.analysis.metrics import Distribution
from rimp_otel.models.records import MetricKind
from rimp_otel.otlp.decode_common import attributes_of
from rimp_otel.otlp.messages import OtlpExemplar
from rimp_otel.prometheus.names import TranslationStrategy, label_name, metric_name, unit_name
from rimp_otel.prometheus.series import Series
from rimp_otel.prometheus.table import SeriesTable
from rimp_otel.prometheus.totals import HistogramTotal, SummaryTotal, Value, scale_of

__all__ = [
    "MIN_SCHEMA",
    "Families",
    "Family",
    "Labels",
    "Member",
    "ShownExemplar",
    "exemplar_of",
    "exemplars_by_line",
    "numbers_in",
]

MIN_SCHEMA = -4
"""The coarsest scale of exponential histograms that Prometheus has."""

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the order of the names."""

_MAX_EXEMPLAR = 128  # characters of its labels
_MAX_BUCKETS = 40
_MAX_FILLED = 300
_OWN_RESOURCE_KEYS = ("service.name", "service.namespace", "service.instance.id")
_EXPORTED = "exported_"

_KINDS = {
    MetricKind.GAUGE: "gauge",
    MetricKind.SUM: "gauge",  # one that goes down too
    MetricKind.HISTOGRAM: "histogram",
    MetricKind.EXPONENTIAL_HISTOGRAM: "histogram",
    MetricKind.SUMMARY: "summary",
}
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "summary": ("_count", "_sum", "_created"),
}
_TARGET = "target"
_LABELS_OF_KINDS = {"histogram": "le", "summary": "quantile"}


class Member(NamedTuple):
    """A series in a family, with its value."""

    #: None in the family of the targets.
    series: Series | None
    labels: Labels
    value: Value


class Family(NamedTuple):
    """The series of one name."""

    #: With the suffix of a counter, if it has one.
    name: str
    #: counter, gauge, histogram, summary or info.
    kind: str
    #: In the name, too; empty for none.
    unit: str
    help: str
    members: list[Member]


class _Naming(NamedTuple):
    """Where a series belongs."""

    #: The name without the suffix of a counter, which OpenMetrics has for the family.
    family: str
    name: str
    kind: str
    unit: str
    labels: Labels


class Families:
    """The families of a table. For one thread at a time.

    Args:
        strategy: how names are translated.
    """

    def __init__(
        self, strategy: TranslationStrategy = TranslationStrategy.UNDERSCORES_WITH_SUFFIXES
    ) -> None:
        self._strategy = strategy
        self._namings: dict[Series, _Naming] = {}
        #: Series that were left out the last time, by reason.
        self.dropped: Counter[str] = Counter()

    def collect(self, table: SeriesTable, now: int) -> list[Family]:
        """Return the series that are measured still, by the names of their families.

        Of two types with one name the one that was recorded first stays, and of two series that become
        the same; the others are left out. Of two texts of help there is one.

        Args:
            table: has the series.
            now: nanoseconds since the epoch.
        """
        self.dropped = Counter(table.dropped)
        found: dict[str, Family] = {}
        labels: dict[str, set[Labels]] = {}
        services = set()
        # The names of all samples.
        taken = {_TARGET, f"{_TARGET}_info"}
        for series, value in table.current(now):
            if reason := _reason_to_drop(series, value):
                self.dropped[reason] += 1
                continue
            naming = self._namings.get(series)
            if naming is None:
                naming = self._namings[series] = self._naming_of(series)
            name = naming.family
            family = found.get(name)
            if family is None:
                names = {name, *(f"{name}{suffix}" for suffix in _SUFFIXES.get(naming.kind, ()))}
                if taken & names:
                    self.dropped["name_conflict"] += 1
                    continue
                taken |= names
                help = series.description
                family = found[name] = Family(naming.name, naming.kind, naming.unit, help, [])
                labels[name] = set()
            elif (family.kind, family.name) != (naming.kind, naming.name):
                self.dropped["type_conflict"] += 1
                continue
            elif series.description != family.help:
                help = min(filter(None, (family.help, series.description)), default="")
                family = found[name] = family._replace(help=help)
            if naming.labels in labels[name]:
                self.dropped["same_name_and_labels"] += 1
                continue
            labels[name].add(naming.labels)
            services.add(series.key.owner.service)
            family.members.append(Member(series, naming.labels, value))
        targets = self._targets(table.resources, services)
        if targets.members:
            found[_TARGET] = targets
        return [found[name] for name in sorted(found)]

    def _targets(self, resources: Mapping[str, Mapping[str, Any]], services: set[str]) -> Family:
        """Return the attributes of the services' resources."""
        members = []
        for service in sorted(services & set(resources)):
            own = {
                key: value
                for key, value in resources[service].items()
                if key not in _OWN_RESOURCE_KEYS
            }
            labels = _with_reserved(self._join_labels(own.items()), _job(service))
            if labels:
                members.append(Member(None, labels, 1))
        return Family(f"{_TARGET}_info", "info", "", "Target metadata", members)

    def _naming_of(self, series: Series) -> _Naming:
        key = series.key
        is_counter = key.kind is MetricKind.SUM and key.is_monotonic
        kind = "counter" if is_counter else _KINDS[key.kind]
        word = kind if is_counter or key.kind is MetricKind.GAUGE else ""
        name = metric_name(key.name, key.unit, word, self._strategy)
        family = (name.removesuffix("_total") or name) if is_counter else name
        unit = unit_name(key.unit) if self._strategy.has_suffixes else ""
        if not unit or not family.endswith(f"_{unit}"):
            unit = ""
        return _Naming(family, name, kind, unit, self._labels_of(series, kind))

    def _labels_of(self, series: Series, kind: str) -> Labels:
        owner = series.key.owner
        scope = {
            "otel_scope_name": owner.scope_name,
            "otel_scope_version": owner.scope_version,
            "otel_scope_schema_url": owner.scope_schema_url,
        }
        for key, value in owner.scope_attributes:
            scope.setdefault(f"otel_scope_{label_name(key, self._strategy)}", _label_text(value))
        reserved = {**{name: text for name, text in scope.items() if text}, **_job(owner.service)}
        own = self._join_labels(series.key.attributes)
        if (name := _LABELS_OF_KINDS.get(kind)) in own:
            own[f"{_EXPORTED}{name}"] = own.pop(str(name))
        return _with_reserved(own, reserved)

    def _join_labels(self, attributes: Iterable[tuple[str, Any]]) -> dict[str, str]:
        """Return labels; the values of those that become one are joined in the order of their keys."""
        labels: dict[str, str] = {}
        for key, value in sorted(attributes):
            name = label_name(key, self._strategy)
            text = _label_text(value)
            labels[name] = f"{labels[name]};{text}" if name in labels else text
        return labels


def _reason_to_drop(series: Series, value: Value) -> str:
    """Return why Prometheus has no such value; empty if it has."""
    if isinstance(value, Distribution) and scale_of(value) < MIN_SCHEMA:
        return "scale_below_-4"
    if series.adds_up and isinstance(value, (int, float)) and not value >= 0:
        return "counter_below_zero"
    return ""


def _with_reserved(own: Mapping[str, str], reserved: Mapping[str, str]) -> Labels:
    """Return labels with those that say where they come from; one of that name is renamed, as
    Prometheus does it."""
    kept = {
        f"{_EXPORTED}{name}" if name in reserved else name: text
        for name, text in own.items()
        if text  # to Prometheus, a label without a value is none
    }
    return tuple(sorted({**kept, **reserved}.items()))


def _job(service: str) -> dict[str, str]:
    return {"job": service} if service else {}


def _label_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# Exemplars.


class ShownExemplar(NamedTuple):
    """An exemplar as Prometheus has it."""

    labels: Labels
    value: float
    #: Nanoseconds since the epoch; 0 if it does not say.
    time: int


def exemplar_of(found: OtlpExemplar | None) -> ShownExemplar | None:
    """Return an exemplar with what fits into it; None if it has no value.

    The trace and the span come first, then other attributes.
    """
    if found is None:
        return None
    number = found.as_double if found.as_double is not None else found.as_int
    if number is None:
        return None
    labels: dict[str, str] = {}
    for name, text in (("trace_id", found.trace_id), ("span_id", found.span_id)):
        if text:
            labels[name] = text.lower()
    for key, value in sorted(attributes_of(found.filtered_attributes, tuple).items()):
        name = label_name(key, TranslationStrategy.UNDERSCORES_WITH_SUFFIXES)
        more = {**labels, name: labels.get(name, _label_text(value))}
        if sum(map(len, [*more, *more.values()])) <= _MAX_EXEMPLAR:
            labels = more
    return ShownExemplar(tuple(labels.items()), number, found.time_unix_nano or 0)


# What stands in the lines of a series.


def numbers_in(value: Value) -> tuple[tuple[float, ...], Sequence[float]]:
    """Return the bounds of a value's lines, and the numbers in these; of a number there is one."""
    if isinstance(value, HistogramTotal):
        return value.bounds, list(accumulate(value.counts))
    if isinstance(value, Distribution):
        bounds, counts = _buckets_of(value)
        return bounds, list(accumulate(counts))
    if isinstance(value, SummaryTotal):
        shares = tuple(share for share, _ in value.quantiles)
        return shares, [quantile for _, quantile in value.quantiles]
    return (), [value]


def exemplars_by_line(
    family: Family, series: Series, bounds: Sequence[float]
) -> dict[int, ShownExemplar]:
    """Return the exemplars that OpenMetrics has a naming for, by the number of the line."""
    is_histogram = family.kind == "histogram"
    if not is_histogram and not (family.kind == "counter" and family.name.endswith("_total")):
        return {}
    found: dict[int, ShownExemplar] = {}
    for one in sorted(series.exemplars.values(), key=lambda one: one.time_unix_nano or 0):
        if exemplar := exemplar_of(one):
            found[bisect.bisect_left(bounds, exemplar.value) if is_histogram else 0] = exemplar
    return found


def _buckets_of(value: Distribution) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return an exponential histogram as upper bounds, all but the last, and how many values each
    bucket has.

    In text each bucket is a series. There are few, without gaps between them, so that most of them stay
    as more values come.
    """
    while _width(value) > _MAX_BUCKETS and scale_of(value) > MIN_SCHEMA:
        value = value.at_scale(scale_of(value) - 1)
    if _width(value) <= _MAX_FILLED:  # at the coarsest scale, all numbers that there are
        value = replace(value, counts=_filled(value.counts), negative=_filled(value.negative))
    bounds: list[float] = []
    counts: list[int] = []
    beyond = 0
    for one in value.ranges():
        if math.isinf(one.upper):
            beyond += one.values
        elif bounds and one.upper <= bounds[-1]:  # within the threshold of zero
            counts[-1] += one.values
        else:
            bounds.append(one.upper)
            counts.append(one.values)
    return tuple(bounds), (*counts, beyond)


def _width(value: Distribution) -> int:
    return sum(max(found) - min(found) + 1 for found in (value.counts, value.negative) if found)


def _filled(counts: Counter[int]) -> Counter[int]:
    if not counts:
        return counts
    return Counter({index: counts[index] for index in range(min(counts), max(counts) + 1)})
