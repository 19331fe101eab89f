"""OTLP's messages as they stand in JSON, as msgspec structs, which check what they decode.

One class for each message of opentelemetry-proto 1.x, with its fields in snake case, and partial
messages for readers that need a few fields only. Unknown fields are ignored, as the OTLP
specification demands; ``null`` stands for the default, which is None here. 64-bit integers and doubles may stand as strings, enumerations as names and ids in
base64: protobuf's own JSON mapping writes the latter two, which OTLP forbids and recordings hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal

__all__ = [
    "HAS_IS_REMOTE",
    "IS_REMOTE",
    "OLD_KEY",
    "SIGNAL_ATTRIBUTES",
    "AnyValue",
    "ExponentialHistogramDataPoint",
    "HistogramDataPoint",
    "KeyValue",
    "Link",
    "LogRecord",
    "Metric",
    "NumberDataPoint",
    "OtlpBuckets",
    "OtlpExemplar",
    "OtlpLine",
    "OtlpMessage",
    "OtlpScope",
    "Resource",
    "ResourceLogs",
    "ResourceMetrics",
    "ResourceSpans",
    "Span",
    "SpanEvent",
    "Status",
    "SummaryDataPoint",
    "check_one_signal",
    "check_signal",
    "decode_json",
    "decode_messages",
    "decode_resource",
    "decode_scope",
    "decode_with_scopes",
    "no_recursion_error",
    "repair_characters",
    "repair_line",
]

# msgspec bounds integers within 64 signed bits only; `decode_common.check_uint64` does the rest.
UInt64 = Annotated[int, Meta(ge=0)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
SInt32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
OpenEnum = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# The SDK's and our own types cannot hold a value beyond today's, so it is refused.
ClosedEnum = Annotated[int, Meta(ge=0, le=2)]


HAS_IS_REMOTE, IS_REMOTE = 0x100, 0x200
"""Bits of the flags of spans and links: the parent (or the link's span) is known to be remote or
local; it is remote."""


class OtlpMessage(Struct, rename="camel", gc=False, omit_defaults=True):
    """The base of all messages."""


class AnyValue(OtlpMessage):
    """A value; if several fields are set, the first one in this order counts."""

    string_value: str | None = None
    int_value: Int64 | None = None
    double_value: float | None = None
    # Any: where msgspec takes "12" for an integer, it takes "true" and 1 for a boolean.
    bool_value: Any = None
    array_value: ArrayValue | None = None
    kvlist_value: KeyValueList | None = None
    bytes_value: str | None = None


class KeyValue(OtlpMessage):
    """One attribute."""

    key: str | None = None
    value: AnyValue | None = None


class ArrayValue(OtlpMessage):
    """A list of values."""

    values: list[AnyValue] | None = None


class KeyValueList(OtlpMessage):
    """A map of values."""

    values: list[KeyValue] | None = None


class EntityRef(OtlpMessage):
    """A reference from a resource's attributes to the entity that they describe."""

    schema_url: str | None = None
    type: str | None = None
    id_keys: list[str] | None = None
    description_keys: list[str] | None = None


class Resource(OtlpMessage):
    """The entity that produced the records."""

    attributes: list[KeyValue] | None = None
    dropped_attributes_count: UInt32 | None = None
    entity_refs: list[EntityRef] | None = None


class OtlpScope(OtlpMessage):
    """The library that produced the records."""

    name: str | None = None
    version: str | None = None
    attributes: list[KeyValue] | None = None
    dropped_attributes_count: UInt32 | None = None


class SpanEvent(OtlpMessage):
    """An event within a span."""

    time_unix_nano: UInt64 | None = None
    name: str | None = None
    attributes: list[KeyValue] | None = None
    dropped_attributes_count: UInt32 | None = None


class Link(OtlpMessage):
    """Another span that a span points to."""

    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    attributes: list[KeyValue] | None = None
    dropped_attributes_count: UInt32 | None = None
    flags: UInt32 | None = None


class Status(OtlpMessage):
    """The status of a span."""

    message: str | None = None
    code: ClosedEnum | str | None = None


class Span(OtlpMessage):
    """A span."""

    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    parent_span_id: str | None = None
    flags: UInt32 | None = None
    name: str | None = None
    kind: OpenEnum | str | None = None
    start_time_unix_nano: UInt64 | None = None
    end_time_unix_nano: UInt64 | None = None
    attributes: list[KeyValue] | None = None
    dropped_attributes_count: UInt32 | None = None
    events: list[SpanEvent] | None = None
    dropped_events_count: UInt32 | None = None
    links: list[Link] | None = None
    dropped_links_count: UInt32 | None = None
    status: Status | None = None


class LogRecord(OtlpMessage):
    """A log record."""

    time_unix_nano: UInt64 | None = None
    observed_time_unix_nano: UInt64 | None = None
    severity_number: OpenEnum | str | None = None
    severity_text: str | None = None
    body: AnyValue | None = None
    attributes: list[KeyValue] | None = None
    dropped_attributes_count: UInt32 | None = None
    flags: UInt32 | None = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None


class OtlpExemplar(OtlpMessage):
    """A single measurement; the first of the two values that is set counts."""

    filtered_attributes: list[KeyValue] | None = None
    time_unix_nano: UInt64 | None = None
    as_double: float | None = None
    as_int: Int64 | None = None
    span_id: str | None = None
    trace_id: str | None = None


class NumberDataPoint(OtlpMessage):
    """A point of a gauge or a sum; the first of the two values that is set counts."""

    attributes: list[KeyValue] | None = None
    start_time_unix_nano: UInt64 | None = None
    time_unix_nano: UInt64 | None = None
    as_double: float | None = None
    as_int: Int64 | None = None
    exemplars: list[OtlpExemplar] | None = None
    flags: UInt32 | None = None


class HistogramDataPoint(OtlpMessage):
    """A point of a histogram."""

    attributes: list[KeyValue] | None = None
    start_time_unix_nano: UInt64 | None = None
    time_unix_nano: UInt64 | None = None
    count: UInt64 | None = None
    sum: float | None = None
    bucket_counts: tuple[UInt64, ...] | None = None
    explicit_bounds: tuple[float, ...] | None = None
    exemplars: list[OtlpExemplar] | None = None
    flags: UInt32 | None = None
    min: float | None = None
    max: float | None = None


class OtlpBuckets(OtlpMessage):
    """One half of an exponential histogram."""

    offset: SInt32 | None = None
    bucket_counts: tuple[UInt64, ...] | None = None


class ExponentialHistogramDataPoint(OtlpMessage):
    """A point of an exponential histogram."""

    attributes: list[KeyValue] | None = None
    start_time_unix_nano: UInt64 | None = None
    time_unix_nano: UInt64 | None = None
    count: UInt64 | None = None
    sum: float | None = None
    scale: SInt32 | None = None
    zero_count: UInt64 | None = None
    positive: OtlpBuckets | None = None
    negative: OtlpBuckets | None = None
    flags: UInt32 | None = None
    exemplars: list[OtlpExemplar] | None = None
    min: float | None = None
    max: float | None = None
    zero_threshold: float | None = None


class ValueAtQuantile(OtlpMessage):
    """One quantile of a summary."""

    quantile: float | None = None
    value: float | None = None


class SummaryDataPoint(OtlpMessage):
    """A point of a summary."""

    attributes: list[KeyValue] | None = None
    start_time_unix_nano: UInt64 | None = None
    time_unix_nano: UInt64 | None = None
    count: UInt64 | None = None
    sum: float | None = None
    quantile_values: list[ValueAtQuantile] | None = None
    flags: UInt32 | None = None


class Gauge(OtlpMessage):
    """Points that do not add up."""

    data_points: list[NumberDataPoint] | None = None


class Sum(OtlpMessage):
    """Points that add up."""

    data_points: list[NumberDataPoint] | None = None
    aggregation_temporality: ClosedEnum | str | None = None
    is_monotonic: Any = None


class Histogram(OtlpMessage):
    """Points with buckets of given bounds."""

    data_points: list[HistogramDataPoint] | None = None
    aggregation_temporality: ClosedEnum | str | None = None


class ExponentialHistogram(OtlpMessage):
    """Points with buckets of exponentially growing bounds."""

    data_points: list[ExponentialHistogramDataPoint] | None = None
    aggregation_temporality: ClosedEnum | str | None = None


class Summary(OtlpMessage):
    """Points with quantiles."""

    data_points: list[SummaryDataPoint] | None = None


class Metric(OtlpMessage):
    """A metric with its points, which are all of one kind."""

    name: str | None = None
    description: str | None = None
    unit: str | None = None
    gauge: Gauge | None = None
    sum: Sum | None = None
    histogram: Histogram | None = None
    exponential_histogram: ExponentialHistogram | None = None
    summary: Summary | None = None
    metadata: list[KeyValue] | None = None

    def __post_init__(self) -> None:
        """Refuse points of two kinds; msgspec adds the place to the error message."""
        kinds = (self.gauge, self.sum, self.histogram, self.exponential_histogram, self.summary)
        if kinds.count(None) < 4:
            raise ValueError("a metric has points of one kind only")


class ScopeSpans(OtlpMessage):
    """The spans of one scope."""

    scope: Raw = Raw()
    spans: list[Span] | None = None
    schema_url: str | None = None


class ResourceSpans(OtlpMessage):
    """The spans of one resource. Resources and scopes stay text, by which caches know them."""

    resource: Raw = Raw()
    scope_spans: list[ScopeSpans] | None = None
    schema_url: str | None = None


class ScopeLogs(OtlpMessage):
    """The log records of one scope."""

    scope: Raw = Raw()
    log_records: list[LogRecord] | None = None
    schema_url: str | None = None


class ResourceLogs(OtlpMessage):
    """The log records of one resource."""

    resource: Raw = Raw()
    scope_logs: list[ScopeLogs] | None = None
    schema_url: str | None = None


class ScopeMetrics(OtlpMessage):
    """The metrics of one scope."""

    scope: Raw = Raw()
    metrics: list[Metric] | None = None
    schema_url: str | None = None


class ResourceMetrics(OtlpMessage):
    """The metrics of one resource."""

    resource: Raw = Raw()
    scope_metrics: list[ScopeMetrics] | None = None
    schema_url: str | None = None


class OtlpLine(OtlpMessage):
    """TracesData, LogsData or MetricsData; ``check_one_signal`` tells which."""

    resource_spans: list[ResourceSpans] | UnsetType | None = UNSET
    resource_logs: list[ResourceLogs] | UnsetType | None = UNSET
    resource_metrics: list[ResourceMetrics] | UnsetType | None = UNSET


SpanT = TypeVar("SpanT")
LogT = TypeVar("LogT")
MetricT = TypeVar("MetricT")
DataT = TypeVar("DataT")
PointT = TypeVar("PointT")


class PartialMessage(Struct, rename="camel", gc=False):
    """The base of messages of which only some fields are decoded; msgspec skips all others."""


class PartialData(PartialMessage, Generic[PointT]):
    """The points of a metric, all of one kind."""

    data_points: list[PointT] | None = None


class PartialMetric(PartialMessage, Generic[DataT]):
    """A metric's points, by their kind."""

    gauge: DataT | None = None
    sum: DataT | None = None
    histogram: DataT | None = None
    exponential_histogram: DataT | None = None
    summary: DataT | None = None

    def data(self) -> tuple[DataT | None, ...]:
        """Return the points of each kind, in the order of ``MetricKind``; all but one are None."""
        return self.gauge, self.sum, self.histogram, self.exponential_histogram, self.summary


class PartialScope(PartialMessage, Generic[SpanT, LogT, MetricT]):
    """The records of one scope, of any signal."""

    scope: Raw = Raw()
    schema_url: Raw = Raw()
    spans: list[SpanT] | None = None
    log_records: list[LogT] | None = None
    metrics: list[MetricT] | None = None


class PartialResource(PartialMessage, Generic[SpanT, LogT, MetricT]):
    """The records of one resource, of any signal."""

    resource: Raw = Raw()
    schema_url: Raw = Raw()
    scope_spans: list[PartialScope[SpanT, LogT, MetricT]] | None = None
    scope_logs: list[PartialScope[SpanT, LogT, MetricT]] | None = None
    scope_metrics: list[PartialScope[SpanT, LogT, MetricT]] | None = None

    def scopes(self) -> Sequence[PartialScope[SpanT, LogT, MetricT]]:
        """Return the scopes with their records."""
        return self.scope_spans or self.scope_logs or self.scope_metrics or ()


class PartialLine(PartialMessage, Generic[SpanT, LogT, MetricT]):
    """A line of any signal, for readers that need a few fields of its records only.

    The types of the records say which fields; ``Raw`` leaves a record as its text.
    """

    resource_spans: list[PartialResource[SpanT, LogT, MetricT]] | UnsetType | None = UNSET
    resource_logs: list[PartialResource[SpanT, LogT, MetricT]] | UnsetType | None = UNSET
    resource_metrics: list[PartialResource[SpanT, LogT, MetricT]] | UnsetType | None = UNSET

    def resources(self) -> Sequence[PartialResource[SpanT, LogT, MetricT]]:
        """Return the resources with their records."""
        return self.resource_spans or self.resource_logs or self.resource_metrics or ()


DecodedT = TypeVar("DecodedT")
LineT = TypeVar("LineT", bound="OtlpLine | PartialLine[Any, Any, Any]")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_LINE = msgspec.json.Decoder(OtlpLine, strict=False)
_RESOURCE = msgspec.json.Decoder(Resource | None, strict=False)
_SCOPE = msgspec.json.Decoder(OtlpScope | None, strict=False)


def decode_messages(text: str | bytes) -> tuple[Signal, OtlpLine]:
    """Return the signal and the messages of one line of OTLP JSON.

    Raises:
        DecodeError: the line does not have OTLP's types. Ids, names of enumerations, base64 and the
            upper bound of unsigned 64-bit integers are checked when those fields are read.
    """
    line = decode_with_scopes(_LINE, text)
    signal = check_one_signal(line)
    if getattr(line, SIGNAL_ATTRIBUTES[signal]) is None:
        setattr(line, SIGNAL_ATTRIBUTES[signal], [])
    return signal, line


def check_one_signal(line: Any) -> Signal:
    """Return the one signal whose key the line has, be it an ``OtlpLine`` or a ``PartialLine``.

    Raises:
        DecodeError: it has the key of no signal, or of several.
    """
    found = [signal for signal in Signal if getattr(line, SIGNAL_ATTRIBUTES[signal]) is not UNSET]
    if len(found) != 1:
        keys = ", ".join(signal.resource_key for signal in found or Signal)
        raise DecodeError(
            f"{'several signals in one line' if found else 'none of the keys'}: {keys}"
        )
    return found[0]


def check_signal(line: Any, signal: Signal) -> None:
    """Check that a line has the key of this signal, and of no other.

    Raises:
        DecodeError: it has not.
    """
    found = check_one_signal(line)
    if found is not signal:
        raise DecodeError(f"the line is of {found.value}, not of {signal.value}")


SIGNAL_ATTRIBUTES = {
    Signal.TRACES: "resource_spans",
    Signal.LOGS: "resource_logs",
    Signal.METRICS: "resource_metrics",
}
"""The attribute of a line that has the resources of a signal."""


def decode_resource(raw: Raw) -> Resource:
    """Decode the resource that a line left as text.

    Raises:
        DecodeError: the text is not a resource.
    """
    return decode_json(_RESOURCE, bytes(raw) or b"{}", "resource: ") or Resource()


def decode_scope(raw: Raw) -> OtlpScope:
    """Decode the scope that a line left as text.

    Raises:
        DecodeError: the text is not a scope.
    """
    return decode_json(_SCOPE, bytes(raw) or b"{}", "scope: ") or OtlpScope()


def decode_with_scopes(decoder: msgspec.json.Decoder[LineT], text: str | bytes) -> LineT:
    """Decode a whole line, be it an ``OtlpLine`` or a ``PartialLine``; also one of OTLP before 0.15,
    where a scope was an instrumentation library.

    Raises:
        DecodeError: the line does not have the types of the decoder, or is of OTLP before 0.9.
    """
    line = decode_json(decoder, text)
    groups: Any = line.resource_spans or line.resource_logs or line.resource_metrics or ()
    for group in groups:
        if not any(getattr(group, key, None) for key in _SCOPE_ATTRIBUTES):
            data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
            return decode_json(decoder, rename_old_keys(data)) if OLD_KEY in data else line
    return line


_SCOPE_ATTRIBUTES = ("scope_spans", "scope_logs", "scope_metrics")
OLD_KEY = b'"instrumentationLibrary'
"""What stands in a line of OTLP before 0.15, and in no other but within a text."""

# A quotation mark within a text is escaped, so that these are keys for certain.
_OLD_KEYS = re.compile(rb'([{,]\s*")(instrumentationLibrary(?:Spans|Logs|Metrics)?|logs)("\s*:)')
_NEW_KEYS = {
    b"instrumentationLibrary": b"scope",
    b"instrumentationLibrarySpans": b"scopeSpans",
    b"instrumentationLibraryLogs": b"scopeLogs",
    b"instrumentationLibraryMetrics": b"scopeMetrics",
    b"logs": b"logRecords",
}
_TOO_OLD_KEYS = re.compile(rb'[{,]\s*"((?:int|double)(?:Gauge|Sum|Histogram|Summary))"\s*:')


def rename_old_keys(text: bytes) -> bytes:
    """Return a line of OTLP before 0.15 with the keys of today.

    Raises:
        DecodeError: it is of OTLP before 0.9.
    """
    too_old = _TOO_OLD_KEYS.search(text)
    if too_old is not None:
        raise DecodeError(
            f"{too_old[1].decode()} is of OTLP before 0.9, which cannot be read: convert it with an"
            " OpenTelemetry Collector of its time"
        )
    return _OLD_KEYS.sub(lambda key: key[1] + _NEW_KEYS[key[2]] + key[3], text)


def decode_json(
    decoder: msgspec.json.Decoder[DecodedT], text: str | bytes, place: str = ""
) -> DecodedT:
    """Decode JSON, such that whatever is wrong with it raises DecodeError.

    A lone surrogate, and what is no UTF-8, is read as U+FFFD: it costs a character.

    Args:
        decoder: says which type to make of it.
        text: the JSON.
        place: put before msgspec's message, if the text is only a part of a line.
    """
    try:
        return decoder.decode(text)
    except RecursionError:
        raise DecodeError("nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        try:
            return decoder.decode(repair_characters(text))
        except RecursionError:
            raise DecodeError("nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeError) as second:
            # Of the first error, the place is right; the second one may be the only one left.
            # (No name for either: a frame that holds its own exception keeps all its callers' objects.)
            reason = _reason_of(error if str(error) == str(second) else second, text)
            raise DecodeError(place + reason) from None


_SURROGATES = re.compile("[\ud800-\udfff]")
# All escapes, so that the second half of an escaped backslash begins none.
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def repair_characters(text: str | bytes) -> str:
    """Return the text with U+FFFD for lone surrogates, escaped or not, and for bytes of no UTF-8."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        whole = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        whole = data.decode("utf-8", "replace")
    whole = _SURROGATES.sub("\ufffd", whole)
    return _ESCAPES.sub(lambda found: "\ufffd" if found["lone"] else found[0], whole)


def repair_line(line: bytes) -> bytes:
    """Return a line as valid UTF-8, with U+FFFD for bytes of none.

    For readers that leave some of the text as it stands, which msgspec does not look into.
    """
    if line.isascii():
        return line
    try:
        line.decode()
    except UnicodeDecodeError:
        return repair_characters(line).encode()
    return line


def _reason_of(error: Exception, text: str | bytes) -> str:
    if "\0" in text if isinstance(text, str) else b"\0" in text:
        return "holds NUL bytes: a torn or damaged line"
    return str(error)


def no_recursion_error(function: FunctionT) -> FunctionT:
    """Decorate a function over nested values to raise DecodeError if they are nested too deeply."""

    @wraps(function)
    def guarded(*args: Any) -> Any:
        try:
            return function(*args)
        except RecursionError:
            raise DecodeError("nested too deeply") from None

    return guarded  # type: ignore[return-value]
