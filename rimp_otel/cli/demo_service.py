"""The service of ``rimp demo``: starts it, and ends it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from rimp_otel.errors import RimpError
from rimp_otel.render.terminal import Style

__all__ = ["DemoService", "ServiceError", "find_service_script", "run_service"]

_MAX_START_SECONDS, _MAX_LIFETIME = 30.0, 120


class ServiceError(RimpError):
    """The service did not do what the demo expects."""


class DemoService(NamedTuple):
    """A running service."""

    #: The URL at which it listens.
    address: str
    #: The path of its recording.
    path: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill the service and the command that records it with SIGKILL.

        Raises:
            ServiceError: the service has ended by itself.
        """
        if self.process.poll() is not None:
            raise ServiceError(
                f"the service ended by itself with exit code {self.process.returncode}"
            )
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def find_service_script() -> Path:
    """Return the path of the service: in the installed package, or beside it in a clone.

    Raises:
        ServiceError: it is in neither place.
    """
    package = Path(__file__).parents[1]
    places = (package / "_demo" / "app.py", package.parent / "examples" / "service" / "app.py")
    for place in places:
        if place.is_file():
            return place
    raise ServiceError(
        f"the service of the demo is missing: neither {' nor '.join(map(str, places))} exists"
    )


@contextmanager
def run_service(path: Path, script: Path | None = None) -> Iterator[DemoService]:
    """Run the service and record it; it has ended at the end of the block in any case.

    Args:
        path: path of the recording.
        script: the service; that of the package by default.

    Raises:
        ServiceError: the service did not start.
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryDirectory() as directory:
        process = _start_service(path, script or find_service_script(), directory, errors)
        try:
            yield DemoService(_read_address(process, errors), path, process)
        finally:
            _kill_group(process)


def _start_service(
    path: Path, script: Path, directory: str, errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    rimp = [sys.executable, "-m", "rimp_otel"]
    run = ["run", "--quiet", "--path", str(path), "--service", "shop"]
    return subprocess.Popen(
        [*rimp, *run, "--", sys.executable, str(script)],
        env={**_service_environment(), "TMPDIR": directory},  # a killed process leaves its files
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        # In its own group: a signal to this one does not end half of it, and all of it can be killed.
        start_new_session=True,
        preexec_fn=_limit_lifetime,
    )


def _limit_lifetime() -> None:
    # In case this process is killed: `rimp run` forwards the signal to the service.
    signal.alarm(_MAX_LIFETIME)


def _service_environment() -> dict[str, str]:
    """Return the environment without variables that the user set for other programs."""
    foreign = ("OTEL_", "RIMP_", "FLASK_")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(foreign)},
        "NO_PROXY": "127.0.0.1",
        # The stable semantic conventions, instead of the older ones.
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
        # Instruments keep their values in memory: what was not collected dies with the process.
        "RIMP_METRIC_INTERVAL": "0.25",
    }


def _read_address(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], _MAX_START_SECONDS)
    line = process.stdout.readline().decode() if ready else ""
    if not line.startswith("listening on "):
        raise _failed_start(
            "did not start" if ready else f"did not start within {_MAX_START_SECONDS:g} s", errors
        )
    return line.split()[-1]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    if process.stdout:
        process.stdout.close()


def _failed_start(what: str, errors: IO[bytes]) -> ServiceError:
    errors.seek(0)
    output = errors.read().decode(errors="replace").splitlines()
    for line in output:
        print(Style().clean(line), file=sys.stderr)
    return ServiceError(f"the service {what}" + ("; see its output above" if output else ""))
