"""Consistent probability sampling by the trace state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel.processing.probability import (
    MAX_THRESHOLD,
    parse_randomness,
    parse_threshold,
    randomness_of,
    threshold_of_probability,
    with_threshold,
)


@pytest.mark.parametrize(
    ("probability", "threshold"),
    [
        (1.0, 0),
        (0.5, 0x80000000000000),
        (0.25, 0xC0000000000000),
        (2.0**-56, MAX_THRESHOLD - 1),
        (2.0**-57, MAX_THRESHOLD),
        (0.0, MAX_THRESHOLD),
    ],
)
def test_threshold_of_probability(probability, threshold):
    """A quarter of all traces has a randomness of at least 0xc0000000000000."""
    assert threshold_of_probability(probability) == threshold


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_no_probability(probability):
    """A probability is from 0 to 1."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        threshold_of_probability(probability)


def test_randomness():
    """It is the trace state's, or the last seven bytes of the trace id."""
    trace_id = 0x0123456789ABCDEF_01F2E3D4C5B6A798
    assert randomness_of(trace_id) == 0xF2E3D4C5B6A798
    assert randomness_of(trace_id, "ot=rv:00000000000001") == 1
    assert randomness_of(trace_id, "a=1,ot=th:c;rv:6e6d1a75832a2f") == 0x6E6D1A75832A2F
    assert randomness_of(trace_id, "ot=rv:1") == 0xF2E3D4C5B6A798
    assert parse_randomness("ot=rv:6E6D1A75832A2F") is None
    assert parse_randomness("") is None


@pytest.mark.parametrize(
    ("trace_state", "threshold"),
    [
        ("ot=th:0", 0),
        ("ot=th:c", 0xC0000000000000),
        ("x=y, ot=rv:00000000000000;th:fffffffffffff4", 0xFFFFFFFFFFFFF4),
        ("ot=th:", None),
        ("ot=th:C", None),
        ("ot=th:000000000000000", None),
        ("other=th:c", None),
        ("", None),
    ],
)
def test_threshold_of_a_trace_state(trace_state, threshold):
    """Zeros at its end are left out; what is not valid counts as not said."""
    assert parse_threshold(trace_state) == threshold


@pytest.mark.parametrize(
    ("before", "threshold", "after"),
    [
        ("", 0xC0000000000000, "ot=th:c"),
        ("", 0, "ot=th:0"),
        ("a=1,b=2", 0, "ot=th:0,a=1,b=2"),
        (
            "a=1,ot=rv:6e6d1a75832a2f;th:8;x:y",
            0xF3333333333330,
            "ot=th:f333333333333;rv:6e6d1a75832a2f;x:y,a=1",
        ),
        ("a=1,ot=th:8", None, "a=1"),
        ("a=1,ot=th:8;rv:6e6d1a75832a2f", None, "ot=rv:6e6d1a75832a2f,a=1"),
        ("a=1,ot=rv:6e6d1a75832a2f", None, "a=1,ot=rv:6e6d1a75832a2f"),
        ("", None, ""),
    ],
)
def test_with_threshold(before, threshold, after):
    """The entry comes first, and keeps its other sub-keys; the others keep their order."""
    assert with_threshold(before, threshold) == after


def test_the_entry_is_bounded_and_keeps_its_randomness():
    """At 256 characters, sub-keys of others go."""
    long = "ot=" + ";".join([f"k{i}:{'v' * 20}" for i in range(10)]) + ";rv:6e6d1a75832a2f"
    after = with_threshold(long, 0xC0000000000000)
    assert parse_randomness(after) == 0x6E6D1A75832A2F
    assert parse_threshold(after) == 0xC0000000000000
    assert 200 < len(after) <= 256 + len("ot=")


@given(
    st.integers(0, MAX_THRESHOLD - 1),
    st.sampled_from(["", "a=1", "ot=rv:6e6d1a75832a2f", "a=1,ot=th:4;z:z"]),
)
def test_what_is_written_is_read(threshold, before):
    """A threshold comes back as it was written."""
    assert parse_threshold(with_threshold(before, threshold)) == threshold
