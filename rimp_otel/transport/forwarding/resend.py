"""Sending again: a window of a recording, or the records that a destination had refused.

Neither moves a cursor. A window has a ledger of its own; what was refused is in the ledger already, and
moves there to what has become of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.otlp.outgoing import split_line
from rimp_otel.otlp.scan import times_of_line
from rimp_otel.storage.base import RecordingLayout, Selection
from rimp_otel.storage.reading import count_line
from rimp_otel.storage.recording import open_recording
from rimp_otel.transport.forwarding.cursor import Cursor, DestinationDirectory, read_cursor
from rimp_otel.transport.forwarding.dead_letters import DeadLetters
from rimp_otel.transport.forwarding.delivery import (
    Delivery,
    GaveUpError,
    InterruptedDeliveryError,
    Letter,
    StoppedDeliveryError,
)
from rimp_otel.transport.forwarding.destination import Destination
from rimp_otel.transport.forwarding.forwarder import SignalOutcome
from rimp_otel.transport.forwarding.ledger import Ledger
from rimp_otel.transport.forwarding.sources import Portion, PortionLimits, count_line_records

__all__ = ["send_refused", "send_window"]

MakeDelivery = Callable[[Signal, Destination], Delivery]
"""Makes the delivery of a signal to a destination."""

_ENDINGS = (GaveUpError, InterruptedDeliveryError, StoppedDeliveryError)


def send_window(
    path: Path,
    window: Window,
    destination: Destination,
    signals: Sequence[Signal],
    make_delivery: MakeDelivery,
    limits: PortionLimits = PortionLimits(),  # noqa: B008
) -> list[SignalOutcome]:
    """Send what was recorded in a window of time, whatever was sent before.

    A record's time is that by which it is retrieved: a span's start.

    Args:
        path: of the recording.
        window: of time.
        destination: where to.
        signals: which to send.
        make_delivery: makes the delivery of each.
        limits: of what is delivered at once.

    Raises:
        StorageError: the recording cannot be read.
    """
    deliveries = {signal: make_delivery(signal, destination) for signal in signals}
    ledgers = dict.fromkeys(signals, Ledger())
    failures = dict.fromkeys(signals, "")
    for signal, portion in _portions_of(path, window, signals, limits):
        if failures[signal]:
            continue
        try:
            ledgers[signal] += deliveries[signal].deliver(portion).ledger
        except _ENDINGS as error:
            failures[signal] = str(error) or "it was ended before all was sent"
            if _stops_all(error):
                failures = {signal: text or failures[signal] for signal, text in failures.items()}
    return [
        SignalOutcome(destination.name, signal, ledgers[signal], failures[signal])
        for signal in signals
    ]


def _stops_all(error: Exception) -> bool:
    return not isinstance(error, StoppedDeliveryError) or not error.is_signal_only


def _portions_of(
    path: Path, window: Window, signals: Sequence[Signal], limits: PortionLimits
) -> Iterator[tuple[Signal, Portion]]:
    recording = open_recording(path, decode=count_line)
    gathered: dict[Signal, Portion] = {}
    for data in recording.batches(Selection(window)):
        for signal in signals:
            for line in data.otlp_json(signal):
                for text in _lines_within(line, window):
                    count = count_line_records(text)
                    portion = gathered.setdefault(signal, Portion([], 0))
                    size = sum(map(len, portion.lines)) + len(text)
                    is_full = size > limits.size or portion.records + count > limits.records
                    if portion.lines and is_full:
                        yield signal, portion
                        portion = Portion([], 0)
                    gathered[signal] = Portion([*portion.lines, text], portion.records + count)
    yield from ((signal, portion) for signal, portion in gathered.items() if portion.lines)


def _lines_within(line: bytes, window: Window) -> list[bytes]:
    """Return the records of a line that are within the window, as lines."""
    times = times_of_line(line)
    if times is None:
        return []
    inside = [window.contains(time) for time in times]
    if all(inside):
        return [line]
    try:
        singles = split_line(line)
    except DecodeError:
        return []
    return [
        single
        for single in singles
        if (own := times_of_line(single)) is not None and window.contains(own[0])
    ]


def send_refused(
    layout: RecordingLayout,
    destination: Destination,
    signals: Sequence[Signal],
    make_delivery: MakeDelivery,
    limits: PortionLimits = PortionLimits(),  # noqa: B008
    clock: Callable[[], int] = time.time_ns,
) -> list[SignalOutcome]:
    """Send again what a destination had refused and was set aside.

    What it takes now is acknowledged in the ledger, and leaves the dead-letter file; the rest stays.

    Args:
        layout: of the recording.
        destination: where to.
        signals: which to send.
        make_delivery: makes the delivery of each.
        limits: of what is delivered at once.
        clock: returns nanoseconds since the epoch.

    Raises:
        DestinationLockedError: another process forwards to it.
        StorageError: a cursor or a dead-letter file cannot be read or written.
    """
    directory = DestinationDirectory(layout.forward, destination.name)
    if not directory.path.is_dir():
        return [SignalOutcome(destination.name, signal, Ledger(), "") for signal in signals]
    try:
        with directory.locked():
            return [
                _send_letters(
                    destination,
                    read_cursor(directory.path, signal),
                    make_delivery(signal, destination),
                    limits,
                    clock,
                )
                for signal in signals
            ]
    except OSError as error:
        raise StorageError(
            f"cannot send the records in {directory.path} again: {error.strerror or error}"
        ) from error


def _send_letters(
    destination: Destination,
    cursor: Cursor,
    delivery: Delivery,
    limits: PortionLimits,
    clock: Callable[[], int],
) -> SignalOutcome:
    letters = DeadLetters(delivery.signal, cursor)
    left: list[Letter] = []
    sent = Ledger()
    failure = ""
    for portion in _group_letters(letters, limits):
        if failure:
            left += portion
            continue
        lines = [letter.line for letter in portion]
        records = sum(map(count_line_records, lines))
        try:
            settled = delivery.deliver(Portion(lines, records))
        except _ENDINGS as error:
            failure = str(error) or "it was ended before all was sent"
            left += portion
            continue
        left += settled.letters
        sent += settled.ledger
        for letter in portion:
            sent += Ledger(refused={letter.reason: -count_line_records(letter.line)})
    if sent != Ledger():
        before = letters.replace(left, clock())
        cursor.ledger += sent
        cursor.save()
        before.unlink(missing_ok=True)
    return SignalOutcome(destination.name, delivery.signal, sent, failure)


def _group_letters(letters: DeadLetters, limits: PortionLimits) -> Iterator[list[Letter]]:
    group: list[Letter] = []
    size = 0
    for letter in letters:
        if group and (size + len(letter.line) > limits.size or len(group) >= limits.records):
            yield group
            group, size = [], 0
        group.append(letter)
        size += len(letter.line)
    if group:
        yield group
