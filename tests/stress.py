"""Many threads through the whole pipeline into files: ``python -m tests.stress``.

Each thread collects native events and ends real spans. What was collected must be what is in the
files, plus what was counted as dropped.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.storage.files.recording import FileRecording


class Result(NamedTuple):
    """Counts of records."""

    collected: int
    stored: int
    dropped: int
    pending: int
    in_files: int
    seconds: float

    @property
    def exact(self) -> bool:
        """True if each record is accounted for."""
        return (
            self.pending == 0
            and self.collected == self.stored + self.dropped
            and self.stored == self.in_files
        )


def stress(path: Path, threads: int, records: int) -> Result:
    """Run ``threads`` threads, each with ``records`` events and as many spans."""
    collector = TelemetryCollector(TelemetryConfig(flush_timeout=600.0))
    stream = TelemetryStream(collector, FileStorage(path))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(collector)
    tracer = provider.get_tracer("stress")
    together = threading.Barrier(threads + 1)

    def work(number: int) -> None:
        together.wait()
        for i in range(records):
            collector.collect_event("stress", "event", metadata={"thread": number, "i": i})
            with tracer.start_as_current_span("span", attributes={"thread": number, "i": i}):
                pass

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    with stream:
        for worker in workers:
            worker.start()
        together.wait()
        start = time.perf_counter()
        for worker in workers:
            worker.join()
    seconds = time.perf_counter() - start
    stats = collector.stats()
    in_files = sum(len(batch) for batch in FileRecording(path).poll())
    dropped = sum(stats.dropped.values())
    return Result(stats.collected, stats.stored, dropped, stats.pending, in_files, seconds)


def main() -> None:
    """Print the counts and the rate; exit with 1 if they are not exact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--records", type=int, default=100_000, help="of each kind, a thread")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        result = stress(Path(directory) / "telemetry", options.threads, options.records)
    for name, value in result._asdict().items():
        print(f"{name:>10} {value:,.1f}" if name == "seconds" else f"{name:>10} {value:>12,}")
    print(f"{result.stored / result.seconds:,.0f} records/s stored")
    raise SystemExit(0 if result.exact else 1)


if __name__ == "__main__":
    main()
