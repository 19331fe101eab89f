"""The benchmark of export requests runs."""

from __future__ import annotations

from tests.benchmarks.requests import main


def test_each_signal_and_format_has_a_line(capsys):
    """A short run measures all six."""
    assert main(["--rounds", "1", "--requests", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {tuple(line.split()[:2]) for line in lines[1:]}
    signals, formats = ("traces", "logs", "metrics"), ("protobuf", "json")
    assert names == {(f"{signal},", format) for signal in signals for format in formats}
