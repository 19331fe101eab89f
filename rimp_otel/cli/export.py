"""``rimp export``: export a trace and the records around it as OTLP JSON lines, or as a page."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rimp_otel.cli.options import (
    UsageError,
    add_output_options,
    add_window_options,
    parse_duration_argument,
    parse_trace_prefix,
    path_from_args,
    style_from_args,
    window_from_args,
)
from rimp_otel.cli.output import (
    counts_json,
    format_counts,
    open_recording_at,
    report_damage,
    retrieve_records,
)
from rimp_otel.cli.traces import find_trace, mentions_trace, read_trace
from rimp_otel.errors import StorageError
from rimp_otel.models.accessors import end_of, start_of, time_of
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_bytes
from rimp_otel.render.terminal import to_json
from rimp_otel.trace import Trace

if TYPE_CHECKING:
    from rimp_otel.batch import TelemetryData

__all__ = ["add_export_arguments", "make_bundle", "window_around", "write_bundle", "write_page"]

_DEFAULT_MARGIN = 300 * 10**9
_DESCRIPTION = """\
Export a trace, with all log records and metrics around it, as a bundle of OTLP JSON lines: one
file per signal, for any OTLP tool and for --path. Or, with --html, as one HTML file: the page of
`rimp ui` with the records in it, which any browser opens without a server, to attach to a report.
Without --trace, export all records from --since to --until.
"""


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp export``."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "out",
        metavar="OUT",
        nargs="?",
        type=Path,
        help="directory, .tar.gz, .tgz or .zip to create; must not exist",
    )
    parser.add_argument(
        "--html",
        metavar="FILE",
        type=Path,
        help="HTML file to create instead of OUT; must not exist",
    )
    parser.add_argument(
        "--trace",
        metavar="ID",
        type=parse_trace_prefix,
        help="trace id, or enough of its first digits to be unique",
    )
    parser.add_argument(
        "--window",
        metavar="D",
        type=parse_duration_argument,
        default=_DEFAULT_MARGIN,
        help="time before and after the trace to include, such as 30s (default: 5m)",
    )
    add_window_options(parser)
    add_output_options(parser, "what was written")
    parser.set_defaults(command=_run_export)


def _run_export(args: argparse.Namespace) -> int:
    path, window = path_from_args(args), window_from_args(args)
    if args.trace is None and window == Window():
        raise UsageError("nothing to export: give --trace, or --since and --until")
    if args.trace is not None and window != Window():
        raise UsageError("--since and --until do not apply to --trace: give --window instead")
    if (args.out is None) == (args.html is None):
        raise UsageError("give either OUT or --html FILE")
    out: Path = args.html or args.out
    if os.path.lexists(out):
        raise UsageError(f"{out} exists: give another name")
    recording = open_recording_at(path, is_wanted=args.trace and mentions_trace(args.trace))
    trace = args.trace and find_trace(read_trace(recording, args.trace), args.trace, path)
    data = make_bundle(trace, path, args.window) if trace else retrieve_records(recording, window)
    if not data:
        raise StorageError(f"no records in {path} in that time range: {out} was not written")
    size = write_page(data, out, trace) if args.html else write_bundle(data, out)
    records = {signal: data.count_of(signal) for signal in Signal}
    if args.json:
        print(to_json({"out": str(out), "bytes": size, "records": counts_json(records)}))
    else:
        name = style_from_args(args).clean(out)
        print(f"{name}: {format_counts(records)} ({format_bytes(size)})")
    report_damage(recording)
    return 0


def window_around(trace: Trace, nanos: int) -> Window:
    """Return the time of a trace, extended by so much before and after it."""
    times = [t for span in trace.spans for t in (start_of(span), end_of(span)) if t]
    times += [time_of(event) for event in trace.events]
    # The end of the window is exclusive.
    return Window(min(times, default=0), max(times, default=0) + 1).widened(nanos)


def make_bundle(trace: Trace, path: Path, nanos: int) -> TelemetryData:
    """Return a trace with all log records and metrics that were recorded around it."""
    from rimp_otel.batch import TelemetryData
    from rimp_otel.models.filters import Filter

    wanted = Filter.of(signals=["logs", "metrics"])
    around = retrieve_records(open_recording_at(path), window_around(trace, nanos), wanted)
    return TelemetryData(around.events, around.metrics, trace.spans)


def write_bundle(data: TelemetryData, out: Path) -> int:
    """Write the records, one file per signal, to a new directory or archive; return its bytes.

    The bundle is written as a whole or not at all, and readable by its owner only.

    Raises:
        OSError: it cannot be written.
    """
    texts = {
        f"{signal.value}.jsonl": b"".join(line + b"\n" for line in data.otlp_json(signal))
        for signal in Signal
        if data.count_of(signal)
    }
    write = _writer_for(out)
    with _written_whole(out) as unfinished:
        write(texts, unfinished)
    return sum(map(len, texts.values())) if out.is_dir() else out.stat().st_size


def write_page(data: TelemetryData, out: Path, trace: Trace | None = None) -> int:
    """Write the records as one HTML file, which shows the trace first if there is one; return its
    bytes.

    It is written as a whole or not at all, and readable by its owner only.

    Raises:
        OSError: it cannot be written.
    """
    from rimp_otel.viewer.single_page import make_single_page

    lines = (line for signal in Signal for line in data.otlp_json(signal))
    view = f"#/trace?from=all&id={trace.trace_id:032x}" if trace else ""
    page = make_single_page(lines, out.stem, view)
    with _written_whole(out) as unfinished:
        _write_private(unfinished, page)
    return len(page)


@contextmanager
def _written_whole(out: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes ``out`` at the end, or is removed after a failure."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        yield unfinished
        os.rename(unfinished, out)
    except BaseException:
        shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink(missing_ok=True)
        raise


_Texts = dict[str, bytes]


def _writer_for(out: Path) -> Callable[[_Texts, Path], None]:
    if out.name.endswith((".tar.gz", ".tgz")):
        return _write_to_tar
    return _write_to_zip if out.suffix == ".zip" else _write_to_directory


def _write_to_directory(texts: _Texts, path: Path) -> None:
    path.mkdir(mode=0o700)
    for name, text in texts.items():
        _write_private(path / name, text)


def _write_to_tar(texts: _Texts, path: Path) -> None:
    with (
        open(path, "xb", opener=_open_private) as file,
        tarfile.open(fileobj=file, mode="w:gz") as tar,
    ):
        for name, text in texts.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o600
            tar.addfile(member, io.BytesIO(text))


def _write_to_zip(texts: _Texts, path: Path) -> None:
    with (
        open(path, "xb", opener=_open_private) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, text in texts.items():
            archive.writestr(name, text)


def _write_private(path: Path, content: bytes) -> None:
    with open(path, "xb", opener=_open_private) as file:
        file.write(content)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
