"""Delivery: brings records to a destination, and decides by its answers what becomes of each.

What cannot be taken now is offered again, with growing pauses; what will never be taken is split,
down to the record that is to blame, which is set aside; what somebody has to mend stops the
signal, and nothing is dropped.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple, Protocol

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.outgoing import split_line
from rimp_otel.process import describe_error
from rimp_otel.transport.forwarding.destination import (
    Batch,
    Delivered,
    Destination,
    Outcome,
    Refused,
    RetryLater,
    Stopped,
)
from rimp_otel.transport.forwarding.ledger import (
    BY_DESTINATION,
    PARTIAL_SUCCESS,
    THROTTLED,
    TOO_LARGE,
    Ledger,
    add_counts,
)
from rimp_otel.transport.forwarding.sources import Portion, count_line_records

__all__ = [
    "Delivery",
    "GaveUpError",
    "InterruptedDeliveryError",
    "Kept",
    "Letter",
    "Pace",
    "Selector",
    "Settlement",
    "StopMark",
    "StoppedDeliveryError",
    "Undecided",
]


# Which records are forwarded at all.


class Kept(NamedTuple):
    """The records of a portion that are to be forwarded."""

    #: OTLP JSON without line ends; a selector may have changed them, such as by a ``tracestate``.
    lines: Sequence[bytes]
    #: In all lines.
    records: int
    #: How many were left out, by reason; together with ``records`` all that were offered.
    not_kept: Mapping[str, int]


class Undecided(NamedTuple):
    """A portion with a record that cannot be decided about yet, such as one of an open trace."""

    #: Seconds after which to ask again.
    after: float


class Selector(Protocol):
    """Decides which records are forwarded, such as those of whole traces.

    It is asked once for each portion, in the order in which records were stored, and again with the
    same portion after ``Undecided``, also by the next process: what it answers may depend only on
    what is recorded and on the time, so that every process decides alike. A trace's other
    records lie before and behind a portion, and in other files; it reads the recording for them.
    One thread for each signal may call it at the same time. What it raises stops the signal.
    """

    def select(self, signal: Signal, lines: Sequence[bytes], records: int) -> Kept | Undecided:
        """Return what is to be forwarded of a portion, or that this is not known yet.

        Args:
            signal: of all records.
            lines: OTLP JSON without line ends, as they lie in the recording.
            records: in all lines.
        """


# Pauses.


class StopMark(Protocol):
    """Says when to stop; a ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Return True if it is to stop."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for so many seconds, or until it is to stop; return True if it is."""


