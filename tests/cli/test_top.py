"""``rimp top``: frames, the terminal, and its restoration."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.analysis.activity import LiveActivity
from rimp_otel.batch import TelemetryData
from rimp_otel.cli.top import LiveRecording, format_snapshot
from rimp_otel.render.terminal import Style
from tests.cli.records import HOSTILE, MS, T0, event, span, without_our_colour

S = 1_000 * MS
AT = "2026-11-18T11:06:41Z"


def test_one_frame(rimp: Any, shop: Path) -> None:
    """A frame has totals and services with their operations, the most frequent first."""
    assert rimp("top", "--at", AT) == (
        0,
        """\
rimp top  telemetry                                                   11:06:41 · last 1 m · by spans
0.117 spans/s  42.9% errors  p50 81 ms  p95 231 ms  p99 231 ms  0.05 logs/s  1 logged error
1 logged warning
▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁█  3 services

SERVICE  SPANS/S  ERRORS     P50     P95     P99  OPERATION
shop      0.0667   50.0%  122 ms  231 ms  231 ms
          0.0167           81 ms   81 ms   81 ms  GET /stock
          0.0167  100.0%  122 ms  122 ms  122 ms  POST /charge
          0.0167  100.0%  231 ms  231 ms  231 ms  POST /checkout
          0.0167           13 ms   13 ms   13 ms  SELECT cart
stock     0.0333           74 ms   74 ms   74 ms
          0.0167           74 ms   74 ms   74 ms  GET /stock/{sku}
          0.0167           58 ms   58 ms   58 ms  SELECT stock
payment   0.0167  100.0%  111 ms  111 ms  111 ms
          0.0167  100.0%  111 ms  111 ms  111 ms  charge card
""",
        "",
    )


def test_choices(rimp: Any, shop: Path) -> None:
    """Order, service and time range can be chosen."""
    operations = [
        line.split("ms  ")[-1]
        for line in rimp("top", "--at", AT, "--sort", "p95").out.splitlines()[7:11]
    ]
    assert operations == ["POST /checkout", "POST /charge", "GET /stock", "SELECT cart"]
    assert "payment" not in rimp("top", "--at", AT, "--service", "shop").out
    assert "no spans ended in the last 700 ms" in rimp("top", "--at", AT, "--window", "700ms").out
    assert rimp("top", "--window", "0s").err == (
        "rimp: --window and --interval must be greater than 0\n"
    )


def test_json(rimp: Any, shop: Path) -> None:
    """A frame is one JSON object."""
    found = json.loads(rimp("top", "--at", AT, "--json").out)
    load = {
        "spans": 7,
        "spans_per_second": 7 / 60,
        "errors": 3,
        "p50_ns": 81 * MS,
        "p95_ns": 231 * MS,
        "p99_ns": 231 * MS,
    }
    assert (found["time"], found["window_ns"]) == ("2026-11-18T11:06:41.000000000Z", 60 * S)
    assert found["total"] == load
    assert found["services"][0]["service"] == "shop"
    assert {"service": "payment", "name": "charge card"}.items() <= found["operations"][-1].items()
    assert found["logs"] == {"debug": 0, "info": 1, "warning": 1, "error": 1}


def test_nothing_now(rimp: Any, shop: Path) -> None:
    """Without a terminal, one frame of the last minute is printed."""
    code, out, _ = rimp("top")
    assert (code, out.splitlines()[-1]) == (0, "no spans ended in the last 1 m")
    assert "▁" * 30 in out


def test_new_records_count_once(record: Any) -> None:
    """Each record counts once, also if it is added between the first reads of both readers."""
    path = record(TelemetryData(spans=[span("before", 1, 0, 0, 1)]))
    recording = LiveRecording(path, 60 * S)
    record(TelemetryData(spans=[span("between", 2, 0, 0, 1)]))
    assert recording.snapshot(T0 + S).total.spans == 2
    record(TelemetryData(spans=[span("after", 3, 0, 0, 1)], events=[event("x")]))
    snapshot = recording.snapshot(T0 + S)
    assert (snapshot.total.spans, snapshot.logs.total()) == (3, 1)


def frame(height: int, width: int = 100, style: Style = Style(), operations: int = 30) -> list[str]:  # noqa: B008
    """Return a frame of many operations."""
    recording = LiveActivity(60 * S)
    recording.add([span(f"op {i}", i + 1, 0, 0, 1 + i) for i in range(operations)], [])
    return format_snapshot(recording.snapshot(T0 + S), "telemetry", "spans", width, height, style)


def test_frames_fit_the_terminal() -> None:
    """A frame is never larger than the terminal; the rest is counted."""
    assert len(frame(99)) == 36
    assert len(frame(20)) == 20
    assert frame(20)[-1] == "and 17 more"
    assert [len(frame(height)) for height in (0, 1, 5, 6)] == [0, 1, 5, 6]
    assert max(map(len, frame(99, 70))) <= 70


@pytest.mark.parametrize("color", [False, True])
def test_hostile_records(color: bool) -> None:
    """Control characters are escaped."""
    recording = LiveActivity(60 * S)
    recording.add([span(HOSTILE, 1, 0, 0, 1, HOSTILE, HOSTILE)], [])
    lines = format_snapshot(recording.snapshot(T0 + S), HOSTILE, "spans", 200, 99, Style(color))
    assert all(without_our_colour(line).isprintable() or not line for line in lines)


class Terminal:
    """A terminal in which the command runs."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process, self.descriptor = process, descriptor
        self.text = ""

    def until(self, pattern: str) -> str:
        """Wait for the pattern, and return all output up to it."""
        deadline = time.monotonic() + 60
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([self.descriptor], [], [], 1)[0]:
                try:
                    self.text += os.read(self.descriptor, 65_536).decode()
                except OSError:
                    break
        shown, self.text = self.text, ""
        return shown

    def resize(self, columns: int, lines: int) -> None:
        """Change the size, as a window manager does."""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def modes(self) -> Any:
        """Return the modes of the terminal."""
        return termios.tcgetattr(self.descriptor)[3]


