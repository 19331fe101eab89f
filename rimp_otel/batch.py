"""``TelemetryData``: a batch of records, the form in which telemetry passes through the package.

First the class, as users have it; then the forms in which it holds records; then the functions by
which the other parts of the package make batches.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NoReturn, Protocol, TypeVar

from opentelemetry.sdk.trace import ReadableSpan

# Lazy packages: annotations name what they load, so that `typing.get_type_hints` finds it.
import rimp_otel.convert as convert
import rimp_otel.models as models
import rimp_otel.otlp as otlp
from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal, TelemetryEvent, TelemetryMetric
from rimp_otel.otlp.encode_logs import encode_event, encode_log_record
from rimp_otel.otlp.encode_spans import encode_span
from rimp_otel.otlp.lines import EncodedRecord, join_lines
from rimp_otel.process import importing

__all__ = [
    "Records",
    "TelemetryData",
    "batch_of_lines",
    "decode_batch",
    "load_decoding",
    "make_batch",
    "set_slice_id",
    "share_batch",
    "skipped_count",
]


class TelemetryData:
    """A batch of spans, events and metric points.

    A batch can be read in two representations, whichever of them it was made from:

    - as objects: ``spans``, ``events`` and ``metrics``, or in the SDK's own types ``log_records``
      and ``metrics_data``;
    - as OTLP JSON lines: ``otlp_json``.

    Each is computed on first use and then cached. So a batch of lines that only moves from one
    file to another is never decoded, and a batch of objects that only a callback looks at is never
    encoded.

    A batch does not change once it is made: its lists are read-only, and changing one raises a
    TypeError. Two batches are equal if they hold equal records in the same order. It is safe to read from
    several threads. The caches have no lock: threads that ask for the same thing for the first
    time at the same moment each compute it, with the same result, and all get the one that was
    ready first.

    Args:
        events: native events, and log records as events.
        metrics: metric points, one for each data point.
        spans: finished OpenTelemetry spans.
    """

    __slots__ = ("_lines", "_objects", "_records", "_skipped", "_slice_id")

    def __init__(
        self,
        events: Iterable[TelemetryEvent] = (),
        metrics: Iterable[TelemetryMetric] = (),
        spans: Iterable[ReadableSpan] = (),
    ) -> None:
        self._set_records(
            {
                Signal.TRACES: _Objects(Signal.TRACES, spans),
                Signal.LOGS: _Objects(Signal.LOGS, events),
                Signal.METRICS: _Objects(Signal.METRICS, metrics),
            }
        )

    def _set_records(self, records: Mapping[Signal, Records]) -> None:
        # As they came, never changed; a signal without records is not there.
        self._records = {signal: found for signal, found in records.items() if len(found)}
        # The caches. A missing signal has not been asked for yet.
        self._objects: dict[Signal, RecordList[Any]] = {}
        self._lines: dict[Signal, RecordList[bytes]] = {}
        # How many records could not be encoded, known once they were.
        self._skipped: dict[Signal, int] = {}
        self._slice_id: str | None = None

    @classmethod
    def from_otlp_json(cls, texts: Iterable[str | bytes]) -> TelemetryData:
        """Return a batch of OTLP JSON lines of any signals, which are decoded on first use.

        Raises:
            DecodeError: a line holds no signal. One that is damaged further inside raises it when
                it is decoded.
        """
        with importing():
            from rimp_otel.otlp.scan import signal_of_line
        lines: dict[Signal, list[bytes]] = {}
        for text in texts:
            line = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
            lines.setdefault(signal_of_line(line), []).append(line.strip())
        return make_batch({signal: _Lines(signal, found) for signal, found in lines.items()})

    @classmethod
    def from_log_records(cls, records: Iterable[convert.ReadableLogRecord]) -> TelemetryData:
        """Return a batch of the SDK's log records, as an exporter gets them."""
        return make_batch({Signal.LOGS: _SdkLogRecords(records)})

    @classmethod
    def from_metrics_data(cls, metrics_data: convert.MetricsData) -> TelemetryData:
        """Return a batch of the SDK's metrics, as an exporter or a reader gets them."""
        return make_batch({Signal.METRICS: _SdkMetrics(metrics_data)})

    @classmethod
    def concat(cls, batches: Iterable[TelemetryData]) -> TelemetryData:
        """Return one batch with the records of all ``batches``, in their order."""
        records: dict[Signal, list[Records]] = {}
        for batch in batches:
            for signal, found in batch._records.items():
                records.setdefault(signal, []).append(found)
        return make_batch(
            {
                signal: found[0] if len(found) == 1 else _Concatenation(found)
                for signal, found in records.items()
            }
        )

    @property
    def spans(self) -> RecordList[ReadableSpan]:
        """The spans, each of which has ended."""
        return self._objects_of(Signal.TRACES)

    @property
    def events(self) -> RecordList[TelemetryEvent]:
        """The native events, and the log records as events."""
        return self._objects_of(Signal.LOGS)

    @property
    def metrics(self) -> RecordList[TelemetryMetric]:
        """The metric points, native ones and those of OpenTelemetry's instruments."""
        return self._objects_of(Signal.METRICS)

    def _objects_of(self, signal: Signal) -> RecordList[Any]:
        objects = self._objects.get(signal)
        if objects is None:
            found = self._records.get(signal)
            objects = RecordList(found.objects() if found else ())
            objects = self._objects.setdefault(signal, objects)
        return objects

    @property
    def log_records(self) -> list[convert.ReadableLogRecord]:
        """The events as the SDK's log records, for an OpenTelemetry exporter. Not cached."""
        return [convert.log_record_from_event(event) for event in self.events]

    @property
    def metrics_data(self) -> convert.MetricsData:
        """The metric points as the SDK's metrics, for an OpenTelemetry exporter. Not cached.

        Summaries are missing, since the SDK has none.
        """
        return convert.metrics_to_sdk(self.metrics)

    def otlp_json(self, signal: Signal) -> RecordList[bytes]:
        """Return the signal's records as OTLP JSON lines, without line ends; a read-only list.

        Each line is the body of one OTLP/HTTP JSON request. Records that cannot be encoded are
        left out.
        """
        lines = self._lines.get(signal)
        if lines is None:
            found = self._records.get(signal)
            if isinstance(found, _Lines):
                lines = found.lines
            else:
                lines = RecordList(join_lines(signal, self.encoded_records(signal)))
            lines = self._lines.setdefault(signal, lines)
        return lines

    def encoded_records(self, signal: Signal) -> list[EncodedRecord]:
        """Return the signal's records as one JSON text each, with time, resource and scope.

        For storages that keep each record by itself. Records that cannot be encoded are left out.
        Not cached.
        """
        found = self._records.get(signal)
        if found is None:
            return []
        encoded = [record for record in found.encoded() if record is not None]
        self._skipped[signal] = len(found) - len(encoded)
        return encoded

    def count_of(self, signal: Signal) -> int:
        """Return how many records of the signal there are."""
        found = self._records.get(signal)
        return len(found) if found else 0

    def trace(self, trace_id: int | str) -> models.Trace:
        """Return the spans and events of one trace. A notebook shows it as a waterfall.

        Args:
            trace_id: a number, or hexadecimal digits; the first ones are enough if no other trace
                of the batch begins with them.

        Raises:
            ConfigurationError: ``trace_id`` is not a trace id, or no trace or several match it.
        """
        with importing():
            from rimp_otel.trace import Trace
        return Trace.of(trace_id, self.spans, self.events)

    @property
    def slice_id(self) -> str | None:
        """The name of a batch that comes from a journal; None for any other batch.

        After a crash in the middle of storing, the same records come again under the same name. A
        storage that commits the name together with the records keeps each record exactly once.
        """
        return self._slice_id

    def __len__(self) -> int:
        return sum(map(len, self._records.values()))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, TelemetryData):
            return NotImplemented
        try:
            return all(self._equals(other, signal) for signal in Signal)
        except DecodeError:
            return False  # lines that cannot be read, and differ

    def _equals(self, other: TelemetryData, signal: Signal) -> bool:
        ours, theirs = self._records.get(signal), other._records.get(signal)
        if ours is theirs:
            return True
        if isinstance(ours, _Lines) and isinstance(theirs, _Lines) and ours.lines == theirs.lines:
            return True
        if self.count_of(signal) != other.count_of(signal):
            return False
        found, expected = self._objects_of(signal), other._objects_of(signal)
        if signal is not Signal.TRACES:
            return found == expected
        with importing():
            from rimp_otel.models.accessors import content_of_span
        pairs = zip(found, expected, strict=True)
        return all(a is b or content_of_span(a) == content_of_span(b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash(tuple(map(self.count_of, Signal)))

    def __bool__(self) -> bool:
        return bool(self._records)

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

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Return the schema by which pydantic validates and serialises a batch.

        As JSON it has ``events`` and ``metrics``, each as its own type has them, and ``spans`` as a
        list of OTLP's TracesData, since spans are the SDK's.
        """
        with importing():
            from pydantic_core import core_schema

        otlp_json = core_schema.list_schema(core_schema.dict_schema(core_schema.str_schema()))
        lists = {
            "events": handler(list[TelemetryEvent]),
            "metrics": handler(list[TelemetryMetric]),
            "spans": otlp_json,
        }
        form = core_schema.typed_dict_schema(
            {
                name: core_schema.typed_dict_field(each, required=False)
                for name, each in lists.items()
            }
        )
        of_form = core_schema.no_info_after_validator_function(_batch_of_form, form)
        made = core_schema.is_instance_schema(cls)
        return core_schema.json_or_python_schema(
            of_form,
            core_schema.union_schema([made, of_form]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                _form_of_batch, return_schema=form
            ),
        )

    def _repr_html_(self) -> str:
        with importing():
            from rimp_otel.render.html import render_batch_html
        return render_batch_html(self.spans, self.events, self.metrics)


def _form_of_batch(data: TelemetryData) -> dict[str, list[Any]]:
    """Return a batch as pydantic serialises it."""
    spans = [json.loads(line) for line in data.otlp_json(Signal.TRACES)]
    return {"events": list(data.events), "metrics": list(data.metrics), "spans": spans}


def _batch_of_form(form: dict[str, list[Any]]) -> TelemetryData:
    """Return the batch that pydantic validated.

    Raises:
        ValueError: its spans are not OTLP's TracesData.
    """
    try:
        texts = [json.dumps(each) for each in form.get("spans", ())]
        spans = TelemetryData.from_otlp_json(texts).spans
    except DecodeError as error:
        raise ValueError(f"spans must be OTLP's TracesData: {error}") from None
    if len(spans) < len(TelemetryData.from_otlp_json(texts)):
        raise ValueError("spans must be OTLP's TracesData, got another signal's")
    return TelemetryData(form.get("events", ()), form.get("metrics", ()), spans)


Item = TypeVar("Item")


class RecordList(list[Item]):
    """A list that is read-only. Equal to a list of the same items; ``list(it)`` can be changed."""

    __slots__ = ()

    def _refuse(self, *args: Any, **options: Any) -> NoReturn:
        raise TypeError("the lists of a TelemetryData are read-only: change a copy, list(…)")

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = pop = remove = clear = sort = reverse = _refuse

    def __reduce__(self) -> tuple[type[RecordList[Item]], tuple[list[Item]]]:
        # For copies and pickles, which would append item by item.
        return type(self), (list(self),)

    def __reduce_ex__(self, protocol: Any) -> tuple[type[RecordList[Item]], tuple[list[Item]]]:
        return self.__reduce__()


# The forms in which a batch holds the records of one signal. The collector has one more, for the
# records of its buffer.


class Records(Protocol):
    """The records of one signal, in the form in which they came."""

    def __len__(self) -> int:
        """Return how many records there are."""

    def objects(self) -> list[Any]:
        """Return them as ``ReadableSpan``, ``TelemetryEvent`` or ``TelemetryMetric``."""

    def encoded(self) -> Iterator[EncodedRecord | None]:
        """Yield each as text; None for one that cannot be encoded."""


_ENCODERS: dict[Signal, Callable[[Any], EncodedRecord]] = {
    Signal.TRACES: encode_span,
    Signal.LOGS: encode_event,
    Signal.METRICS: lambda metric: otlp.encode_metric(metric),
}


def _encode_each(
    encode: Callable[[Any], EncodedRecord], records: Iterable[Any]
) -> Iterator[EncodedRecord | None]:
    """Yield each record as text; one that cannot be encoded costs itself, never its batch."""
    for record in records:
        try:
            yield encode(record)
        except Exception:
            yield None


class _Objects:
    """Spans, events or metric points."""

    def __init__(self, signal: Signal, objects: Iterable[Any]) -> None:
        self._signal = signal
        self._objects = list(objects)

    def __len__(self) -> int:
        return len(self._objects)

    def objects(self) -> list[Any]:
        return self._objects

    def encoded(self) -> Iterator[EncodedRecord | None]:
        return _encode_each(_ENCODERS[self._signal], self._objects)


class _Lines:
    """OTLP JSON lines of one signal.

    Args:
        signal: the signal of all lines.
        lines: the lines, without line ends.
        objects: their records, if they are decoded already.
        count: how many records they hold, if that is known.
    """

    def __init__(
        self,
        signal: Signal,
        lines: Sequence[bytes],
        objects: list[Any] | None = None,
        count: int | None = None,
    ) -> None:
        self.lines = RecordList(lines)
        self._signal = signal
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
        if self._objects is None:
            with importing():
                from rimp_otel.otlp.decode import decode_line
            self._objects = [record for line in self.lines for record in decode_line(line).records]
        return self._objects

    def encoded(self) -> Iterator[EncodedRecord | None]:
        return _encode_each(_ENCODERS[self._signal], self.objects())


class _SdkLogRecords:
    """The SDK's log records."""

    def __init__(self, records: Iterable[convert.ReadableLogRecord]) -> None:
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    def objects(self) -> list[Any]:
        return [convert.event_from_log_record(record) for record in self._records]

    def encoded(self) -> Iterator[EncodedRecord | None]:
        return _encode_each(encode_log_record, self._records)


class _SdkMetrics:
    """The SDK's metrics, with any number of data points each."""

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

    def objects(self) -> list[Any]:
        return convert.metrics_from_sdk(self._data)

    def encoded(self) -> Iterator[EncodedRecord | None]:
        return otlp.encode_metrics_data(self._data)


class _Concatenation:
    """The records of several batches, one batch after the other."""

    def __init__(self, parts: Sequence[Records]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def objects(self) -> list[Any]:
        return list(chain.from_iterable(part.objects() for part in self._parts))

    def encoded(self) -> Iterator[EncodedRecord | None]:
        return chain.from_iterable(part.encoded() for part in self._parts)


# How the other parts of the package make batches, and what they ask of them.


def make_batch(records: Mapping[Signal, Records]) -> TelemetryData:
    """Return a batch of these records, each signal's in whatever form they are."""
    data = TelemetryData.__new__(TelemetryData)
    data._set_records(records)
    return data


def decode_batch(line: bytes) -> TelemetryData:
    """Return a batch of one OTLP JSON line, which is decoded at once.

    Raises:
        DecodeError: the line is not OTLP JSON.
    """
    with importing():
        from rimp_otel.otlp.decode import decode_line
    signal, objects = decode_line(line)
    return make_batch({signal: _Lines(signal, [line], objects)})


def batch_of_lines(signal: Signal, lines: list[bytes], records: int) -> TelemetryData:
    """Return a batch of OTLP JSON lines of one signal that hold this number of records."""
    return make_batch({signal: _Lines(signal, lines, count=records)})


def share_batch(data: TelemetryData) -> TelemetryData:
    """Return a batch of the same records with caches of its own, for one more reader."""
    return make_batch(data._records)


def skipped_count(data: TelemetryData, signal: Signal) -> int:
    """Return how many of the signal's records could not be encoded; 0 before they are encoded."""
    return data._skipped.get(signal, 0)


def set_slice_id(data: TelemetryData, slice_id: str) -> None:
    """Name a batch that is cut out of a journal; see ``TelemetryData.slice_id``."""
    data._slice_id = slice_id


def load_decoding() -> None:
    """Import what makes objects of records.

    For whoever will ask for objects while records are collected, when nothing may be imported.
    """
    with importing():
        import rimp_otel.convert.logs
        import rimp_otel.convert.metrics
        import rimp_otel.otlp.decode  # noqa: F401
