"""``rimp replay``: give recorded records to an installed exporter of OpenTelemetry."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rimp_otel.cli.options import (
    UsageError,
    add_color_option,
    add_filter_options,
    add_json_option,
    add_path_option,
    add_severity_option,
    filter_from_args,
    parse_count,
    parse_trace_prefix,
    path_from_args,
    style_from_args,
    window_from_args,
)
from rimp_otel.cli.output import (
    SIGNAL_NOUNS,
    Progress,
    counts_json,
    format_counts,
    open_recording_at,
    report_damage,
    warn,
)
from rimp_otel.models.records import Signal
from rimp_otel.render.format import format_count
from rimp_otel.render.terminal import to_json

if TYPE_CHECKING:
    from rimp_otel.transport.forwarding.replay import Replay

__all__ = ["add_replay_arguments"]

_BATCH = 512
_MAX_REASONS = 5
_DESCRIPTION = """\
Give recorded records to an exporter of OpenTelemetry that is installed, by the name of its entry
points, as in OTEL_TRACES_EXPORTER: batch by batch, the oldest first. The exporter is configured by its
own environment variables. Each run begins anew; nothing is remembered of what was sent.
"""


def add_replay_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp replay``."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--exporter",
        metavar="NAME",
        required=True,
        help="name of the exporter, such as otlp_proto_grpc, zipkin or console",
    )
    parser.add_argument(
        "--signal",
        metavar="SIGNAL",
        nargs="+",
        action="extend",
        choices=[signal.value for signal in Signal],
        help="replay only these signals: traces, logs, metrics",
    )
    parser.add_argument(
        "--trace",
        metavar="ID",
        type=parse_trace_prefix,
        help="replay only records of this trace: its id, or the first digits of it",
    )
    parser.add_argument(
        "--batch",
        metavar="N",
        type=parse_count,
        default=_BATCH,
        help=f"records in each batch (default: {_BATCH})",
    )
    add_severity_option(parser)
    add_filter_options(parser, "name of the span, metric or event; * matches any text")
    add_path_option(parser)
    add_json_option(parser, "the counts")
    add_color_option(parser)
    parser.set_defaults(command=_run_replay)


def _run_replay(args: argparse.Namespace, env: Mapping[str, str] = os.environ) -> int:
    from rimp_otel.storage.base import Selection
    from rimp_otel.transport.forwarding.replay import Replay, load_exporters

    if not args.batch:
        raise UsageError("--batch must be 1 or more")
    path, window = path_from_args(args), window_from_args(args)
    signals = [Signal(name) for name in args.signal or ()] or list(Signal)
    recording = open_recording_at(path)
    _check_target(args.exporter, path, env)
    exporters = load_exporters(args.exporter, signals)
    wanted = filter_from_args(args, *(signal.value for signal in exporters))
    _warn_of_others(args.exporter, signals, exporters)
    replay = Replay(exporters, _Reasons())
    is_clean = False
    try:
        with Progress("replaying") as progress:
            for data in recording.iter_retrieve(Selection(window, None, wanted), args.batch):
                replay.send(data)
                progress.advance(len(data))
    finally:
        is_clean = replay.close()
    _print_counts(args, replay)
    report_damage(recording)
    failed = sum(counts.failed for counts in replay.counts.values())
    return 1 if failed or not is_clean else 0


def _check_target(name: str, path: Path, env: Mapping[str, str]) -> None:
    """Check that a recording is not replayed into itself.

    Raises:
        UsageError: it would be.
    """
    target = path_from_args(argparse.Namespace(path=None), env)
    if name == "rimp" and os.path.realpath(target) == os.path.realpath(path):
        raise UsageError(
            f"the exporter 'rimp' would add {path} to itself: set RIMP_STORAGE_PATH to another path"
        )


def _warn_of_others(name: str, signals: Collection[Signal], made: Collection[Signal]) -> None:
    for signal in signals:
        if signal not in made:
            warn(f"no exporter {name!r} is installed for {signal.value}, which are left out")


class _Reasons:
    """Prints the first reasons why something failed, each once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, reason: str) -> None:
        if reason not in self._seen and len(self._seen) < _MAX_REASONS:
            self._seen.add(reason)
            warn(reason)


def _print_counts(args: argparse.Namespace, replay: Replay) -> None:
    counts = replay.counts
    sent = {signal: found.sent for signal, found in counts.items()}
    failed = {signal: found.failed for signal, found in counts.items()}
    left_out = sum(found.left_out for found in counts.values())
    if args.json:
        print(
            to_json(
                {
                    "exporter": args.exporter,
                    "sent": counts_json(sent),
                    "failed": counts_json(failed),
                    "leftOut": left_out,
                }
            )
        )
        return
    style = style_from_args(args)
    print(f"{style.clean(args.exporter)} took {format_counts(sent)}")
    if any(failed.values()):
        print(f"{style.clean(args.exporter)} did not take {format_counts(failed)}")
    if left_out:
        print(
            f"{format_count(left_out, SIGNAL_NOUNS[Signal.METRICS])} of summaries left out,"
            " which the SDK does not have"
        )
    sys.stdout.flush()
