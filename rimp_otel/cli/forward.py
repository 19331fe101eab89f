"""``rimp forward``: send a recording to destinations, with proof of delivery."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.options import (
    UsageError,
    add_output_options,
    add_window_options,
    output_width,
    parse_duration_argument,
    path_from_args,
    style_from_args,
    window_from_args,
)
from rimp_otel.cli.output import format_counts, open_recording_at, warn
from rimp_otel.cli.run import retain_size
from rimp_otel.cli.signals import handle_signals
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_bytes, format_count, format_duration, format_time
from rimp_otel.render.terminal import Column, Style, format_table, to_json

if TYPE_CHECKING:
    from rimp_otel.storage.base import RecordingLayout
    from rimp_otel.transport.forwarding.delivery import Selector
    from rimp_otel.transport.forwarding.destination import Destination
    from rimp_otel.transport.forwarding.destination_options import DestinationOptions
    from rimp_otel.transport.forwarding.forward_status import DestinationStatus, SignalStatus
    from rimp_otel.transport.forwarding.forwarder import ForwarderOptions, SignalOutcome
    from rimp_otel.transport.forwarding.ledger import Ledger

__all__ = ["add_forward_arguments", "format_statuses", "status_json"]

_DESCRIPTION = """\
Send a recording to destinations, and remember what each has acknowledged.

  rimp forward otlp+http://127.0.0.1:4318           forward all that is and will be recorded
  rimp forward --once otlp+grpc://127.0.0.1:4317    forward what is there, and end
  rimp forward --status                             show what was acknowledged, and what is pending

