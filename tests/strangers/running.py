"""Runs a project, uses it, and notes all that somebody outside of it can see."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rimp_otel import FileStorage
from rimp_otel.models.records import Signal
from tests.strangers.projects import Project

__all__ = ["Comparison", "Outcome", "compare"]

_STARTING, _ENDING = 60.0, 60.0
_DURATIONS = {
    "http.server.duration",
    "http.server.request.duration",
    "flower.task.runtime.seconds",
}
_VARIES = [
    # Addresses of objects, process ids, times, durations, ports, and colours.
    (re.compile(r"0x[0-9a-f]+"), "0x…"),
    (re.compile(r"\x1b\[[\d;]*m"), ""),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?( ?[+-]\d{4}|Z)?"), "TIME"),
    (re.compile(r"\[\d\d/\w{3}/\d{4}[: ]\d\d:\d\d:\d\d( [+-]\d{4})?\]"), "[TIME]"),
    (re.compile(r"\w+ \d\d, \d{4} - \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"127\.0\.0\.1:\d+|localhost:\d+"), "HOST"),
    (re.compile(r"\[\d+\]"), "[PID]"),
    (re.compile(r"\(\d{2,}\)"), "(PID)"),
    (re.compile(r"(?<=process )\d+|(?<=pid: )\d+|(?<=pid:)\d+"), "PID"),
]


@dataclass
class Outcome:
    """What somebody outside sees of one run."""

    stdout: Counter[str]
    stderr: Counter[str]
    code: int | None
    responses: list[tuple[str, int, str]] = field(default_factory=list)


@dataclass
class Comparison:
    """Two runs of one project, and what was recorded in the second."""

    project: Project
    plain: Outcome
    recorded: Outcome
    spans: int = 0
    logs: int = 0
    server_spans: int = 0
    measured: int = 0

    @property
    def differences(self) -> list[str]:
        """Say what differs that may not; empty where the program did not notice."""
        found = []
        for name in ("stdout", "stderr"):
            plain, recorded = getattr(self.plain, name), getattr(self.recorded, name)
            found += [f"{name} has more: {line}" for line in (recorded - plain)]
            found += [f"{name} lacks: {line}" for line in (plain - recorded)]
        if self.plain.code != self.recorded.code:
            found.append(f"exit code {self.recorded.code} instead of {self.plain.code}")
        if self.plain.responses != self.recorded.responses:
            pairs = zip(self.plain.responses, self.recorded.responses, strict=False)
            found += [f"answered {b} instead of {a}" for a, b in pairs if a != b][:3]
        answered = len(self.recorded.responses)
        if answered and self.project.requests_are_recorded:
            if self.server_spans != answered:
                found.append(f"{self.server_spans} spans of {answered} answered requests")
            if self.measured != answered:
                found.append(f"{self.measured} of {answered} requests are in the measurements")
        if self.measured != self.project.tasks and not answered:
            found.append(f"{self.measured} of {self.project.tasks} tasks are in the measurements")
        for name in ("spans", "logs"):
            least, there = getattr(self.project, name), getattr(self, name)
            is_exact = self.project.is_exact and name == "spans"
            if there < least or (is_exact and there > least):
                found.append(f"{there} {name} are recorded, not {least}")
        return found


def compare(project: Project, bin: Path) -> Comparison:
    """Run the project as it is, then recorded, each time made anew, and compare.

    Args:
        project: what to run.
        bin: the directory of the environment's commands.
    """
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="rimp-stranger-") as name:
        # The same path both times, since programs print it.
        directory, recording = Path(name, "project"), Path(name, "recording")
        for prefix in ([], [str(bin / "rimp"), "run", "--quiet", "--path", str(recording), "--"]):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            outcomes.append(_run(project, directory, bin, prefix))
        own = directory / "telemetry"
        data = FileStorage(own if own.exists() else recording).retrieve()
        comparison = Comparison(project, *outcomes)
        comparison.spans, comparison.logs = len(data.spans), data.count_of(Signal.LOGS)
        comparison.server_spans = sum(span.kind.name == "SERVER" for span in data.spans)
        comparison.measured = _requests_measured(data)
    return comparison


def _requests_measured(data) -> int:
    """Return the requests, or tasks, that the last point of each series of durations counts."""
    latest = {}
    for metric in data.metrics:
        if metric.name in _DURATIONS:
            attributes = tuple(sorted((k, str(v)) for k, v in metric.tags.items()))
            resource = tuple(sorted((k, str(v)) for k, v in metric.resource.attributes.items()))
            key = (metric.name, attributes, resource, metric.start_time_unix_nano)
            latest[key] = metric.point.count
    return sum(latest.values())


def _run(project: Project, directory: Path, bin: Path, prefix: list[str]) -> Outcome:
    with ExitStack() as stack:
        values = {"port": str(_free_port()), "directory": str(directory), "redis": ""}
        if project.redis:
            values["redis"] = str(stack.enter_context(_redis(directory)))
        project.make(directory, bin)
        for path in directory.glob("*.py"):
            path.write_text(path.read_text().replace("{redis}", values["redis"]))
        words = [_fill(word, values) for word in project.command]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "RIMP_"))}
        environment |= {"PATH": f"{bin}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
        environment |= {key: _fill(value, values) for key, value in project.environment.items()}
        # Into files: a pipe that a worker keeps open would never end.
        out, err = directory.parent / "stdout", directory.parent / "stderr"
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            process = subprocess.Popen(
                [*prefix, str(bin / words[0]), *words[1:]],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
            try:
                responses = _use(project, process, int(values["port"])) if project.urls else []
                code: int | None = process.wait(_ENDING if project.urls else 3 * _ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
                code, responses = None, []
        # A shell's way to name a signal, which `rimp run` uses too.
        code = 128 - code if code is not None and code < 0 else code
        values["directory"] = str(directory.parent)
        return Outcome(_lines(out, values), _lines(err, values), code, responses)


def _use(project: Project, process: subprocess.Popen[bytes], port: int) -> list:
    deadline = time.monotonic() + _STARTING
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    responses = []
    for url in project.urls * project.rounds:
        if process.poll() is not None:
            break
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.connect()
            with connection.sock.dup() as sock:
                sock.settimeout(30)
                connection.request("GET", url, headers={"Connection": "close"})
                response = connection.getresponse()
                body = re.sub(r'csrf\w+" value="\w+"', "", response.read().decode())
                # Until the server closes: by then it has written its line about the request.
                sock.recv(1)
            responses.append((url, response.status, _normal(body)))
        except (OSError, http.client.HTTPException) as error:
            responses.append((url, 0, repr(error)))
        finally:
            connection.close()
    if process.poll() is None:
        process.send_signal(project.stop)
    return responses


@contextmanager
def _redis(directory: Path) -> Iterator[int]:
    port = _free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen(
        command, cwd=directory.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        server.terminate()
        server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fill(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _lines(path: Path, values: dict[str, str]) -> Counter[str]:
    text = path.read_text(errors="replace").replace(f":{values['port']}", ":PORT")
    return Counter(_normal(text.replace(values["directory"], "DIRECTORY")).splitlines())


def _normal(text: str) -> str:
    for pattern, replacement in _VARIES:
        text = pattern.sub(replacement, text)
    return text
