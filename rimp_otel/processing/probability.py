"""Consistent probability sampling, by OpenTelemetry's specification *TraceState: Probability Sampling*.

A sampler that keeps a share p of all traces has a rejection threshold ``T = (1 - p) * 2**56``, and keeps a
trace whose randomness R, 56 bits that all its spans share, is at least T. R is what the trace state says
(``ot=rv:``), or the last seven bytes of the trace id. The threshold that let a span through is in its trace
state too (``ot=th:``), so that whoever counts spans knows that each of them stands for
``2**56 / (2**56 - T)``.
"""

from __future__ import annotations

import math
import re

__all__ = [
    "MAX_THRESHOLD",
    "parse_randomness",
    "parse_threshold",
    "randomness_of",
    "threshold_of_probability",
    "with_threshold",
]

MAX_THRESHOLD = 1 << 56
"""A threshold that no randomness reaches: nothing is kept."""

_MAX_ENTRY = 256
_DIGITS = 14
_KEY = "ot"
_RANDOMNESS = re.compile(r"[0-9a-f]{14}", re.ASCII)
_THRESHOLD = re.compile(r"[0-9a-f]{1,14}", re.ASCII)


def threshold_of_probability(probability: float) -> int:
    """Return the threshold by which a share of all traces is kept.

    Args:
        probability: from 0 to 1. Below ``2**-56`` nothing is kept.

    Raises:
        ValueError: it is not from 0 to 1.
    """
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"a probability is from 0 to 1, got {probability!r}")
    # Not `1 - probability`, which would round away small ones.
    return MAX_THRESHOLD - math.floor(math.ldexp(probability, 56))


def randomness_of(trace_id: int, trace_state: str = "") -> int:
    """Return the randomness of a trace: what its trace state says, or else the end of its id."""
    explicit = parse_randomness(trace_state)
    return trace_id & (MAX_THRESHOLD - 1) if explicit is None else explicit


def parse_randomness(trace_state: str) -> int | None:
    """Return the randomness that a trace state says; None if it says none, or none that is valid."""
    text = _sub_keys(trace_state).get("rv", "")
    return int(text, 16) if _RANDOMNESS.fullmatch(text) else None


def parse_threshold(trace_state: str) -> int | None:
    """Return the threshold that a trace state says; None if it says none, or none that is valid."""
    text = _sub_keys(trace_state).get("th", "")
    return int(text.ljust(_DIGITS, "0"), 16) if _THRESHOLD.fullmatch(text) else None


def with_threshold(trace_state: str, threshold: int | None) -> str:
    """Return the trace state with another threshold, and all else that it had.

    The entry comes first, as W3C's *Trace Context* demands of one that was changed.

    Args:
        trace_state: as in the header ``tracestate``.
        threshold: less than ``MAX_THRESHOLD``; None to say none: how likely the span was kept is not
            known.
    """
    members = _members(trace_state)
    entry = next((member for member in members if _member_key(member) == _KEY), "")
    before = _parts(entry)
    parts = [part for part in before if not part.startswith("th:")]
    if threshold is None and parts == before:
        return trace_state
    if threshold is not None:
        parts.insert(0, f"th:{_hex(threshold)}")
    # What is not ours goes before the entry is too long for everybody.
    while len(";".join(parts)) > _MAX_ENTRY and len(parts) > 2:
        parts.pop(-2 if parts[-1].startswith("rv:") else -1)
    others = [member for member in members if _member_key(member) != _KEY]
    return ",".join([f"{_KEY}={';'.join(parts)}", *others] if parts else others)


def _hex(threshold: int) -> str:
    return f"{threshold:014x}".rstrip("0") or "0"


def _members(trace_state: str) -> list[str]:
    return [member.strip() for member in trace_state.split(",") if member.strip()]


def _member_key(member: str) -> str:
    return member.partition("=")[0]


def _parts(member: str) -> list[str]:
    return [part for part in member.partition("=")[2].split(";") if part]


def _sub_keys(trace_state: str) -> dict[str, str]:
    for member in _members(trace_state):
        if _member_key(member) == _KEY:
            return dict(part.partition(":")[::2] for part in _parts(member))
    return {}
