"""How many of 400 finished spans are kept, ours and peers': ``python -m tests.crash.peers``.

Each program ends 400 spans, says so, and dies at once in one of several ways. Peers, run by an
interpreter that has them (``--peer-python``; without it, those that this one has):
BatchSpanProcessor with the official JSON file exporter, and with OTLP over HTTP into a sink.
"""

from __future__ import annotations

import argparse
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.crash.audit import by_reader
from tests.crash.running import directory
from tests.processes import ROOT

SPANS = 400
FILES = {"ours": "telemetry", "file": "spans.jsonl"}
WAYS = ("SIGKILL", "SIGTERM", "os._exit", "SIGSEGV", "exit")

PROGRAM = """
import ctypes, os, resource, sys
from opentelemetry.sdk.trace import TracerProvider
what, target, way = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
provider = TracerProvider()
if what == "ours":
    import rimp_otel
    collector = rimp_otel.TelemetryCollector()
    stream = rimp_otel.TelemetryStream(collector, rimp_otel.FileStorage(target))
    stream.start()
    provider.add_span_processor(collector)
else:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    if what == "file":
        from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter as Exporter
        exporter = Exporter(target)
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        exporter = OTLPSpanExporter(endpoint=target)
    provider.add_span_processor(BatchSpanProcessor(exporter))
tracer = provider.get_tracer("peers")
for i in range(400):
    with tracer.start_as_current_span(f"span {i}", attributes={"mark": str(i), "user": 7}):
        pass
print("done", flush=True)
sys.stdin.readline()
if way == "os._exit":
    os._exit(0)
if way == "SIGSEGV":
    ctypes.memset(0, 0, 1)
"""


class Sink(http.server.ThreadingHTTPServer):
    """A server that takes OTLP over HTTP, and counts the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.marks: Counter[str] = Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The address to send to."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        sink: Any = self.server
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                sink.marks.update(span.name for span in scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def kept(what: str, way: str, python: str, parent: Path) -> int:
    """Return how many spans are there after such a death."""
    sink = Sink() if what == "http" else None
    target = sink.url if sink else str(parent / FILES[what])
    process = subprocess.Popen(
        [python, "-c", PROGRAM, what, target, way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **({"PYTHONPATH": str(ROOT)} if what == "ours" else {})},
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    if way.startswith("SIG") and way != "SIGSEGV":
        process.send_signal(signal.Signals[way])
    process.communicate("\n" if process.poll() is None else None, timeout=60.0)
    if sink:
        sink.shutdown()
        sink.server_close()
        return len(sink.marks)
    path = parent / FILES[what]
    if what == "ours":
        return len(by_reader(path).finished)
    return len(set(re.findall(r'"span [0-9]+"', path.read_text() if path.exists() else "")))


def has(what: str, python: str) -> bool:
    """Return True if an interpreter has what a peer needs."""
    module = {
        "file": "opentelemetry.exporter.otlp.json.file.trace_exporter",
        "http": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    }
    if what == "ours":
        return True
    return not subprocess.run(
        [python, "-c", f"import {module[what]}"], stderr=subprocess.DEVNULL
    ).returncode


def main() -> None:
    """Print a table; exit with 1 if one of ours is not complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-python", default=sys.executable)
    options = parser.parse_args()
    print(f"{'kept of ' + str(SPANS):>20} " + " ".join(f"{way:>12}" for way in WAYS))
    lost = False
    for what in ("ours", "file", "http"):
        python = sys.executable if what == "ours" else options.peer_python
        if not has(what, python):
            print(f"{what:>20} is not installed in {python}")
            continue
        row = []
        for way in WAYS:
            counts = []
            for _ in range(options.rounds):
                with directory() as parent:
                    counts.append(kept(what, way, python, parent))
            row.append(
                f"{min(counts)}" if len(set(counts)) == 1 else f"{min(counts)}-{max(counts)}"
            )
        lost = lost or (what == "ours" and set(row) != {str(SPANS)})
        print(f"{what:>20} " + " ".join(f"{cell:>12}" for cell in row))
    raise SystemExit(lost)


if __name__ == "__main__":
    main()
