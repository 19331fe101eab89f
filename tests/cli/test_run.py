"""``rimp run``: programs are recorded without noticing."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from rimp_otel import FileStorage, SQLiteStorage
from rimp_otel.cli.run import program_environment, retain_size

pytest.importorskip("opentelemetry.instrumentation")

RIMP = [sys.executable, "-m", "rimp_otel.cli.main"]
LOG_ONE = """
import logging
logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
logging.getLogger("x").info("one")
"""
RECORDED_ONE = (
    "rimp: recorded 0 spans, 1 log record and 0 metric points in telemetry (<size>): "
    "show it with 'rimp traces'\n"
)


def environment(*instrumented: str) -> dict[str, str]:
    """Return an environment in which warnings are errors and only ``instrumented`` is instrumented."""
    installed = {entry.name for entry in entry_points(group="opentelemetry_instrumentor")}
    return {
        **{
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("OTEL_", "RIMP_"))
        },
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(installed - {"logging", *instrumented}),
        "PYTHONWARNINGS": "error,ignore:SelectableGroups:DeprecationWarning",
    }


def run(*argv: str, text: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``rimp run`` in its own process."""
    return subprocess.run(
        [*RIMP, "run", *argv],
        env={**environment(), **env},
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )


def python(code: str, *args: str) -> list[str]:
    """Return the arguments that run a program's text."""
    return ["--", sys.executable, "-c", code, *args]


def without_size(said: str) -> str:
    """Return the summary line with the size replaced, which depends on the versions of packages."""
    before, opening, rest = said.rpartition(" (")
    return f"{before} (<size>){rest.partition(')')[2]}" if opening else said


ALL_SIGNALS = """
import logging, sys
from opentelemetry import metrics, trace
logging.basicConfig(level=logging.INFO)
with trace.get_tracer("t").start_as_current_span("work"):
    logging.getLogger("shop").info("order %d", 17)
    logging.getLogger("shop").debug("not wanted")
counter = metrics.get_meter("m").create_counter("orders")
counter.add(1, {"card": "visa"})
counter.add(2, {"card": "none"})
sys.exit(3)
"""


def test_all_three_signals() -> None:
    """A short program is recorded, its exit code is kept, and one line sums up the records."""
    done = run(*python(ALL_SIGNALS))
    assert (done.returncode, done.stdout) == (3, "")
    assert without_size(done.stderr) == (
        "INFO:shop:order 17\n"
        "rimp: recorded 1 span, 1 log record and 2 metric points in telemetry (<size>): "
        "show it with 'rimp traces'\n"
    )
    data = FileStorage("telemetry").retrieve()
    assert [span.name for span in data.spans] == ["work"]
    assert [(event.source, event.message) for event in data.events] == [
        ("shop", "order 17"),
        ("rimp_otel", "python ended with exit code 3"),
    ]
    assert data.events[0].span_id == data.spans[0].context.span_id
    assert sorted(metric.value for metric in data.metrics) == [1, 2]


def test_summary_counts_this_run() -> None:
    """Another run adds to the recording; the summary counts its records only."""
    said = [without_size(run(*python(LOG_ONE)).stderr) for _ in range(2)]
    assert said == [RECORDED_ONE, RECORDED_ONE]
    assert len(FileStorage("telemetry").retrieve()) == 2


def test_path_and_service() -> None:
    """Path and service name can be chosen."""
    done = run("--path", "a b", "--service", "shop", *python(LOG_ONE))
    assert done.stderr.endswith("show it with 'rimp traces --path 'a b''\n")
    (event,) = FileStorage("a b").retrieve().events
    assert event.resource is not None
    assert event.resource.attributes["service.name"] == "shop"


def test_quiet() -> None:
    """With --quiet, standard error has only the program's output."""
    assert run("--quiet", *python(LOG_ONE)).stderr == ""


def test_arguments_of_the_program() -> None:
    """Arguments of the program are passed on, even if rimp has options of the same name."""
    done = run(
        *python("import sys; print(input(), sys.argv[1:])", "--path", "--", "-h"), text="hello\n"
    )
    assert done.stdout == "hello ['--path', '--', '-h']\n"


