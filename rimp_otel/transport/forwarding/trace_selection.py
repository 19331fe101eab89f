"""Which records are forwarded where a rule decides about whole traces, over what is on disk.

A trace is decided once its outcome is known: its root has ended, and nothing more of it has come for a
while. What the rule has to know of a trace is read from the recording's files around it, also from those
of other processes, and kept in memory in short form, a file at a time. It is not stored: after a restart
it is read again, and gives the same decisions.

All records that belong to no trace are forwarded, as are all metrics.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rimp_otel.errors import DecodeError
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode_common import id_number
from rimp_otel.otlp.messages import (
    PartialLine,
    PartialMessage,
    PartialResource,
    PartialScope,
    decode_with_scopes,
    no_recursion_error,
)
from rimp_otel.processing.trace_rules import TraceDecision, TraceFacts, TraceRule
from rimp_otel.storage.base import Selection
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import DataFile, open_data_file, read_lines
from rimp_otel.storage.files.stored import list_stored
from rimp_otel.storage.recording import is_database, open_recording
from rimp_otel.transport.forwarding.delivery import Kept, Undecided

__all__ = ["NOT_IN_RULE", "TraceSelection"]

NOT_IN_RULE = "rule"
"""Why a record was left out."""

_SECOND = 10**9
# How long what is known of the recording's files counts, and the shortest time to wait for more.
_REFRESH = _SECOND // 4
_MAX_TRACES = 500_000


class TraceSelection:
    """A ``Selector`` that keeps the records of those traces that a rule keeps. Thread-safe.

    Args:
        path: of the recording.
        rule: decides.
        final: decide by what is there, whether more of a trace may come or not.
        settle: seconds after the last record of a trace after which its outcome is known, if its root
            is there; without a root, six times as many.
        longest: seconds; what lies further from a record than that is not looked for. The decision
            about a longer trace may differ from one part of it to the next.
        max_traces: how many traces are kept in memory; of more, the files are read again.
        clock: returns nanoseconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        rule: TraceRule,
        *,
        final: bool = False,
        settle: float = 10.0,
        longest: float = 600.0,
        max_traces: int = _MAX_TRACES,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._rule = rule
        self._is_final = final
        self._settle = int(settle * _SECOND)
        self._clock = clock
        self._facts: _DatabaseFacts | _FileFacts
        if is_database(path):
            self._facts = _DatabaseFacts(path, rule)
        else:
            self._facts = _FileFacts(Layout(path), rule, int(longest * _SECOND), max_traces)
        self._lock = threading.Lock()
        self._now = self._refreshed = 0

    def select(self, signal: Signal, lines: Sequence[bytes], records: int) -> Kept | Undecided:
        """Return what is forwarded of some lines, or when to ask again.

        A line that cannot be read is forwarded as it is: the destination will say what is wrong with it.

        Raises:
            StorageError: the recording cannot be read.
        """
        if signal is Signal.METRICS:
            return Kept(lines, records, {})
        kept, skipped = [], 0
        with self._lock:
            self._now = self._clock()
            if self._now - self._refreshed > _REFRESH or self._now < self._refreshed:
                self._facts.refresh()
                self._refreshed = self._now
            for line in lines:
                try:
                    selected = self._select(signal, line)
                except DecodeError:
                    selected = line, 0
                except _UndecidedTrace as undecided:
                    return Undecided(max(undecided.nanos / _SECOND, _REFRESH / _SECOND))
                if selected[0] is not None:
                    kept.append(selected[0])
                skipped += selected[1]
        return Kept(kept, records - skipped, {NOT_IN_RULE: skipped} if skipped else {})

    @no_recursion_error
    def _select(self, signal: Signal, line: bytes) -> _Selected:
        message = decode_with_scopes(_LINE, line)
        decisions: dict[int, TraceDecision] = {}
        for raw in _raw_records_of(message):
            record = _RECORD.decode(raw)
            trace_id = id_number(record.trace_id, 16, "traceId")
            if trace_id and trace_id not in decisions:
                decisions[trace_id] = self._decide(trace_id, record.time)
        return _filter_line(signal, line, message, decisions)

    def _decide(self, trace_id: int, near: int) -> TraceDecision:
        facts = self._facts.find(trace_id, near, self._now)
        if not self._is_final:
            last = min(near, self._now) if facts is None else facts.last
            settle = self._settle if facts is not None and facts.is_rooted else 6 * self._settle
            if self._now - last < settle:
                raise _UndecidedTrace(settle - (self._now - last))
        return self._rule.decide(trace_id, facts)


