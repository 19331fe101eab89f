"""Where the records of a batch come from: each source gives them as objects and as fragments.

A batch asks for the face that it needs; what was made once is kept by the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry.sdk.trace import ReadableSpan

import rimp_otel.convert as convert
import rimp_otel.otlp as otlp
from rimp_otel.lazy import lazy
from rimp_otel.otlp.fragment import Fragment
from rimp_otel.otlp.logs import event_fragment, log_record_fragment
from rimp_otel.otlp.spans import span_fragment

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

    from rimp_otel.models import TelemetryEvent, TelemetryMetric
    from rimp_otel.otlp import decode
else:
    decode = lazy("rimp_otel.otlp.decode")

__all__ = [
    "Chained",
    "Events",
    "Lines",
    "LogRecords",
    "Metrics",
    "SdkMetrics",
    "Source",
    "Spans",
    "encode_each",
]


class Source(Protocol):
    """The records of one signal."""

    def __len__(self) -> int:
        """How many records there are."""

    def objects(self) -> list[Any]:
        """The records as ReadableSpan, TelemetryEvent or TelemetryMetric."""

    def fragments(self) -> Iterator[Fragment | None]:
        """The records as text; None stands for one that cannot be encoded at all."""


def encode_each(
    encode: Callable[[Any], Fragment], records: Iterable[Any]
) -> Iterator[Fragment | None]:
    """Each record's fragment: one that cannot be encoded costs itself, never its batch."""
    for record in records:
        try:
            yield encode(record)
        except Exception:
            yield None


class _Objects:
    """Records that are the objects themselves."""

    encode: Callable[[Any], Fragment]

    def __init__(self, records: Iterable[Any]) -> None:
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    def objects(self) -> list[Any]:
        """The records as objects."""
        return self._records

    def fragments(self) -> Iterator[Fragment | None]:
        """The records as text."""
        return encode_each(type(self).encode, self._records)


class Spans(_Objects):
    """ReadableSpans."""

    encode: Callable[[ReadableSpan], Fragment] = staticmethod(span_fragment)


class Events(_Objects):
    """TelemetryEvents."""

    encode: Callable[[TelemetryEvent], Fragment] = staticmethod(event_fragment)


class Metrics(_Objects):
    """TelemetryMetrics."""

    @staticmethod
    def encode(metric: TelemetryMetric) -> Fragment:
        """The record as text."""
        return otlp.metric_fragment(metric)


class LogRecords(_Objects):
    """The SDK's log records, as an exporter is given them."""

    encode: Callable[[Any], Fragment] = staticmethod(log_record_fragment)

    def objects(self) -> list[Any]:
        """The records as objects."""
        return [convert.event_from_log_record(record) for record in self._records]


class SdkMetrics:
    """The SDK's metrics, as a reader or an exporter is given them."""

    def __init__(self, data: MetricsData) -> None:
        self._data = data
        self._count = sum(
            len(metric.data.data_points)
            for by_resource in data.resource_metrics
            for by_scope in by_resource.scope_metrics
            for metric in by_scope.metrics
        )

    def __len__(self) -> int:
        return self._count

    def objects(self) -> list[TelemetryMetric]:
        """The records as objects."""
        return convert.metrics_from_sdk(self._data)

    def fragments(self) -> Iterator[Fragment | None]:
        """The records as text."""
        return otlp.metrics_data_fragments(self._data)


class Lines:
    """OTLP JSON lines of one signal, as they lie in a file."""

    def __init__(
        self,
        lines: Sequence[bytes],
        encode: Callable[[Any], Fragment],
        objects: list[Any] | None = None,
        count: int | None = None,
    ) -> None:
        self.lines = list(lines)
        self._encode = encode
        self._objects = objects
        self._count = count

    def __len__(self) -> int:
        if self._objects is not None:
            return len(self._objects)
        if self._count is None:
            self._count = sum(decode.count_records(line) for line in self.lines)
        return self._count

    def objects(self) -> list[Any]:
        """The records as objects."""
        if self._objects is None:
            self._objects = [
                record for line in self.lines for record in decode.decode_line(line).records
            ]
        return self._objects

    def fragments(self) -> Iterator[Fragment | None]:
        """The records as text."""
        return encode_each(self._encode, self.objects())


class Chained:
    """The records of several sources, one after the other."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources = list(sources)

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def objects(self) -> list[Any]:
        """The records as objects."""
        return list(chain.from_iterable(source.objects() for source in self.sources))

    def fragments(self) -> Iterator[Fragment | None]:
        """The records as text."""
        return chain.from_iterable(source.fragments() for source in self.sources)