Without a destination, that of $OTEL_EXPORTER_OTLP_ENDPOINT. Secrets belong into $OTEL_EXPORTER_OTLP_HEADERS or
a file for --header-file, and not into a URL, which other users of the machine can see.
"""

# Seconds.
_MAX_DRAIN, _MAX_STOP, _TIMEOUT = 15.0, 5.0, 10.0


def add_forward_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp forward``."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "destinations",
        metavar="DESTINATION",
        nargs="*",
        help="URL: otlp+http://HOST:4318, otlp+https:, otlp+grpc:, otlp+grpcs: or file:",
    )
    add_output_options(parser, "what was forwarded, or the status,")
    parser.add_argument(
        "--once", action="store_true", help="end once what is there is acknowledged; 1 if it is not"
    )
    parser.add_argument(
        "--status", action="store_true", help="show the ledger of each destination, and end"
    )
    parser.add_argument(
        "--forget",
        action="store_true",
        help="forget the destinations: hold nothing for them any more, and end",
    )
    parser.add_argument(
        "--refused",
        action="store_true",
        help="send again what was refused and set aside, and end",
    )
    add_window_options(parser)
    parser.add_argument(
        "--keep",
        metavar="RULE",
        help="forward whole traces that meet a rule, such as 'status = error or sample(5%%)'",
    )
    parser.add_argument(
        "--signals",
        metavar="NAMES",
        type=_parse_signals,
        default=tuple(Signal),
        help="signals to forward, such as traces,logs (default: all)",
    )
    parser.add_argument(
        "--hold",
        metavar="SIZE",
        type=_parse_hold,
        help="size held for a destination (default: 10 GB, or a quarter of the disk)",
    )
    parser.add_argument(
        "--give-up",
        metavar="D",
        type=parse_duration_argument,
        default=30 * 10**9,
        help="with --once, end after so long without a success (default: 30s)",
    )
    _add_destination_options(parser)
    parser.set_defaults(command=_run_forward)


def _add_destination_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "destinations", "Of all destinations; they win over $OTEL_EXPORTER_OTLP_*."
    )
    group.add_argument(
        "--header-file", metavar="FILE", help="file of headers, 'Name: value' on each line"
    )
    group.add_argument(
        "--ca-file", metavar="FILE", help="certificates that the server's must be signed by, in PEM"
    )
    group.add_argument("--certificate", metavar="FILE", help="certificate of the client, in PEM")
    group.add_argument("--key", metavar="FILE", help="key of the client's certificate, in PEM")
    group.add_argument(
        "--compression", choices=("gzip", "none"), help="compression of requests: gzip or none"
    )
    group.add_argument(
        "--encoding", choices=("protobuf", "json"), help="encoding over HTTP: protobuf or json"
    )
    group.add_argument(
        "--timeout",
        metavar="D",
        type=parse_duration_argument,
        help="time for one request (default: 10s)",
    )
    group.add_argument(
        "--max-request-size",
        metavar="SIZE",
        type=_parse_hold,
        help="size of the largest request, not compressed (default: what servers take)",
    )


def _parse_signals(text: str) -> tuple[Signal, ...]:
    try:
        return tuple(dict.fromkeys(Signal(name.strip()) for name in text.split(",")))
    except ValueError:
        names = ", ".join(signal.value for signal in Signal)
        raise argparse.ArgumentTypeError(f"expected some of {names}, got {text!r}") from None


def _parse_hold(text: str) -> int:
    size = retain_size(text)
    if size == "none":
        raise argparse.ArgumentTypeError(f"not a size such as 500MB: {text!r}")
    return int(size)


def _run_forward(args: argparse.Namespace, env: Mapping[str, str] = os.environ) -> int:
    path = path_from_args(args, env)
    if args.status:
        return _show_status(args, path)
    urls = _urls_of(args, env)
    if args.forget:
        return _forget(path, urls)
    # All of these need the SDK, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.transport.forwarding.destination import open_destination

    window = window_from_args(args)
    if args.once or args.refused or window != Window():
        open_recording_at(path)
    opened: list[Destination] = []
    try:
        timeouts = []
        for url in urls:
            destination_options = _options_of(args, env, url)
            timeouts.append(destination_options.longest_timeout(_TIMEOUT))
            opened.append(open_destination(url, destination_options))
        options = _forwarder_options(args, max(timeouts))
        if args.refused:
            return _send_again(args, path, opened, options, None)
        if window != Window():
            return _send_again(args, path, opened, options, window)
        return _forward(args, path, opened, options)
    finally:
        for destination in opened:
            destination.close()


def _urls_of(args: argparse.Namespace, env: Mapping[str, str]) -> list[str]:
    if args.destinations:
        return list(args.destinations)
    from rimp_otel.transport.forwarding.destination_options import destination_of_environment

    if not any(name.startswith("OTEL_EXPORTER_OTLP_") and env[name] for name in env):
        raise UsageError(
            "no destination: give a URL such as otlp+http://127.0.0.1:4318, or set"
            " OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    return [destination_of_environment(env)]


def _options_of(args: argparse.Namespace, env: Mapping[str, str], url: str) -> DestinationOptions:
    from rimp_otel.transport.forwarding.destination_options import (
        options_of_environment,
        read_headers,
    )

    return options_of_environment(env, url).with_changes(
        headers=read_headers(args.header_file) if args.header_file else {},
        ca_file=args.ca_file,
        certificate_file=args.certificate,
        key_file=args.key,
        compression=args.compression,
        encoding=args.encoding,
        timeout=None if args.timeout is None else args.timeout / 1e9,
        max_request_size=args.max_request_size,
    )


def _forwarder_options(args: argparse.Namespace, timeout: float) -> ForwarderOptions:
    from rimp_otel.transport.forwarding.forwarder import ForwarderOptions

    options = ForwarderOptions(
        args.once, timeout=timeout, give_up=args.give_up / 1e9, signals=args.signals
    )
    if args.hold is not None:
        options = options._replace(hold=args.hold)
    return options


def _selector_of(args: argparse.Namespace, path: Path, final: bool) -> Selector | None:
    if args.keep is None:
        return None
    from rimp_otel.processing.trace_rules import TraceRule
    from rimp_otel.transport.forwarding.trace_selection import TraceSelection

    return TraceSelection(path, TraceRule.parse(args.keep), final=final)


class _StopFlag:
    """Set by a signal's handler. Not an Event, whose lock might be held by what the signal interrupts."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self, *_: object) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for so many seconds, or until it is set; return True if it is."""
        deadline = time.monotonic() + (threading.TIMEOUT_MAX if timeout is None else timeout)
        while not self._is_set and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return self._is_set


@contextmanager
def _stopped_by_signals() -> Iterator[_StopFlag]:
    stopping = _StopFlag()
    with handle_signals(dict.fromkeys((signal.SIGINT, signal.SIGTERM), stopping.set)):
        yield stopping


# Forwarding.


