"""The memory of a forwarder with a backlog: ``python -m tests.benchmarks.backlog [--spans N]``.

A recording of N spans (10 million) is forwarded into a sink that discards; the forwarder's memory is
looked at all the time. What is printed is what it takes at a tenth of the way, and at most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.sink import sink

_SPANS_A_LINE = 200
_START = 1_795_521_600 * 10**9


def main() -> int:
    """Print the figures; return 1 if not everything was acknowledged."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.backlog")
    parser.add_argument("--spans", type=int, default=10_000_000, help="how many (10,000,000)")
    parser.add_argument("--keep", metavar="RULE", help="forward whole traces by this rule")
    parser.add_argument("--directory", help="of the recording, which takes 350 bytes a span")
    options = parser.parse_args()
    lines = options.spans // _SPANS_A_LINE
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = Path(directory, "recording")
        _write_recording(path, lines)
        with sink(keeps=False) as url:
            destination = "otlp+" + url.removesuffix("/v1/traces")
            return _forward(path, destination, options.keep, lines * _SPANS_A_LINE)


def _write_recording(path: Path, lines: int) -> None:
    path.mkdir()
    with (path / "traces.jsonl").open("wb") as file:
        for number in range(lines):
            spans = ",".join(
                _span_text(number * _SPANS_A_LINE + index) for index in range(_SPANS_A_LINE)
            )
            file.write(
                b'{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":'
                b'{"stringValue":"shop"}}]},"scopeSpans":[{"scope":{"name":"app"},"spans":['
                + spans.encode()
                + b"]}]}]}\n"
            )


def _span_text(number: int) -> str:
    trace, place = divmod(number, 10)
    start = _START + number * 1_000
    parent = f'"parentSpanId":"{trace * 10 + 1:016x}",' if place else ""
    status = ',"status":{"code":2}' if number % 1_000 == 7 else ""
    return (
        f'{{"traceId":"{trace + 1:032x}","spanId":"{number + 1:016x}",{parent}"name":"GET /cart",'
        f'"kind":2,"startTimeUnixNano":"{start}","endTimeUnixNano":"{start + 500_000}","attributes":'
        f'[{{"key":"order","value":{{"intValue":"{number}"}}}}]{status}}}'
    )


def _forward(path: Path, destination: str, rule: str | None, spans: int) -> int:
    command = [
        sys.executable,
        "-m",
        "rimp_otel",
        "forward",
        "--path",
        str(path),
        "--once",
        "--json",
    ]
    command += [destination, *(["--keep", rule] if rule else [])]
    began = time.monotonic()
    early = most = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            now = _resident(process.pid)
            most = max(most, now)
            if not early and _progress(path, spans) >= 0.1:
                early = now
            time.sleep(0.1)
        assert process.stdout is not None
        said = [json.loads(line) for line in process.stdout]
    print(f"spans forwarded, of {spans:,}".ljust(44), _acknowledged(said))
    print("seconds".ljust(44), f"{time.monotonic() - began:.0f}")
    print("MB at a tenth of the way".ljust(44), early // 2**20)
    print("MB at most".ljust(44), most // 2**20)
    return process.returncode


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _progress(path: Path, spans: int) -> float:
    for cursor in (path / "forward").glob("*/traces.json"):
        try:
            ledger = json.loads(cursor.read_text())["ledger"]
        except (OSError, ValueError, KeyError):
            return 0.0
        return (ledger["acknowledged"] + sum(ledger["not_kept"].values())) / spans
    return 0.0


def _acknowledged(said: list[dict[str, object]]) -> str:
    for line in said:
        if line["signal"] == "traces":
            return f"{line['acknowledged']:,}"
    return "none"


if __name__ == "__main__":
    sys.exit(main())
