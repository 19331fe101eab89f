"""The forwarder: sends what is recorded to destinations, each signal on a thread of its own.

A thread reads a portion, delivers it, and moves its cursor; so a destination or a signal that waits
keeps none of the others waiting, and memory holds one portion for each. Whatever kills the process, the
records of one portion are sent again.

Records are read from files alone. What a living process has in its journal is in its files within its
flush interval, and what a dead one has left there is recovered into files first, as the next recorder
in its place would do. Each record then has one place, whose offset is all that a cursor has to know; to
read journals too, it would have to remember each record that it met there, until it has moved.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from rimp_otel.errors import ConfigurationError, RimpError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter, describe_error, importing
from rimp_otel.storage.base import RecordingLayout
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.recording import layout_of
from rimp_otel.transport.forwarding.cursor import (
    Cursor,
    CursorStatus,
    DestinationDirectory,
    read_cursor,
)
from rimp_otel.transport.forwarding.dead_letters import DeadLetters
from rimp_otel.transport.forwarding.delivery import (
    Delivery,
    GaveUpError,
    InterruptedDeliveryError,
    Pace,
    Selector,
    Settlement,
    StoppedDeliveryError,
)
from rimp_otel.transport.forwarding.destination import Destination
from rimp_otel.transport.forwarding.ledger import Ledger
from rimp_otel.transport.forwarding.sources import FileSource, Portion, PortionLimits, Source

__all__ = ["DEFAULT_HOLD", "Forwarder", "ForwarderOptions", "SignalOutcome"]

T = TypeVar("T")

DEFAULT_HOLD = 10 * 1000**3
"""Bytes that are kept for a destination beyond the bounds of retention, by default; on a small disk a
quarter of that."""
_PART_OF_DISK = 4


class ForwarderOptions(NamedTuple):
    """How a forwarder works."""

    #: True to end once what is there has been dealt with.
    once: bool = False
    #: Bytes that are kept for each destination of what retention would delete; None for the default.
    hold: int | None = None
    #: Seconds for one request.
    timeout: float = 10.0
    #: Seconds between two looks at a recording where there is nothing new.
    interval: float = 1.0
    #: Seconds without a success after which ``once`` ends; None for never.
    give_up: float | None = 30.0
    #: The signals to forward.
    signals: Sequence[Signal] = tuple(Signal)
    #: Of what is delivered, and then noted in the cursor, at once.
    limits: PortionLimits = PortionLimits()


class SignalOutcome(NamedTuple):
    """How the forwarding of one signal to one destination ended."""

    destination: str
    signal: Signal
    #: What was counted in this run.
    ledger: Ledger
    #: Why not everything was dealt with; empty if it was, or nothing has failed.
    failure: str


class Forwarder:
    """Forwards a recording to destinations.

    Args:
        path: of the recording, as given to FileStorage or SQLiteStorage.
        destinations: where to; each has a name of its own. Closed by ``close``.
        options: how.
        selector: decides which records are forwarded; see ``delivery.Selector``. None for all.
        recover: stores what dead processes left in journals; None to leave that to others. Called
            from any of the threads, one at a time.
        reporter: reports what fails.
        make_pace: makes the pauses of one thread, given what ends them; for tests.
        clock: returns nanoseconds since the epoch.

    Raises:
        ConfigurationError: there is no destination, or two of one name.
    """

    def __init__(
        self,
        path: Path,
        destinations: Sequence[Destination],
        options: ForwarderOptions = ForwarderOptions(),  # noqa: B008
        selector: Selector | None = None,
        recover: Callable[[RecordingLayout], object] | None = None,
        reporter: Reporter | None = None,
        make_pace: Callable[[threading.Event], Pace] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        names = [destination.name for destination in destinations]
        if not names:
            raise ConfigurationError("no destination: give at least one URL")
        for name in names:
            if names.count(name) > 1:
                raise ConfigurationError(
                    f"two destinations are called {name}: give one of them a #fragment, which is part of"
                    " its name and not sent"
                )
        self.layout = layout_of(path)
        self._destinations = list(destinations)
        self._options = options
        self._reporter = reporter or Reporter()
        self._directories = [
            DestinationDirectory(self.layout.forward, destination.name)
            for destination in destinations
        ]
        self._recovery = _Recovery(self.layout, recover, options.interval, self._reporter)
        give_up = options.give_up if options.once else None
        make_pace = make_pace or (lambda stop: Pace(stop, give_up=give_up))
        self._make_pace = make_pace
        self._selector = selector
        self._clock = clock
        self._threads: list[threading.Thread] = []
        self._tasks: list[_SignalTask] = []

    @property
    def path(self) -> Path:
        """The path of the recording."""
        return self.layout.path

    @property
    def names(self) -> list[str]:
        """The names of the destinations."""
        return [destination.name for destination in self._destinations]

    def start(self) -> None:
        """Take the locks of the destinations, and begin to forward.

        Raises:
            DestinationLockedError: another process forwards to one of them; then to none here.
            StorageError: a cursor cannot be read or written.
            RuntimeError: no thread can be started any more.
        """
        try:
            for directory in self._directories:
                _prepare(directory, self._options.hold)
            self._tasks = [
                self._make_task(destination, directory, signal)
                for destination, directory in zip(
                    self._destinations, self._directories, strict=True
                )
                for signal in self._options.signals
            ]
        except BaseException:
            self._release()
            raise
        for task in self._tasks:
            thread = threading.Thread(target=task.run, name="rimp-forward", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter ends
                self.stop()
                raise
            self._threads.append(thread)

    def _make_task(
        self, destination: Destination, directory: DestinationDirectory, signal: Signal
    ) -> _SignalTask:
        cursor = read_cursor(directory.path, signal)
        cursor.remove_notes()
        source = self._make_source(signal, cursor, destination)
        stop = threading.Event()
        delivery = Delivery(
            signal, destination, self._make_pace(stop), self._options.timeout, self._selector
        )
        return _SignalTask(
            source, cursor, delivery, self._options, stop, self._recovery, self._reporter,
            self._clock, lambda reason: self._stop_destination(destination, reason),
        )  # fmt: skip

    def _make_source(self, signal: Signal, cursor: Cursor, destination: Destination) -> Source:
        limits, once = self._options.limits, self._options.once
        if limits == PortionLimits():
            limits = getattr(destination, "portion_limits", limits)
        if isinstance(self.layout, Layout):
            return FileSource(self.layout, signal, cursor, limits, once)
        with importing():
            from rimp_otel.transport.forwarding.database_source import DatabaseSource
        return DatabaseSource(self.layout.path, signal, cursor, limits, once)

    def _stop_destination(self, destination: Destination, reason: str) -> None:
        for task in self._tasks:
            if task.delivery.destination is destination:
                task.stop(reason)

    @property
    def is_done(self) -> bool:
        """True if no thread forwards any more."""
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all threads have ended; return False if they have not in so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return self.is_done

    def finish(self, timeout: float) -> bool:
        """Send what is there still, but wait for nothing that fails; then stop.

        Args:
            timeout: seconds that this may take.

        Returns:
            True if all threads have ended.
        """
        for task in self._tasks:
            task.finish()
        self.wait(timeout)
        return self.stop(0.0)

    def forget_in_child(self) -> None:
        """Close in a forked child the locks that are the parent's, who has the threads."""
        for directory in self._directories:
            directory.forget_lock()
        self._threads, self._tasks = [], []

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop soon: let requests that are under way end, save the cursors, release the locks.

        Args:
            timeout: seconds that requests may take still; then the destinations are closed.

        Returns:
            True if all threads have ended.
        """
        for task in self._tasks:
            task.stop()
        if not self.wait(timeout):
            for destination in self._destinations:
                destination.close()
            self.wait(min(timeout, 1.0))
        self.close()
        return self.is_done

    def close(self) -> None:
        """Close the destinations, and release their locks unless a thread still runs."""
        for destination in self._destinations:
            destination.close()
        if self.is_done:
            self._release()

    def _release(self) -> None:
        for directory in self._directories:
            directory.release_lock()

    def outcomes(self) -> list[SignalOutcome]:
        """Return how the forwarding of each signal has gone up to now."""
        return [task.outcome() for task in self._tasks]


def _prepare(directory: DestinationDirectory, hold: int | None) -> None:
    try:
        directory.make()
        if hold is None:
            disk = shutil.disk_usage(directory.path).total
            hold = min(DEFAULT_HOLD, disk // _PART_OF_DISK)
        directory.register(hold)
        directory.take_lock()
    except OSError as error:
        raise StorageError(
            f"cannot write {directory.path}: {error.strerror or error}; a forwarder keeps its cursors"
            " beside the recording"
        ) from error


class _Recovery:
    """Has what dead processes left recovered, one thread at a time, and not all the time."""

    def __init__(
        self,
        layout: RecordingLayout,
        recover: Callable[[RecordingLayout], object] | None,
        interval: float,
        reporter: Reporter,
    ) -> None:
        self._layout = layout
        self._recover = recover
        self._interval = interval
        self._reporter = reporter
        self._lock = threading.Lock()
        self._due = 0.0

    def run_if_due(self, blocking: bool) -> None:
        """Recover, unless that was done a moment ago.

        Args:
            blocking: True to wait while another thread does so.
        """
        if self._recover is None or not self._lock.acquire(blocking):
            return
        try:
            if time.monotonic() < self._due:
                return
            try:
                self._recover(self._layout)
            except (RimpError, OSError) as error:
                self._reporter.warn("recover", f"cannot recover a journal: {error}")
            self._due = time.monotonic() + self._interval
        finally:
            self._lock.release()


class _SignalTask:
    """Forwards one signal to one destination, on a thread of its own.

    Args:
        source: the records.
        cursor: moved by the source, saved here.
        delivery: brings them to the destination.
        options: how.
        stopped: ends all pauses when it is set.
        recovery: run from time to time.
        reporter: reports what fails.
        clock: returns nanoseconds since the epoch.
        stop_destination: stops all signals of the destination, given the reason.
    """

    def __init__(
        self,
        source: Source,
        cursor: Cursor,
        delivery: Delivery,
        options: ForwarderOptions,
        stopped: threading.Event,
        recovery: _Recovery,
        reporter: Reporter,
        clock: Callable[[], int],
        stop_destination: Callable[[str], None],
    ) -> None:
        self.delivery = delivery
        self._source = source
        self._cursor = cursor
        self._options = options
        self._stopped = stopped
        self._recovery = recovery
        self._reporter = reporter
        self._clock = clock
        self._stop_destination = stop_destination
        self._letters = DeadLetters(delivery.signal, cursor)
        self._before = cursor.ledger
        self._failure = ""
        self._stop_reason = ""
        self._is_last = False
        self._woken = threading.Event()
        delivery.on_wait = self._note_wait

    def stop(self, reason: str = "") -> None:
        """End the thread soon; with a reason, as a failure."""
        self._stop_reason = self._stop_reason or reason
        self._stopped.set()
        self._woken.set()

    def finish(self) -> None:
        """End the thread once there is nothing more, or as soon as something fails."""
        self._is_last = True
        self._woken.set()
        if self.delivery.pace.is_failing:
            self._stopped.set()

    def outcome(self) -> SignalOutcome:
        """Return how it has gone up to now."""
        ledger = self._cursor.ledger.since(self._before)
        name = self.delivery.destination.name
        return SignalOutcome(name, self.delivery.signal, ledger, self._failure)

    def run(self) -> None:
        """Forward until there is nothing more, or it is to stop."""
        try:
            if self._cursor.status.state != "forwarding":  # of the process before
                self._note(self._cursor.status._replace(state="forwarding", until=0))
            self._run()
        except InterruptedDeliveryError:
            if self._stop_reason:
                self._fail(self._stop_reason)
        except GaveUpError as error:
            self._failure = str(error)
        except StoppedDeliveryError as error:
            self._fail(str(error))
            name, signal = self.delivery.destination.name, self.delivery.signal.value
            what = f"{signal} to {name}" if error.is_signal_only else f"to {name}"
            self._reporter.warn(f"stopped {what}", f"forwarding {what} has stopped: {error}")
            if not error.is_signal_only:
                self._stop_destination(str(error))
        except Exception as error:
            self._fail(describe_error(error))
            self._reporter.warn("forward", f"forwarding has failed: {describe_error(error)}")
        finally:
            self._source.close()

    def _run(self) -> None:
        pace = self.delivery.pace
        while True:
            pace.check()
            self._recovery.run_if_due(blocking=self._options.once)
            portion = self._patiently(self._source.next)
            if portion is not None:
                self._forward(portion)
                continue
            if self._cursor.notes:  # files that are gone were counted
                self._save()
            if failure := self._source.failure:
                self._reporter.warn(
                    "files", f"forwarding passes over what it cannot read: {failure}"
                )
            if self._options.once or self._is_last:
                self._failure = failure
                return
            self._woken.wait(self._options.interval)

    def _forward(self, portion: Portion) -> None:
        settled = Settlement(Ledger(), [])
        if portion.records:
            if self.delivery.knows_repetitions and self._cursor.intended != portion.records:
                self._cursor.intended = portion.records
                self._patiently(self._cursor.save)
            settled = self.delivery.deliver(portion)
        now = self._clock()
        self._patiently(lambda: self._letters.append(settled.letters, now))
        self._cursor.ledger += settled.ledger
        self._cursor.intended = 0
        self._source.commit()
        if damaged := self._source.take_damaged():
            self._cursor.damaged += damaged
            self._reporter.warn(
                "damaged", f"{self._cursor.damaged} lines cannot be read: rimp verify"
            )
        error = (settled.message, now) if settled.message else self._cursor.status[1:3]
        self._cursor.status = CursorStatus("forwarding", *error)
        self._save()

    def _save(self) -> None:
        self._patiently(self._cursor.save)
        self._cursor.remove_notes()

    def _patiently(self, function: Callable[[], T]) -> T:
        """Call a function again until it does not fail, as on a disk that is full."""
        while True:
            try:
                return function()
            except (OSError, StorageError) as error:
                self._reporter.warn("files", f"forwarding waits: {error}")
                pace = self.delivery.pace
                pace.pause(pace.next_pause(), str(error))

    def _note_wait(self, reason: str, seconds: float) -> None:
        if self._is_last:
            self._stopped.set()
        now = self._clock()
        self._note(CursorStatus("waiting", reason, now, now + int(seconds * 1e9)))

    def _fail(self, reason: str) -> None:
        self._failure = reason
        self._note(CursorStatus("stopped", reason, self._clock()))

    def _note(self, status: CursorStatus) -> None:
        """Save what it does now, for those who look."""
        self._cursor.status = status
        try:
            self._cursor.save()
        except OSError:
            pass  # it is only told
