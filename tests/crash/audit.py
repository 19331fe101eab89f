"""What a recording holds: each marked record, how often, finished or interrupted.

Counted twice over: by the package's own reader, which also sees what is in the journals, and from
the files alone with nothing but a JSON parser and a decompressor.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.layout import Layout, SealedName, fingerprint
from tests.crash.marks import is_whole

__all__ = [
    "Found",
    "by_reader",
    "compare",
    "found_in",
    "in_files",
    "note_record",
    "nothing",
    "texts",
]


class Found(NamedTuple):
    """The marks that were found in a recording."""

    #: How often, by the record's mark.
    finished: Counter[str]
    #: Spans that came back as interrupted ones.
    interrupted: Counter[str]
    #: Records whose content is not what was collected.
    wrong: list[str]
    #: What could not be read.
    damaged: list[str]

    def all(self) -> Counter[str]:
        """Return the finished and the interrupted marks."""
        return self.finished + self.interrupted


def nothing() -> Found:
    """Return an empty one."""
    return Found(Counter(), Counter(), [], [])


def found_in(data: TelemetryData, found: Found | None = None) -> Found:
    """Return the marked records of a batch."""
    found = found or nothing()
    for span in data.spans:
        attributes = dict(span.attributes or {})
        mark = str(attributes.get("mark", span.name))
        interrupted = attributes.get("rimp.interrupted") is True
        _note(found, mark, attributes.get("check"), interrupted)
    for event in data.events:
        _note(found, event.message, event.metadata.get("check"))
    for metric in data.metrics:
        _note(found, str(metric.tags.get("mark")), metric.tags.get("check"))
    return found


# All of a recording: each reads it in another way, and all give the same.
_WAYS: Iterator[Callable[[FileStorage], TelemetryData]] = cycle(
    [
        lambda storage: storage.retrieve(),
        lambda storage: storage.retrieve(start_time=0),
        lambda storage: storage.retrieve(limit=10**9),
        lambda storage: TelemetryData.concat(storage.iter_retrieve(batch_size=100)),
    ]
)


def by_reader(path: Path) -> Found:
    """Read in turns with ``retrieve`` and ``iter_retrieve`` of ``FileStorage``, changing nothing."""
    storage = FileStorage(path)
    found = found_in(next(_WAYS)(storage))
    return found._replace(damaged=[str(damage) for damage in storage.damaged])


def in_files(path: Path) -> Found:
    """Read the files alone."""
    while True:
        found = nothing()
        try:
            for where, line in texts(path):
                _read_line(where, line, found)
        except FileNotFoundError:
            continue  # the thread that seals has replaced it meanwhile
        return found


def _read_line(where: str, line: bytes, found: Found) -> None:
    try:
        _note_line(json.loads(line), found)
    except (ValueError, AttributeError) as error:
        found.damaged.append(f"{where}: {error}")


def texts(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each line of each file, with its place; of two files with one content, one."""
    layout = Layout(path)
    seen: set[tuple[Signal, str]] = set()
    for file, name in _sealed(layout):
        if (name.signal, name.id) not in seen:
            seen.add((name.signal, name.id))
            yield from _lines(file)
    for slot in layout.slots():
        for signal in Signal:
            file = layout.file(signal, slot)
            if file.exists():
                first = file.read_bytes().partition(b"\n")[0]
                if (signal, fingerprint(first)) not in seen:
                    yield from _lines(file)


def _sealed(layout: Layout) -> list[tuple[Path, SealedName]]:
    if not layout.sealed.exists():
        return []
    named = [(path, SealedName.parse(path.name)) for path in sorted(layout.sealed.iterdir())]
    return [(path, name) for path, name in named if name is not None]


def _lines(file: Path) -> Iterator[tuple[str, bytes]]:
    try:
        text = _unpacked(file)
    except (zstandard.ZstdError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        text = f"{error}".encode()
    for number, line in enumerate(text.split(b"\n"), 1):
        if line.strip():
            yield f"{file.name}:{number}", line


def _unpacked(file: Path) -> bytes:
    packed = file.read_bytes()
    if file.suffix == ".zst":
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        return reader.read()
    return gzip.decompress(packed) if file.suffix == ".gz" else packed


_CRASH = "process crashed: "
_GROUPS = re.compile("^(resource|scope)(Spans|Logs|Metrics)$")


def _note_line(node: Any, found: Found) -> None:
    """Count the records of one OTLP JSON line."""
    for key, children in node.items():
        if _GROUPS.match(key):
            for child in children:
                _note_line(child, found)
        elif key in ("spans", "logRecords", "metrics"):
            for child in children:
                note_record(key, child, found)


def note_record(kind: str, record: Any, found: Found) -> None:
    """Count one record, decoded from OTLP JSON; ``kind`` is the key of the list it stands in."""
    if kind == "metrics":
        for shape in ("gauge", "sum"):
            for point in record.get(shape, {}).get("dataPoints", []):
                attributes = _attributes(point)
                _note(found, str(attributes.get("mark")), attributes.get("check"))
        return
    attributes = _attributes(record)
    mark = record["body"].get("stringValue") if kind == "logRecords" else record["name"]
    mark = attributes.get("mark", mark)
    _note(found, str(mark), attributes.get("check"), attributes.get("rimp.interrupted") is True)


def _attributes(record: Any) -> dict[str, Any]:
    pairs = record.get("attributes", [])
    return {pair["key"]: next(iter(pair["value"].values()), None) for pair in pairs}


def _note(found: Found, mark: str, check: object, interrupted: bool = False) -> None:
    if mark.startswith(_CRASH):
        return  # what faulthandler says
    (found.interrupted if interrupted else found.finished)[mark] += 1
    if check is not None and not is_whole(mark, check):
        found.wrong.append(mark)


def compare(
    found: Found, finished: Iterable[str], started: Iterable[str] = (), maybe: bool = True
) -> dict[str, list[str]]:
    """Return what is wrong with a recording.

    Args:
        found: what it holds.
        finished: the marks of the records that were collected.
        started: the marks of spans that were started at least.
        maybe: whether records that nobody announced may be there (once): they had been collected,
            and the process died before it could say so.
    """
    finished = set(finished)
    at_least = finished | set(started)
    everything = found.all()
    return {
        "lost": sorted(at_least - everything.keys()),
        "unfinished": sorted(finished & found.interrupted.keys()),
        "twice": sorted(mark for mark, count in everything.items() if count > 1),
        "unknown": [] if maybe else sorted(everything.keys() - at_least),
        "wrong": found.wrong,
        "damaged": found.damaged,
    }