def test_logging_output_is_unchanged() -> None:
    """The output of logging is the same as without rimp."""
    code = """
import logging
logging.getLogger("a").warning("before")
logging.getLogger("a").info("not wanted")
logging.warning("sets up logging")
logging.getLogger("a").warning("after")
"""
    done = run("--quiet", *python(code))
    assert done.stderr == "before\nWARNING:root:sets up logging\nWARNING:a:after\n"
    events = FileStorage("telemetry").retrieve().events
    assert [event.message for event in events] == ["before", "sets up logging", "after"]


def test_loggers_that_do_not_propagate() -> None:
    """Loggers that do not propagate, such as uvicorn's, are recorded."""
    code = "import logging; x = logging.getLogger('x'); x.propagate = False; x.warning('one')"
    run(*python(code))
    assert [event.source for event in FileStorage("telemetry").retrieve().events] == ["x"]


def test_log_call_with_wrong_arguments() -> None:
    """A log record that cannot be formatted raises nothing, and is recorded as far as possible."""
    code = "import logging; logging.raiseExceptions = False; logging.error('%d', 'x'); print('on')"
    assert run(*python(code)).stdout == "on\n"
    assert [event.message for event in FileStorage("telemetry").retrieve().events] == ["%d"]


def test_child_processes() -> None:
    """Processes that the program starts are recorded."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    done = run(*python(code, LOG_ONE))
    assert without_size(done.stderr) == RECORDED_ONE


def test_other_sitecustomize(tmp_path: Path) -> None:
    """A sitecustomize of the environment still runs."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "sitecustomize.py").write_text("import sys; sys.found = 'theirs'")
    code = "import sys, sitecustomize; print(sys.found, sitecustomize.__file__)"
    done = run(*python(code), PYTHONPATH=str(tmp_path / "theirs"))
    assert done.stdout == f"theirs {tmp_path / 'theirs' / 'sitecustomize.py'}\n"


def test_broken_instrumentation(tmp_path: Path) -> None:
    """A failing instrumentation is reported, and the others work."""
    (tmp_path / "broken.py").write_text(
        "class Broken:\n    def instrument(self, **_):\n        raise AttributeError('gone')\n"
    )
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[opentelemetry_instrumentor]\nbroken = broken:Broken\n")
    done = run(*python(LOG_ONE), PYTHONPATH=str(tmp_path))
    first, _, rest = done.stderr.partition("\n")
    assert first == "rimp: broken is not instrumented: AttributeError('gone')"
    assert without_size(rest) == RECORDED_ONE


def test_killed_program() -> None:
    """After a signal, the exit code is 128 plus its number, and its name is printed."""
    done = run(*python("import os; os.kill(os.getpid(), 9)"))
    assert done.returncode == 137
    assert done.stderr.startswith("rimp: the program was killed by SIGKILL; recorded ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({}, f"was it a Python program with rimp-otel installed, as for {sys.executable}?"),
        ({"RIMP_ENABLED": "no"}, "OTEL_SDK_DISABLED or RIMP_ENABLED turns recording off"),
        ({"OTEL_CONFIG_FILE": "o.yaml"}, "OTEL_CONFIG_FILE=o.yaml determines where records go"),
    ],
)
def test_nothing_recorded(env: dict[str, str], reason: str) -> None:
    """If nothing was recorded, the summary gives a likely reason."""
    done = run("--", "sh", "-c", "exit 4", **env)
    assert done.returncode == 4
    assert done.stderr == f"rimp: recorded nothing in telemetry: {reason}\n"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["python", "gone.py"], "there is no gone.py"),
        (
            ["python", "-c", "pass"],
            "the program finished no span, logged nothing and measured nothing before it ended",
        ),
        (
            ["python", "-c", "pass", "--detach"],
            "the program goes on in the background: follow it with 'rimp tail -f'",
        ),
    ],
)
def test_why_a_recorded_program_recorded_nothing(command: list[str], reason: str) -> None:
    """The reason is the one that was found."""
    done = run("--", sys.executable, *command[1:])
    assert done.stderr.splitlines()[-1] == f"rimp: recorded nothing in telemetry: {reason}"


def test_a_killed_program_that_recorded_nothing() -> None:
    """Nobody is asked whether it was Python."""
    done = run(*python("import os; os.kill(os.getpid(), 9)"), OTEL_TRACES_SAMPLER="always_off")
    assert done.stderr == (
        "rimp: the program was killed by SIGKILL; recorded nothing in telemetry: the program finished "
        "no span, logged nothing and measured nothing before it was killed\n"
    )


