"""Looking through the spans of a recording, the newest first, without decoding what cannot be wanted.

A block of a sealed file is read if its index says that it may hold something; a line and a span are looked
at as text first: what must stand in the text of a span that meets a condition can be looked for in that.
Only spans that have it are decoded.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw
from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.batch import decode_batch
from rimp_otel.errors import DecodeError
from rimp_otel.models.accessors import span_id_of, start_of, trace_id_of
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.otlp.decode_common import resource_info_of
from rimp_otel.otlp.messages import PartialLine, decode_with_scopes, repair_line
from rimp_otel.otlp.scan import LATEST
from rimp_otel.storage.base import Selection
from rimp_otel.storage.files.chunks import Chunk, open_chunks
from rimp_otel.storage.files.index import DamagedIndexError, open_index
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import DataFile
from rimp_otel.storage.files.snapshot import Snapshot
from rimp_otel.storage.reading import LineDecoder
from rimp_otel.storage.recording import is_database
from rimp_otel.storage.sqlite.recording import SQLiteRecording
from rimp_otel.viewer.questions import check_time
from rimp_otel.viewer.rollups.store import open_rollups
from rimp_otel.viewer.rollups.terms import TermIndex, hash_of_term
from rimp_otel.viewer.search.conditions import All, Comparison, Condition, Scope, filter_of

__all__ = ["FoundSpans", "SpanScan", "TextTest", "make_text_test", "open_scan"]

_TRACES = frozenset({Signal.TRACES})
_EVERYTHING = Filter()
_SPANS = Filter(signals=_TRACES)
_TERM_SCOPES = frozenset({Scope.SPAN, Scope.RESOURCE, Scope.EVENT, Scope.ANY})
_PAGE, _LARGEST_PAGE = 1_000, 16_000


class FoundSpans(NamedTuple):
    """Some spans, and how far the search has come."""

    spans: list[ReadableSpan]
    #: No span that follows starts later than this, in nanoseconds since the epoch.
    until: int
    #: How many spans were looked at to find these.
    looked_at: int


class SpanScan(ABC):
    """Looks through the spans of a recording. For one thread at a time."""

    @abstractmethod
    def newest_first(self, window: Window, condition: Condition | None) -> Iterator[FoundSpans]:
        """Iterate over the spans of a window that may meet a condition, about the newest first.

        Raises:
            StorageError: the recording cannot be read.
        """

    @abstractmethod
    def traces(self, trace_ids: Collection[int]) -> dict[int, list[ReadableSpan]]:
        """Return the spans of traces, oldest first; of those that there are.

        Raises:
            StorageError: the recording cannot be read.
        """


def open_scan(path: Path) -> SpanScan:
    """Return what looks through the recording at a path, where there need be nothing yet."""
    return _DatabaseScan(path) if is_database(path) else _FileScan(path)


# What must stand in the text of a span.

TextTest = Callable[[bytes], bool]
"""Returns False for the text of a span that cannot meet a condition."""

_PLAIN = re.compile(r"[ !#-.0-\[\]-~/]+")


def make_text_test(condition: Condition | None) -> TextTest | None:
    """Return the test of a condition, which a text passes that contains a span which meets it; None
    if all texts pass."""
    if condition is None:
        return None
    if isinstance(condition, Comparison):
        return _test_for_all(_needles_of(condition))
    tests = [make_text_test(part) for part in condition.parts]
    if isinstance(condition, All):
        known = [test for test in tests if test is not None]
        if len(known) < 2:
            return known[0] if known else None
        return lambda text: all(test(text) for test in known)
    every = [test for test in tests if test is not None]
    if len(every) < len(tests):
        return None
    return lambda text: any(test(text) for test in every)


def _test_for_all(needles: list[bytes]) -> TextTest | None:
    if not needles:
        return None
    if len(needles) == 1:
        (needle,) = needles
        return lambda text: needle in text or b"\\" in text
    # What is escaped may stand there in another form.
    return lambda text: all(needle in text for needle in needles) or b"\\" in text


def _needles_of(wanted: Comparison) -> list[bytes]:
    scope, key, operator, value = wanted
    if scope is Scope.INTRINSIC:
        if operator == "=" and key in ("name", "event:name", "statusMessage"):
            return _text_needles(value)
        if operator == "=" and key == "status" and value in ("ok", "error"):
            return [b'"code"']
        return []
    if scope not in (Scope.SPAN, Scope.EVENT, Scope.LINK):
        return []
    needles = _text_needles(key)
    if operator == "=" and isinstance(value, str):
        needles += _text_needles(value)
    elif operator == "=" and isinstance(value, int) and not isinstance(value, bool):
        # A double of the same value may stand there as 1e3.
        needles += [str(value).encode()] if abs(value) < 1_000 and value % 10 else []
    return needles


def _text_needles(text: Any) -> list[bytes]:
    is_plain = isinstance(text, str) and len(text) > 1 and _PLAIN.fullmatch(text)
    return [text.encode()] if is_plain else []


# Lines as text.

_LINE = msgspec.json.Decoder(PartialLine[Raw, Raw, Raw])


def _spans_in(
    text: bytes, test: TextTest | None, service: str | None = None
) -> tuple[list[ReadableSpan], int]:
    """Return the spans of a line that pass the test and belong to the service, and how many it has.

    Raises:
        DecodeError: it is not OTLP JSON.
    """
    if test is not None and not test(text):
        return [], 0
    if test is None and service is None:
        spans = list(decode_batch(text).spans)
        return spans, len(spans)
    line = decode_with_scopes(_LINE, repair_line(text))
    groups = []
    number = 0
    for group in line.resources():
        if service is not None:
            own = resource_info_of(group.resource, "").attributes.get("service.name")
            if own != service:
                continue
        scopes = []
        for scope in group.scopes():
            number += len(scope.spans or ())
            raws = [bytes(raw) for raw in scope.spans or ()]
            kept = raws if test is None else [raw for raw in raws if test(raw)]
            if kept:
                head = _fields(scope=scope.scope, schemaUrl=scope.schema_url)
                scopes.append(b'%s"spans":[%s]}' % (head, b",".join(kept)))
        if scopes:
            head = _fields(resource=group.resource, schemaUrl=group.schema_url)
            groups.append(b'%s"scopeSpans":[%s]}' % (head, b",".join(scopes)))
    if not groups:
        return [], number
    return list(decode_batch(b'{"resourceSpans":[%s]}' % b",".join(groups)).spans), number


def _fields(**raws: Raw) -> bytes:
    parts = [b'"%s":%s,' % (name.encode(), bytes(raw)) for name, raw in raws.items() if bytes(raw)]
    return b"{" + b"".join(parts)


def _find_blocks(terms: TermIndex, condition: Condition) -> int:
    """Return the blocks that may have a span which meets a condition, as bits."""
    if isinstance(condition, Comparison):
        hashed = None
        if condition.operator == "=" and condition.scope in _TERM_SCOPES:
            hashed = hash_of_term(condition.key, condition.value)
        return terms.everywhere if hashed is None else terms.find(hashed)
    parts = [_find_blocks(terms, part) for part in condition.parts]
    found = terms.everywhere if isinstance(condition, All) else 0
    for part in parts:
        found = found & part if isinstance(condition, All) else found | part
    return found


# Files.


class _Place(NamedTuple):
    """Something to look at; the one with the newest spans comes first."""

    #: The negative of the time of its newest span.
    order: int
    number: int
    #: None for a file that was not opened yet.
    chunk: Chunk | None


class _OpenedChunks:
    """The chunks of an open file, which is closed once the last of them was read."""

    def __init__(self, content: DataFile, snapshot: Snapshot) -> None:
        self._stack = ExitStack()
        self._file = self._stack.enter_context(open_chunks(content, snapshot.open))
        self._left = 0

    def close(self) -> None:
        self._stack.close()

    def chunks(self, wanted: Filter, window: Window, blocks: int | None) -> list[Chunk]:
        found = [
            chunk
            for chunk in (self._file.chunks(wanted) if self._file is not None else ())
            if window.overlaps(chunk.first, chunk.last)
            and (blocks is None or not chunk.size or blocks >> chunk.key & 1)
        ]
        self._left = len(found)
        if not found:
            self.close()
        return found

    def texts(self, chunk: Chunk, window: Window) -> Iterator[bytes]:
        assert self._file is not None
        for line in self._file.lines(chunk, _EVERYTHING, window.overlaps):
            if line.text is not None:
                yield line.text
        self._left -= 1
        if not self._left:
            self.close()


class _FileScan(SpanScan):
    def __init__(self, path: Path) -> None:
        self._layout = Layout(path)
        self._decoder = LineDecoder()
        self._rollups = open_rollups(path)

    def newest_first(self, window: Window, condition: Condition | None) -> Iterator[FoundSpans]:
        wanted, test = filter_of(condition), make_text_test(condition)
        with Snapshot(self._layout, self._decoder) as snapshot, ExitStack() as stack:
            files = [one for one in [*snapshot.sealed, *snapshot.active] if _is_of_spans(one)]
            opened: dict[int, _OpenedChunks] = {}
            heap: list[_Place] = []
            for number, one in enumerate(files):
                first, last = _range_of(one)
                if window.overlaps(first, last):
                    heap.append(_Place(-last, number, None))
            heapify(heap)
            yield self._in_journals(snapshot, window, wanted, test)
            while heap:
                check_time()
                place = heappop(heap)
                number = place.number
                if place.chunk is None:
                    blocks = self._blocks_with(files[number], condition)
                    if blocks == 0:
                        continue
                    opening = _OpenedChunks(files[number], snapshot)
                    stack.callback(opening.close)
                    for chunk in opening.chunks(wanted, window, blocks):
                        heappush(heap, _Place(-chunk.last, number, chunk))
                    opened[number] = opening
                    continue
                until = -heap[0].order if heap else 0
                yield self._in_chunk(opened[number], place.chunk, window, wanted, test, until)

    def _blocks_with(self, content: DataFile, condition: Condition | None) -> int | None:
        """Return the blocks of a file that may have a span which meets a condition, as bits; None if
        all of them may."""
        if condition is None:
            return None
        terms = self._rollups.terms(content)
        if terms is None:
            return None
        try:
            found = _find_blocks(terms, condition)
        except OSError:
            return None
        return None if found == terms.everywhere else found

    def _in_journals(
        self, snapshot: Snapshot, window: Window, wanted: Filter, test: TextTest | None
    ) -> FoundSpans:
        found: list[ReadableSpan] = []
        total = 0
        for line in snapshot.journal:
            if line.signal is Signal.TRACES:
                total += self._add_line(found, line.text, window, wanted, test)
        return FoundSpans(found, LATEST, total)

    def _in_chunk(
        self,
        opened: _OpenedChunks,
        chunk: Chunk,
        window: Window,
        wanted: Filter,
        test: TextTest | None,
        until: int,
    ) -> FoundSpans:
        found: list[ReadableSpan] = []
        total = 0
        for text in opened.texts(chunk, window):
            total += self._add_line(found, text, window, wanted, test)
        return FoundSpans(found, until, total)

    def _add_line(
        self,
        found: list[ReadableSpan],
        text: bytes,
        window: Window,
        wanted: Filter,
        test: TextTest | None,
    ) -> int:
        try:
            spans, number = _spans_in(text, test, wanted.service)
        except DecodeError:
            return 0
        check_time()
        found += [span for span in spans if window.contains(start_of(span))]
        return number

    def traces(self, trace_ids: Collection[int]) -> dict[int, list[ReadableSpan]]:
        found: dict[int, list[ReadableSpan]] = {trace_id: [] for trace_id in trace_ids}
        if not found:
            return {}
        test = _test_for_ids(trace_ids)
        with Snapshot(self._layout, self._decoder) as snapshot:
            files = [one for one in [*snapshot.sealed, *snapshot.active] if _is_of_spans(one)]
            journal: set[tuple[int, int]] = set()
            for line in snapshot.journal:
                if line.signal is Signal.TRACES:
                    for span in self._pick(line.text, test, found):
                        journal.add((trace_id_of(span), span_id_of(span)))
            for one in files:
                check_time()
                skipped = set() if one.is_certain else journal
                self._pick_from_file(snapshot, one, test, found, skipped)
        for spans in found.values():
            spans.sort(key=start_of)
        return {trace_id: spans for trace_id, spans in found.items() if spans}

    def _pick_from_file(
        self,
        snapshot: Snapshot,
        content: DataFile,
        test: TextTest,
        found: dict[int, list[ReadableSpan]],
        skipped: set[tuple[int, int]],
    ) -> None:
        blocks = _blocks_of_traces(content, found)
        if blocks is not None and not blocks:
            return
        with open_chunks(content, snapshot.open) as chunked:
            for chunk in chunked.chunks(_SPANS) if chunked is not None else ():
                if chunked is not None and (blocks is None or chunk.key in blocks):
                    check_time()
                    for line in chunked.lines(chunk, _EVERYTHING, _always):
                        if line.text is not None:
                            self._pick(line.text, test, found, skipped)

    def _pick(
        self,
        text: bytes,
        test: TextTest,
        found: dict[int, list[ReadableSpan]],
        skipped: Collection[tuple[int, int]] = (),
    ) -> list[ReadableSpan]:
        try:
            spans, _ = _spans_in(text, test)
        except DecodeError:
            return []
        picked = []
        for span in spans:
            own = found.get(trace_id_of(span))
            if own is not None and (trace_id_of(span), span_id_of(span)) not in skipped:
                own.append(span)
                picked.append(span)
        return picked


def _blocks_of_traces(content: DataFile, trace_ids: Collection[int]) -> set[int] | None:
    """Return the blocks of a file that may have spans of traces; None if that is not known."""
    name = content.name
    if name is None or name.is_waiting:
        return None
    with open_index(content.path, name) as index:
        try:
            if index is not None and not index.is_blank:
                return set(index.blocks_of_traces(trace_ids))
        except DamagedIndexError:
            pass
    return None


def _always(first: int, last: int) -> bool:
    return True


_TRACE_IDS = re.compile(rb'"traceId"\s*:\s*"([0-9a-f]{32})"')
# In upper case, or in base64.
_ODD_TRACE_ID = re.compile(rb'"traceId"\s*:\s*"(?![0-9a-f]{32}")')
_SPAN_SIZE = 4_096


def _test_for_ids(trace_ids: Collection[int]) -> TextTest:
    texts = {b"%032x" % one for one in trace_ids}

    def test(text: bytes) -> bool:
        if len(text) > _SPAN_SIZE:
            return any(one in text for one in texts) or _ODD_TRACE_ID.search(text) is not None
        found = _TRACE_IDS.findall(text)
        return not found or not texts.isdisjoint(found) or _ODD_TRACE_ID.search(text) is not None

    return test


def _is_of_spans(content: DataFile) -> bool:
    return content.signal is Signal.TRACES


def _range_of(content: DataFile) -> tuple[int, int]:
    name = content.name
    if name is None or name.first is None or name.last is None:
        return 0, LATEST
    return name.first, name.last


# A database.


class _DatabaseScan(SpanScan):
    def __init__(self, path: Path) -> None:
        self._recording = SQLiteRecording(path)

    def newest_first(self, window: Window, condition: Condition | None) -> Iterator[FoundSpans]:
        wanted = filter_of(condition)
        page, end = _PAGE, window.end
        at_end: set[tuple[int, int]] = set()  # what was returned of the time at which the next ends
        while True:
            check_time()
            selection = Selection(Window(window.start, end), page, wanted)
            spans = list(self._recording.retrieve(selection).spans)
            fresh = [span for span in spans if _identity(span) not in at_end]
            oldest = start_of(spans[0]) if spans else 0
            if len(spans) < page:
                yield FoundSpans(fresh, 0, len(fresh))
                return
            yield FoundSpans(fresh, oldest, len(fresh))
            last = {_identity(span) for span in spans if start_of(span) == oldest}
            at_end = last | at_end if end == oldest + 1 else last
            page = page * 4 if end == oldest + 1 else min(page * 2, max(page, _LARGEST_PAGE))
            end = oldest + 1

    def traces(self, trace_ids: Collection[int]) -> dict[int, list[ReadableSpan]]:
        found = {}
        for trace_id in trace_ids:
            check_time()
            selection = Selection(filter=Filter(signals=_TRACES, trace_id=trace_id))
            spans = list(self._recording.retrieve(selection).spans)
            if spans:
                found[trace_id] = spans
        return found


def _identity(span: ReadableSpan) -> tuple[int, int]:
    return trace_id_of(span), span_id_of(span)
