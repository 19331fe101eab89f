"""Series of several processes are one, and no counter goes back."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel import ConfigurationError, MetricKind
from rimp_otel.prometheus.table import SeriesTable
from rimp_otel.prometheus.totals import HistogramTotal, SummaryTotal

S = 10**9
NOW = 1_000 * S


def line(
    kind,
    *points,
    name="m",
    unit="",
    process="1",
    service="shop",
    delta=False,
    monotonic=True,
    **more,
):
    """Return a line with points of one metric of one process."""
    attributes = [text("service.name", service), text("service.instance.id", process)]
    data = {"dataPoints": list(points)}
    if kind in ("sum", "histogram", "exponentialHistogram"):
        data["aggregationTemporality"] = 1 if delta else 2
    if kind == "sum":
        data["isMonotonic"] = monotonic
    metric = {"name": name, "unit": unit, kind: data, **more}
    scope = {"scope": {"name": "test"}, "metrics": [metric]}
    group = {"resource": {"attributes": attributes}, "scopeMetrics": [scope]}
    return msgspec.json.encode({"resourceMetrics": [group]})


def text(key, value):
    """Return an attribute as OTLP JSON has it."""
    return {"key": key, "value": {"stringValue": value}}


def point(value=None, time=NOW, start=S, **more):
    """Return a data point; the number of seconds of its time may be given."""
    time, start = (t * S if t < 10_000 else t for t in (time, start))
    found = {"timeUnixNano": str(time), "startTimeUnixNano": str(start), **more}
    if isinstance(value, int):
        found["asInt"] = str(value)
    elif value is not None:
        found["asDouble"] = value
    return found


def values(*lines, now=NOW, **options):
    """Return the values of all series, by name."""
    table = SeriesTable(**options)
    for one in lines:
        table.add_line(one)
    return {series.key.name: value for series, value in table.current(now)}


def test_processes_add_up():
    """The newest point of each counts, in whatever order they are read."""
    assert values(
        line("sum", point(5, 900), process="1"),
        line("sum", point(7, 990), process="1"),
        line("sum", point(6, 950), process="1"),
        line("sum", point(10, 980), process="2"),
    ) == {"m": 17}


def test_a_restart_is_no_reset():
    """What a process had counted before stays, by its start or by its value."""
    restarted = line("sum", point(3, 990, 950))
    assert values(line("sum", point(5, 900)), restarted) == {"m": 8}
    assert values(line("sum", point(5, 900, 0)), line("sum", point(3, 990, 0))) == {"m": 8}


def test_processes_with_the_same_resource():
    """They are told apart by when they began to count, as those of SDKs that name no instance."""
    assert values(
        line("sum", point(5, 900, 100)),
        line("sum", point(50, 910, 200)),
        line("sum", point(6, 920, 100)),
        line("sum", point(60, 930, 200)),
    ) == {"m": 66}


def test_an_ended_process_stays_in_the_sum():
    """As long as others measure; a value that goes up and down loses it."""
    old, new = point(5, 600), point(2, 990)
    assert values(line("sum", old, process="1"), line("sum", new, process="2")) == {"m": 7}
    up_down = [
        line("sum", old, process="1", monotonic=False),
        line("sum", new, process="2", monotonic=False),
    ]
    assert values(*up_down) == {"m": 2}
    assert values(*up_down, now=700 * S) == {"m": 7}


def test_stale_series_vanish():
    """After five minutes without a point, and at once where a process says so."""
    assert values(line("gauge", point(1.5, 699))) == {}
    assert values(line("gauge", point(1.5, 700))) == {"m": 1.5}
    assert values(line("gauge", point(1.5, 900)), line("gauge", point(time=950, flags=1))) == {}
    gone = line("sum", point(time=950, flags=1))
    assert values(line("sum", point(5, 900)), gone) == {}
    assert values(line("sum", point(5, 900)), gone, line("sum", point(6, 960))) == {"m": 6}
    other = line("sum", point(7, 900), process="2")
    assert values(line("sum", point(5, 900)), other, gone) == {"m": 12}


@pytest.mark.parametrize(
    ("policy", "value"),
    [("mostrecent", 1.0), ("sum", 5.0), ("min", 1.0), ("max", 4.0), ("mean", 2.5)],
)
def test_gauges_by_policy(policy, value):
    """The newest one counts unless another policy is set, for a name or for all."""
    lines = [
        line("gauge", point(4.0, 900), process="1"),
        line("gauge", point(1.0, 950), process="2"),
    ]
    assert values(*lines, gauges={"m": policy}) == {"m": value}
    assert values(*lines, gauges={"*": policy}) == {"m": value}
    assert values(*lines, gauges={"other": policy}) == {"m": 1.0}


def test_an_unknown_policy():
    """The message names the gauge and what there is."""
    with pytest.raises(
        ConfigurationError, match=r"gauges\['m'\] must be one of mostrecent, .*'best'"
    ):
        SeriesTable({"m": "best"})


def test_deltas_become_cumulative():
    """Each adds; one that overlaps with what was counted is left out, and counted."""
    table = SeriesTable()
    for start, time, value in [(1, 10, 5), (10, 20, 3), (30, 40, 2), (35, 45, 9), (30, 40, 2)]:
        table.add_line(line("sum", point(value, time, start), delta=True))
    assert [value for _, value in table.current(50 * S)] == [10]
    assert table.dropped == {"overlapping_delta": 1}


def test_histograms_add_up():
    """Bucket by bucket, over processes and restarts; the sum is there if all say it."""
    bounds = [1.0, 2.0]

    def histogram(counts, time=990, start=1, **more):
        found = point(None, time, start, bucketCounts=counts, explicitBounds=bounds, **more)
        return found | {"count": str(sum(counts))}

    lines = [
        line("histogram", histogram([1, 2, 3], 900, sum=9.0)),
        line("histogram", histogram([1, 0, 0], 990, 950, sum=0.5)),
        line("histogram", histogram([0, 1, 0], sum=1.5), process="2"),
    ]
    assert values(*lines) == {"m": HistogramTotal((1.0, 2.0), (2, 3, 3), 8, 11.0)}
    lines.append(line("histogram", histogram([1, 0, 0]), process="3"))
    assert values(*lines) == {"m": HistogramTotal((1.0, 2.0), (3, 3, 3), 9, None)}


def test_exponential_histograms_add_up():
    """At the coarser scale of two."""
    fine = point(
        None, scale=1, count="3", sum=6.0, positive={"offset": 0, "bucketCounts": ["1", "2"]}
    )
    coarse = point(None, scale=0, count="1", sum=1.5, positive={"offset": 0, "bucketCounts": ["1"]})
    found = values(
        line("exponentialHistogram", fine), line("exponentialHistogram", coarse, process="2")
    )["m"]
    assert (found.layout, found.count, found.sum, dict(found.counts)) == (0, 4, 7.5, {0: 4})


def test_summaries_of_several_processes():
    """They have no quantiles together."""
    quantiles = [{"quantile": 0.5, "value": 2.0}]
    one = line("summary", point(None, count="3", sum=6.0, quantileValues=quantiles))
    assert values(one) == {"m": SummaryTotal(3, 6.0, ((0.5, 2.0),))}
    two = line("summary", point(None, count="1", sum=1.0), process="2")
    assert values(one, two) == {"m": SummaryTotal(4, 7.0, ())}


def test_what_tells_series_apart():
    """The service, the scope, the name, the unit, the kind and the attributes; no other attribute of the resource."""
    table = SeriesTable()
    tagged = point(1) | {"attributes": [text("a", "b")]}
    for one in [
        line("sum", point(1)),
        line("sum", point(1), process="2"),
        line("sum", point(1), service="other"),
        line("sum", point(1), name="n"),
        line("sum", point(1), unit="s"),
        line("gauge", point(1)),
        line("sum", tagged),
    ]:
        table.add_line(one)
    keys = [series.key for series, _ in table.current(NOW)]
    assert len(keys) == len(set(keys)) == 6
    assert {key.kind for key in keys} == {MetricKind.SUM, MetricKind.GAUGE}
    assert {key.attributes for key in keys} == {(), (("a", "b"),)}


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(0, 5)), max_size=40))
def test_no_counter_goes_back(steps):
    """Whatever processes count and however often they start anew, the sum is all that was counted."""
    table, counted, starts, total = SeriesTable(), {}, {}, 0
    for time, (process, restarts, added) in enumerate(steps, 10):
        if restarts or process not in counted:
            counted[process], starts[process] = 0, time
        counted[process] += added
        total += added
        number = point(counted[process], time, starts[process])
        table.add_line(line("sum", number, process=str(process)))
        assert [value for _, value in table.current(60 * S)] == [total]


def test_memory_does_not_grow_with_ended_processes():
    """What ten thousand processes have counted stays, and few of them are known one by one."""
    table, sizes = SeriesTable(), []
    for number in range(10_000):
        now = (1_000 + 10 * number) * S
        table.add_line(line("sum", point(2, now, now - S), process=str(number)))
        if number % 50 == 49:
            table.fold_ended(now)
            sizes.append(max(len(series.processes) for series in table.series))
    assert [value for _, value in table.current(now)] == [20_000]
    assert max(sizes) < 150  # of five minutes, and those that are silent
    assert len(table.folded.entries) > 9_000


def folded():
    """Return a table in which the first of many processes is not known by itself any more."""
    table = SeriesTable()
    for number in range(100):
        table.add_line(line("sum", point(5, 100 + number, 1), process=str(number)))
    table.fold_ended(NOW)
    assert [len(series.processes) for series in table.series] == [32]
    return table


def test_a_process_that_returns():
    """It was not dead: what it had counted is not counted again, what it counts now is."""
    table = folded()
    table.add_line(line("sum", point(8, 990, 1), process="0"))
    assert [value for _, value in table.current(NOW)] == [500]
    table.add_line(line("sum", point(11, 995, 1), process="0"))
    assert [value for _, value in table.current(NOW)] == [503]
    table.add_line(line("sum", point(1, 996, 996), process="0"))
    assert [value for _, value in table.current(NOW)] == [504]


def test_a_series_that_is_silent_in_a_process_that_is_not():
    """It goes on, also if it is not known one by one any more."""
    table = SeriesTable()
    silent = line("sum", point(5, 100, 1), process="0")
    table.add_line(silent)
    for number in range(1, 100):
        table.add_line(line("sum", point(5, 100 + number, 1), process=str(number)))
    table.add_line(line("sum", point(1, 1_000, 1), process="0", name="other"))
    table.fold_ended(NOW)
    for value in (6, 8):
        table.add_line(line("sum", point(value, 1_000 + value, 1), process="0"))
    found = {series.key.name: value for series, value in table.current(1_010 * S)}
    assert found == {"m": 502, "other": 1}


def test_a_value_that_was_absent():
    """It is there again, wherever in a line its point stands."""

    def points(*found):
        return line("sum", *[p | {"attributes": [text("n", n)]} for n, p in found])

    table = SeriesTable()
    table.add_line(points(("a", point(1, 900)), ("b", point(2, 900))))
    table.add_line(points(("b", point(time=910, flags=1))))
    assert [value for _, value in table.current(NOW)] == [1]
    table.add_line(points(("a", point(1, 920)), ("b", point(3, 920))))
    assert [value for _, value in table.current(NOW)] == [1, 3]


def test_other_bounds():
    """Processes of a newer version have other buckets; no bucket that both have goes back."""

    def histogram(bounds, counts, start, process):
        buckets = {"bucketCounts": counts, "explicitBounds": bounds, "count": str(sum(counts))}
        return line("histogram", point(None, 990, start, **buckets), process=process)

    lines = [histogram([1.0, 5.0], [1, 2, 3], 1, "1")]
    assert values(*lines) == {"m": HistogramTotal((1.0, 5.0), (1, 2, 3), 6, None)}
    lines.append(histogram([1.0, 2.0, 5.0], [1, 1, 1, 1], 500, "2"))
    for order in (lines, lines[::-1]):
        assert values(*order) == {"m": HistogramTotal((1.0, 2.0, 5.0), (2, 1, 3, 4), 10, None)}
