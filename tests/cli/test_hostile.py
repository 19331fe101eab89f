"""Deep and wide traces, records with many parts, long texts: every command is linear, clean, and ends when told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rimp_otel import open_recording
from rimp_otel.cli.main import main
from rimp_otel.trace import Trace
from tests import hostile

_SIZES = {"text": 24_000, "attributes": 600}
_SIZE = 240
# Text is cut to 4,000 characters, each of which may be escaped; a line shows two texts at most.
_LONGEST = 2 * 4_000 * 6 + 200
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
_IN_PROCESS = [
    name
    for name, arguments in hostile.COMMANDS.items()
    if arguments[0] not in ("-c", "sql", "import")
]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Return recordings of each kind, of one size and of four times that."""
    parent = tmp_path_factory.mktemp("hostile")
    made = {}
    for kind in hostile.KINDS:
        for factor in (1, 4):
            size = factor * _SIZES.get(kind, _SIZE)
            made[kind, factor] = hostile.make_recording(parent / f"{kind}{factor}", kind, size)
            (parent / f"{kind}{factor}-other").symlink_to(made[kind, factor])
    return made


def _arguments(name: str, path: Path, out: Path) -> list[str]:
    other = path.with_name(f"{path.name}-other")
    made = [part.format(path=path, other=other, out=out) for part in hostile.COMMANDS[name]]
    return made if made[0] == "diff" else [*made, "--path", str(path)]


def _count_calls(name: str, path: Path, out: Path) -> int:
    """Return how many functions a command calls."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    arguments = _arguments(name, path, out)
    sys.setprofile(count)
    try:
        main(arguments)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.one_python
@pytest.mark.parametrize("name", _IN_PROCESS)
@pytest.mark.parametrize("kind", hostile.KINDS)
def test_commands(
    kind: str, name: str, recordings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four times as much takes four times as many calls, and all that is printed is bounded and clean."""
    path = recordings[kind, 1]
    assert main(_arguments(name, path, tmp_path / "first")) in (0, 1)
    capsys.readouterr()
    few = _count_calls(name, path, tmp_path / "few")
    capsys.readouterr()
    many = _count_calls(name, recordings[kind, 4], tmp_path / "many")
    assert many < 4.5 * few + 2_000
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert not _CONTROL.search(printed.out + printed.err)
    if "--json" not in name:
        assert max(map(len, printed.out.splitlines()), default=0) <= _LONGEST


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_notebook(kind: str, recordings: Any) -> None:
    """What a notebook shows is bounded."""
    data = open_recording(recordings[kind, 4]).retrieve()
    assert len(data._repr_html_()) < 100_000
    if data.spans:
        trace = Trace.of(int(hostile.TRACE, 16), data.spans, data.events)
        assert len(trace._repr_html_()) < 1_000_000


def test_many_events_are_drawn_in_part(tmp_path: Path) -> None:
    """The first 1,000 events are drawn, and the first 10 exceptions named."""
    path = hostile.make_recording(tmp_path / "telemetry", "events", 1_500)
    data = open_recording(path).retrieve()
    drawn = Trace.of(int(hostile.TRACE, 16), data.spans, data.events)._repr_html_()
    assert drawn.count("<circle") == 1_000 + 1  # and that of the service
    assert "and 500 events more" in drawn
    assert "and 1,490 more" in drawn


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording that takes each command some seconds."""
    parent = tmp_path_factory.mktemp("large")
    path = hostile.make_recording(parent / "large", "events", 100_000)
    for number in range(3):
        (path / f"traces.{number + 1}.jsonl").hardlink_to(path / "traces.jsonl")
    (parent / "large-other").symlink_to(path)
    hostile.make_recording(parent / "chain", "chain", 20_000)
    return path


def _start(arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
    # As a shell's job, also where the tests are run with SIGINT ignored.
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        " from rimp_otel.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, **options
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(
    "name",
    ["tail", "errors", "traces", "trace", "top", "diff", "export", "stats", "verify --protobuf"],
)
def test_interrupt(name: str, large: Path, tmp_path: Path) -> None:
    """Ctrl-C ends a command while it reads: exit code 130, and nothing on standard error."""
    arguments = _arguments(name, large, tmp_path / "out")
    with _start(arguments, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not _has_open(process.pid, "traces.jsonl"):
            assert process.poll() is None, process.stderr
            assert time.monotonic() < until
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert not list(tmp_path.iterdir())


def _has_open(pid: int, name: str) -> bool:
    try:
        files = os.listdir(f"/proc/{pid}/fd")
        return any(os.readlink(f"/proc/{pid}/fd/{file}").endswith(name) for file in files)
    except OSError:
        return False


@pytest.mark.parametrize("name", ["tail", "tail --json", "trace", "trace --json"])
def test_closed_pipe(name: str, large: Path, tmp_path: Path) -> None:
    """A command whose output nobody reads any more ends in order."""
    arguments = _arguments(name, large.with_name("chain"), tmp_path / "out")
    with _start(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""