def test_a_recording_that_cannot_be_written() -> None:
    """The reason is what the system says."""
    done = run("--path", "/proc/recording", *python("pass"))
    said = (
        "rimp: recorded nothing in /proc/recording: it cannot be written: No such file or directory"
    )
    assert done.stderr.splitlines()[-1] == said


def test_libraries_that_are_not_instrumented(tmp_path: Path) -> None:
    """Used ones are named with what to install; --no-advice leaves that out."""
    site = tmp_path / "site"
    site.mkdir()
    for name in ("httpx", "loguru"):
        (site / f"{name}.py").touch()
    code = f"{LOG_ONE}\nimport httpx, loguru"
    done = run(*python(code), PYTHONPATH=str(site))
    said, _, more = without_size(done.stderr).partition("; ")
    assert f"{said}\n" == RECORDED_ONE
    assert more.startswith(
        "not instrumented: httpx; install it with: pip install opentelemetry-instrumentation-httpx=="
    )
    assert more.endswith("; record loguru with: logger.add(rimp_otel.install().loguru_sink)\n")
    done = run("--no-advice", *python(code), PYTHONPATH=str(site))
    assert without_size(done.stderr) == RECORDED_ONE


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ([], 2, "no program to run: write rimp run -- python app.py"),
        (["--"], 2, "no program to run: write rimp run -- python app.py"),
        (["--", "nonsense"], 127, "cannot run nonsense: no such command"),
        (
            ["--", "app.py", "-v"],
            127,
            "cannot run app.py: no such command; did you mean rimp run -- python app.py -v?",
        ),
        (
            ["--", "./app.py"],
            126,
            "cannot run ./app.py: Permission denied; did you mean rimp run -- python ./app.py?",
        ),
    ],
)
def test_programs_that_cannot_be_run(argv: list[str], code: int, said: str) -> None:
    """Exit codes are those of a shell."""
    Path("app.py").touch(mode=0o600)
    done = run(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"rimp: {said}\n")


def test_invalid_settings() -> None:
    """Invalid settings are reported instead of raised in the program."""
    done = run(*python("print('ran')"), RIMP_BUFFER_SIZE="many")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "rimp: RIMP_BUFFER_SIZE must be an integer, got 'many'\n"


def test_missing_extra(rimp: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    module = "opentelemetry.instrumentation.auto_instrumentation"
    monkeypatch.setitem(sys.modules, module, None)
    assert rimp("run", "--", "true") == (
        1,
        "",
        "rimp: opentelemetry-instrumentation is not installed. "
        "Install it with: pip install 'rimp-otel[run]'\n",
    )


@pytest.mark.parametrize(
    ("env", "option", "name"),
    [
        ({}, None, "app"),
        ({"OTEL_SERVICE_NAME": " "}, None, "app"),
        ({"OTEL_SERVICE_NAME": "own"}, None, "own"),
        ({"OTEL_SERVICE_NAME": "own"}, "shop", "shop"),
        ({"RIMP_SERVICE_NAME": "ours"}, None, "ours"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=1, service.name=own"}, None, None),
    ],
)
def test_service_name_in_the_environment(
    env: dict[str, str], option: str | None, name: str | None
) -> None:
    """A service name in OpenTelemetry's variables has priority."""
    args = argparse.Namespace(path=None, service=option, retain=None)
    assert program_environment(args, ["python", "app.py"], env).get("OTEL_SERVICE_NAME") == name


def test_environment(tmp_path: Path) -> None:
    """Exporters of the user are kept, OTLP is not a default, and paths are absolute."""
    args = argparse.Namespace(path=None, service=None, retain=None)
    given = {"OTEL_TRACES_EXPORTER": "console", "RIMP_STORAGE_PATH": "x", "PYTHONPATH": "lib"}
    env = program_environment(args, ["true"], given)
    assert env.pop("PYTHONPATH").split(os.pathsep)[1:] == ["lib"]
    assert env == {
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_PYTHON_CONFIGURATOR": "rimp",
        "OTEL_PYTHON_DISTRO": "none",
        "OTEL_SERVICE_NAME": "true",
        "OTEL_TRACES_EXPORTER": "console",
        "RIMP_RECORD_CRASHES": "true",
        "RIMP_STORAGE_BACKEND": "file",
        "RIMP_STORAGE_PATH": str(tmp_path / "x"),
    }


def test_recording_into_a_database() -> None:
    """A path that is named like a database is one, and is added to whatever its name."""
    for path in ("x.db", "x.db", "renamed"):
        if path == "renamed":
            Path("x.db").rename(path)
        done = run("--path", path, *python(LOG_ONE))
        assert done.stderr.startswith("rimp: recorded 0 spans, 1 log record and 0 metric points in")
    assert [event.message for event in SQLiteStorage("renamed").retrieve().events] == ["one"] * 3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500MB", "500000000"),
        ("1.5g", "1500000000"),
        ("7", "7"),
        ("2 kB", "2000"),
        ("none", "none"),
    ],
)
def test_retain(text: str, size: str) -> None:
    """--retain takes sizes with units, and none."""
    assert retain_size(text) == size