class Pace:
    """Pauses between attempts: exponential backoff with full jitter, in bounds.

    Args:
        stop: ends every pause when it is set.
        first: seconds that the first pause takes at most; each further one twice as many.
        longest: seconds that any takes at most.
        longest_asked: seconds that a destination may ask for.
        give_up: seconds without a success after which ``GaveUpError`` is raised; None for never.
        clock: returns monotonic seconds.
        random_up_to: returns a random number from 0 to its argument.
        wait: waits for so many seconds, or until ``stop`` is set; returns True if it is.
    """

    def __init__(
        self,
        stop: StopMark,
        first: float = 1.0,
        longest: float = 60.0,
        longest_asked: float = 900.0,
        give_up: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        random_up_to: Callable[[float], float] | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._stop = stop
        self._first, self._longest, self._longest_asked = first, longest, longest_asked
        self._give_up = give_up
        self._clock = clock
        self._random_up_to = random_up_to or (lambda most: random.uniform(0.0, most))
        self._wait = wait or stop.wait
        self._failures = 0
        self._since: float | None = None

    def succeed(self) -> None:
        """Note a success: the next pause is a first one."""
        self._failures, self._since = 0, None

    @property
    def is_failing(self) -> bool:
        """True if there was no success since the last failure."""
        return self._failures > 0

    def next_pause(self, asked: float | None = None) -> float:
        """Return how many seconds to wait after one more failure.

        Args:
            asked: seconds that the destination asks for, if it does.
        """
        most = min(self._first * 2.0 ** min(self._failures, 30), self._longest)
        self._failures += 1
        jitter = self._random_up_to(most)
        if asked is None or not asked > 0:
            return jitter
        return min(asked, self._longest_asked) + jitter / 4

    def pause(self, seconds: float, reason: str) -> None:
        """Wait.

        Raises:
            GaveUpError: there was no success for too long, or would be.
            InterruptedDeliveryError: it is to stop.
        """
        now = self._clock()
        self._since = now if self._since is None else self._since
        if self._give_up is not None:
            left = self._since + self._give_up - now
            if left <= 0:
                raise GaveUpError(f"no success for {self._give_up:g} s: {reason}")
            seconds = min(seconds, left)
        self.rest(seconds)

    def rest(self, seconds: float) -> None:
        """Wait, where nothing has failed.

        Raises:
            InterruptedDeliveryError: it is to stop.
        """
        if self._wait(seconds) or self._stop.is_set():
            raise InterruptedDeliveryError

    def check(self) -> None:
        """Return, unless it is to stop.

        Raises:
            InterruptedDeliveryError: it is.
        """
        if self._stop.is_set():
            raise InterruptedDeliveryError


class InterruptedDeliveryError(Exception):
    """The forwarder is to stop; what was not dealt with is sent again by the next one."""


class GaveUpError(Exception):
    """The destination takes nothing, and there is no more time to wait for it."""


class StoppedDeliveryError(Exception):
    """Somebody has to mend something before anything more is taken.

    Args:
        reason: what the destination says.
        is_signal_only: True if other signals may still be taken.
    """

    def __init__(self, reason: str, is_signal_only: bool) -> None:
        super().__init__(reason)
        self.is_signal_only = is_signal_only


# Delivery.


class Letter(NamedTuple):
    """A record that was set aside."""

    #: Its OTLP JSON.
    line: bytes
    #: One of ``ledger``'s reasons.
    reason: str
    #: What the destination says.
    message: str


class Settlement(NamedTuple):
    """What became of a portion."""

    ledger: Ledger
    letters: list[Letter]
    #: What the destination said last of records that it refused, or as a warning; else empty.
    message: str = ""


class _Piece(NamedTuple):
    """Records that are sent together."""

    lines: Sequence[bytes]
    records: int
    #: How often it was refused for the time being, and as one of throttling.
    delays: int = 0
    throttles: int = 0
    #: The name of the portion that they are of.
    portion: str = ""
    #: True if it was sent without an answer: it may have been taken all the same.
    is_unknown: bool = False


# Attempts after which a piece is split, since some destinations say of what is too large that they
# have no room, or break the connection; and after which a single record is set aside, if others are taken.
_MAX_THROTTLES, _MAX_DELAYS, _MAX_SINGLE_THROTTLES = 4, 8, 10
# The same where a destination knows the piece by its name, and may have taken it: it would take the parts,
# which have other names, once more. Then only an outage of about an hour splits it.
_MAX_UNKNOWN_DELAYS = 64


class Delivery:
    """Delivers the portions of one signal to one destination. For one thread at a time.

    Args:
        signal: of all records.
        destination: takes them.
        pace: the pauses.
        timeout: seconds for one request.
        selector: decides what is forwarded; None for everything.
    """

    def __init__(
        self,
        signal: Signal,
        destination: Destination,
        pace: Pace,
        timeout: float,
        selector: Selector | None = None,
    ) -> None:
        self.signal = signal
        self.destination = destination
        self.pace = pace
        #: True if the destination takes once what is sent twice under the same name.
        self.knows_repetitions: bool = getattr(destination, "knows_repetitions", False)
        self._timeout = timeout
        self._selector = selector
        #: Called with the reason before each pause, and with its seconds.
        self.on_wait: Callable[[str, float], object] = lambda reason, seconds: None

    def deliver(self, portion: Portion) -> Settlement:
        """Deliver a portion; return once it is known what became of each of its records.

        Raises:
            GaveUpError, InterruptedDeliveryError, StoppedDeliveryError: that is not known of some.
        """
        kept = self._select(portion)
        settled = _Settled(Ledger(not_kept=kept.not_kept))
        cut = self._cut(kept.lines, kept.records)
        pieces = deque(piece._replace(portion=portion.name) for piece in cut)
        while pieces:
            self.pace.check()
            self._deliver_piece(pieces.popleft(), pieces, settled)
        return Settlement(settled.ledger, settled.letters, settled.message)

    def _select(self, portion: Portion) -> Kept:
        if self._selector is None or not portion.records:
            return Kept(portion.lines, portion.records, {})
        while True:
            try:
                found = self._selector.select(self.signal, portion.lines, portion.records)
            except Exception as error:
                raise StoppedDeliveryError(
                    f"the selection failed: {describe_error(error)}", is_signal_only=True
                ) from error
            if isinstance(found, Kept):
                return found
            self.pace.rest(max(found.after, 0.01))

    def _cut(self, lines: Sequence[bytes], records: int) -> Iterator[_Piece]:
        """Yield pieces that are not too large, but for single records that are so by themselves."""
        most = self.destination.max_request_size
        if sum(map(len, lines)) + len(lines) <= most:
            if records:
                yield _Piece(lines, records)
            return
        gathered: list[bytes] = []
        size = count = 0
        for line in chain.from_iterable(self._fitting_lines(line, most) for line in lines):
            if gathered and size + len(line) + 1 > most:
                yield _Piece(gathered, count)
                gathered, size, count = [], 0, 0
            gathered.append(line)
            size, count = size + len(line) + 1, count + count_line_records(line)
        if gathered:
            yield _Piece(gathered, count)

    def _fitting_lines(self, line: bytes, most: int) -> list[bytes]:
        return [line] if len(line) < most else self._split(line)

    def _deliver_piece(self, piece: _Piece, pieces: deque[_Piece], settled: _Settled) -> None:
        outcome = self._send(piece)
        if isinstance(outcome, Delivered):
            self.pace.succeed()
            settled.acknowledge(piece.records, outcome)
        elif isinstance(outcome, Refused):
            self.pace.succeed()  # it is there, and answers
            if halves := self._halve(piece):
                pieces.extendleft(reversed(halves))
            else:
                is_large = sum(map(len, piece.lines)) >= self.destination.max_request_size
                reason = TOO_LARGE if is_large else BY_DESTINATION
                settled.set_aside(piece, reason, outcome.reason)
        elif isinstance(outcome, Stopped):
            raise StoppedDeliveryError(outcome.reason, outcome.is_signal_only)
        else:
            self._delay(piece, outcome, pieces, settled)

    def _send(self, piece: _Piece) -> Outcome:
        batch = Batch(self.signal, piece.lines, piece.records, self._token_of(piece))
        try:
            return self.destination.send(batch, self._timeout)
        except Exception as error:  # which a destination should not raise
            return RetryLater(f"the destination failed: {describe_error(error)}")

    def _token_of(self, piece: _Piece) -> str:
        """Return what the piece is called whenever it is sent, if the destination wants to know that."""
        if not self.knows_repetitions or not piece.portion:
            return ""
        digest = blake2b(piece.portion.encode(), digest_size=16)
        for line in piece.lines:
            digest.update(line)
        return f"forward-{self.signal.value}-{digest.hexdigest()}-{piece.records}"

    def _delay(
        self, piece: _Piece, outcome: RetryLater, pieces: deque[_Piece], settled: _Settled
    ) -> None:
        piece = piece._replace(
            delays=piece.delays + 1,
            throttles=piece.throttles + outcome.is_throttled,
            is_unknown=piece.is_unknown or not outcome.is_throttled,
        )
        is_too_often = piece.throttles >= _MAX_THROTTLES or piece.delays >= _MAX_DELAYS
        if self.knows_repetitions and piece.is_unknown:
            is_too_often = piece.delays >= _MAX_UNKNOWN_DELAYS
        if not is_too_often:
            pieces.appendleft(piece)
        elif halves := self._halve(piece):
            pieces.extendleft(reversed(halves))
        elif piece.throttles >= _MAX_SINGLE_THROTTLES and settled.has_delivered_since(piece):
            settled.set_aside(piece, THROTTLED, outcome.reason)
            return
        else:
            settled.note_deferred(piece)
            pieces.append(piece)  # behind the others, which may be taken
        seconds = self.pace.next_pause(outcome.after)
        self.on_wait(outcome.reason, seconds)
        self.pace.pause(seconds, outcome.reason)

    def _halve(self, piece: _Piece) -> list[_Piece]:
        """Return two pieces of one; none if it is a single record, or cannot be taken apart."""
        if piece.records == 1:
            return []
        lines = list(piece.lines)
        if len(lines) == 1:
            lines = self._split(lines[0])
        middle = len(lines) // 2
        halves = [
            _Piece(half, sum(map(count_line_records, half)), portion=piece.portion)
            for half in (lines[:middle], lines[middle:])
        ]
        is_whole = middle and sum(half.records for half in halves) == piece.records
        return halves if is_whole else []

    def _split(self, line: bytes) -> list[bytes]:
        try:
            return split_line(line)
        except DecodeError:  # it was counted, so it can be read as far as that
            return [line]


class _Settled:
    """What is known of a portion so far."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.letters: list[Letter] = []
        self.message = ""
        self._delivered = 0
        # By the line of a single record: how many pieces had been delivered when it was deferred.
        self._deferred: dict[bytes, int] = {}

    def acknowledge(self, records: int, outcome: Delivered) -> None:
        """Count a piece that was acknowledged."""
        self._delivered += 1
        rejected = min(max(outcome.rejected, 0), records)
        self.message = outcome.message or self.message
        refused = {PARTIAL_SUCCESS: rejected} if rejected else {}
        self.ledger += Ledger(acknowledged=records - rejected, refused=refused)

    def set_aside(self, piece: _Piece, reason: str, message: str) -> None:
        """Count a single record that was refused."""
        self.letters += [Letter(line, reason, message) for line in piece.lines]
        self.message = message
        refused = add_counts(self.ledger.refused, {reason: piece.records})
        self.ledger = self.ledger._replace(refused=refused)

    def note_deferred(self, piece: _Piece) -> None:
        """Note that a single record waits for the others."""
        self._deferred.setdefault(piece.lines[0], self._delivered)

    def has_delivered_since(self, piece: _Piece) -> bool:
        """Return True if others were taken since a single record had to wait for them."""
        return self._delivered > self._deferred.get(piece.lines[0], self._delivered)
