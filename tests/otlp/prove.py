"""Compares any number of generated records with the official encoder, and decodes them again.

``python -m tests.otlp.prove --records 1000000`` from the project's folder. The records are made by
a seeded generator over the space of ``generate``, in batches of mixed resources and scopes; of
each batch, our lines must be the official encoder's message, but for what ``official`` names, also as
a request in protobuf, to the byte; decoded and encoded again they must be the same message as before;
and received as a request, in protobuf and JSON, they must be what protobuf's own parser reads. A batch
where they are not is narrowed down to a record, which is printed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from random import Random
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics.export import MetricsData

from rimp_otel.batch import TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.otlp.outgoing import request_from_lines
from rimp_otel.otlp.protobuf import line_from_message, line_from_protobuf
from rimp_otel.otlp.requests import RequestFormat, decode_request
from rimp_otel.otlp.scan import count_records
from tests.otlp import generate
from tests.otlp.choices import RandomSource, Source
from tests.otlp.official import (
    MESSAGES,
    binary,
    data_of,
    differences,
    lines_of,
    message_of,
    official_message,
    our_message,
    parsed,
)

__all__ = ["Outcome", "main", "prove"]

BATCH = 300
"""The most records of a batch. It is more than one line holds, and so are many batches."""

_MAKERS: tuple[tuple[Signal, Callable[[Source, int], Any]], ...] = (
    (Signal.TRACES, generate.spans),
    (Signal.LOGS, generate.log_records),
    (Signal.METRICS, generate.metrics_data),
    (Signal.TRACES, generate.spans_of_provider),
)


class Outcome(NamedTuple):
    """The result of a comparison."""

    #: Records compared, by signal.
    counts: Counter[Signal]
    #: What differs, a text for each batch that differs.
    found: list[str]


def prove(records: int, seed: int) -> Outcome:
    """Compare exactly this number of records, the same ones for the same seed."""
    outcome = Outcome(Counter(), [])
    source = RandomSource(Random(seed))
    for signal, make in cycle(_MAKERS):
        left = records - outcome.counts.total()
        if not left:
            return outcome
        batch = make(source, min(BATCH, max(left - 1, 1)))
        count = len(data_of(signal, batch))
        if count > left:
            continue
        outcome.counts[signal] += count
        if count and (wrong := _wrong_with(signal, batch)):
            outcome.found.append(f"seed {seed}: {_narrowed(signal, batch) or wrong}")
    return outcome


def _wrong_with(signal: Signal, batch: Any) -> str:
    """Return why our lines are wrong; empty if they are right."""
    try:
        lines = lines_of(signal, batch)
        ours, theirs = our_message(signal, lines), official_message(signal, batch)
        if binary(ours) != binary(theirs):
            return _shown("written", ours, theirs)
        request = request_from_lines(signal, lines, RequestFormat.PROTOBUF)
        if request != b"".join(binary(parsed(signal, line)) for line in lines):
            return _shown("written in protobuf", MESSAGES[signal].FromString(request), theirs)
        if wrong := _wrong_when_received(signal, binary(theirs)):
            return f"{signal.value}, received: {wrong}"
        again = _encoded_again(signal, lines)
        # Of equal lines, the messages are equal, too.
        if again != lines:
            first, second = message_of(signal, lines), message_of(signal, again)
            if binary(first) != binary(second):
                return _shown("written again", second, first)
    except Exception as error:
        return f"{signal.value}: {error!r}"
    return ""


def _wrong_when_received(signal: Signal, request: bytes) -> str:
    """Return why a request is read otherwise than by protobuf's own parser; empty if it is not."""
    line = line_from_protobuf(signal, request)
    if line != line_from_message(signal, request):
        return f"another line: {line!r}"
    found = decode_request(signal, request, RequestFormat.PROTOBUF)
    if found != decode_request(signal, line, RequestFormat.JSON):
        return f"another request as JSON: {line!r}"
    if len(found.records) + found.refused != count_records(line):
        return f"not all of it: {found.reason}"
    # Generated ids may be 0, and nothing else may be wrong.
    is_right = not found.refused or "is invalid: all its bytes are zero" in found.reason
    return "" if is_right else found.reason


def _encoded_again(signal: Signal, lines: list[bytes]) -> list[bytes]:
    decoded = TelemetryData.from_otlp_json(lines)
    events, metrics, spans = decoded.events, decoded.metrics, decoded.spans
    return TelemetryData(events, metrics, spans).otlp_json(signal)


def _shown(what: str, ours: Any, theirs: Any) -> str:
    found = "\n  ".join(list(differences(ours, theirs))[:10])
    return f"{what} otherwise:\n  {found}\nours:\n{ours}\ntheirs:\n{theirs}"


def _narrowed(signal: Signal, batch: Any) -> str:
    """Return the first record that is wrong on its own; empty if it takes several."""
    for part in _parts(batch):
        if wrong := _wrong_with(signal, part):
            return f"{part!r}\n{wrong}"
    return ""


def _parts(batch: Any) -> Iterator[Any]:
    if not isinstance(batch, MetricsData):
        yield from ([record] for record in batch)
        return
    for by_resource in batch.resource_metrics:
        for by_scope in by_resource.scope_metrics:
            for metric in by_scope.metrics:
                scopes = [type(by_scope)(by_scope.scope, [metric], by_scope.schema_url)]
                yield MetricsData(
                    [type(by_resource)(by_resource.resource, scopes, by_resource.schema_url)]
                )


def _worker(records: int, seed: int) -> Outcome:
    # The SDK logs each attribute that it drops or cuts.
    logging.disable(logging.ERROR)
    return prove(records, seed)


def _shares(records: int, parts: int) -> list[int]:
    """Divide a number as equally as possible."""
    parts = max(min(parts, records), 1)
    return [records * (n + 1) // parts - records * n // parts for n in range(parts)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 if there are differences."""
    parser = argparse.ArgumentParser(prog="python -m tests.otlp.prove", description=__doc__)
    parser.add_argument("--records", type=int, default=20_000, help="how many (default: 20000)")
    parser.add_argument("--seed", type=int, default=1, help="of the generator (default: 1)")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    # One seed for each part, so that what is compared does not depend on the machine.
    shares = _shares(options.records, -(-options.records // 10_000))
    seeds = [options.seed * 1_000_000 + part for part in range(len(shares))]
    if len(shares) == 1:
        outcomes = [_worker(shares[0], seeds[0])]
    else:
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            outcomes = list(pool.map(_worker, shares, seeds))
    counts = sum((outcome.counts for outcome in outcomes), Counter[Signal]())
    found = [text for outcome in outcomes for text in outcome.found]
    for text in found[:5]:
        print(text, file=sys.stderr)
    print(
        f"{counts.total()} records, {len(found)} differences beyond the documented ones"
        f" (spans {counts[Signal.TRACES]}, logs {counts[Signal.LOGS]},"
        f" points {counts[Signal.METRICS]}), seed {options.seed},"
        f" took {time.monotonic() - started:.0f} s"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
