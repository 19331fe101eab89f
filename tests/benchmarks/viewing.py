"""Answers about large recordings: ``python -m tests.benchmarks.viewing``.

Makes a recording of a shop's spans, all of them sealed (ten million by default, which takes some minutes;
it is kept in ``--cache``), and the summaries beside its files. Then it asks what the page asks, and searches
through the APIs of Jaeger and Tempo, each a few times in turn: medians, by the wall clock and by the CPU. A
search is compared with a full scan: decoding every span, and looking at it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from starlette.datastructures import QueryParams

from rimp_otel.models.accessors import has_failed, service_of
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.storage.base import Selection
from rimp_otel.storage.recording import open_recording
from rimp_otel.viewer.answers.overview import RecordingAnswers
from rimp_otel.viewer.jaeger.v1 import JaegerQueries
from rimp_otel.viewer.questions import PreparingError
from rimp_otel.viewer.rollups.store import open_rollups
from rimp_otel.viewer.search.conditions import All, Comparison, Scope
from rimp_otel.viewer.tempo.queries import TempoQueries
from tests.benchmarks.recording import sample_path
from tests.benchmarks.shop import DAY, START, parse_arguments, shop_path

_MILLIS = 300.0
_SHARE = 1 / 50
_SCANNED = 1_000_000
_HOUR = DAY // 24
_SERVICE, _USER = "payment", "u-12345"
_FAILED = All(
    (
        Comparison(Scope.RESOURCE, "service.name", "=", _SERVICE),
        Comparison(Scope.INTRINSIC, "status", "=", "error"),
    )
)
_OF_USER = Comparison(Scope.SPAN, "enduser.id", "=", _USER)


class Timing(NamedTuple):
    """Medians over the rounds, in milliseconds."""

    wall: float
    cpu: float


Row = tuple[str, str, str, bool]
"""What, the figure, its target, and whether that is met."""


def main() -> int:
    """Measure, and print the figures; the exit code is 1 if a target is missed."""
    arguments = parse_arguments("python -m tests.benchmarks.viewing")
    rows = measure(shop_path(arguments.cache, arguments.spans), arguments.spans, arguments.rounds)
    for what, figure, target, is_met in rows:
        print(f"{what:46}  {figure:34}  {target:12}  {'met' if is_met else 'NOT MET'}")
    return 0 if all(row[-1] for row in rows) else 1


def measure(path: Path, spans: int, rounds: int) -> list[Row]:
    """Return all figures of a recording of so many spans."""
    return [
        measure_summaries(path, spans),
        *measure_answers(path, rounds),
        *measure_searches(path, spans, rounds),
    ]


def measure_summaries(path: Path, spans: int) -> Row:
    """Measure how long it takes to make what is kept beside sealed files, and its size."""
    sealed = path / "sealed"
    if not any(file.suffix == ".rollup" for file in sealed.iterdir()):
        print("making summaries", file=sys.stderr)
    begun, cpu = time.perf_counter(), time.process_time()
    store = open_rollups(path)
    while True:
        try:
            store.rollups(Signal.TRACES, Window())
            break
        except PreparingError:
            continue
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    size = {
        suffix: sum(file.stat().st_size for file in sealed.iterdir() if file.suffix == suffix)
        for suffix in (".rollup", ".zst")
    }
    share = size[".rollup"] / size[".zst"]
    figure = f"{wall:.1f} s (CPU {cpu:.1f} s), {share:.1%} of the files"
    return f"summaries of {spans:,} spans (0 s: they are there)", figure, "", True


def measure_answers(path: Path, rounds: int) -> list[Row]:
    """Measure the answers to the page, warm."""
    answers = RecordingAnswers(path, clock=lambda: START + DAY)
    hour, ever = Window(START + 5 * _HOUR, START + 6 * _HOUR), Window()
    trace_id = int(answers.traces(ever, _FAILED, 1)["traces"][0]["trace_id"], 16)
    asked: dict[str, Callable[[], Any]] = {
        "info": answers.info,
        "overview, all of it": lambda: answers.overview(ever),
        "overview, the last two hours": lambda: answers.overview(
            Window(START + 22 * _HOUR, START + DAY)
        ),
        "overview, an hour": lambda: answers.overview(hour),
        "overview, five minutes": lambda: answers.overview(
            Window(START + 5 * _HOUR, START + 5 * _HOUR + _HOUR // 12)
        ),
        "operations": lambda: answers.operations(ever),
        "map": lambda: answers.map(ever),
        "keys of attributes": lambda: answers.attributes(Signal.TRACES, ever),
        "values of an attribute": lambda: answers.attribute_values(
            Signal.TRACES, "span", "http.route", "", ever, 50
        ),
        "the newest 20 traces": lambda: answers.traces(ever, None, 20),
        "20 traces with a failure": lambda: answers.traces(ever, _FAILED, 20),
        "20 traces of one user": lambda: answers.traces(ever, _OF_USER, 20),
        "one trace": lambda: answers.trace(trace_id),
    }
    rows = []
    for what, ask in asked.items():
        timing = time_of_question(ask, rounds)
        figure = f"{timing.wall:.1f} ms (CPU {timing.cpu:.1f} ms)"
        rows.append((what, figure, f"<= {_MILLIS:.0f} ms", timing.wall <= _MILLIS))
    return rows


def measure_searches(path: Path, spans: int, rounds: int) -> list[Row]:
    """Measure searches through the APIs of Jaeger and Tempo against a full scan."""
    scan = time_of_scan(path, spans)
    jaeger, tempo = JaegerQueries(path), TempoQueries(path)
    of_jaeger = QueryParams({"service": _SERVICE, "tags": '{"error":"true"}', "limit": "20"})
    of_tempo = QueryParams(
        {"q": f'{{resource.service.name="{_SERVICE}" && status=error}}', "limit": "20"}
    )
    of_user = QueryParams({"q": f'{{span.enduser.id="{_USER}"}}', "limit": "20"})
    asked: dict[str, Callable[[], Any]] = {
        "Jaeger: a service's failures": lambda: jaeger.find_traces(of_jaeger),
        "Tempo: a service's failures": lambda: tempo.search(of_tempo),
        "Tempo: one user's": lambda: tempo.search(of_user),
    }
    rows = [("a full scan", f"{scan.cpu / 1e3:.1f} s (CPU)", "", True)]
    for what, ask in asked.items():
        timing = time_of_question(ask, rounds)
        share = timing.cpu / scan.cpu
        figure = f"{timing.cpu:.1f} ms (CPU), 1/{scan.cpu / max(timing.cpu, 1e-3):,.0f}"
        rows.append((what, figure, f"<= 1/{1 / _SHARE:.0f}", share <= _SHARE))
    return rows


def time_of_question(ask: Callable[[], Any], rounds: int) -> Timing:
    """Return how long an answer takes that was given before."""
    _ask_until_ready(ask)
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        _ask_until_ready(ask)
        walls.append((time.perf_counter() - wall) * 1e3)
        cpus.append((time.process_time() - cpu) * 1e3)
    return Timing(statistics.median(walls), statistics.median(cpus))


def _ask_until_ready(ask: Callable[[], Any]) -> None:
    while True:
        try:
            ask()
            return
        except PreparingError:
            continue


def time_of_scan(path: Path, spans: int) -> Timing:
    """Return how long it takes to look at each span: of a million, scaled to all."""
    part = sample_path(path, spans, _SCANNED)
    wall, cpu = time.perf_counter(), time.process_time()
    seen = matching = 0
    for data in open_recording(part).batches(Selection.of(signals="traces")):
        for span in data.spans:
            seen += 1
            matching += service_of(span) == _SERVICE and has_failed(span)
    assert matching
    factor = spans / seen * 1e3
    return Timing((time.perf_counter() - wall) * factor, (time.process_time() - cpu) * factor)


if __name__ == "__main__":
    sys.exit(main())
