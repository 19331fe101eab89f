"""The benchmark of reading runs, and asks what it says that it asks."""

from __future__ import annotations

from rimp_otel import FileStorage
from tests.benchmarks.reading import make, run, trace_of


def test_in_small(tmp_path, capsys):
    """Every question has an answer."""
    make(tmp_path / "t", 2_000)
    run(tmp_path / "t", 2_000, rounds=1)
    out = capsys.readouterr().out
    assert out.startswith("2,000 spans; a full scan takes about ")
    assert len(out.splitlines()) == 9
    storage = FileStorage(tmp_path / "t")
    assert len(storage.retrieve().spans) == 2_000
    assert len(storage.retrieve(trace_id=trace_of(777)).spans) == 5