@contextmanager
def terminal(*argv: str) -> Iterator[Terminal]:
    """Run the command on a terminal of 80 columns and 24 lines."""
    descriptor, inner = pty.openpty()
    shown = Terminal(None, descriptor)  # type: ignore[arg-type]
    shown.resize(80, 24)
    env = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    env.pop("COLUMNS")
    shown.process = subprocess.Popen(
        [sys.executable, "-m", "rimp_otel.cli.main", "top", *argv],
        stdin=inner, stdout=inner, stderr=inner, env=env, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(inner)
    try:
        yield shown
    finally:
        shown.process.kill()
        shown.process.wait()
        os.close(descriptor)


LEFT = r"\x1b\[\?25h\x1b\[\?1049l"


def test_watching(shop: Path) -> None:
    """Key s sorts, a resize redraws at once, q quits, and the terminal is restored."""
    with terminal("--interval", "1h") as shown:
        before = shown.modes()
        text = shown.until("by spans")
        assert "\x1b[?1049h\x1b[?25l\x1b[H" in text
        assert shown.modes() != before
        os.write(shown.descriptor, b"s")
        assert "\x1b[H" in shown.until("by errors")
        shown.resize(60, 10)
        os.kill(shown.process.pid, signal.SIGWINCH)
        # A frame's first line as a whole: what comes may be cut anywhere.
        text = shown.until(r"\x1b\[H[^\n]*by errors[^\n]*\n")
        line = without_our_colour(text.rpartition("\x1b[H")[2])
        assert len(line.split("\x1b")[0]) == 60
        os.write(shown.descriptor, b"q")
        shown.until(LEFT)
        assert shown.process.wait(60) == 0
        assert shown.modes() == before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_ended_by_a_signal(shop: Path, number: signal.Signals, code: int) -> None:
    """The terminal is restored, and nothing is printed."""
    with terminal() as shown:
        before = shown.modes()
        shown.until("by spans")
        shown.process.send_signal(number)
        assert "Traceback" not in shown.until(LEFT)
        assert shown.process.wait(60) == code
        assert shown.modes() == before


def test_stopped_and_continued(shop: Path) -> None:
    """Ctrl-Z restores the terminal until the process continues."""
    with terminal("--interval", "1h") as shown:
        before = shown.modes()
        shown.until("by spans")
        os.write(shown.descriptor, b"\x1a")
        shown.until(LEFT)
        os.waitpid(shown.process.pid, os.WUNTRACED)
        assert shown.modes() == before
        shown.process.send_signal(signal.SIGCONT)
        assert "\x1b[?1049h" in shown.until("by spans")
        os.write(shown.descriptor, b"q")
        assert shown.process.wait(60) == 0


def test_new_records_appear(shop: Path, record: Any) -> None:
    """A new span is shown within an interval."""
    with terminal("--interval", "50ms") as shown:
        shown.until("no spans ended")
        now = time.time_ns() - T0
        record(TelemetryData(spans=[span("news", 1, 0, now // MS - 5, now // MS)]))
        shown.until("news")
        os.write(shown.descriptor, b"q")
        assert shown.process.wait(60) == 0
