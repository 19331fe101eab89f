"""Questions to a recording over HTTP: so many at once, each with a time-out that ends the work.

Python cannot end a thread. So what answers a question looks at the time itself, with ``check_time``, as
often as it has read a line; and what runs outside of Python is given as ``interrupting``. Outside of a
question both do nothing.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request

from rimp_otel.batch import TelemetryData, decode_batch
from rimp_otel.errors import RimpError
from rimp_otel.storage.base import Recording
from rimp_otel.storage.reading import Decode
from rimp_otel.storage.recording import open_recording

__all__ = [
    "NotFoundError",
    "PreparingError",
    "QuestionAbandonedError",
    "QuestionTimeoutError",
    "Questions",
    "TooManyQuestionsError",
    "check_time",
    "interrupting",
    "open_watched",
    "time_left",
]

_ResultT = TypeVar("_ResultT")

_INTERRUPT_SECONDS = 0.05


class NotFoundError(RimpError):
    """What was asked for is not recorded."""


class PreparingError(RimpError):
    """Something is being made first, without which an answer would take too long: ask again.

    Args:
        done, total: how much of it.
        what: it is, such as "Parquet copies".
    """

    def __init__(self, done: int, total: int, what: str) -> None:
        self.done, self.total, self.what = done, total, what
        super().__init__(f"making {what}: {done} of {total}; ask again")


class QuestionTimeoutError(RimpError):
    """An answer takes too long."""


class TooManyQuestionsError(RimpError):
    """So many questions wait that one more is not taken."""


class QuestionAbandonedError(RimpError):
    """Who has asked is gone, or the server stops."""


class _Question:
    """The work for one answer, which other threads can end."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self.deadline = time.monotonic() + timeout
        self._lock = threading.Lock()
        self._interrupts: list[Callable[[], object]] = []
        self._error: RimpError | None = None

    @property
    def is_over(self) -> bool:
        return self._error is not None

    def check(self) -> None:
        if self._error is None and time.monotonic() > self.deadline:
            self.end(self.timeout_error())
        if self._error is not None:
            raise self._error

    def timeout_error(self) -> QuestionTimeoutError:
        return QuestionTimeoutError(
            f"stopped after {self._timeout:g} s: ask for a shorter time or with more conditions"
        )

    def end(self, error: RimpError) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
        self.interrupt()

    def interrupt(self) -> None:
        """Interrupt what runs outside of Python; it may have been about to begin the time before."""
        with self._lock:
            for interrupt in self._interrupts:
                interrupt()

    @contextmanager
    def interrupting(self, interrupt: Callable[[], object]) -> Iterator[None]:
        with self._lock:
            self._interrupts.append(interrupt)
        try:
            self.check()
            yield
        except BaseException:
            self.check()  # the interrupt is seen as some other error
            raise
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)


_CURRENT: ContextVar[_Question | None] = ContextVar("rimp_question", default=None)


def check_time() -> None:
    """Return if the question that this thread answers is still of interest, or if it answers none.

    Raises:
        QuestionTimeoutError: its time is over.
        QuestionAbandonedError: who has asked is gone.
    """
    question = _CURRENT.get()
    if question is not None:
        question.check()


def time_left() -> float | None:
    """Return the seconds that are left of the question's time; None where this thread answers none."""
    question = _CURRENT.get()
    return None if question is None else max(question.deadline - time.monotonic(), 0.0)


@contextmanager
def interrupting(interrupt: Callable[[], object]) -> Iterator[None]:
    """Return a context in which ``interrupt`` is called when the question is to end.

    Args:
        interrupt: ends the block's work; called in another thread, until the block has ended.

    Raises:
        QuestionTimeoutError, QuestionAbandonedError: it was, whatever the block raises then.
    """
    question = _CURRENT.get()
    if question is None:
        yield
        return
    with question.interrupting(interrupt):
        yield


def open_watched(
    path: str | os.PathLike[str] | Path, decode: Decode | None = None, *, must_exist: bool = False
) -> Recording:
    """Return what reads a recording, as ``open_recording``, and looks at the time with each line.

    Args:
        path: of the recording.
        decode: makes a batch of a line.
        must_exist: False if something may be recorded there later.
    """
    decode_line = decode_batch if decode is None else decode

    def decode_in_time(line: bytes) -> TelemetryData:
        check_time()
        return decode_line(line)

    return open_recording(path, must_exist=must_exist, decode=decode_in_time)