def _forward(
    args: argparse.Namespace,
    path: Path,
    opened: Sequence[Destination],
    options: ForwarderOptions,
) -> int:
    from rimp_otel.storage.recording import layout_of
    from rimp_otel.transport.forwarding.forward_metrics import observe_forwarders
    from rimp_otel.transport.forwarding.forwarder import Forwarder
    from rimp_otel.transport.forwarding.recovery import recover_dead_journals

    selector = _selector_of(args, path, final=args.once)
    forwarder = Forwarder(path, opened, options, selector, recover=recover_dead_journals)
    observe_forwarders(forwarder)
    with _stopped_by_signals() as stopping:
        failure = _wait_for_journals(layout_of(path), stopping) if args.once else ""
        forwarder.start()
        try:
            if not args.once:
                names = ", ".join(destination.name for destination in opened)
                warn(f"forwarding {path} to {names}; end with Ctrl+C")
            while not stopping.is_set() and not forwarder.wait(0.1):
                pass
        finally:
            forwarder.stop(_MAX_STOP)
    return _report(args, forwarder.outcomes(), failure, stopping.is_set())


def _wait_for_journals(layout: RecordingLayout, stopping: _StopFlag) -> str:
    """Wait until living processes have stored what is recorded now; return why not all is."""
    from rimp_otel.transport.forwarding.recovery import Backlog

    backlog = Backlog(layout)
    if backlog.wait(_MAX_DRAIN, stopping.wait):
        return ""
    return (
        f"{backlog}: a process has not stored what it recorded for {_MAX_DRAIN:g} s; its records are"
        " forwarded once it has, or has ended"
    )


def _report(
    args: argparse.Namespace, outcomes: Sequence[SignalOutcome], failure: str, is_ended: bool
) -> int:
    if args.json:
        for outcome in outcomes:
            print(to_json(_outcome_json(outcome)))
    for line in _summary_lines(outcomes):
        warn(line)
    if args.once and is_ended:
        failure = "ended by a signal before all was forwarded"
    if failure:
        warn(failure)
    return 1 if failure or any(outcome.failure for outcome in outcomes) else 0


def _outcome_json(outcome: SignalOutcome) -> dict[str, Any]:
    return {
        "destination": outcome.destination,
        "signal": outcome.signal.value,
        **outcome.ledger.as_json(),
        "failure": outcome.failure or None,
    }


def _summary_lines(outcomes: Sequence[SignalOutcome]) -> Iterator[str]:
    """Yield a line for each destination, and one for each failure."""
    for name in dict.fromkeys(outcome.destination for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.destination == name]
        counts = format_counts({entry.signal: entry.ledger.acknowledged for entry in own})
        others = "".join(
            f"; {outcome.signal.value}: {text}"
            for outcome in own
            if (text := _describe_losses(outcome.ledger))
        )
        yield f"{name} has acknowledged {counts}{others}"
        for failure in dict.fromkeys(outcome.failure for outcome in own if outcome.failure):
            which = [outcome.signal.value for outcome in own if outcome.failure == failure]
            yield f"not all {' and '.join(which)} went to {name}: {failure}"


def _describe_losses(ledger: Ledger) -> str:
    parts = [f"{ledger.expired:,} expired"] if ledger.expired else []
    parts += [f"{count:,} refused ({reason})" for reason, count in ledger.refused.items()]
    parts += [f"{count:,} not kept ({reason})" for reason, count in ledger.not_kept.items()]
    return ", ".join(parts)


# Status.


def _show_status(args: argparse.Namespace, path: Path) -> int:
    from rimp_otel.storage.recording import layout_of
    from rimp_otel.transport.forwarding.destination import destination_name
    from rimp_otel.transport.forwarding.forward_status import StatusReader

    open_recording_at(path)
    names = [destination_name(url) for url in args.destinations] or None
    found = StatusReader(layout_of(path)).read(names)
    now = time.time_ns()
    if args.json:
        for status in found:
            print(to_json(status_json(status, now)))
        return 0
    if not found:
        warn(f"nothing is forwarded of {path}, or was yet")
        return 0
    for line in format_statuses(found, now, output_width(), style_from_args(args)):
        print(line)
    return 0


