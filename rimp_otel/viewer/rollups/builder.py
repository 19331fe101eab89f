"""Makes rollups of OTLP JSON lines, of which it decodes only what is counted."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any
from zlib import crc32

import msgspec
from msgspec import Raw

from rimp_otel.errors import DecodeError
from rimp_otel.models.times import Window
from rimp_otel.otlp.decode_common import (
    SEVERITIES,
    SPAN_KINDS,
    STATUS_CODES,
    any_value,
    enum_number,
    resource_info_of,
)
from rimp_otel.otlp.messages import (
    KeyValue,
    PartialData,
    PartialLine,
    PartialMessage,
    PartialMetric,
    Resource,
    check_one_signal,
    decode_resource,
    decode_scope,
    decode_with_scopes,
    no_recursion_error,
)
from rimp_otel.otlp.scan import LATEST
from rimp_otel.viewer.rollups.histogram import bin_of, make_histogram
from rimp_otel.viewer.rollups.rollup import (
    KINDS,
    OTHERS,
    SEVERITY_NAMES,
    STEPS,
    AttributeCounts,
    AttributeTable,
    CallKey,
    CallTable,
    FailureKey,
    Level,
    LogKey,
    OpenCall,
    OperationKey,
    Rollup,
    RollupCell,
    RollupFacts,
    RollupKey,
    coarsen_level,
)
from rimp_otel.viewer.rollups.terms import TermTableBuilder

__all__ = ["RollupBuilder", "value_type"]

_MAX_BUCKETS = 512
_MAX_KEYS = 4_096
_MAX_VALUES = 100
_MAX_RAW_VALUES = 20_000
_MAX_TEXT = 200
_MAX_SPANS = 400_000
_CALLERS = frozenset({3, 4})
_CALLED = frozenset({2, 5})


class _StatusCode(PartialMessage):
    code: int | str | None = None
    message: str | None = None


class _NamedItem(PartialMessage):
    name: str | None = None
    attributes: list[Raw] | None = None


class _RolledSpan(PartialMessage):
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    kind: int | str | None = None
    start_time_unix_nano: int | None = None
    end_time_unix_nano: int | None = None
    status: _StatusCode | None = None
    attributes: list[Raw] | None = None
    events: list[_NamedItem] | None = None


class _RolledLog(PartialMessage):
    time_unix_nano: int | None = None
    observed_time_unix_nano: int | None = None
    severity_number: int | str | None = None
    attributes: list[Raw] | None = None


class _RolledPoint(PartialMessage):
    time_unix_nano: int | None = None
    attributes: list[Raw] | None = None


_RolledMetric = PartialMetric[PartialData[_RolledPoint]]
_LINE = msgspec.json.Decoder(PartialLine[_RolledSpan, _RolledLog, _RolledMetric], strict=False)
_RESOURCE = msgspec.json.Decoder(_NamedItem, strict=False)
_ATTRIBUTE = msgspec.json.Decoder(KeyValue, strict=False)
_PLAIN_TEXT = re.compile(rb'\{"key":"([^"\\]*)","value":\{"stringValue":"([^"\\]*)"\}\}')
_NO_ID = "0" * 16
_EXCEPTION_TYPE = b'"exception.type"'
_VARYING = re.compile(r"\b(?=[0-9a-fA-F-]*[0-9])[0-9a-fA-F-]{8,}\b|\d+(?:\.\d+)*")
_INTERRUPTED = ("span", "rimp.interrupted", "bool")


class RollupBuilder:
    """Makes a rollup of lines that are added in any order. Use it in one thread at a time.

    Args:
        window: records of other times are left out; None for none.
        step: the finest one. It grows with the number of steps, unless there is a window.
        terms: is given the attributes of spans, too.
    """

    def __init__(
        self,
        window: Window | None = None,
        step: int = STEPS[0],
        terms: TermTableBuilder | None = None,
    ) -> None:
        self._window = window
        self._terms = terms
        self._resources: dict[bytes, list[bytes]] = {}
        self._step = step
        self._numbers: dict[RollupKey, int] = {}
        self._keys: list[RollupKey] = []
        # By step of time and key: count, errors, and counts by bin.
        self._cells: dict[int, dict[int, list[Any]]] = {}
        # What was built last, and the steps of time that were added to since.
        self._levels: dict[int, Level] = {}
        self._touched: set[int] = set()
        self._built: tuple[tuple[int, int], Rollup] | None = None
        self._attributes: dict[str, _AttributeCounter] = {}
        self._first, self._last = 2**64, 0
        self._records = 0
        #: Lines that cannot be read.
        self.damaged = 0
        # By service: the numbers of operations, by name, kind, and whether it is a root.
        self._operations: dict[str, dict[tuple[str, int | str, bool], int]] = {}
        # The services of spans by a hash of trace and span: of all, and of those that call others.
        self._services: dict[int, str] = {}
        self._callers: dict[int, str] = {}
        # Trace and parent as text, and the rest of an ``OpenCall``.
        self._open_calls: list[tuple[str, str, int, int, bool]] = []

    @property
    def records(self) -> int:
        """How many records were added."""
        return self._records

    def add_line(self, text: bytes) -> None:
        """Add the records of a line; one that cannot be read is counted as damaged."""
        try:
            self._add(text)
        except (DecodeError, ValueError):
            self.damaged += 1

    @no_recursion_error
    def _add(self, text: bytes) -> None:
        line = decode_with_scopes(_LINE, text)
        check_one_signal(line)
        for group in line.resources():
            service = resource_info_of(group.resource, "").attributes.get("service.name")
            service = service if isinstance(service, str) else ""
            before = self._records
            for scope in group.scopes():
                begun = self._records
                self._add_spans(service, scope.spans or [])
                self._add_logs(service, scope.log_records or ())
                self._add_metrics(scope.metrics or ())
                if bytes(scope.scope):
                    counter = self._counter("instrumentation")
                    counter.add_owner(bytes(scope.scope), self._records - begun, decode_scope)
            if bytes(group.resource):
                counter = self._counter("resource")
                counter.add_owner(bytes(group.resource), self._records - before, decode_resource)
                if self._terms is not None:
                    self._terms.add(self._attributes_of(bytes(group.resource)))

    def _attributes_of(self, resource: bytes) -> list[bytes]:
        found = self._resources.get(resource)
        if found is None:
            found = [bytes(raw) for raw in _RESOURCE.decode(resource).attributes or ()]
            if len(self._resources) < _MAX_KEYS:
                self._resources[resource] = found
        return found

    def _counter(self, scope: str) -> _AttributeCounter:
        counter = self._attributes.get(scope)
        if counter is None:
            counter = self._attributes[scope] = _AttributeCounter()
        return counter

    def _add_spans(self, service: str, spans: Sequence[_RolledSpan]) -> None:
        if not spans:
            return
        window = self._window
        if window is not None:
            spans = [one for one in spans if window.contains(_bound(one.start_time_unix_nano))]
        numbers = self._operations.setdefault(service, {})
        services, open_calls, callers = self._services, self._open_calls, self._callers
        add = self._add_to_cell
        starts: list[int] = []
        raws: list[Raw] = []
        events: list[Raw] = []
        # One loop that touches each span once: most of the time is spent here.
        for span in spans:
            start, end = span.start_time_unix_nano or 0, span.end_time_unix_nano or 0
            if not 0 <= start <= LATEST or not 0 <= end <= LATEST:
                start, end = _bound(start), _bound(end)
            starts.append(start)
            kind, name = span.kind or 0, span.name or ""
            parent = span.parent_span_id
            if parent == _NO_ID:
                parent = None
            status = span.status
            is_error = status is not None and _is_error(status.code)
            bin = bin_of(end - start) if start and end else 0
            number = numbers.get((name, kind, not parent))
            if number is None:
                number = self._number_of_operation(service, name, kind, not parent)
            add(number, start, bin, is_error)
            trace = span.trace_id or ""
            own = trace + (span.span_id or "")
            services[hash(own)] = service
            if kind in _CALLERS:
                callers[crc32(own.encode())] = service
            if parent:
                calling = trace + parent
                caller = services.get(hash(calling))
                if caller is None:
                    open_calls.append((calling, service, start, bin, is_error))
                elif caller != service:
                    add(self._number_of(CallKey(caller, service)), start, bin, is_error)
            if span.attributes:
                raws += span.attributes
            if is_error:
                operation = self._keys[number]
                assert isinstance(operation, OperationKey)
                failure = FailureKey(service, name, _text_of_failure(span), *operation[2:])
                add(self._number_of(failure), start, bin, True)
            for event in span.events or ():
                if event.attributes:
                    events += event.attributes
        self._extend(starts)
        for scope, found in (("span", raws), ("event", events)):
            texts = list(map(bytes, found))
            self._counter(scope).add(texts)
            if self._terms is not None:
                self._terms.add(texts)
        if len(services) > _MAX_SPANS:
            for known in list(islice(services, _MAX_SPANS // 2)):
                del services[known]

    def _number_of_operation(self, service: str, name: str, kind: int | str, is_root: bool) -> int:
        number = enum_number(kind, SPAN_KINDS, "kind")
        kind_name = KINDS[number] if 0 <= number < 6 else KINDS[6]
        key = OperationKey(service, name, kind_name, is_root or number in _CALLED)
        found = self._number_of(key)
        known = self._operations[service]
        if len(known) < _MAX_KEYS:
            known[name, kind, is_root] = found
        return found

    def _add_logs(self, service: str, logs: Iterable[_RolledLog]) -> None:
        window, own = self._window, self._counter("log")
        for log in logs:
            time = _bound(log.time_unix_nano) or _bound(log.observed_time_unix_nano)
            if window is not None and not window.contains(time):
                continue
            severity = enum_number(log.severity_number, SEVERITIES, "severityNumber")
            name = SEVERITY_NAMES[(severity + 3) // 4 if 0 <= severity <= 24 else 0]
            number = self._number_of(LogKey(service, name))
            self._add_to_cell(number, time, 0, severity >= 17)
            self._extend([time])
            own.add(log.attributes or ())

    def _add_metrics(self, metrics: Iterable[_RolledMetric]) -> None:
        own = self._counter("metric")
        for metric in metrics:
            for data in metric.data():
                for point in (data.data_points or ()) if data is not None else ():
                    self._extend([_bound(point.time_unix_nano)])
                    own.add(point.attributes or ())

    def _extend(self, times: list[int]) -> None:
        if times:
            self._records += len(times)
            self._first = min(self._first, min(times))
            self._last = max(self._last, max(times))

    def _add_to_cell(self, number: int, time: int, bin: int, is_error: bool) -> None:
        bucket = time // self._step
        cells = self._cells.get(bucket)
        if cells is None:
            cells = self._cells[bucket] = {}
            if len(self._cells) > _MAX_BUCKETS and self._window is None:
                cells[number] = [1, int(is_error), {bin: 1}]
                self._coarsen()
                return
        self._touched.add(bucket)
        cell = cells.get(number)
        if cell is None:
            cells[number] = [1, int(is_error), {bin: 1}]
            return
        cell[0] += 1
        if is_error:
            cell[1] += 1
        bins = cell[2]
        bins[bin] = bins.get(bin, 0) + 1

    def _number_of(self, key: RollupKey) -> int:
        if len(self._keys) >= _MAX_KEYS:
            if isinstance(key, OperationKey):
                key = key._replace(name=OTHERS)
            elif isinstance(key, FailureKey):
                key = key._replace(name=OTHERS, text=OTHERS)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._keys)
            self._keys.append(key)
        return number

    def _coarsen(self) -> None:
        while len(self._cells) > _MAX_BUCKETS and self._step < STEPS[-1]:
            following = next(step for step in STEPS if step > self._step)
            factor, self._step = following // self._step, following
            coarse: dict[int, dict[int, list[Any]]] = {}
            for bucket, cells in self._cells.items():
                target = coarse.setdefault(bucket // factor, {})
                for number, (count, errors, bins) in cells.items():
                    cell = target.setdefault(number, [0, 0, {}])
                    cell[0] += count
                    cell[1] += errors
                    for bin, own in bins.items():
                        cell[2][bin] = cell[2].get(bin, 0) + own
            self._cells, self._levels = coarse, {}
            self._touched = set(coarse)

    def _resolve_calls(self) -> None:
        """Count the calls whose callers are known by now."""
        left = []
        for call in self._open_calls:
            calling, service, start, bin, is_error = call
            caller = self._services.get(hash(calling))
            if caller is None:
                left.append(call)
            elif caller != service:
                number = self._number_of(CallKey(caller, service))
                self._add_to_cell(number, start, bin, is_error)
        self._open_calls = left

    def build(self) -> Rollup:
        """Return the rollup of all that was added, the same one until there is more."""
        state = self._records, self.damaged
        if self._built is None or self._built[0] != state:
            self._built = state, self._build()
        return self._built[1]

    def _build(self) -> Rollup:
        self._resolve_calls()
        step, changed, self._touched = self._step, self._touched, set()
        level = dict(self._levels.get(step, {}))
        for bucket in changed:
            level[bucket] = {
                number: RollupCell(count, errors, make_histogram(bins))
                for number, (count, errors, bins) in self._cells[bucket].items()
            }
        levels = {step: level}
        for longer in (longer for longer in STEPS if longer > self._step):
            if len(level) <= 2 or self._window is not None:
                break
            factor, step = longer // step, longer
            known = self._levels.get(longer)
            # A level that was not needed before is made of all steps.
            changed = {bucket // factor for bucket in (level if known is None else changed)}
            coarse = dict(known or {})
            for bucket in changed:
                parts = range(bucket * factor, (bucket + 1) * factor)
                own = {part: level[part] for part in parts if part in level}
                coarse |= coarsen_level(own, factor)
            levels[step] = level = coarse
        self._levels = levels
        attributes = self.attributes()
        marked = attributes.get(_INTERRUPTED)
        facts = RollupFacts(
            self._records,
            self._first if self._records else 0,
            self._last,
            marked.values.get(True, 0) if marked is not None else 0,
            self.damaged,
        )
        callers, left = dict(self._callers), list(self._open_calls)
        return Rollup(
            list(self._keys),
            levels,
            lambda: attributes,
            lambda: _make_call_table(callers, left),
            facts,
        )

    def attributes(self) -> AttributeTable:
        """Return the attributes of the records."""
        return {
            (scope, *key): counts
            for scope, counter in self._attributes.items()
            for key, counts in counter.table().items()
        }

    def add_call(self, caller: str, call: OpenCall) -> None:
        """Add a call whose caller was found elsewhere."""
        number = self._number_of(CallKey(caller, call.service))
        self._add_to_cell(number, call.start, call.bin, call.is_error)


def _bound(time: int | None) -> int:
    """Return a time that OTLP can express, whatever stands there."""
    return max(0, min(time or 0, LATEST))


def _text_of_failure(span: _RolledSpan) -> str:
    for event in span.events or ():
        for raw in event.attributes or ():
            if _EXCEPTION_TYPE in bytes(raw):
                pair = _ATTRIBUTE.decode(raw)
                if pair.key == "exception.type" and pair.value is not None:
                    return str(any_value(pair.value, list))[:_MAX_TEXT]
    message = span.status.message if span.status is not None else None
    return _VARYING.sub("#", (message or "")[: 2 * _MAX_TEXT])[:_MAX_TEXT] or "error"


def _make_call_table(
    callers: dict[int, str], left: list[tuple[str, str, int, int, bool]]
) -> CallTable:
    services = list(dict.fromkeys(callers.values()))
    numbers = {service: number for number, service in enumerate(services)}
    rows = sorted(callers.items())
    return CallTable(
        array("I", [hashed for hashed, _ in rows]),
        array("I", [numbers[service] for _, service in rows]),
        services,
        [OpenCall(crc32(call[0].encode()), *call[1:]) for call in left],
    )


def _is_error(code: int | str | None) -> bool:
    return code == 2 or (isinstance(code, str) and enum_number(code, STATUS_CODES, "code") == 2)


class _AttributeCounter:
    """Counts attributes as they stand in the text, and decodes each text once."""

    def __init__(self) -> None:
        self._raw: Counter[bytes] = Counter()
        self._owners: Counter[bytes] = Counter()
        self._decoders: dict[bytes, Callable[[Raw], Any]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._values: dict[tuple[str, str], Counter[Any]] = {}

    def add(self, attributes: Iterable[Raw | bytes]) -> None:
        """Count the attributes of records."""
        self._raw.update(map(bytes, attributes))
        if len(self._raw) > _MAX_RAW_VALUES:
            self._fold()

    def add_owner(self, text: bytes, times: int, decode: Callable[[Raw], Any]) -> None:
        """Count the attributes of a resource or a scope, which so many records belong to."""
        self._owners[text] += times
        self._decoders[text] = decode

    def _fold(self) -> None:
        raw, self._raw = self._raw, Counter()
        for text, times in raw.items():
            plain = _PLAIN_TEXT.fullmatch(text)
            try:
                if plain is not None:  # what most of them are
                    self._add_plain(plain[1].decode(), plain[2].decode(), times)
                    continue
                pair = _ATTRIBUTE.decode(text)
                self._add_value(pair.key or "", any_value(pair.value, list), times)
            except (msgspec.MsgspecError, DecodeError, UnicodeError):
                continue
        owners, self._owners = self._owners, Counter()
        for text, times in owners.items():
            found: Resource = self._decoders[text](Raw(text))
            for pair in found.attributes or ():
                self._add_value(pair.key or "", any_value(pair.value, list), times)
        for own in self._values.values():
            if len(own) > 10 * _MAX_VALUES:
                for value, _ in own.most_common()[_MAX_VALUES:]:
                    del own[value]

    def _add_plain(self, key: str, value: Any, times: int, kind: str = "string") -> None:
        place = key, kind
        values = self._values.get(place)
        if values is None:
            if len(self._counts) >= _MAX_KEYS:
                return
            values = self._values[place] = Counter()
        self._counts[place] += times
        shown = value[:_MAX_TEXT] if isinstance(value, str) else value
        values[shown] += times

    def _add_value(self, key: str, value: Any, times: int) -> None:
        kind = value_type(value)
        if kind in ("string", "int", "double", "bool"):
            self._add_plain(key, value, times, kind)
        elif len(self._counts) < _MAX_KEYS or (key, kind) in self._counts:
            self._counts[key, kind] += times

    def table(self) -> dict[tuple[str, str], AttributeCounts]:
        """Return what was counted, by key and type."""
        self._fold()
        return {
            key: AttributeCounts(
                count, dict(self._values.get(key, _NO_VALUES).most_common(_MAX_VALUES))
            )
            for key, count in self._counts.items()
        }


_NO_VALUES: Counter[Any] = Counter()

_VALUE_TYPES: tuple[tuple[Any, str], ...] = (
    (str, "string"),
    (bool, "bool"),
    (int, "int"),
    (float, "double"),
    (bytes, "bytes"),
    (Mapping, "kvlist"),
    ((list, tuple), "array"),
)


def value_type(value: Any) -> str:
    """Return the name of the type of an attribute's value."""
    return next((name for kind, name in _VALUE_TYPES if isinstance(value, kind)), "empty")
