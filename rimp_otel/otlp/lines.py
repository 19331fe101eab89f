"""Encoded records, the envelopes of resource, scope and metric around them, and OTLP JSON lines.

A record is encoded once, when it is collected or drained; a line is put together of any number of
encoded records, grouped by their envelopes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from rimp_otel.models.records import MetricKind, Signal
from rimp_otel.otlp.values import attributes_json, text_json, to_bytes, to_uint32
from rimp_otel.process import BoundedCache

__all__ = [
    "DATA_KEYS",
    "LINE_SIZE",
    "EncodedRecord",
    "Envelope",
    "RecordEnvelopes",
    "join_line",
    "join_lines",
    "resource_envelope",
    "scope_envelope",
]

LINE_SIZE = 64 * 1024
"""Characters after which a line is full. Encoding longer ones would hold the interpreter for
milliseconds."""

DATA_KEYS = {
    MetricKind.GAUGE: "gauge",
    MetricKind.SUM: "sum",
    MetricKind.HISTOGRAM: "histogram",
    MetricKind.EXPONENTIAL_HISTOGRAM: "exponentialHistogram",
    MetricKind.SUMMARY: "summary",
}
"""The key of a metric's points, by their kind."""


class Envelope(NamedTuple):
    """The text around the records of one resource, scope or metric."""

    head: str
    tail: str


RecordEnvelopes = tuple[Envelope, Envelope, "Envelope | None"]
"""The resource, scope and metric around a record; the metric is None except for data points."""


class EncodedRecord(NamedTuple):
    """One record as JSON text, with its time and the envelopes around it."""

    #: The time by which ranges select it: a span's start, the time of a log record or data point.
    time_unix_nano: int
    resource: Envelope
    scope: Envelope
    #: The metric of a data point; None for spans and log records.
    metric: Envelope | None
    #: The OTLP JSON object of the span, log record or data point.
    text: str


def join_lines(signal: Signal, records: Iterable[EncodedRecord]) -> Iterator[bytes]:
    """Yield the records, in order, as OTLP JSON lines of about LINE_SIZE, without line ends."""
    batch: list[EncodedRecord] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.text)
        if size >= LINE_SIZE:
            yield _join_batch(signal, batch)
            batch, size = [], 0
    if batch:
        yield _join_batch(signal, batch)


def _join_batch(signal: Signal, batch: list[EncodedRecord]) -> bytes:
    groups: dict[RecordEnvelopes, list[str]] = {}
    texts: list[str] = []
    last: tuple[object, object, object] = (texts, texts, texts)
    for _, resource, scope, metric, text in batch:
        # Most records have the same envelopes as the one before.
        if resource is not last[0] or scope is not last[1] or metric is not last[2]:
            last = (resource, scope, metric)
            texts = groups.setdefault(last, [])
        texts.append(text)
    return join_line(
        signal, {envelopes: to_bytes(",".join(texts)) for envelopes, texts in groups.items()}
    )


def join_line(signal: Signal, groups: Mapping[RecordEnvelopes, bytes]) -> bytes:
    """Return one OTLP JSON line, without its end.

    Args:
        signal: the signal of all records.
        groups: by their envelopes, the texts of records, joined by commas.
    """
    resources: dict[Envelope, dict[Envelope, list[bytes]]] = {}
    for (resource, scope, metric), joined in groups.items():
        records = joined if metric is None else _enclose(metric, joined)
        resources.setdefault(resource, {}).setdefault(scope, []).append(records)
    found = [_join_resource(signal, *group) for group in resources.items()]
    return b"".join((f'{{"{signal.resource_key}":['.encode(), b",".join(found), b"]}"))


def _join_resource(
    signal: Signal, resource: Envelope, scopes: Mapping[Envelope, list[bytes]]
) -> bytes:
    key, scope_key = f'"{signal.record_key}":['.encode(), f'"{signal.scope_key}":['.encode()
    texts = [
        _enclose(scope, b"".join((key, b",".join(records), b"]")))
        for scope, records in scopes.items()
    ]
    return _enclose(resource, b"".join((scope_key, b",".join(texts), b"]")))


def _enclose(envelope: Envelope, text: bytes) -> bytes:
    return b"".join((to_bytes(envelope.head), text, to_bytes(envelope.tail)))


# By the identity of the resource or scope, which the entry holds.
_Cache = BoundedCache[int, tuple[object, Envelope]]
_resource_envelopes: _Cache = BoundedCache(256)
_scope_envelopes: _Cache = BoundedCache(256)


def resource_envelope(resource: Any) -> Envelope:
    """Return the envelope of an SDK Resource, a ResourceInfo, or None.

    It is cached by the identity of ``resource``, which may not change.
    """
    entry = _resource_envelopes.get(id(resource))
    if entry is None:
        head = f'{{"resource":{{{_owner_fields(resource)}}},'
        entry = resource, Envelope(head, _schema_url_tail(resource))
        _resource_envelopes[id(resource)] = entry
    return entry[1]


def scope_envelope(scope: Any) -> Envelope:
    """Return the envelope of an SDK InstrumentationScope, a ScopeInfo, or None.

    It is cached by the identity of ``scope``, which may not change.
    """
    entry = _scope_envelopes.get(id(scope))
    if entry is None:
        entry = scope, Envelope(f'{{"scope":{{{_scope_fields(scope)}}},', _schema_url_tail(scope))
        _scope_envelopes[id(scope)] = entry
    return entry[1]


def _scope_fields(scope: Any) -> str:
    if scope is None:
        return ""
    parts = [
        f'"{name}":{text_json(value)}'
        for name, value in (("name", scope.name), ("version", scope.version))
        if value
    ]
    return ",".join([*parts, *filter(None, [_owner_fields(scope)])])


def _owner_fields(owner: Any) -> str:
    attributes = getattr(owner, "attributes", None)
    encoded = attributes_json(attributes)
    # Our types have the count themselves, the SDK's have it in their attributes.
    dropped = getattr(owner, "dropped_attributes_count", getattr(attributes, "dropped", 0))
    parts = [f'"attributes":[{encoded}]'] if encoded else []
    if dropped:
        parts.append(f'"droppedAttributesCount":{to_uint32(dropped)}')
    return ",".join(parts)


def _schema_url_tail(owner: Any) -> str:
    url = getattr(owner, "schema_url", None)
    return f',"schemaUrl":{text_json(url)}}}' if url else "}"
