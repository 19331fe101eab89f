"""The benchmark itself works; what it measures is not asserted here."""

from __future__ import annotations

import math

from tests.benchmarks.cases import all_cases
from tests.benchmarks.measure import run_case
from tests.benchmarks.report import as_json, as_table


def test_every_case_runs_and_is_reported() -> None:
    """Each case stores all of its records, and gives a ratio for each round."""
    results = [run_case(case, rounds=2) for case in all_cases(scale=0.02)]
    assert all(len(result.ratios) == 2 for result in results)
    assert all(math.isfinite(result.ratio) for result in results)
    assert len(as_table(results).splitlines()) == 2 + len(results)
    assert [case["name"] for case in as_json(results, "x", 2)["cases"]] == [
        result.case.name for result in results
    ]
