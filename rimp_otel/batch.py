"""TelemetryData, the batch that crosses every line of the data flow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from opentelemetry.sdk.trace import ReadableSpan

# Lazy packages: annotations name what they load, so that `typing.get_type_hints` finds it.
import rimp_otel.convert as convert
import rimp_otel.models as models
import rimp_otel.otlp as otlp
from rimp_otel.models.records import Signal, TelemetryEvent, TelemetryMetric
from rimp_otel.otlp.encode_logs import encode_event, encode_log_record
from rimp_otel.otlp.encode_spans import encode_span
from rimp_otel.otlp.lines import EncodedRecord, join_lines
from rimp_otel.process import importing

__all__ = [
    "Chained",
    "Events",
    "Lines",
    "LogRecords",
    "Metrics",
    "SdkMetrics",
    "Source",
    "Spans",
    "TelemetryData",
    "batch_of_lines",
    "decode_batch",
    "encode_each",
    "load_decoding",
    "make_batch",
    "set_slice_id",
    "share_batch",
    "skipped_count",
]


# --- Where the records of a batch come from: each source gives them as objects and as fragments.


class Source(Protocol):
    """The records of one signal."""

    def __len__(self) -> int:
        """How many records there are."""

    def objects(self) -> list[Any]:
        """The records as ReadableSpan, TelemetryEvent or TelemetryMetric."""

    def fragments(self) -> Iterator[EncodedRecord | None]:
        """The records as text; None stands for one that cannot be encoded at all."""


def encode_each(
    encode: Callable[[Any], EncodedRecord], records: Iterable[Any]
) -> Iterator[EncodedRecord | None]:
    """Each record's fragment: one that cannot be encoded costs itself, never its batch."""
    for record in records:
        try:
            yield encode(record)
        except Exception:
            yield None


class _Objects:
    """Records that are the objects themselves."""

    encode: Callable[[Any], EncodedRecord]

    def __init__(self, records: Iterable[Any]) -> None:
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    def objects(self) -> list[Any]:
        """The records as objects."""
        return self._records

    def fragments(self) -> Iterator[EncodedRecord | None]:
        """The records as text."""
        return encode_each(type(self).encode, self._records)


class Spans(_Objects):
    """ReadableSpans."""

    encode: Callable[[ReadableSpan], EncodedRecord] = staticmethod(encode_span)


class Events(_Objects):
    """TelemetryEvents."""

    encode: Callable[[TelemetryEvent], EncodedRecord] = staticmethod(encode_event)


class Metrics(_Objects):
    """TelemetryMetrics."""

    @staticmethod
    def encode(metric: TelemetryMetric) -> EncodedRecord:
        """The record as text."""
        return otlp.encode_metric(metric)


class LogRecords(_Objects):
    """The SDK's log records, as an exporter is given them."""

    encode: Callable[[Any], EncodedRecord] = staticmethod(encode_log_record)

    def objects(self) -> list[Any]:
        """The records as objects."""
        return [convert.event_from_log_record(record) for record in self._records]


class SdkMetrics:
    """The SDK's metrics, as a reader or an exporter is given them."""

    def __init__(self, data: convert.MetricsData) -> None:
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

    def fragments(self) -> Iterator[EncodedRecord | None]:
        """The records as text."""
        return otlp.encode_metrics_data(self._data)


