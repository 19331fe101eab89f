"""Rollups: they equal a naive count, whatever the steps, and are kept beside sealed files."""

from __future__ import annotations

import os
from collections import Counter

import pytest

pytest.importorskip("starlette")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import list_data_files
from rimp_otel.storage.recording import open_storage
from rimp_otel.viewer.questions import PreparingError
from rimp_otel.viewer.rollups.builder import RollupBuilder
from rimp_otel.viewer.rollups.histogram import (
    bin_middle,
    bin_of,
    bins_of,
    make_histogram,
    quantiles,
)
from rimp_otel.viewer.rollups.rollup import STEPS, CallKey, FailureKey, LogKey, OperationKey
from rimp_otel.viewer.rollups.rollup_file import (
    SealedCounts,
    read_rollup,
    rollup_path,
    write_rollup,
)
from rimp_otel.viewer.rollups.store import open_rollups
from tests.viewer.recordings import START, S, log_line, span_json, span_line

EVER = Window(0, 2**64)


def counts_of(rollups, step=STEPS[-1], window=EVER):
    """Return records, errors and the middles of durations, by key and step of time."""
    found = {}
    for rollup in rollups:
        own = rollup.step_for(step)
        for at, key, cell in rollup.cells(own, window) if own else ():
            place = key, at // step
            low, bins = bins_of(cell.histogram)
            durations = Counter(
                {bin_middle(low + n): count for n, count in enumerate(bins) if count}
            )
            records, errors, before = found.get(place, (0, 0, Counter()))
            found[place] = records + cell.records, errors + cell.errors, before + durations
    return found


def made(store, signal=Signal.TRACES, window=EVER, step=None):
    """Return rollups, once they are made."""
    for _ in range(400):
        try:
            return store.rollups(signal, window, step)
        except PreparingError:
            continue
    raise AssertionError


# Histograms.


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.lists(st.integers(0, 2**40), min_size=1))
def test_histograms_add_up(left, right):
    """The sum of two is the histogram of both; a quantile is off by 1.6 % at most."""
    counts = [Counter(map(bin_of, values)) for values in (left, right)]
    total = make_histogram(counts[0]) + make_histogram(counts[1])
    assert total == make_histogram(counts[0] + counts[1])
    values = sorted(left + right)
    for share, found in zip((0.0, 0.5, 0.99), quantiles(total, (0.0, 0.5, 0.99)), strict=True):
        expected = values[min(int(share * len(values)), len(values) - 1)]
        assert abs(found - expected) <= 0.016 * expected


def test_of_nothing():
    """There is no quantile."""
    assert quantiles(0, (0.5, 0.9)) == [None, None]
    assert bin_of(-5) == 0


# A naive count.

SPANS = st.lists(
    st.fixed_dictionaries(
        {
            "service": st.sampled_from(["a", "b"]),
            "name": st.sampled_from(["x", "y"]),
            "kind": st.sampled_from([1, 2, 3, 5]),
            "parent": st.integers(0, 12),
            "start": st.sampled_from([0.0, 0.003, 0.5, 7.0, 65.0, 4_000.0, 90_000.0, 10**7]),
            "seconds": st.sampled_from([0.0, 0.0001, 0.02, 3.0]),
            "is_error": st.booleans(),
        }
    ),
    max_size=12,
)


def lines_of(spans):
    """Return a line for each span; the first one has the number 1."""
    for number, one in enumerate(spans, 1):
        status = {"status": {"code": 2, "message": "no"}} if one["is_error"] else {}
        parent = one["parent"] if one["parent"] != number else 0
        fields = {key: one[key] for key in ("name", "kind", "start", "seconds")}
        yield span_line(one["service"], span_json(number, parent=parent, **fields, **status))


