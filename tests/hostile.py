"""Recordings that nobody means to make: deep and wide traces, records with 200,000 parts, texts of many MB.

``python -m tests.hostile`` makes each of them in a size and in twice that, runs every command over it, and prints
the processor's seconds, the growth, and the memory. Everything is linear; nothing prints a control character.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

__all__ = ["COMMANDS", "KINDS", "TRACE", "make_recording", "run_command"]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_T0 = 1_795_000_000_000_000_000
_LINE = 500
_ESCAPES = "\x1b[31m\x9b2J\x07‮\r"

_Json = dict[str, Any]


def _span(number: int, parent: int = 0, **more: Any) -> _Json:
    return {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        **({"parentSpanId": f"{parent:016x}"} if parent else {}),
        "name": f"step {number % 10}",
        "kind": 1,
        "startTimeUnixNano": str(_T0 + number * 1_000),
        "endTimeUnixNano": str(_T0 + 10**9 - number),
        "status": {},
        **more,
    }


def _log(number: int, body: Any, **more: Any) -> _Json:
    return {
        "timeUnixNano": str(_T0 + number * 1_000),
        "severityNumber": 9,
        "severityText": "INFO",
        "body": body,
        **more,
    }


def _attributes(count: int) -> list[_Json]:
    return [
        {"key": f"key.{number}", "value": {"stringValue": f"value {number} {_ESCAPES}"}}
        for number in range(count)
    ]


def _chain(size: int) -> Iterator[tuple[str, _Json]]:
    for number in range(1, size + 1):
        yield "traces", _span(number, number - 1)


def _fan(size: int) -> Iterator[tuple[str, _Json]]:
    yield "traces", _span(1)
    for number in range(2, size + 1):
        yield "traces", _span(number, 1)


def _wide_attributes(size: int) -> Iterator[tuple[str, _Json]]:
    attributes = _attributes(size)
    yield "traces", _span(1, attributes=attributes)
    yield "logs", _log(1, {"stringValue": "wide"}, attributes=attributes)
    point = {"timeUnixNano": str(_T0), "asInt": "1", "attributes": attributes}
    yield "metrics", {"name": "wide", "gauge": {"dataPoints": [point]}}


def _events(size: int) -> Iterator[tuple[str, _Json]]:
    events = [
        {
            "timeUnixNano": str(_T0 + number),
            "name": "exception",
            "attributes": [
                {"key": "exception.type", "value": {"stringValue": "ValueError"}},
                {"key": "exception.message", "value": {"stringValue": f"bad {number}{_ESCAPES}"}},
            ],
        }
        for number in range(size)
    ]
    yield "traces", _span(1, events=events, status={"code": 2, "message": _ESCAPES})


def _links(size: int) -> Iterator[tuple[str, _Json]]:
    links = [{"traceId": TRACE, "spanId": f"{number:016x}"} for number in range(1, size + 1)]
    yield "traces", _span(1, links=links)


def _text(size: int) -> Iterator[tuple[str, _Json]]:
    text = f"needle {_ESCAPES}" * (size // 12)
    yield "traces", _span(1, name=text, status={"code": 2, "message": text})
    yield "logs", _log(1, {"stringValue": text}, traceId=TRACE, spanId=f"{1:016x}")
    point = {"timeUnixNano": str(_T0), "asInt": "1"}
    yield "metrics", {"name": text, "unit": text, "gauge": {"dataPoints": [point]}}


def _nested(size: int) -> Iterator[tuple[str, _Json]]:
    for start in range(1, size, 40):
        body: _Json = {"stringValue": "needle"}
        for _ in range(min(80, size)):
            body = {"arrayValue": {"values": [body]}}
        yield "logs", _log(start, body)


def _many_logs(size: int) -> Iterator[tuple[str, _Json]]:
    for number in range(1, size + 1):
        yield "logs", _log(number, {"stringValue": f"needle {number}{_ESCAPES}"}, traceId=TRACE)


class Kind(NamedTuple):
    """A kind of recording."""

    records: Callable[[int], Iterator[tuple[str, _Json]]]
    #: That the issue names.
    size: int


KINDS = {
    "chain": Kind(_chain, 30_000),
    "fan": Kind(_fan, 60_000),
    "attributes": Kind(_wide_attributes, 200_000),
    "events": Kind(_events, 100_000),
    "links": Kind(_links, 100_000),
    "text": Kind(_text, 16_000_000),
    "nested": Kind(_nested, 400_000),
    "logs": Kind(_many_logs, 60_000),
}

_RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
_LISTS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}


def make_recording(path: Path, kind: str, size: int) -> Path:
    """Make a recording of one kind."""
    path.mkdir(mode=0o700)
    waiting: dict[str, list[_Json]] = {signal: [] for signal in _LISTS}
    for signal, record in KINDS[kind].records(size):
        waiting[signal].append(record)
        if len(waiting[signal]) >= _LINE:
            _append(path, signal, waiting[signal])
    for signal, records in waiting.items():
        if records:
            _append(path, signal, records)
    return path


def _append(path: Path, signal: str, records: list[_Json]) -> None:
    resources, scopes, name = _LISTS[signal]
    scope = {"scope": {"name": "tests"}, name: records}
    message = {resources: [{"resource": _RESOURCE, scopes: [scope]}]}
    with (path / f"{signal}.jsonl").open("a") as file:
        file.write(json.dumps(message, separators=(",", ":")) + "\n")
    records.clear()


COMMANDS: dict[str, list[str]] = {
    "tail": ["tail", "-n", "all"],
    "logs": ["logs"],
    "logs --grep": ["logs", "--grep", "needle"],
    "logs --stack": ["logs", "--stack"],
    "errors": ["errors"],
    "traces": ["traces"],
    "trace": ["trace", TRACE[:8]],
    "trace --stack": ["trace", TRACE, "--stack"],
    "top": ["top", "--at", "2026-11-18T11:06:41Z"],
    "metrics": ["metrics"],
    "diff": ["diff", "{path}", "{other}"],
    "export": ["export", "--trace", TRACE[:8], "{out}.zip"],
    "stats": ["stats"],
    "verify": ["verify"],
    "verify --protobuf": ["verify", "--protobuf"],
    "tail --json": ["tail", "-n", "all", "--json"],
    "trace --json": ["trace", TRACE[:8], "--json"],
    "sql": ["sql", "SELECT * FROM otel_traces ORDER BY Timestamp LIMIT 5"],
    "notebook": [
        "-c",
        "import sys; from rimp_otel import open_recording; d = open_recording(sys.argv[1]).retrieve();"
        " sys.stdout.write(d._repr_html_())",
        "{path}",
    ],
    "notebook's trace": [
        "-c",
        "import sys; from rimp_otel import open_recording; d = open_recording(sys.argv[1]).retrieve();"
        " from rimp_otel.trace import Trace; t = Trace.of(d.spans[0].context.trace_id, d.spans, d.events);"
        " sys.stdout.write(t._repr_html_())",
        "{path}",
    ],
    "import": ["import", "--dry-run", "{path}", "--max-message", "1GB"],
}
"""The commands that are measured, with their arguments."""

_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]")


class Done(NamedTuple):
    """What came of a command."""

    seconds: float
    megabytes: float
    code: int
    #: What was printed, and what of it is not allowed.
    printed: int
    longest: int
    control: bytes


def run_command(name: str, path: Path, other: Path, out: Path, timeout: float = 600.0) -> Done:
    """Run a command over a recording, in a process of its own."""
    arguments = [part.format(path=path, other=other, out=out) for part in COMMANDS[name]]
    if arguments[0] != "-c":
        is_free = arguments[0] in ("diff", "import")
        arguments = ["-m", "rimp_otel", *arguments, *([] if is_free else ["--path", str(path)])]
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=printed,
            stderr=subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "100"},
        )
        killed = False
        until = time.monotonic() + timeout
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > until and not killed:
                killed = True
                process.kill()
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        size, longest, control = _inspect(printed)
    return Done(
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 1024,
        process.returncode,
        size,
        longest,
        control,
    )


def _inspect(printed: BinaryIO) -> tuple[int, int, bytes]:
    """Return the size of what was printed, that of its longest line, and what is not allowed in it."""
    size = longest = current = 0
    control = b""
    # Piece by piece: a child's memory begins with that of its parent.
    while piece := printed.read(1024 * 1024):
        size += len(piece)
        first, *rest = map(len, piece.split(b"\n"))
        current += first
        for further in rest:
            longest, current = max(longest, current), further
        if not control and (found := _CONTROL.search(piece)):
            control = piece[max(found.start() - 20, 0) : found.end() + 20]
    return size, max(longest, current), control


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS))
    parser.add_argument(
        "--scale", type=float, default=0.5, help="of the sizes that the issue names"
    )
    parser.add_argument("--timeout", type=float, default=300.0)
    parser.add_argument("--make", nargs=3, metavar=("PATH", "KIND", "SIZE"), help="make one only")
    options = parser.parse_args()
    if options.make:
        path, kind, size = options.make
        make_recording(Path(path), kind, int(size))
        return 0
    bad = 0
    for kind in options.kinds:
        size = int(KINDS[kind].size * options.scale)
        with tempfile.TemporaryDirectory() as directory:
            parent = Path(directory)
            small, large = parent / "small", parent / "large"
            # In processes of their own: a child's memory begins with that of its parent.
            for path, number in ((small, size), (large, 2 * size)):
                made = [sys.executable, "-m", __spec__.name, "--make", path, kind, str(number)]
                subprocess.run(made, check=True)
                path.with_name(f"{path.name}2").symlink_to(path)
            bytes = sum(file.stat().st_size for file in large.iterdir())
            print(f"{kind}, {2 * size:,}: {bytes / 1e6:.1f} MB", flush=True)
            for name in options.commands:
                first = run_command(
                    name, small, parent / "small2", parent / f"s-{name}", options.timeout
                )
                second = run_command(
                    name, large, parent / "large2", parent / f"l-{name}", options.timeout
                )
                notes = []
                if second.seconds > 2.6 * first.seconds and second.seconds > 2:
                    notes.append("GROWS")
                if second.control:
                    notes.append(f"CONTROL {second.control!r}")
                if second.longest > 50_000 and "--json" not in name and "notebook" not in name:
                    notes.append(f"LONG {second.longest:,}")
                if second.code not in (0, 1):
                    notes.append(f"CODE {second.code}")
                bad += bool(notes)
                print(
                    f"  {name:18} {first.seconds:7.2f} {second.seconds:7.2f} s"
                    f" {second.seconds / first.seconds:5.1f} {second.megabytes:7.0f} MB"
                    f" {second.printed:12,} B  {second.code}  {' '.join(notes)}",
                    flush=True,
                )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(_main())
