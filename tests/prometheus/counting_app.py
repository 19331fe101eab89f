"""A WSGI application that counts its requests, and notes when it did so for who compares."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from opentelemetry import metrics

import rimp_otel

rimp_otel.install(service_name="shop", quiet=True)
_METER = metrics.get_meter("shop")
_ORDERS = _METER.create_counter("orders")
_DURATIONS = _METER.create_histogram("duration", "s")
_NOTES = Path(os.environ["RIMP_TEST_NOTES"])


def application(
    environ: dict[str, str], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Count one request; the answer is the number of this process."""
    # Before it is counted: nothing is counted that is not noted.
    with (_NOTES / str(os.getpid())).open("ab", buffering=0) as notes:
        notes.write(struct.pack("<q", time.time_ns()))
    _ORDERS.add(1)
    _DURATIONS.record(0.25)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
