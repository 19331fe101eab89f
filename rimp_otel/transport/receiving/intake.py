"""The intake: OTLP requests in, durable records in a recording out; used by every receiver alike."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from rimp_otel.collector.collector import TelemetryCollector
from rimp_otel.collector.stats import CollectorStats
from rimp_otel.config import TelemetryConfig
from rimp_otel.errors import ConfigurationError, DecodeError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.requests import RequestFormat, decode_request
from rimp_otel.process import Reporter, describe_error
from rimp_otel.streaming.stream import TelemetryStream

__all__ = [
    "Accepted",
    "Answer",
    "Intake",
    "IntakeLimits",
    "IntakeStats",
    "Invalid",
    "TooLarge",
    "Unavailable",
]

_LARGE_BODY = 4 * 1024 * 1024
# Seconds.
_RETRY_SOON, _RETRY_LATER = 1, 5
_MAX_WAIT = 10.0


# What became of a request.


class Accepted(NamedTuple):
    """The records are in the journal: no death of the process loses them."""

    #: Records of the request that were refused, alone; the others are kept.
    refused: int = 0
    #: Why, with the place of the first ones; also what was mended in those that are kept. Else empty.
    reason: str = ""


class Invalid(NamedTuple):
    """Nothing of the request is kept, nor will be if it is sent again (400, INVALID_ARGUMENT)."""

    reason: str


class TooLarge(NamedTuple):
    """Nothing of the request is kept: it must be sent in parts (413, RESOURCE_EXHAUSTED)."""

    reason: str


class Unavailable(NamedTuple):
    """Nothing of the request is kept now; it can be sent again (503, UNAVAILABLE)."""

    reason: str
    #: Seconds after which to send it again.
    retry_after: int


Answer = Accepted | Invalid | TooLarge | Unavailable
"""What became of a request."""


@dataclass(frozen=True)
class IntakeLimits:
    """Bounds of what is received.

    Args:
        request_size: bytes of one request, not compressed.
        in_flight: bytes of all requests that are being received or decoded.

    Raises:
        ConfigurationError: a bound is not allowed.
    """

    request_size: int = 64 * 1024 * 1024
    in_flight: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.request_size < 1:
            raise ConfigurationError(
                f"the size of a request must be 1 byte or more, got {self.request_size}"
            )
        if self.in_flight < self.request_size:
            raise ConfigurationError(
                f"in_flight must be as large as one request or larger, got {self.in_flight}"
            )


class IntakeStats(NamedTuple):
    """Exact counts of requests and of their records."""

    #: Requests whose records are in the journal.
    requests: int
    #: Requests of which nothing was kept, by reason.
    requests_refused: dict[str, int]
    #: Records that are in the journal, by signal.
    records: dict[Signal, int]
    #: Records that were refused alone, by signal.
    records_refused: dict[Signal, int]
    #: What became of the records after that.
    collector: CollectorStats


class Intake:
    """Takes OTLP requests into a recording. Thread-safe.

    Its records are those of the senders, with their resources; nothing of this process is added.
    Processors that change or leave out records sit in the collector, as they do in a process that
    records itself.

    Args:
        path: of the recording.
        config: of the recording; ``storage_path`` is replaced by ``path``, and it is always enabled, with
            a journal.
        limits: bounds of what is received.
        clock: returns monotonic seconds.

    Raises:
        ConfigurationError: a setting is not allowed.
        StorageError: there can be no recording at the path.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        config: TelemetryConfig | None = None,
        limits: IntakeLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = config or TelemetryConfig()
        self.limits = limits or IntakeLimits()
        self.config = replace(
            config,
            enabled=True,
            journal=True,
            storage_path=path,
            # No span starts here.
            record_open_spans=False,
        )
        _check_writable(self.config.path)
        self.collector = TelemetryCollector(self.config)
        self.stream = TelemetryStream(self.collector)
        self._clock = clock
        self._reporter = Reporter()
        # A large body takes several times its size while it is decoded.
        self._decoding_large = threading.Lock()
        self._counting = threading.Lock()
        self._in_flight = 0
        self._requests = 0
        self._requests_refused: Counter[str] = Counter()
        self._records: Counter[Signal] = Counter()
        self._records_refused: Counter[Signal] = Counter()

    def start(self) -> None:
        """Take a slot of the recording, store what a dead process left there, begin to drain."""
        self.stream.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Store what was received; return False if that takes longer than ``timeout`` seconds.

        What is not stored by then stays in the journal, for the next process.
        """
        return self.stream.stop(timeout)

    def receive(self, signal: Signal, body: bytes, format: RequestFormat) -> Answer:
        """Take a request in; it is answered once all of its records are in the journal, or none.

        Args:
            signal: the one of the path or method that it was sent to.
            body: the request, not compressed.
            format: its encoding.
        """
        if len(body) > self.limits.request_size:
            return self.refuse("too_large", too_large(self.limits.request_size))
        try:
            if len(body) < _LARGE_BODY:
                return self._receive(signal, body, format)
            arrived = self._clock()
            if not self._decoding_large.acquire(timeout=_MAX_WAIT):
                waited = f"other large requests took more than {self._clock() - arrived:.0f} s"
                return self.refuse("behind", Unavailable(waited, _RETRY_SOON))
            try:
                return self._receive(signal, body, format)
            finally:
                self._decoding_large.release()
        except Exception as error:  # never a 500, which makes senders drop the records
            self._reporter.warn("receive", f"a request was refused: {describe_error(error)}")
            answer = Unavailable("the receiver could not take the request", _RETRY_LATER)
            return self.refuse("error", answer)

    def _receive(self, signal: Signal, body: bytes, format: RequestFormat) -> Answer:
        try:
            decoded = decode_request(signal, body, format)
        except DecodeError as error:
            return self.refuse("invalid", Invalid(str(error)))
        records, refused = decoded.records, decoded.refused
        if refused and not records:
            with self._counting:
                self._records_refused[signal] += refused
            return self.refuse("invalid", Invalid(decoded.reason))
        if records and not self.collector.accept_records(signal, records):
            return self._refuse_for_storage(sum(len(record.text) for record in records))
        with self._counting:
            self._requests += 1
            self._records[signal] += len(records)
            if refused:
                self._records_refused[signal] += refused
        return Accepted(refused, decoded.reason)

    def _refuse_for_storage(self, size: int) -> Answer:
        if size > self.config.journal_size // 2:
            reason = (
                f"the request's records take {size} bytes, and the journal has {self.config.journal_size}: "
                "send smaller requests, or set RIMP_JOURNAL_SIZE to more"
            )
            return self.refuse("too_large", TooLarge(reason))
        reason = "the recording cannot be written now: its disk is full, or its storage behind"
        self._reporter.warn("storage", f"requests are refused: {reason}")
        return self.refuse("storage", Unavailable(reason, _RETRY_LATER))

    def reserve(self, size: int) -> bool:
        """Reserve bytes in memory for a request; return False if too many are reserved already.

        Whoever has reserved them must ``release`` them.
        """
        with self._counting:
            if self._in_flight + size > self.limits.in_flight:
                return False
            self._in_flight += size
            return True

    def release(self, size: int) -> None:
        """Release bytes that were reserved."""
        with self._counting:
            self._in_flight -= size

    def refuse(self, reason: str, answer: Answer) -> Answer:
        """Count a request of which nothing is kept, and return ``answer``.

        Args:
            reason: a word for the counts, such as "unauthorized".
            answer: what the sender is told.
        """
        self.count_refused(reason)
        return answer

    def count_refused(self, reason: str) -> None:
        """Count a request of which nothing is kept."""
        with self._counting:
            self._requests_refused[reason] += 1

    def stats(self) -> IntakeStats:
        """Return the counts up to now."""
        with self._counting:
            return IntakeStats(
                self._requests,
                dict(self._requests_refused),
                dict(self._records),
                dict(self._records_refused),
                self.collector.stats(),
            )


def _check_writable(path: Path) -> None:
    """Raise StorageError if nothing can be made at a path; a disk that is full may have room later."""
    place = path if path.is_dir() else path.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    reason = "" if place.is_dir() else f"{place} is no directory"
    if not reason and not os.access(place, os.W_OK | os.X_OK):
        reason = f"{place} cannot be written"
    if reason:
        raise StorageError(f"cannot record into {path}: {reason}; give another path with --path")


def too_large(limit: int) -> TooLarge:
    """Return the answer to a request of more than ``limit`` bytes."""
    return TooLarge(f"the request is larger than {limit} bytes, not compressed: send it in parts")