def status_json(status: DestinationStatus, now: int) -> dict[str, Any]:
    """Return the state of a destination for ``--json``; ``now`` in nanoseconds since the epoch."""
    return {
        "destination": status.name,
        "running": status.is_running,
        "hold": status.hold,
        "signals": {
            signal.value: {
                "recorded": found.recorded,
                **found.ledger.as_json(),
                "pending": found.pending.records,
                "pending_in_journals": found.pending.in_journals,
                "repeated": found.repeated,
                "damaged_lines": found.damaged_lines,
                "lag_seconds": round(found.lag(now), 3),
                "state": _state_of_signal(status, found),
                "waiting_until": found.status.until or None,
                "error": found.status.error or None,
                "error_time": found.status.error_time or None,
                "dead_letters": None if found.dead_letters is None else str(found.dead_letters),
            }
            for signal, found in status.signals.items()
        },
    }


def _state_of_signal(status: DestinationStatus, found: SignalStatus) -> str:
    if found.status.state == "stopped":
        return "stopped"
    if not status.is_running:
        return "not running"
    if found.status.state == "waiting":
        return "waiting"
    return "sending" if found.pending.records else "idle"


def format_statuses(
    found: Sequence[DestinationStatus], now: int, width: int, style: Style
) -> Iterator[str]:
    """Yield the lines of ``rimp forward --status``."""
    for number, status in enumerate(found):
        if number:
            yield ""
        held = f"holds up to {format_bytes(status.hold)}"
        yield f"{style.paint(style.clean(status.name), 'bold')}  {style.paint(held, 'dim')}"
        columns = [Column("", False), *(Column(name, True) for name in _NUMBERS), Column("", False)]
        rows = [
            _status_row(which, entry, _state_of_signal(status, entry), now)
            for which, entry in status.signals.items()
        ]
        yield from format_table(columns, rows, width, style)
        for which, entry in status.signals.items():
            if losses := _describe_losses(entry.ledger):
                yield f"{which.value}: {losses}"
            if entry.damaged_lines:
                count = format_count(entry.damaged_lines, "line")
                yield f"{which.value}: {count} cannot be read: run 'rimp verify'"
            if entry.dead_letters is not None:
                yield f"{which.value}: refused records are in {style.clean(entry.dead_letters)}"
            if entry.status.error:
                when = format_time(entry.status.error_time)
                yield f"{which.value}: {when} {style.clean(entry.status.error)}"


_NUMBERS = ("recorded", "acknowledged", "pending", "expired", "refused", "not kept", "lag")


def _status_row(which: Signal, entry: SignalStatus, state: str, now: int) -> list[str]:
    ledger, lag = entry.ledger, entry.lag(now)
    counts = (
        entry.recorded,
        ledger.acknowledged,
        entry.pending.records,
        ledger.expired,
        sum(ledger.refused.values()),
        sum(ledger.not_kept.values()),
    )
    return [
        which.value,
        *(f"{count:,}" for count in counts),
        format_duration(int(lag * 1e9)) if lag else "-",
        state,
    ]


def _forget(path: Path, urls: Sequence[str]) -> int:
    from rimp_otel.storage.recording import layout_of
    from rimp_otel.transport.forwarding.cursor import DestinationDirectory
    from rimp_otel.transport.forwarding.destination import destination_name

    for url in urls:
        directory = DestinationDirectory(layout_of(path).forward, destination_name(url))
        if not directory.path.is_dir():
            raise UsageError(
                f"nothing was forwarded from {path} to {directory.name}: 'rimp forward --status' lists"
                " the destinations"
            )
        with directory.locked():
            shutil.rmtree(directory.path)
        warn(f"{directory.name} is forgotten: nothing is held for it any more")
    return 0


# Sending again.


def _send_again(
    args: argparse.Namespace,
    path: Path,
    opened: Sequence[Destination],
    options: ForwarderOptions,
    window: Window | None,
) -> int:
    """Send a window again, or without one, what was refused."""
    from rimp_otel.storage.recording import layout_of
    from rimp_otel.transport.forwarding.delivery import Delivery, Pace
    from rimp_otel.transport.forwarding.resend import send_refused, send_window

    selector = _selector_of(args, path, final=True)

    def make_delivery(signal: Signal, destination: Destination) -> Delivery:
        pace = Pace(stopping, give_up=options.give_up)
        return Delivery(signal, destination, pace, options.timeout, selector)

    outcomes: list[SignalOutcome] = []
    with _stopped_by_signals() as stopping:
        for destination in opened:
            if window is None:
                layout = layout_of(path)
                outcomes += send_refused(layout, destination, args.signals, make_delivery)
            else:
                outcomes += send_window(path, window, destination, args.signals, make_delivery)
    return _report(args, outcomes, "", is_ended=False)