def naive_counts(spans, step):
    """Return what ``counts_of`` should, by counting span by span."""
    found = {}

    def count(key, one, is_error):
        start = START + int(one["start"] * S)
        place = key, start // step
        records, errors, durations = found.get(place, (0, 0, Counter()))
        middle = bin_middle(bin_of(int(one["seconds"] * S)))
        found[place] = records + 1, errors + is_error, durations + Counter([middle])

    kinds = {1: "internal", 2: "server", 3: "client", 5: "consumer"}
    for number, one in enumerate(spans, 1):
        parent = one["parent"] if one["parent"] != number else 0
        is_request = one["kind"] in (2, 5) or not parent
        key = OperationKey(one["service"], one["name"], kinds[one["kind"]], is_request)
        count(key, one, one["is_error"])
        if one["is_error"]:
            count(FailureKey(one["service"], one["name"], "no", *key[2:]), one, True)
        if 0 < parent <= len(spans) and spans[parent - 1]["service"] != one["service"]:
            count(CallKey(spans[parent - 1]["service"], one["service"]), one, one["is_error"])
    return found


@settings(deadline=None)
@given(SPANS, st.sampled_from(STEPS[4:]))
def test_a_rollup_is_the_count_of_its_spans(spans, step):
    """In any order of lines, at each step that it has a level for, built at once or bit by bit."""
    builder, bit_by_bit = RollupBuilder(), RollupBuilder()
    for line in lines_of(spans):
        builder.add_line(line)
    for line in reversed(list(lines_of(spans))):
        bit_by_bit.add_line(line)
        bit_by_bit.build()
    for rollup in (builder.build(), bit_by_bit.build()):
        assert counts_of([rollup], step) == naive_counts(spans, step)
        assert rollup.facts.records == len(spans)


HOURS = Window(START, START + 7_200 * S)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(SPANS, st.sampled_from(STEPS[3:7]), st.sets(st.integers(0, 11)), st.booleans())
def test_the_rollups_of_a_recording_are_the_count_of_its_spans(
    tmp_path_factory, spans, step, rotations, is_database
):
    """Wherever the spans lie by then, and however often was asked meanwhile."""
    path = tmp_path_factory.mktemp("counted") / ("r.db" if is_database else "r")
    store = open_rollups(path)
    with open_storage(path) as storage:
        for number, line in enumerate(lines_of(spans)):
            storage.store(TelemetryData.from_otlp_json([line]))
            if number in rotations and not is_database:
                storage.rotate()
            if number % 3 == 0:
                made(store, window=HOURS, step=step)
    found = counts_of(made(store, window=HOURS, step=step), step, HOURS)
    # Calls between files are found apart from these.
    assert without_calls(found) == without_calls(
        {
            (key, at): own
            for (key, at), own in naive_counts(spans, step).items()
            if HOURS.contains(at * step)
        }
    )


def without_calls(counts):
    """Return the counts of all but calls."""
    return {place: own for place, own in counts.items() if not isinstance(place[0], CallKey)}


