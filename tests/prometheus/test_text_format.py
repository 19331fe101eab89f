"""The page is what Prometheus' own parsers read, strictly, and what prometheus-client would write."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

pytest.importorskip("prometheus_client")

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics

from rimp_otel.prometheus.collector import to_metric
from rimp_otel.prometheus.names import TranslationStrategy
from rimp_otel.prometheus.text_format import Escaping, TextWriter, format_sample
from tests.prometheus.lines import (
    EXPONENTIAL,
    LINES,
    OPENMETRICS,
    collect,
    page,
    read_openmetrics,
    read_text,
    samples,
)
from tests.prometheus.test_table import line, point, text

PROMTOOL = shutil.which("promtool") or os.environ.get("PROMTOOL")


def test_text():
    """The format 0.0.4 is what everybody gets who does not ask for another."""
    found = page(*LINES)
    assert found.content_type == "text/plain; version=0.0.4; charset=utf-8"
    families = list(read_text(found.body.decode()))
    assert {family.name: family.type for family in families} == {
        "http_requests": "counter",
        "cpu_use_ratio": "gauge",
        "queue": "gauge",
        "latency_seconds": "histogram",
        "size_bytes": "histogram",
        "old": "summary",
        "target_info": "gauge",
    }
    values = {key: sample.value for key, sample in samples(families).items()}
    assert values == {
        ("http_requests_total",): 5.0,
        ("cpu_use_ratio", ("cpu_id", "1")): 0.5,
        ("queue",): -3.0,
        ("latency_seconds_bucket", ("le", "1.0")): 1.0,
        ("latency_seconds_bucket", ("le", "2.5")): 3.0,
        ("latency_seconds_bucket", ("le", "+Inf")): 6.0,
        ("latency_seconds_count",): 6.0,
        ("latency_seconds_sum",): 20.5,
        ("size_bytes_bucket", ("le", "0.0")): 1.0,
        ("size_bytes_bucket", ("le", "2.0")): 2.0,
        ("size_bytes_bucket", ("le", "2.8284271247461903")): 4.0,
        ("size_bytes_bucket", ("le", "4.0")): 4.0,
        ("size_bytes_bucket", ("le", "5.656854249492381")): 7.0,
        ("size_bytes_bucket", ("le", "+Inf")): 7.0,
        ("size_bytes_count",): 7.0,
        ("size_bytes_sum",): 12.0,
        ("old", ("quantile", "0.5")): 2.0,
        ("old_count",): 3.0,
        ("old_sum",): 6.0,
        ("target_info",): 1.0,
    }


def test_openmetrics():
    """It has exemplars, units and times of creation; its own parser takes all of it."""
    found = page(*LINES, accept=OPENMETRICS)
    assert found.content_type.startswith("application/openmetrics-text; version=1.0.0")
    body = found.body.decode()
    assert body.endswith("# EOF\n")
    assert "# UNIT latency_seconds seconds\n" in body
    families = list(read_openmetrics(body))
    read = samples(families)
    assert read["http_requests_created",].value == 1.0
    exemplar = read["latency_seconds_bucket", ("le", "2.5")].exemplar
    assert exemplar.labels == {"trace_id": "ab" * 16, "span_id": "cd" * 8, "user_id": "ann"}
    assert exemplar.value == 1.5
    assert float(exemplar.timestamp) == 900.0
    assert read["http_requests_total",].exemplar is not None
    assert read["latency_seconds_bucket", ("le", "1.0")].exemplar is None


def test_strategies():
    """Names can stay as they are, for a Prometheus that takes any character."""
    accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
    found = page(LINES[1], accept=accept, strategy=TranslationStrategy.NONE).body.decode()
    assert '{"cpu.use","cpu.id"="1",job="shop",otel_scope_name="test"} 0.5' in found
    legacy = page(LINES[1], strategy=TranslationStrategy.NONE).body.decode()
    assert 'cpu_use{cpu_id="1",' in legacy


def test_few_buckets():
    """An exponential histogram with many buckets has coarser ones in text."""
    fine = EXPONENTIAL | {"scale": 12, "positive": {"offset": 0, "bucketCounts": ["1"] * 160}}
    body = page(line("exponentialHistogram", point(None, **fine))).body.decode()
    assert 20 <= body.count("m_bucket{") <= 42
    wide = EXPONENTIAL | {"scale": 0, "positive": {"offset": -1070, "bucketCounts": ["1"] * 2094}}
    families = read_text(page(line("exponentialHistogram", point(None, **wide))).body.decode())
    buckets = [s.value for f in families for s in f.samples if s.name == "m_bucket"]
    assert buckets == sorted(buckets)


class Registry:
    """Families, as a registry of prometheus-client."""

    def __init__(self, families):
        self.metrics = [to_metric(family) for family in families]

    def collect(self):
        """Return the families."""
        return self.metrics


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.floats() | st.integers(-(2**63), 2**63 - 1)


# The library takes a line end at the end of a name for none. In OpenMetrics it takes a colon out of the
# names of samples, and leaves it in their types.
KEYS = ANY_TEXT.map(lambda name: name.rstrip("\n"))
NAMES = KEYS.map(lambda name: name.replace(":", "."))


@given(
    st.lists(st.tuples(NAMES, KEYS, ANY_TEXT, NUMBERS), max_size=4),
    st.sampled_from(list(Escaping)),
)
def test_as_the_client_library_writes_it(found, escaping):
    """Names, labels, help and numbers, each with any characters."""
    families, _ = collect(
        *[
            line(
                "gauge",
                point(None, asDouble=value if isinstance(value, int) else repr_of(value))
                | {"attributes": [text(key, key)]},
                name=name,
                description=help,
            )
            for name, key, help, value in found
        ],
        strategy=TranslationStrategy.NONE,
    )
    registry = Registry(families)
    expected = exposition.generate_latest(registry, escaping.value)
    assert TextWriter(escaping).write(families) == expected
    if (
        escaping is not Escaping.VALUES
    ):  # with which the library gives samples other names than types
        expected = openmetrics.generate_latest(registry, escaping.value)
        assert TextWriter(escaping, is_openmetrics=True).write(families) == expected


def repr_of(value):
    """Return a float as OTLP JSON has it."""
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(value), value)


def test_all_kinds_as_the_client_library_writes_them():
    """Byte for byte, with exemplars and times of creation."""
    families, _ = collect(*LINES)
    expected = openmetrics.generate_latest(Registry(families))
    assert TextWriter(is_openmetrics=True).write(families) == expected


def test_what_has_changed_is_written_anew():
    """What a writer keeps of a series is right, also where only an exemplar is new."""
    writer = TextWriter(is_openmetrics=True)
    for lines in (LINES, [*LINES, line("sum", point(6, 1_001), name="http.requests")]):
        families, _ = collect(*lines)
        assert writer.write(families) == TextWriter(is_openmetrics=True).write(families)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (5, "5.0"),
        (123456, "123456.0"),
        (1234567, "1.234567e+06"),
        (20_000_000, "2e+07"),
        (0.005, "0.005"),
        (10**12, "1e+12"),
        (-1234567, "-1234567.0"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers(number, expected):
    """As Go writes them, whose exponents begin sooner."""
    assert format_sample(number) == expected


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        # A sum that may go down is none in OpenMetrics, nor is a count without it.
        (
            "histogram",
            {"explicitBounds": [-1.0], "bucketCounts": ["1", "2"], "count": "3", "sum": 4.0},
            {("m_bucket", ("le", "-1.0")): 1.0, ("m_bucket", ("le", "+Inf")): 3.0},
        ),
        (
            "histogram",
            {"explicitBounds": [1.0], "bucketCounts": ["1", "2"], "count": "3", "sum": "NaN"},
            {("m_bucket", ("le", "1.0")): 1.0, ("m_bucket", ("le", "+Inf")): 3.0},
        ),
        # What the buckets hold counts.
        (
            "histogram",
            {"explicitBounds": [1.0], "bucketCounts": ["1", "2"], "count": "7", "sum": 4.0},
            {
                ("m_bucket", ("le", "1.0")): 1.0,
                ("m_bucket", ("le", "+Inf")): 3.0,
                ("m_count",): 3.0,
                ("m_sum",): 4.0,
            },
        ),
        # A threshold of zero that is wider than a bucket.
        (
            "exponentialHistogram",
            {
                "zeroCount": "1",
                "zeroThreshold": 1.0,
                "positive": {"offset": -1, "bucketCounts": ["2", "4"]},
                "sum": 9.0,
            },
            {
                ("m_bucket", ("le", "1.0")): 3.0,
                ("m_bucket", ("le", "2.0")): 7.0,
                ("m_bucket", ("le", "+Inf")): 7.0,
                ("m_count",): 7.0,
                ("m_sum",): 9.0,
            },
        ),
        # Indexes that no float reaches.
        (
            "exponentialHistogram",
            {
                "scale": -4,
                "positive": {"offset": 2**31 - 1, "bucketCounts": ["2"]},
                "negative": {"offset": -(2**31), "bucketCounts": ["1"]},
                "sum": 9.0,
            },
            {
                ("m_bucket", ("le", "-0.0")): 1.0,
                ("m_bucket", ("le", "+Inf")): 3.0,
                ("m_count",): 3.0,
                ("m_sum",): 9.0,
            },
        ),
        ("histogram", {"explicitBounds": [2.0, 1.0], "bucketCounts": ["1", "2", "3"]}, {}),
        ("sum", {"asInt": "-5"}, {}),
    ],
)
def test_odd_histograms(kind, fields, expected):
    """A page that a strict parser takes is made of whatever is recorded."""
    body = page(line(kind, point(None, 990, 0, **fields)), accept=OPENMETRICS).body.decode()
    found = {key: sample.value for key, sample in samples(read_openmetrics(body)).items()}
    found.pop(("target_info",), None)
    assert found == expected


def test_hostile_text():
    """Quotes, line ends and braces in names, labels and help do not break the page."""
    nasty = 'a"b\\c\nd{e}'
    hostile = point(None, asDouble="Infinity") | {"attributes": [text(nasty, nasty)]}
    lines = [line("gauge", hostile, name=nasty, description=nasty, service=nasty)]
    assert len(list(read_text(page(*lines).body.decode()))) == 2
    assert len(list(read_openmetrics(page(*lines, accept=OPENMETRICS).body.decode()))) == 2


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool():
    """Prometheus' own linter finds nothing, where what is measured has a description."""
    described = [one.replace(b'"unit"', b'"description":"Help","unit"') for one in LINES[1:]]
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"],
        input=page(LINES[0], *described).body,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
