"""Questions: how many at once, for how long, and that their work ends."""

from __future__ import annotations

import asyncio
import threading

import pytest

pytest.importorskip("starlette")

from starlette.requests import Request

from rimp_otel import TelemetryData
from rimp_otel.errors import StorageError
from rimp_otel.storage.recording import open_storage
from rimp_otel.viewer.questions import (
    QuestionAbandonedError,
    Questions,
    QuestionTimeoutError,
    TooManyQuestionsError,
    check_time,
    interrupting,
    open_watched,
    time_left,
)
from tests.transport.serving import DEADLINE, span, traces


class Asker:
    """A request whose sender goes away when it is told to."""

    def __init__(self):
        self.gone = asyncio.Event()
        self.request = Request({"type": "http"}, self.receive)

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}


def work_for_ever(begun=None):
    """Return work that ends only by ``check_time``, and the event that tells that it has."""
    ended = threading.Event()

    def work():
        if begun is not None:
            begun.set()
        try:
            while True:
                check_time()
        finally:
            ended.set()

    return work, ended


def test_an_answer_and_an_error():
    """What the work returns or raises, on another thread."""

    def fail():
        raise StorageError("gone")

    async def main():
        questions = Questions()
        thread = await questions.ask(Asker().request, threading.current_thread)
        assert thread.name == "rimp-question"
        with pytest.raises(StorageError, match="gone"):
            await questions.ask(Asker().request, fail)
        assert questions.running == 0

    asyncio.run(main())


def test_a_time_out_ends_the_work():
    """The thread ends, and the next question finds its place free."""

    async def main():
        questions = Questions(running=1, timeout=0.05)
        work, ended = work_for_ever()
        with pytest.raises(QuestionTimeoutError, match=r"stopped after 0\.05 s: ask for"):
            await questions.ask(Asker().request, work)
        assert await asyncio.to_thread(ended.wait, DEADLINE)
        assert await questions.ask(Asker().request, time_left, timeout=50.0) > 1.0

    asyncio.run(main())


def test_who_has_gone_is_not_answered():
    """The work ends when the connection is closed; so it does for all when the server stops."""

    async def main():
        questions = Questions()
        for end in (lambda asker: asker.gone.set(), lambda asker: questions.close()):
            begun = threading.Event()
            work, ended = work_for_ever(begun)
            asker = Asker()
            asked = asyncio.ensure_future(questions.ask(asker.request, work))
            assert await asyncio.to_thread(begun.wait, DEADLINE)
            end(asker)
            with pytest.raises(QuestionAbandonedError):
                await asked
            assert await asyncio.to_thread(ended.wait, DEADLINE)
        with pytest.raises(QuestionAbandonedError, match="the server stops"):
            await questions.ask(Asker().request, time_left)

    asyncio.run(main())


def test_limits():
    """Questions wait for a place, up to their time; past a number of them one is refused."""

    async def main():
        questions = Questions(running=1, waiting=1)
        begun = threading.Event()
        work, ended = work_for_ever(begun)
        first = Asker()
        running = asyncio.ensure_future(questions.ask(first.request, work))
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        with pytest.raises(QuestionTimeoutError):
            await questions.ask(Asker().request, time_left, timeout=0.01)
        waiting = asyncio.ensure_future(questions.ask(Asker().request, time_left))
        await asyncio.sleep(0)
        with pytest.raises(TooManyQuestionsError, match="ask again"):
            await questions.ask(Asker().request, time_left)
        first.gone.set()
        assert await waiting > 0
        with pytest.raises(QuestionAbandonedError):
            await running
        assert ended.is_set()

    asyncio.run(main())


def test_what_runs_outside_of_python_is_interrupted():
    """Its own error is not the answer."""

    async def main():
        questions = Questions(timeout=0.05)
        interrupted = threading.Event()

        def work():
            with interrupting(interrupted.set):
                assert interrupted.wait(DEADLINE)
                raise KeyboardInterrupt

        with pytest.raises(QuestionTimeoutError):
            await questions.ask(Asker().request, work)
        assert interrupted.is_set()

    asyncio.run(main())


def test_without_a_question():
    """There is no limit."""
    check_time()
    assert time_left() is None
    with interrupting(lambda: None):
        pass


@pytest.mark.parametrize("name", ["recording", "recording.db"])
def test_reading_looks_at_the_time(tmp_path, name):
    """A recording is read line by line, and no further than it is of interest."""
    path = tmp_path / name
    with open_storage(path) as storage:
        for number in range(3):
            storage.store(TelemetryData.from_otlp_json([traces(span(number))]))

    async def main():
        questions = Questions()
        asker = Asker()
        loop = asyncio.get_running_loop()
        read = []

        def work():
            for data in open_watched(path).batches():
                read.append(data)
                loop.call_soon_threadsafe(asker.gone.set)
                while True:
                    check_time()

        with pytest.raises(QuestionAbandonedError):
            await questions.ask(asker.request, work)
        assert len(read) == 1

    asyncio.run(main())