@pytest.mark.parametrize("step", [10**7, S, 60 * S])
def test_steps_that_are_not_kept_are_counted_anew(tmp_path, step):
    """Of a file whose steps are too long, the lines of the window are read."""
    with FileStorage(tmp_path) as storage:
        for number in range(2_000):
            line = span_line("a", span_json(number + 1, trace=number + 1, start=number * 30.0))
            storage.store(TelemetryData.from_otlp_json([line]))
        storage.rotate()
    store = open_rollups(tmp_path)
    (whole,) = made(store)
    assert min(whole.levels) == 600 * S
    window = Window(START + 600 * S, START + 900 * S)
    found = counts_of(made(store, window=window, step=step), step, window)
    assert sum(records for records, _, _ in found.values()) == 10
    assert {at for _, at in found} == {(START + n * 30 * S) // step for n in range(20, 30)}


# What is kept.


@pytest.fixture
def sealed(tmp_path):
    """Return a sealed file of 50 spans, and its recording's path."""
    with FileStorage(tmp_path) as storage:
        for number in range(50):
            line = span_line("a", span_json(number + 1, trace=number + 1, start=number))
            storage.store(TelemetryData.from_otlp_json([line]))
        storage.rotate()
    (content,) = list_data_files(Layout(tmp_path).sealed)
    return content, tmp_path


def test_it_is_kept_beside_its_file(sealed):
    """It is made once, private to its owner, and read back as it was."""
    content, path = sealed
    (rollup,) = made(open_rollups(path))
    kept = rollup_path(content)
    assert kept.stat().st_mode & 0o777 == 0o600
    changed = kept.stat().st_mtime_ns
    again = read_rollup(content)
    assert again.keys == rollup.keys
    assert again.facts == rollup.facts
    assert dict(again.levels) == dict(rollup.levels)
    assert again.attributes == rollup.attributes
    assert again.calls == rollup.calls
    made(open_rollups(path))
    assert kept.stat().st_mtime_ns == changed
    assert [file.suffix for file in sorted(content.path.parent.iterdir())] == [
        ".idx",
        ".zst",
        ".rollup",
    ]


@pytest.mark.parametrize("at", [0, 9, 40, -30, -1])
def test_damage_is_found(sealed, at):
    """A flipped bit anywhere, or a lost end, and it is made again."""
    content, path = sealed
    expected = counts_of(made(open_rollups(path)))
    kept = rollup_path(content)
    good = kept.read_bytes()
    for damaged in (
        good[:at] + bytes([good[at] ^ 4]) + good[at:][1:],
        good[: len(good) * 2 // 3],
        b"",
        os.urandom(len(good)),
    ):
        kept.write_bytes(damaged)
        store = open_rollups(path)
        store._sealed.clear()
        assert counts_of(made(store)) == expected
        for rollup in made(store):
            assert rollup.attributes
            assert rollup.calls.open_calls == []


def test_a_replaced_file_has_another_rollup(sealed, tmp_path_factory):
    """The rollup of what was in its place before is not trusted."""
    content, path = sealed
    (rollup,) = made(open_rollups(path))
    data = bytearray(content.path.read_bytes())
    data[-1] ^= 1
    content.path.write_bytes(data)
    assert read_rollup(content) is None
    write_rollup(content, SealedCounts(rollup, None))
    assert read_rollup(content) is not None


def test_it_goes_with_its_file(tmp_path):
    """Retention removes both."""
    storage = FileStorage(tmp_path, retain_size=1)
    with storage:
        storage.store(TelemetryData.from_otlp_json([span_line("a", span_json(1))]))
        storage.rotate()
        directory = Layout(tmp_path).sealed
        store = open_rollups(tmp_path)
        made(store)
        storage.store(TelemetryData.from_otlp_json([span_line("a", span_json(2))]))
        storage.rotate()
    made(store)
    left = {file.name.split(".")[0] for file in directory.iterdir()}
    assert len(left) <= 1


def test_logs_have_rollups_too(tmp_path):
    """By service and severity."""
    with FileStorage(tmp_path) as storage:
        storage.store(TelemetryData.from_otlp_json([log_line("a", 1, 9, 9, 17)]))
        storage.rotate()
        storage.store(TelemetryData.from_otlp_json([log_line("b", 0, 21, 13)]))
    found = counts_of(made(open_rollups(tmp_path), Signal.LOGS))
    assert {key: own[:2] for (key, _), own in found.items()} == {
        LogKey("a", "trace"): (1, 0),
        LogKey("a", "info"): (2, 0),
        LogKey("a", "error"): (1, 1),
        LogKey("b", "unspecified"): (1, 0),
        LogKey("b", "fatal"): (1, 1),
        LogKey("b", "warn"): (1, 0),
    }


def test_a_damaged_line_is_counted(tmp_path):
    """The rest of the file is there."""
    with FileStorage(tmp_path) as storage:
        storage.store(TelemetryData.from_otlp_json([span_line("a", span_json(1))]))
    with (tmp_path / "traces.jsonl").open("ab") as file:
        file.write(b'{"resourceSpans":[{"x\n')
    (rollup,) = made(open_rollups(tmp_path))
    assert (rollup.facts.records, rollup.facts.damaged) == (1, 1)