class Lines:
    """OTLP JSON lines of one signal, as they lie in a file."""

    def __init__(
        self,
        lines: Sequence[bytes],
        encode: Callable[[Any], EncodedRecord],
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
            with importing():
                from rimp_otel.otlp.scan import count_records
            self._count = sum(count_records(line) for line in self.lines)
        return self._count

    def objects(self) -> list[Any]:
        """The records as objects."""
        if self._objects is None:
            with importing():
                from rimp_otel.otlp.decode import decode_line
            self._objects = [record for line in self.lines for record in decode_line(line).records]
        return self._objects

    def fragments(self) -> Iterator[EncodedRecord | None]:
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

    def fragments(self) -> Iterator[EncodedRecord | None]:
        """The records as text."""
        return chain.from_iterable(source.fragments() for source in self.sources)


# --- TelemetryData, the batch that crosses every line of the data flow.

_ENCODERS: dict[Signal, Callable[[Any], EncodedRecord]] = {
    Signal.TRACES: encode_span,
    Signal.LOGS: encode_event,
    Signal.METRICS: lambda metric: otlp.encode_metric(metric),
}


class TelemetryData:
    """A batch of events, metric points and spans.

    It has two faces, OTLP JSON text and objects; either is made from the other when it is first
    asked for, and then kept. A batch does not change once it is made; treat its lists as read-only.

    Args:
        events: log records and native events.
        metrics: metric data points.
        spans: finished OpenTelemetry spans.
    """

    __slots__ = ("_lines", "_objects", "_skipped", "_slice_id", "_sources")

    def __init__(
        self,
        events: Iterable[TelemetryEvent] = (),
        metrics: Iterable[TelemetryMetric] = (),
        spans: Iterable[ReadableSpan] = (),
    ) -> None:
        sources: dict[Signal, Source] = {
            Signal.TRACES: Spans(spans),
            Signal.LOGS: Events(events),
            Signal.METRICS: Metrics(metrics),
        }
        self._set(sources)

    def _set(self, sources: Mapping[Signal, Source]) -> None:
        self._sources = {signal: source for signal, source in sources.items() if len(source)}
        self._objects: dict[Signal, list[Any]] = {}
        self._lines: dict[Signal, list[bytes]] = {}
        self._skipped: dict[Signal, int] = {}
        self._slice_id: str | None = None

    @classmethod
    def from_otlp_json(cls, texts: Iterable[str | bytes]) -> TelemetryData:
        """A batch of OTLP JSON lines, of any signals. Their records are decoded when asked for.

        Raises:
            DecodeError: a line is of no signal (here), or not OTLP JSON (when it is decoded).
        """
        with importing():
            from rimp_otel.otlp.scan import signal_of_line
        by_signal: dict[Signal, list[bytes]] = {}
        for text in texts:
            line = text.encode() if isinstance(text, str) else text
            by_signal.setdefault(signal_of_line(line), []).append(line.strip())
        return make_batch(
            {signal: Lines(found, _ENCODERS[signal]) for signal, found in by_signal.items()}
        )

    @classmethod
    def from_log_records(cls, records: Iterable[convert.ReadableLogRecord]) -> TelemetryData:
        """A batch of the SDK's log records."""
        return make_batch({Signal.LOGS: LogRecords(records)})

    @classmethod
    def from_metrics_data(cls, metrics_data: convert.MetricsData) -> TelemetryData:
        """A batch of the SDK's metrics."""
        return make_batch({Signal.METRICS: SdkMetrics(metrics_data)})

    @classmethod
    def concat(cls, batches: Iterable[TelemetryData]) -> TelemetryData:
        """One batch with the records of all ``batches``, in their order."""
        by_signal: dict[Signal, list[Source]] = {}
        for batch in batches:
            for signal, source in batch._sources.items():
                by_signal.setdefault(signal, []).append(source)
        return make_batch(
            {
                signal: found[0] if len(found) == 1 else Chained(found)
                for signal, found in by_signal.items()
            }
        )

    @property
    def slice_id(self) -> str | None:
        """The name of a batch from a journal; None for any other.

        A batch that is stored again, because the process died meanwhile, has the same name again.
        A storage that commits the name together with the records keeps each record exactly once.
        """
        return self._slice_id

    @property
    def events(self) -> list[TelemetryEvent]:
        """Native events, and log records as events."""
        return self._records(Signal.LOGS)

    @property
    def metrics(self) -> list[TelemetryMetric]:
        """Metric data points, native ones and the OpenTelemetry instruments'."""
        return self._records(Signal.METRICS)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Spans that have ended."""
        return self._records(Signal.TRACES)

    def _records(self, signal: Signal) -> list[Any]:
        records = self._objects.get(signal)
        if records is None:
            source = self._sources.get(signal)
            # A list of this batch's own: what one consumer does to it, another does not see.
            records = self._objects[signal] = list(source.objects()) if source else []
        return records

    @property
    def log_records(self) -> list[convert.ReadableLogRecord]:
        """The events as the SDK's log records, for an OpenTelemetry exporter."""
        return [convert.log_record_from_event(event) for event in self.events]

    @property
    def metrics_data(self) -> convert.MetricsData:
        """The metrics as the SDK's, for an OpenTelemetry exporter (which knows no summaries)."""
        return convert.metrics_to_sdk(self.metrics)

    def fragments(self, signal: Signal) -> list[EncodedRecord]:
        """The signal's records as single texts, each with its time and what it belongs to."""
        source = self._sources.get(signal)
        if source is None:
            return []
        encoded = [fragment for fragment in source.fragments() if fragment is not None]
        self._skipped[signal] = len(source) - len(encoded)
        return encoded

    def otlp_json(self, signal: Signal) -> list[bytes]:
        """The signal's records as OTLP JSON lines, each the body of an OTLP/HTTP JSON request."""
        found = self._lines.get(signal)
        if found is None:
            source = self._sources.get(signal)
            if isinstance(source, Lines):
                found = source.lines
            else:
                found = list(join_lines(signal, self.fragments(signal)))
            self._lines[signal] = found
        return found

    def count_of(self, signal: Signal) -> int:
        """How many records of the signal there are."""
        source = self._sources.get(signal)
        return len(source) if source else 0

    def trace(self, trace_id: int | str) -> models.Trace:
        """What the batch holds of one trace; a notebook shows it as a waterfall.

        Args:
            trace_id: a number, or hexadecimal digits: the first ones, if they tell it from the others.

        Raises:
            ConfigurationError: it is no trace id, or that of no trace or of several.
        """
        with importing():
            from rimp_otel.trace import Trace
        return Trace.of(trace_id, self.spans, self.events)

    def __len__(self) -> int:
        return sum(map(len, self._sources.values()))

    def __bool__(self) -> bool:
        return bool(self._sources)

    def _repr_html_(self) -> str:
        with importing():
            from rimp_otel.render.html import render_batch_html
        return render_batch_html(self.spans, self.events, self.metrics)

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{name}={self.count_of(signal)}"
            for name, signal in (
                ("events", Signal.LOGS),
                ("metrics", Signal.METRICS),
                ("spans", Signal.TRACES),
            )
        )
        return f"TelemetryData({counts})"


