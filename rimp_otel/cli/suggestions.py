"""Names that are recorded, where one that was asked for is not: a typing error is the likeliest reason."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection, Iterable
from pathlib import Path

from rimp_otel.cli.output import open_recording_at, read_batches, records_of, warn
from rimp_otel.models.accessors import Record, service_of
from rimp_otel.models.records import Signal, TelemetryEvent

__all__ = ["describe_nearest", "warn_of_unknown_names"]

_MAX_RECORDS = 200_000
_MAX_NAMES = 10_000
_MAX_SHOWN = 3


def warn_of_unknown_names(
    args: argparse.Namespace, path: Path, signals: Collection[Signal]
) -> None:
    """Warn of a ``--service`` or a name that is not recorded, and name the nearest that are.

    For commands that found nothing: it reads up to 200,000 records.

    Args:
        args: the arguments of the command.
        path: path of the recording.
        signals: what the command reads.
    """
    service, name = getattr(args, "service", None), getattr(args, "name", None)
    if name is not None and "*" in name:
        name = None
    if not service and not name:
        return
    services: set[str] = set()
    names: set[str] = set()
    recording = open_recording_at(path)
    number = 0
    for data in read_batches(recording, signals=signals):
        for record in records_of(data, signals):
            services.add(service_of(record))
            names.add(_recorded_name(record))
        number += len(data)
        if number > _MAX_RECORDS or len(names) > _MAX_NAMES:
            return  # what is not among these may be among the others
        if service in services and (not name or name in names):
            return
    for noun, wanted, known in (("service", service, services), ("name", name, names)):
        if wanted and wanted not in known and known - {""}:
            warn(f"no {noun} {wanted!r} in {path}: {describe_nearest(wanted, known - {''})}")


def describe_nearest(wanted: str, known: Iterable[str]) -> str:
    """Return the names that are most like the wanted one, or the first ones if none is like it."""
    names = sorted(known)
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(wanted.lower(), by_lower, _MAX_SHOWN)
    if near:
        return "did you mean " + " or ".join(repr(by_lower[name]) for name in near) + "?"
    more = ", ..." if len(names) > _MAX_SHOWN else ""
    return f"there is {', '.join(map(repr, names[:_MAX_SHOWN]))}{more}"


def _recorded_name(record: Record) -> str:
    return record.event_name if isinstance(record, TelemetryEvent) else record.name
