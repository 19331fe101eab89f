"""The service of ``rimp demo``: it is run, and killed."""

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

__all__ = ["Service", "ServiceError", "service_file", "serving"]

_START, _LIFETIME = 30.0, 120
"""Seconds to start, and to live at most."""


class ServiceError(RimpError):
    """The service did not do what it should."""


class Service(NamedTuple):
    """The service, as long as it runs."""

    #: At which it listens.
    address: str
    #: Of the recording.
    path: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Ends it, and the command that records it, with a signal that nobody can catch.

        Raises:
            ServiceError: it had ended by itself.
        """
        if self.process.poll() is not None:
            raise ServiceError(f"the service ended by itself, with {self.process.returncode}")
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def service_file() -> Path:
    """Where the service is: in the installed package, or beside it in a clone."""
    package = Path(__file__).parents[1]
    places = (package / "_demo" / "app.py", package.parent / "examples" / "service" / "app.py")
    for place in places:
        if place.is_file():
            return place
    raise ServiceError(
        f"the demo's service is not there: looked for {' and '.join(map(str, places))}"
    )


@contextmanager
def serving(path: Path) -> Iterator[Service]:
    """Runs the service, recorded at ``path``. Nothing of it is left when the context is.

    Raises:
        ServiceError: it did not start.
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryDirectory() as directory:
        process = _start(path, directory, errors)
        try:
            yield Service(_address(process, errors), path, process)
        finally:
            _make_sure(process)


def _start(path: Path, directory: str, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    rimp = [sys.executable, "-m", "rimp_otel.cli.main"]
    run = ["run", "--quiet", "--path", str(path), "--service", "shop"]
    return subprocess.Popen(
        [*rimp, *run, "--", sys.executable, str(service_file())],
        env={**_env(), "TMPDIR": directory},  # it is killed, and leaves what is there
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        # Its own group: what ends this process does not end it halfway, and all of it can be ended.
        start_new_session=True,
        preexec_fn=_limit_lifetime,
    )


def _limit_lifetime() -> None:
    # Should this process be killed: `rimp run` hands the signal on, which ends the service.
    signal.alarm(_LIFETIME)


def _env() -> dict[str, str]:
    """Without what the user has set for other programs."""
    foreign = ("OTEL_", "RIMP_", "FLASK_")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(foreign)},
        "NO_PROXY": "127.0.0.1",
        # The conventions that are stable now, instead of those that came before.
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
        # Instruments keep their sums in memory: what was not collected dies with the process.
        "RIMP_METRIC_INTERVAL": "0.25",
    }


def _address(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], _START)
    line = process.stdout.readline().decode() if ready else ""
    if not line.startswith("listening on "):
        raise _failure("did not start" if ready else f"did not start in {_START:g} s", errors)
    return line.split()[-1]


def _make_sure(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the service is left, whatever happened."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    if process.stdout:
        process.stdout.close()


def _failure(what: str, errors: IO[bytes]) -> ServiceError:
    errors.seek(0)
    said = errors.read().decode(errors="replace").splitlines()
    for line in said:
        print(Style().clean(line), file=sys.stderr)
    return ServiceError(f"the service {what}" + ("; what it said is above" if said else ""))
