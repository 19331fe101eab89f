"""Destinations that tests steer, and what they got."""

from __future__ import annotations

import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from rimp_otel.batch import TelemetryData, decode_batch
from rimp_otel.models.records import Signal
from rimp_otel.transport.forwarding.delivery import Pace
from rimp_otel.transport.forwarding.destination import Batch, Delivered, Outcome
from tests.doubles import DEADLINE

Answer = Callable[[Batch], Outcome]


class ScriptedDestination:
    """Answers as it is told, and keeps what it acknowledged.

    Args:
        answers: of the first batches; all others are delivered. A function is called with the batch.
        name: identifies its cursor.
    """

    def __init__(
        self,
        answers: Iterable[Outcome | Answer] = (),
        name: str = "test://destination",
        max_request_size: int = 4_000_000,
    ) -> None:
        self.name = name
        self.max_request_size = max_request_size
        self.answers: list[Outcome | Answer] = list(answers)
        #: What answers when there are no more answers.
        self.otherwise: Answer = lambda batch: Delivered()
        #: Of each attempt: its signal and how many records it had.
        self.attempts: list[tuple[Signal, int]] = []
        self.batches: list[Batch] = []
        self.is_closed = False
        self._changed = threading.Condition()

    def send(self, batch: Batch, timeout: float) -> Outcome:
        """Answer."""
        with self._changed:
            self.attempts.append((batch.signal, batch.records))
            answer = self.answers.pop(0) if self.answers else self.otherwise
            self._changed.notify_all()
        outcome = answer(batch) if callable(answer) else answer
        if isinstance(outcome, Delivered):
            with self._changed:
                self.batches.append(batch)
                self._changed.notify_all()
        return outcome

    def close(self) -> None:
        """Note that."""
        self.is_closed = True

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of what was sent."""
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE), self.attempts

    @property
    def messages(self) -> list[str]:
        """Of the log records that were acknowledged, in order."""
        return [
            event.message
            for batch in list(self.batches)
            for line in batch.lines
            for event in decode_batch(line).events
        ]

    @property
    def counts(self) -> Counter[str]:
        """How often each message was acknowledged."""
        return Counter(self.messages)


class FakeTime:
    """A clock that only pauses move, for a ``Pace``."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.pauses: list[float] = []

    def wait(self, seconds: float) -> bool:
        """Let so many seconds pass."""
        self.pauses.append(seconds)
        self.now += seconds
        return False

    def make_pace(self, stop: threading.Event, **options: float) -> Pace:
        """Return a pace of this clock, without chance: each pause is as long as it may be."""
        return Pace(
            stop,
            clock=lambda: self.now,
            random_up_to=lambda most: most,
            wait=self.wait,
            **options,
        )


class HttpSink(socketserver.ThreadingTCPServer):
    """An OTLP/HTTP receiver of JSON."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[str] = []
        self.headers: list[str] = []
        self.status = 200
        self.changed = threading.Condition()

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[HttpSink]:
        """Yield one that runs, on a thread."""
        with cls() as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()

    @property
    def url(self) -> str:
        """Of the destination."""
        return f"otlp+http://127.0.0.1:{self.server_address[1]}"

    def take(self, body: bytes, authorization: str) -> int:
        """Take a request; return the status."""
        with self.changed:
            self.headers.append(authorization)
            if self.status == 200:
                data = TelemetryData.from_otlp_json([body])
                self.messages += [event.message for event in data.events]
            self.changed.notify_all()
        return self.status

    def wait_for(self, messages: int) -> None:
        """Wait until this many log records have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages) >= messages, DEADLINE)


class _Handler(BaseHTTPRequestHandler):
    server: HttpSink

    def do_POST(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.take(body, self.headers.get("authorization", ""))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        """Say nothing."""
