"""Case 11: bytes a span on disk."""

from __future__ import annotations

import gzip
from pathlib import Path

from rimp_otel import FileStorage
from rimp_otel.storage.files.recording import FileRecording
from tests.benchmarks import peers
from tests.benchmarks.child import check
from tests.benchmarks.model import Case, Contender, Figures, Row, Task
from tests.benchmarks.ours import count_records, recorder
from tests.benchmarks.workload import tracing, varied_spans

_GZIP_LEVEL = 6


def _ours(task: Task) -> Figures:
    with recorder(task.directory) as stream:
        varied_spans(tracing(stream.collector), task.records)
    active = _size(task.directory)
    lines = (task.directory / "traces.jsonl").read_bytes()
    check(count_records(task.directory), task.records)
    FileStorage(task.directory).rotate()
    check(count_records(task.directory), task.records)
    return {
        "active": active / task.records,
        "sealed": _size(task.directory) / task.records,
        "gzipped": len(gzip.compress(lines, _GZIP_LEVEL)) / task.records,
    }


def _peer(task: Task) -> Figures:
    path = task.directory / "traces.jsonl"
    processor = peers.batch_spans(peers.span_file(path))
    varied_spans(tracing(processor), task.records)
    processor.shutdown()
    check(peers.count_text(path, b'"spanId":"'), task.records)
    text = path.read_bytes()
    return {
        "active": len(text) / task.records,
        "sealed": len(gzip.compress(text, _GZIP_LEVEL)) / task.records,
    }


def _size(directory: Path) -> int:
    return sum(file.size for file in FileRecording(directory).files() if file.size)


_OURS, _PEER = "rimp-otel", "official JSON"

CASES = (
    Case(
        11,
        "Bytes of a span on disk",
        "Varied spans as of a web shop, with 7 to 9 attributes and random ids. *Active* is the file as"
        " it is written, against that of the official JSON file exporter; *sealed* is what `rotate()`"
        " makes of it, against the peer's file packed by gzip -6 as a whole; the third is our own"
        " lines packed so.",
        50_000,
        20_000,
        (Contender(_OURS, _ours), Contender(_PEER, _peer, (peers.JSON_FILE,))),
        (
            Row("active", _OURS, _PEER, quantity="active", unit="B"),
            Row("sealed, gzip -6 of the peer's", _OURS, _PEER, 0.9, quantity="sealed", unit="B"),
            Row("our lines with gzip -6", _OURS, None, None, True, quantity="gzipped", unit="B"),
        ),
        1,
    ),
)
