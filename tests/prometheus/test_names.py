"""Names are those of Prometheus' own translator."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel.prometheus.names import TranslationStrategy, label_name, metric_name, unit_name

NAMES = Path(__file__).parents[3] / "shared" / "conformance" / "prometheus" / "names.jsonl"
KINDS = {"sum": "counter", "gauge": "gauge"}


def golden():
    """Return what Prometheus 3.13 has made of some names."""
    return [json.loads(line) for line in NAMES.read_text().splitlines()] if NAMES.exists() else []


@pytest.mark.skipif(not NAMES.exists(), reason="the conformance data is not here")
def test_names_of_prometheus():
    """Metrics by each strategy, labels and units."""
    for row in golden():
        found = row["in"]
        for strategy in TranslationStrategy:
            kind = KINDS.get(found["Type"], "")
            name = metric_name(found["Name"], found["Unit"], kind, strategy)
            assert name == row[strategy.value], (found, strategy)
        default = TranslationStrategy.UNDERSCORES_WITH_SUFFIXES
        assert label_name(found["Name"], default) == row["label"]
        assert unit_name(found["Unit"]) == row["unit"]
    assert len(golden()) == 26


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("http.server.request.duration", "s", "", "http_server_request_duration_seconds"),
        ("requests.total", "1", "counter", "requests_total"),
        ("cpu.utilization", "1", "gauge", "cpu_utilization_ratio"),
        ("", "", "gauge", "_"),
        ("...", "", "gauge", "_"),
        ("x", "{a}/{b}", "gauge", "x"),
    ],
)
def test_names(name, unit, kind, expected):
    """By default, units and types are suffixes; a name is never empty."""
    assert metric_name(name, unit, kind, TranslationStrategy.UNDERSCORES_WITH_SUFFIXES) == expected


@given(st.text(max_size=20), st.text(max_size=8), st.sampled_from(["counter", "gauge", ""]))
def test_any_name_becomes_a_valid_one(name, unit, kind):
    """Prometheus 2 takes letters, digits, underscores and colons, and no digit first."""
    for strategy in TranslationStrategy:
        assert metric_name(name, unit, kind, strategy)
        if strategy.has_underscores:
            assert re.fullmatch("[a-zA-Z_:][a-zA-Z0-9_:]*", metric_name(name, unit, kind, strategy))
            assert re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", label_name(name, strategy))