class _UndecidedTrace(Exception):
    """More of a trace may come, for some nanoseconds still."""

    def __init__(self, nanos: int) -> None:
        self.nanos = nanos
        super().__init__()


# --- The facts, by where the recording is.


class _Table:
    """What one file tells about the traces in it."""

    def __init__(self, file: DataFile) -> None:
        self.file = file
        self.facts: dict[int, TraceFacts] = {}
        #: Where reading stopped, in bytes, and which line that was.
        self.offset = self.number = 0
        #: True if there is nothing more to come.
        self.is_complete = False


class _FileFacts:
    """The facts of a recording in files: read a file at a time, when a record near it is asked for."""

    def __init__(self, layout: Layout, rule: TraceRule, longest: int, max_traces: int) -> None:
        self._layout = layout
        self._rule = rule
        self._longest = longest
        self._max_traces = max_traces
        self._files: list[DataFile] = []
        # Those that were asked for last come last.
        self._tables: dict[tuple[Signal, str], _Table] = {}
        # Of the last record that was asked for.
        self._near: list[_Table] = []
        self._range = (0, 0)

    def refresh(self) -> None:
        """Look which files there are."""
        self._files = [
            file
            for signal in sorted(self._rule.signals)
            for file in list_stored(self._layout, signal)
        ]
        there = {file.key for file in self._files}
        self._tables = {key: table for key, table in self._tables.items() if key in there}
        self._range = (0, 0)

    def find(self, trace_id: int, near: int, now: int) -> TraceFacts | None:
        """Return what the files around a record tell about its trace; None for nothing."""
        first, last = self._range
        if not first <= near <= last:
            self._load_near(near, now)
        found = [facts for table in self._near if (facts := table.facts.get(trace_id)) is not None]
        if len(found) < 2:
            return found[0] if found else None
        whole = TraceFacts()
        for facts in found:
            whole.add(facts)
        return whole

    def _load_near(self, near: int, now: int) -> None:
        """Have the tables of all files that may hold a part of a trace with a record at this time."""
        # For a while of records at once, so that not each of them asks.
        first, last = near - _SECOND, near + _SECOND
        self._near = []
        for file in self._files:
            if _may_reach(file, first - self._longest, last + self._longest):
                table = self._tables.pop(file.key, None) or _Table(file)
                table.file = file
                self._tables[file.key] = table
                if not table.is_complete:
                    self._read(table, now)
                self._near.append(table)
        self._range = (first, last)
        self._forget()

    def _forget(self) -> None:
        kept = {id(table) for table in self._near}
        total = sum(len(table.facts) for table in self._tables.values())
        for key, table in list(self._tables.items()):
            if total <= self._max_traces:
                return
            if id(table) not in kept:
                total -= len(self._tables.pop(key).facts)

    def _read(self, table: _Table, now: int) -> None:
        found = open_data_file(table.file, self._layout.sealed)
        if found is None:
            table.is_complete = True  # retention took it
            return
        with found.file:
            limit = table.file.limit
            for line in read_lines(found, table.offset, table.number, limit, found.is_sealed):
                table.offset, table.number = line.end, line.number
                if line.text is not None:
                    try:
                        self._rule.observe(table.file.signal, line.text, table.facts, now)
                    except DecodeError:
                        continue
        table.is_complete = table.file.name is not None


def _may_reach(file: DataFile, first: int, last: int) -> bool:
    name = file.name
    if name is None or name.first is None or name.last is None:
        return True
    # Times in names are those of starts; a span may end later.
    return name.first <= last and name.last >= first