def test_what_is_retained_by_the_program() -> None:
    """--retain becomes RIMP_RETAIN_SIZE; what is no size is a usage error."""
    code = "import os; print(os.environ['RIMP_RETAIN_SIZE'])"
    assert run("--quiet", "--retain", "1GB", *python(code)).stdout == "1000000000\n"
    done = run("--retain", "much", *python(code))
    assert done.returncode == 2
    assert "not a size such as 500MB or 10GB, nor none: 'much'" in done.stderr


LISTENER = """
import os, signal, sys

def said(number, _):
    print(signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(5)

for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH", "ALRM"):
    signal.signal(getattr(signal, "SIG" + name), said)
# Not signal.pause(), which would sleep on if the signal came right before it.
woken, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
print("ready", flush=True)
while True:
    os.read(woken, 1)
"""


@contextmanager
def listening(**options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a recorded program that prints the signals it receives, and ends with SIGTERM."""
    started = subprocess.Popen(
        [*RIMP, "run", "--quiet", *python(LISTENER)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        assert started.stdout
        assert started.stdout.readline() == "ready\n"
        yield started
        started.terminate()
        assert started.stdout.read() == "SIGTERM\n"
        assert started.wait(30) == 5
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        if started.stdout:
            started.stdout.close()


@pytest.mark.parametrize("name", ["INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "ALRM"])
def test_signals_are_forwarded(name: str) -> None:
    """A signal is forwarded exactly once."""
    with listening() as program:
        program.send_signal(getattr(signal, f"SIG{name}"))
        assert program.stdout
        assert program.stdout.readline() == f"SIG{name}\n"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Open a pseudo-terminal."""
    ours, theirs = os.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def test_signals_of_the_terminal(terminal: tuple[int, int]) -> None:
    """Signals of the terminal reach the program directly, and are not forwarded."""
    ours, theirs = terminal

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    with listening(stdin=theirs, preexec_fn=take_terminal) as program:
        assert program.stdout
        os.write(ours, b"\x03")
        assert program.stdout.readline() == "SIGINT\n"
        os.write(ours, b"\x1c")
        assert program.stdout.readline() == "SIGQUIT\n"
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        assert program.stdout.readline() == "SIGWINCH\n"


def test_signal_to_the_group_is_not_forwarded() -> None:
    """A signal that the program sends to its group is not forwarded."""
    code = """
import os, signal
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
os.killpg(0, signal.SIGUSR1)
os.kill(os.getppid(), signal.SIGUSR2)
print(len(got))
"""
    done = subprocess.run(
        [*RIMP, "run", "--quiet", *python(code)],
        env=environment(),
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_ignored_signals_stay_ignored() -> None:
    """Ignored signals stay ignored, as with nohup."""

    def ignore_hangup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    code = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    done = subprocess.run(
        [*RIMP, "run", "--quiet", *python(code)],
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=ignore_hangup,
        timeout=60,
    )
    assert done.stdout == "True\n"


IN_PROCESS = """
import os, signal
from rimp_otel.cli.child_process import run_program

def state():
    return signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGWINCH)

before = state()
if {without}:
    del signal.sigwaitinfo
print(run_program(["sh", "-c", "exit 6"], os.environ))
print(run_program(["sh", "-c", "kill -USR1 $$"], os.environ))
print(state() == before)
"""


@pytest.mark.parametrize("without", [False, True])
def test_run_program(without: bool) -> None:
    """Signals are forwarded without sigwaitinfo, too, and mask and handlers are restored."""
    code = IN_PROCESS.format(without=without)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"6\n{-signal.SIGUSR1}\nTrue\n", "")
