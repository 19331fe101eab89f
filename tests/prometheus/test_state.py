"""What was counted is kept, whoever serves it next, and whatever retention has deleted."""

from __future__ import annotations

import pytest

from rimp_otel.prometheus.families import Families
from rimp_otel.prometheus.pages import Pages
from rimp_otel.prometheus.state import load_state, save_state
from rimp_otel.prometheus.table import SeriesTable
from tests.prometheus.test_table import NOW, folded, line, point, text


def page_of(table):
    """Return the page of a table in OpenMetrics."""
    return Pages().write(Families().collect(table, NOW), "application/openmetrics-text").body


BUCKETS = {"explicitBounds": [1.0], "bucketCounts": ["1", "2"], "count": "3", "sum": 4.5}
EXPONENTIAL = {
    "scale": 3,
    "count": "7",
    "zeroCount": "1",
    "positive": {"offset": -2, "bucketCounts": ["1", "2"]},
    "negative": {"offset": 1, "bucketCounts": ["3"]},
}
QUANTILES = {"count": "3", "sum": 6.0, "quantileValues": [{"quantile": 0.5, "value": 2}]}


def test_all_kinds(tmp_path):
    """A table that is read back makes the same page, and goes on."""
    table = SeriesTable()
    for one in [
        line("sum", point(5, 900, 1), description="All of them"),
        line("sum", point(3, 950, 900)),
        line("sum", point(None, 950, 1, asDouble=0.5), name="float", unit="s"),
        line("gauge", point(None, asDouble="NaN") | {"attributes": [text("a", "b")]}, name="g"),
        line("histogram", point(None, **BUCKETS), name="h"),
        line("exponentialHistogram", point(None, **EXPONENTIAL), name="e"),
        line("summary", point(None, **QUANTILES), name="s"),
        line("sum", point(2, 10, 5), delta=True, name="d"),
    ]:
        table.add_line(one)
    save_state(tmp_path / "state", table, {"a": [1, True]})
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600
    again = SeriesTable()
    assert load_state(tmp_path / "state", again) == {"a": [1, True]}
    assert page_of(again) == page_of(table)
    for one in (table, again):
        one.add_line(line("sum", point(4, 960, 900)))
        one.add_line(line("sum", point(2, 10, 5), delta=True, name="d"))
    assert page_of(again) == page_of(table)
    assert b"m_total" in page_of(again)


def test_folded_processes(tmp_path):
    """One that returns is known, also after a restart."""
    save_state(tmp_path / "state", folded(), None)
    table = SeriesTable()
    load_state(tmp_path / "state", table)
    table.add_line(line("sum", point(8, 990, 1), process="0"))
    assert [value for _, value in table.current(NOW)] == [500]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x95\x63\xc0\x80\x90\x90", b"\x91\x01"])
def test_what_cannot_be_read(tmp_path, content):
    """It is no state: the recording is read anew."""
    (tmp_path / "state").write_bytes(content)
    assert load_state(tmp_path / "state", SeriesTable()) is None
    assert load_state(tmp_path / "none", SeriesTable()) is None