class Questions:
    """Answers questions on threads of its own, for one event loop.

    Args:
        running: how many at the same time.
        waiting: how many more may wait for that.
        timeout: seconds for each, with the waiting.
    """

    def __init__(self, running: int = 4, waiting: int = 64, timeout: float = 30.0) -> None:
        self._slots = asyncio.Semaphore(running)
        self._most_waiting = waiting
        self._waiting = 0
        self._timeout = timeout
        self._lock = threading.Lock()
        self._running: set[_Question] = set()
        self._is_closed = False

    @property
    def running(self) -> int:
        """How many questions are being worked on: also such that nobody waits for any more."""
        return len(self._running)

    async def ask(
        self, request: Request, work: Callable[[], _ResultT], timeout: float | None = None
    ) -> _ResultT:
        """Call ``work`` on a thread, and return or raise what it does.

        Args:
            request: the one that asks. Its body, if any, must have been read.
            work: finds the answer; calls ``check_time``.
            timeout: seconds, instead of those of all questions.

        Raises:
            TooManyQuestionsError: it is not begun.
            QuestionTimeoutError: it takes too long; it is ended.
            QuestionAbandonedError: the connection is closed, or the server stops.
        """
        if self._waiting >= self._most_waiting:
            raise TooManyQuestionsError("too many questions are being asked at once: ask again")
        question = _Question(self._timeout if timeout is None else timeout)
        gone = asyncio.ensure_future(_wait_until_gone(request))
        try:
            await self._wait_for_slot(question, gone)
            answer = self._start(question, work)
            left = max(question.deadline - time.monotonic(), 0.0)
            await _wait_for_either(answer, gone, left)
            if not answer.done():
                error = self._error_of(question, gone)
                question.end(error)
                self._interrupt_again(question)
                raise error
            return answer.result()
        except asyncio.CancelledError:
            question.end(QuestionAbandonedError("the server stops"))
            raise
        finally:
            gone.cancel()

    def close(self) -> None:
        """End all questions, and take no more. Thread-safe."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for question in running:
            question.end(QuestionAbandonedError("the server stops"))

    async def _wait_for_slot(self, question: _Question, gone: asyncio.Future[None]) -> None:
        slot = asyncio.ensure_future(self._slots.acquire())
        self._waiting += 1
        try:
            left = max(question.deadline - time.monotonic(), 0.0)
            await _wait_for_either(slot, gone, left)
            if not slot.done():
                raise self._error_of(question, gone)
        except BaseException:
            if not slot.cancel() and not slot.cancelled():
                self._slots.release()
            raise
        finally:
            self._waiting -= 1

    def _interrupt_again(self, question: _Question) -> None:
        if question in self._running:
            question.interrupt()
            loop = asyncio.get_running_loop()
            loop.call_later(_INTERRUPT_SECONDS, self._interrupt_again, question)

    def _error_of(self, question: _Question, gone: asyncio.Future[None]) -> RimpError:
        if gone.done():
            return QuestionAbandonedError("the connection is closed")
        return question.timeout_error()

    def _start(self, question: _Question, work: Callable[[], _ResultT]) -> asyncio.Future[_ResultT]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_ResultT] = loop.create_future()
        # Whoever has asked may be gone by then.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

        def run() -> None:
            _CURRENT.set(question)
            try:
                question.check()
                settle = partial(_settle, future, result=work())
            except BaseException as error:
                settle = partial(_settle, future, error=error.with_traceback(None))
            with self._lock:
                self._running.discard(question)
            try:
                loop.call_soon_threadsafe(self._slots.release)
                loop.call_soon_threadsafe(settle)
            except RuntimeError:  # the loop is closed
                pass

        with self._lock:
            if self._is_closed:
                question.end(QuestionAbandonedError("the server stops"))
            self._running.add(question)
        try:
            # A daemon: work that does not look at the time keeps no process from ending.
            threading.Thread(target=run, name="rimp-question", daemon=True).start()
        except RuntimeError:
            self._slots.release()
            with self._lock:
                self._running.discard(question)
            raise TooManyQuestionsError("no thread can be started: ask again later") from None
        return future


def _settle(
    future: asyncio.Future[_ResultT],
    result: _ResultT | None = None,
    error: BaseException | None = None,
) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)  # type: ignore[arg-type]
    elif isinstance(error, Exception):
        future.set_exception(error)
    else:  # an interrupt, which would end the loop
        future.set_exception(QuestionAbandonedError(f"stopped by {type(error).__name__}"))


async def _wait_for_either(
    one: asyncio.Future[Any], other: asyncio.Future[Any], timeout: float
) -> None:
    await asyncio.wait([one, other], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
