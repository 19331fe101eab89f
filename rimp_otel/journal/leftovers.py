"""What a process leaves in its journal beside segments: spans that were open, and its crash."""

from __future__ import annotations

from pathlib import Path

from rimp_otel.otlp.signals import Signal
from rimp_otel.reporting import Reporter

__all__ = ["convert_leftovers", "read_leftovers"]


def convert_leftovers(directory: Path, reporter: Reporter) -> None:
    """Makes a segment of them, which is then drained as any other."""


def read_leftovers(directory: Path, segments: list[bytes]) -> list[tuple[Signal, bytes, int]]:
    """The same as lines, with nothing changed; none while the journal's owner lives."""
    return []
