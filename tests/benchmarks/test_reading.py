"""The benchmark of reading runs, and asks its questions."""

from __future__ import annotations

from rimp_otel import FileStorage
from tests.benchmarks.reading import make_recording, measure_questions, trace_of


def test_in_small(tmp_path, capsys):
    """Every question has an answer in a small recording."""
    make_recording(tmp_path / "t", 2_000)
    measure_questions(tmp_path / "t", 2_000, rounds=1)
    out = capsys.readouterr().out
    assert out.startswith("2,000 spans; a full scan takes about ")
    assert len(out.splitlines()) == 9
    storage = FileStorage(tmp_path / "t")
    assert len(storage.retrieve().spans) == 2_000
    assert len(storage.retrieve(trace_id=trace_of(777)).spans) == 5