# What the other parts of the package make and ask of batches, and users do not.


def make_batch(sources: Mapping[Signal, Source]) -> TelemetryData:
    """Return a batch of these records, each signal's in whatever representation they are."""
    data = TelemetryData.__new__(TelemetryData)
    data._set(sources)
    return data


def decode_batch(line: bytes) -> TelemetryData:
    """Return a batch of one OTLP JSON line, which is decoded at once.

    Raises:
        DecodeError: the line is not OTLP JSON.
    """
    with importing():
        from rimp_otel.otlp.decode import decode_line
    signal, records = decode_line(line)
    return make_batch({signal: Lines([line], _ENCODERS[signal], records)})


def batch_of_lines(signal: Signal, lines: list[bytes], records: int) -> TelemetryData:
    """Return a batch of OTLP JSON lines of one signal that hold this number of records."""
    return make_batch({signal: Lines(lines, _ENCODERS[signal], count=records)})


def share_batch(data: TelemetryData) -> TelemetryData:
    """Return a batch of the same records with lists of its own, for one more reader."""
    return make_batch(data._sources)


def skipped_count(data: TelemetryData, signal: Signal) -> int:
    """Return how many of the signal's records could not be encoded; 0 until they were asked for."""
    return data._skipped.get(signal, 0)


def set_slice_id(data: TelemetryData, slice_id: str) -> None:
    """Name a batch that is cut out of a journal; see ``TelemetryData.slice_id``."""
    data._slice_id = slice_id


def load_decoding() -> None:
    """Imports what makes objects of records, for whoever will ask for them while they are recorded."""
    with importing():
        import rimp_otel.convert.logs
        import rimp_otel.convert.metrics
        import rimp_otel.otlp.decode  # noqa: F401
