"""A frame of ``rimp top``, as lines of text and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rimp_otel.cli.live import Load, Picture
from rimp_otel.cli.render import (
    Piece,
    Style,
    clip,
    columns,
    flow,
    format_time,
    format_utc,
    pad,
    plural,
    service_look,
)
from rimp_otel.cli.tables import Column, format_table
from rimp_otel.models import EventType

__all__ = ["ORDERS", "format_picture", "picture_json"]

ORDERS: dict[str, Callable[[Load], Any]] = {
    "spans": lambda load: load.spans,
    "errors": lambda load: (load.errors, load.spans),
    "p50": lambda load: load.p50 or 0,
    "p95": lambda load: load.p95 or 0,
    "p99": lambda load: load.p99 or 0,
}
"""What frames can be sorted by, the greatest first."""
_COLUMNS = (
    Column("SERVICE", most=20),
    Column("SPANS/S", is_number=True),
    Column("ERRORS", is_number=True),
    Column("P50", is_number=True),
    Column("P95", is_number=True),
    Column("P99", is_number=True),
    Column("OPERATION"),
)


def format_picture(
    picture: Picture, path: str, order: str, width: int, height: int, style: Style
) -> list[str]:
    """One frame: totals, then services, each with its operations, in ``height`` lines."""
    head = [_title(picture, path, order, width, style), *_totals(picture, width, style), ""]
    if not picture.operations:
        nothing = f"no span has ended in the last {style.duration(picture.window)}"
        return [*head, style.paint(nothing, "dim")][:height]
    loads = _in_order(picture, order)
    room = height - len(head) - 1
    rows = [_row(load, picture, style) for load in loads]
    lines = format_table(_COLUMNS, rows, width, style, [_looks(load) for load in loads])
    if len(loads) > room:
        shown = max(room - 1, 0)
        rest = style.paint(f"and {len(loads) - shown:,} more", "dim")
        lines = [*lines[: shown + 1], rest]
    return [*head, *lines][:height]


def _title(picture: Picture, path: str, order: str, width: int, style: Style) -> str:
    between = style.glyphs.between
    end = f"{format_time(picture.now, '%H:%M:%S')[:8]}{between}last {style.duration(picture.window)}{between}by {order}"
    name = clip(
        f"rimp top  {style.clean(path)}", max(width - columns(end) - 2, 8), style.glyphs.ellipsis
    )
    gap = max(width - columns(name) - columns(end), 1)
    return style.paint(name, "bold") + " " * gap + style.paint(end, "dim")


def _totals(picture: Picture, width: int, style: Style) -> list[str]:
    total = picture.total
    logs = _brief(picture.rate(sum(picture.logs.values())))
    latencies = [(name, value) for name, value in _latencies(total) if value is not None]
    pieces: list[Piece] = [
        (f"{_brief(picture.rate(total.spans))} spans/s", ()),
        (f"{_share(total)} errors", ("red",) if total.errors else ()),
        *((f"{name} {style.duration(value)}", ()) for name, value in latencies),
        (f"{logs} logs/s", ()),
        *(
            (plural(picture.logs[kind], f"logged {kind.value}"), (look,))
            for kind, look in ((EventType.ERROR, "red"), (EventType.WARNING, "yellow"))
            if picture.logs[kind]
        ),
    ]
    course = style.sparkline([float(count) for count in picture.course], low=0)
    services = f"  {plural(len(picture.services), 'service')}"
    return [*flow(pieces, "  ", width, style), style.paint(course, "cyan") + services]


def _latencies(load: Load) -> list[tuple[str, int | None]]:
    return [("p50", load.p50), ("p95", load.p95), ("p99", load.p99)]


def _brief(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _share(load: Load) -> str:
    return f"{load.errors / load.spans:.1%}" if load.spans else "0.0%"


def _in_order(picture: Picture, order: str) -> list[Load]:
    """Each service, followed by its operations."""
    key = ORDERS[order]
    loads: list[Load] = []
    own: dict[str, list[Load]] = {}
    for load in sorted(picture.operations, key=_name):
        own.setdefault(load.service, []).append(load)
    for service in sorted(sorted(picture.services, key=_name), key=key, reverse=True):
        loads += [service, *sorted(own[service.service], key=key, reverse=True)]
    return loads


def _name(load: Load) -> tuple[str, str]:
    return load.service, load.name or ""


def _row(load: Load, picture: Picture, style: Style) -> tuple[str, ...]:
    service = clip(style.clean(load.service) or "(no service)", 20, style.glyphs.ellipsis)
    latencies = ["-" if value is None else style.duration(value) for _, value in _latencies(load)]
    return (
        pad(service, 1) if load.name is None else "",
        _brief(picture.rate(load.spans)),
        _share(load) if load.errors else "",
        *latencies,
        "" if load.name is None else style.clean(load.name) or "(no name)",
    )


def _looks(load: Load) -> tuple[str, ...]:
    look = service_look(load.service) if load.name is None else ""
    bold = "bold" if load.name is None else ""
    return (look, bold, "red", bold, bold, bold, "")


def picture_json(picture: Picture) -> dict[str, Any]:
    """A frame as ``rimp top --json`` prints it; docs/cli.md describes the shape."""
    return {
        "time": format_utc(picture.now),
        "window_ns": picture.window,
        "total": _load_json(picture.total, picture),
        "services": [
            {"service": load.service, **_load_json(load, picture)}
            for load in _by_spans(picture.services)
        ],
        "operations": [
            {"service": load.service, "name": load.name, **_load_json(load, picture)}
            for load in _by_spans(picture.operations)
        ],
        "logs": {kind.value: picture.logs[kind] for kind in EventType},
    }


def _by_spans(loads: list[Load]) -> list[Load]:
    return sorted(loads, key=lambda load: load.spans, reverse=True)


def _load_json(load: Load, picture: Picture) -> dict[str, Any]:
    return {
        "spans": load.spans,
        "spans_per_second": picture.rate(load.spans),
        "errors": load.errors,
        "p50_ns": load.p50,
        "p95_ns": load.p95,
        "p99_ns": load.p99,
    }
