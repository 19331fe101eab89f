"""What the package says on standard error."""

from __future__ import annotations

import os
import sys

from rimp_otel.process import Reporter


def test_each_kind_is_said_once_in_a_while(capsys):
    """Other kinds are not held up by it."""
    now = [100.0]
    reporter = Reporter(pause=60.0, clock=lambda: now[0])
    reporter.say("store", "first")
    reporter.say("store", "second")
    reporter.say("close", "other")
    now[0] = 160.0
    reporter.say("store", "third")
    assert capsys.readouterr().err == "rimp: first\nrimp: other\nrimp: third\n"


def test_said_at_clock_zero(capsys):
    """A machine that has just started has a small monotonic clock."""
    Reporter(clock=lambda: 0.0).say("store", "first")
    assert capsys.readouterr().err == "rimp: first\n"


def test_no_standard_error_is_no_error(monkeypatch):
    """Closed, or None as under pythonw."""
    monkeypatch.setattr(sys, "stderr", None)
    Reporter().say("store", "unheard")

    class Closed:
        def write(self, text):
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(sys, "stderr", Closed())
    Reporter().say("store", "unheard")


def test_standard_error_of_the_applications(monkeypatch):
    """Whatever it raises, such as for a signal handler that interrupts its own write."""

    class Reentrant:
        def write(self, text):
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    monkeypatch.setattr(sys, "stderr", Reentrant())
    Reporter().say("store", "unheard")


def test_full_pipe_keeps_nobody_waiting(monkeypatch):
    """Where nobody reads what a program writes to standard error; once it is read, it goes on."""
    outward, inward = os.pipe()
    os.set_blocking(inward, False)
    os.write(inward, bytes(16 * 1024 * 1024))  # as much as it takes
    os.set_blocking(inward, True)
    reporter = Reporter(pause=0.0)
    with open(inward, "w", buffering=1) as stream, open(outward, "rb", buffering=0) as reader:
        monkeypatch.setattr("sys.stderr", stream)
        reporter.say("a", "lost")
        reader.read(16 * 1024 * 1024)
        reporter.say("a", "x" * 10_000)
        assert reader.read(1024 * 1024) == b"rimp: " + b"x" * 1_000 + b"\n"
