"""Has Parquet copies of sealed files made, by a process of its own and of the lowest priority.

Nothing of that runs in the application: a shell starts the process in the background and ends at
once, so that the application gets no child of its own to look after. Of several that are started
for one recording, all but one end at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from rimp_otel.errors import MissingExtraError
from rimp_otel.process import Reporter, child_environment

__all__ = ["ParquetJob"]

_PAUSE = 60.0
_TIMEOUT = 10.0
_PACKAGES = {"duckdb": "DuckDB", "pyarrow": "PyArrow"}
_IN_BACKGROUND = 'nice -n 19 "$@" </dev/null >/dev/null 2>&1 &'
_WORKER = "rimp_otel.sql.parquet"


class ParquetJob:
    """Starts the process that makes Parquet copies, at most once a minute.

    Args:
        path: of the recording.
        start: runs a command, which ends soon.
        monotonic: returns seconds that never go back.
    """

    def __init__(
        self,
        path: Path,
        start: Callable[[list[str]], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._start = start or _run_command
        self._monotonic = monotonic
        self._reporter = Reporter()
        self._next = float("-inf")

    def start_if_due(self) -> None:
        """Have missing copies made, unless that was begun in the last minute."""
        now = self._monotonic()
        if now < self._next:
            return
        self._next = now + _PAUSE
        try:
            self._start(self._command())
        except MissingExtraError as error:
            self._reporter.warn("extra", f"no Parquet copies are made: {error}")
        except (OSError, subprocess.SubprocessError) as error:
            self._reporter.warn(
                "start", f"no Parquet copies are made: cannot start a process: {error}"
            )

    def _command(self) -> list[str]:
        for module, name in _PACKAGES.items():
            if find_spec(module) is None:
                raise MissingExtraError(name, "sql")
        # Where Python is embedded, this names the program that it is embedded in.
        if not Path(sys.executable or "").name.startswith(("python", "pypy")):
            raise OSError(f"{sys.executable!r} is no Python interpreter")
        python = [sys.executable, "-m", _WORKER, os.fspath(self._path)]
        return ["/bin/sh", "-c", _IN_BACKGROUND, "rimp", *python]


def _run_command(command: list[str]) -> object:
    return subprocess.run(
        command,
        env=child_environment(os.environ),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_TIMEOUT,
        check=True,
        start_new_session=True,
    )
