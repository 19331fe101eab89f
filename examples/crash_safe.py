"""Kill a process in the middle of its work, and read what it recorded."""

from __future__ import annotations

import multiprocessing
import os
import signal

from opentelemetry import trace

import rimp_otel
from rimp_otel import FileStorage


def work() -> None:
    telemetry = rimp_otel.install(path="telemetry", quiet=True)
    tracer = trace.get_tracer("shop")
    with tracer.start_as_current_span("checkout", attributes={"order": 17}):
        with tracer.start_as_current_span("reserve stock"):
            telemetry.collector.collect_event("shop", "stock reserved")
        with tracer.start_as_current_span("charge card"):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
    print(f"killed by signal {-(process.exitcode or 0)}")

    found = FileStorage("telemetry").retrieve()
    print("event:", found.events[0].message)
    for span in found.spans:
        interrupted = "interrupted" if span.attributes.get("rimp.interrupted") else "finished"
        print(f"span: {span.name}, {interrupted}")
