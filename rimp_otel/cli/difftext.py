"""What ``rimp diff`` found, as lines of text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rimp_otel.cli.comparing import CallChange, Change, Differences, FailureChange
from rimp_otel.cli.operations import Activity, Operation
from rimp_otel.cli.render import Style, format_time, format_utc, plural
from rimp_otel.cli.tables import Column, format_table

__all__ = ["differences_json", "format_differences"]

_MOST = 20


def format_differences(
    found: Differences,
    before: Activity,
    after: Activity,
    names: Sequence[str],
    width: int,
    style: Style,
) -> list[str]:
    """The differences for people, the worst first."""
    arrow = " → " if style.unicode else " -> "
    lines = [_side(*side, style) for side in zip("AB", names, (before, after), strict=True)]
    sections = {
        "slower": _times(found.slower, arrow, width, style),
        "fails more often": _errors(found.failing, arrow, width, style),
        "new errors": _failures(found, width, style),
        "calls added": _calls(found.added, arrow, style),
        "calls removed": _calls(found.removed, arrow, style),
        "faster": _times(found.faster, arrow, width, style),
        "fails less often": _errors(found.recovered, arrow, width, style),
    }
    for title, content in sections.items():
        if content:
            look = "green" if title in ("faster", "fails less often") else "red"
            lines += ["", style.paint(title, "bold", look), *_most(content)]
    verdict = "" if found else "nothing is different that may not be chance; "
    few = f", {found.too_few:,} have too few spans for that" if found.too_few else ""
    compared = f"{verdict}the times of {plural(found.compared, 'operation')} were compared{few}"
    return [*lines, "", style.paint(compared, "dim")]


def _most(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST - 1
    return lines if more <= 0 else [*lines[: _MOST + 1], f"and {more:,} more: see --json"]


def _side(letter: str, name: str, activity: Activity, style: Style) -> str:
    time = f"{format_time(activity.first)} to {format_time(activity.last)}"
    text = f"{style.clean(name)}  {time}  {plural(activity.spans, 'span')}"
    return f"{style.paint(letter, 'bold')}  {text}"


_OPERATION = Column("OPERATION", most=48)


def _times(changes: list[Change], arrow: str, width: int, style: Style) -> list[str]:
    if not changes:
        return []
    table = (_OPERATION, Column("SPANS"), Column("P50"), Column("P95"), Column("P"))
    rows = [
        (
            _name(change.operation, style),
            f"{change.counts[0]:,}{arrow}{change.counts[1]:,}",
            _durations(change.p50, arrow, style),
            _durations(change.p95, arrow, style),
            _p(change.p_value),
        )
        for change in changes
    ]
    return format_table(table, rows, width, style)


def _durations(pair: tuple[int, int], arrow: str, style: Style) -> str:
    before, after = pair
    text = f"{style.duration(before)}{arrow}{style.duration(after)}"
    return f"{text} ({(after - before) / before:+.0%})" if before > 0 else text


def _p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _errors(changes: list[FailureChange], arrow: str, width: int, style: Style) -> list[str]:
    if not changes:
        return []
    table = (_OPERATION, Column("ERRORS"), Column("RATE"), Column("P"))
    rows = [
        (
            _name(change.operation, style),
            arrow.join(f"{n:,}/{of:,}" for n, of in zip(change.errors, change.counts, strict=True)),
            arrow.join(f"{n / of:.1%}" for n, of in zip(change.errors, change.counts, strict=True)),
            _p(change.p_value),
        )
        for change in changes
    ]
    return format_table(table, rows, width, style)


def _failures(found: Differences, width: int, style: Style) -> list[str]:
    if not found.new_failures:
        return []
    table = (
        Column("TIMES", is_number=True),
        Column("WHERE", most=40),
        Column("TRACE"),
        Column("ERROR"),
    )
    rows = [
        (
            f"{one.number:,}",
            _name(Operation(one.failure.service, one.failure.name), style),
            f"{one.trace_id:032x}"[:8] if one.trace_id else "-",
            style.clean(one.failure.text),
        )
        for one in found.new_failures
    ]
    return format_table(table, rows, width, style)


def _calls(changes: list[CallChange], arrow: str, style: Style) -> list[str]:
    if not changes:
        return []
    heading = f"CALLER{arrow}CALLED"
    return [style.paint(heading, "dim"), *(_call(change, arrow, style) for change in changes)]


def _call(change: CallChange, arrow: str, style: Style) -> str:
    called = _name(change.called, style)
    who = "(a trace begins)" if change.caller is None else _name(change.caller, style)
    return f"{who}{arrow}{called}  {change.number:,} times in {change.callers[0]:,}"


def _name(operation: Operation, style: Style) -> str:
    service = style.clean(operation.service) or "(no service)"
    return f"{service}  {style.clean(operation.name) or '(no name)'}"


def differences_json(found: Differences, before: Activity, after: Activity) -> dict[str, Any]:
    """The differences as ``rimp diff --json`` prints them; docs/cli.md describes the shape."""
    return {
        "a": _side_json(before),
        "b": _side_json(after),
        "slower": [_change_json(change) for change in found.slower],
        "faster": [_change_json(change) for change in found.faster],
        "failing": [_failing_json(change) for change in found.failing],
        "recovered": [_failing_json(change) for change in found.recovered],
        "calls_added": [_call_json(change) for change in found.added],
        "calls_removed": [_call_json(change) for change in found.removed],
        "new_errors": [
            {
                **one.failure._asdict(),
                "count": one.number,
                "trace_id": f"{one.trace_id:032x}" if one.trace_id else None,
            }
            for one in found.new_failures
        ],
        "compared": found.compared,
        "too_few": found.too_few,
    }


def _side_json(activity: Activity) -> dict[str, Any]:
    first, last = format_utc(activity.first), format_utc(activity.last)
    return {"first": first, "last": last, "spans": activity.spans}


def _change_json(change: Change) -> dict[str, Any]:
    return {
        **change.operation._asdict(),
        "moved": change.moved,
        "counts": change.counts,
        "p50_ns": change.p50,
        "p95_ns": change.p95,
        "p_value": change.p_value,
    }


def _failing_json(change: FailureChange) -> dict[str, Any]:
    errors = {"counts": change.counts, "errors": change.errors, "p_value": change.p_value}
    return {**change.operation._asdict(), **errors}


def _call_json(change: CallChange) -> dict[str, Any]:
    caller = change.caller and change.caller._asdict()
    return {
        "caller": caller,
        "called": change.called._asdict(),
        "count": change.number,
        "caller_counts": change.callers,
    }