class _DatabaseFacts:
    """The facts of a recording in a database, which has an index of traces."""

    def __init__(self, path: Path, rule: TraceRule) -> None:
        self._path = path
        self._rule = rule
        self._known: dict[int, TraceFacts | None] = {}

    def refresh(self) -> None:
        """Forget what was there before."""
        self._known.clear()

    def find(self, trace_id: int, near: int, now: int) -> TraceFacts | None:
        """Return what is recorded of a trace; None for nothing."""
        if trace_id not in self._known:
            facts: dict[int, TraceFacts] = {}
            wanted = Filter.of(trace_id=trace_id, signals=self._rule.signals)
            data = open_recording(self._path).retrieve(Selection(filter=wanted))
            for signal in self._rule.signals:
                for line in data.otlp_json(signal):
                    self._rule.observe(signal, line, facts, now)
            self._known[trace_id] = facts.get(trace_id)
        return self._known[trace_id]


# --- Lines.


class _RecordFields(PartialMessage):
    """What is needed of a span or a log record."""

    trace_id: str | None = None
    trace_state: str | None = None
    start_time_unix_nano: int | None = None
    time_unix_nano: int | None = None
    observed_time_unix_nano: int | None = None

    @property
    def time(self) -> int:
        """Nanoseconds since the epoch; 0 if it has none."""
        return self.start_time_unix_nano or self.time_unix_nano or self.observed_time_unix_nano or 0


_Raw = msgspec.Raw
_Message = PartialLine[_Raw, _Raw, _Raw]
_LINE: Any = msgspec.json.Decoder(_Message, strict=False)
_RECORD = msgspec.json.Decoder(_RecordFields, strict=False)
_Scope = PartialScope[_Raw, _Raw, _Raw]
_Resource = PartialResource[_Raw, _Raw, _Raw]


_Selected = tuple["bytes | None", int]
"""A line as it is forwarded, or None if nothing is left of it, and how many records were left out."""


def _raw_records_of(message: _Message) -> Iterator[_Raw]:
    for resource in message.resources():
        for scope in resource.scopes():
            yield from _records_in(scope)


def _records_in(scope: _Scope) -> list[_Raw]:
    return scope.spans or scope.log_records or []


def _filter_line(
    signal: Signal, line: bytes, message: _Message, decisions: dict[int, TraceDecision]
) -> _Selected:
    if signal is Signal.LOGS and all(decision.is_kept for decision in decisions.values()):
        return line, 0
    skipped, resources = 0, []
    for resource in message.resources():
        scopes = []
        for scope in resource.scopes():
            records = _records_in(scope)
            found = [_select_record(signal, raw, decisions) for raw in records]
            texts = [text for text in found if text is not None]
            skipped += len(records) - len(texts)
            if texts:
                scopes.append(_enclose_list(scope, signal.record_key, texts, scope.scope, "scope"))
        if scopes:
            resources.append(
                _enclose_list(resource, signal.scope_key, scopes, resource.resource, "resource")
            )
    if not resources:
        return None, skipped
    head = f'{{"{signal.resource_key}":['.encode()
    return b"".join((head, b",".join(resources), b"]}")), skipped


_KEPT = TraceDecision(True)


def _select_record(signal: Signal, raw: _Raw, decisions: dict[int, TraceDecision]) -> bytes | None:
    """Return a record as it is forwarded; None if it is not."""
    fields = _RECORD.decode(raw)
    trace_id = id_number(fields.trace_id, 16, "traceId")
    decision = decisions.get(trace_id, _KEPT)
    if not decision.is_kept:
        return None
    if signal is Signal.TRACES and trace_id:
        before = fields.trace_state or ""
        after = decision.trace_state(trace_id, before)
        if after != before:
            return _with_trace_state(raw, after)
    return bytes(raw)


def _with_trace_state(raw: _Raw, trace_state: str) -> bytes:
    span = msgspec.json.decode(raw, type=dict[str, _Raw])
    span.pop("traceState", None)
    if trace_state:
        span["traceState"] = _Raw(msgspec.json.encode(trace_state))
    return msgspec.json.encode(span)


def _enclose_list(
    owner: _Scope | _Resource, key: str, texts: list[bytes], raw: _Raw, raw_key: str
) -> bytes:
    parts = [f'"{raw_key}":'.encode() + bytes(raw)] if bytes(raw) else []
    parts.append(f'"{key}":['.encode() + b",".join(texts) + b"]")
    if bytes(owner.schema_url):
        parts.append(b'"schemaUrl":' + bytes(owner.schema_url))
    return b"{" + b",".join(parts) + b"}"
