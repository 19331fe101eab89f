"""Has the Parquet twins of sealed files made, by a process of its own and of the lowest priority.

Nothing of that runs in the application: a shell starts ``rimp parquet`` in the background and ends at
once, so that the application gets no child of its own to look after. Of several that are started
for one recording, all but one end at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from rimp_otel.errors import MissingExtraError
from rimp_otel.process import Reporter

__all__ = ["TwinMaker", "environment"]

_PAUSE = 60.0
_LONGEST = 10.0
_PACKAGES = {"duckdb": "DuckDB", "pyarrow": "PyArrow"}
_SITE = Path(__file__).parents[2] / "otel" / "autorecord_site"
_IN_BACKGROUND = 'nice -n 19 "$@" </dev/null >/dev/null 2>&1 &'
_COMMAND = ("-m", "rimp_otel.cli.main", "parquet", "--path")


class TwinMaker:
    """Starts ``rimp parquet`` now and then.

    Args:
        path: of the recording.
        start: runs a command, which ends soon.
        monotonic: gives seconds that never go back.
    """

    def __init__(
        self,
        path: Path,
        start: Callable[[list[str]], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._start = start or _run
        self._monotonic = monotonic
        self._reporter = Reporter()
        self._next = float("-inf")

    def wake(self) -> None:
        """Has the twins made that are missing, unless that was begun in the last minute."""
        now = self._monotonic()
        if now < self._next:
            return
        self._next = now + _PAUSE
        try:
            self._start(self._command())
        except MissingExtraError as error:
            self._reporter.say("extra", f"no Parquet twins are made: {error}")
        except (OSError, subprocess.SubprocessError) as error:
            self._reporter.say("start", f"'rimp parquet' cannot be started: {error}")

    def _command(self) -> list[str]:
        for module, name in _PACKAGES.items():
            if find_spec(module) is None:
                raise MissingExtraError(name, "sql")
        # Where Python is embedded, this names the program that it is embedded in.
        if not Path(sys.executable or "").name.startswith(("python", "pypy")):
            raise OSError(f"{sys.executable!r} is no Python; run it from time to time yourself")
        python = [sys.executable, *_COMMAND, os.fspath(self._path)]
        return ["/bin/sh", "-c", _IN_BACKGROUND, "rimp", *python]


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is itself not recorded, whatever records this one."""
    kept = {key: value for key, value in env.items() if not key.startswith(("OTEL_", "RIMP_"))}
    path = [p for p in kept.pop("PYTHONPATH", "").split(os.pathsep) if p and p != str(_SITE)]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), "OTEL_SDK_DISABLED": "true"}


def _run(command: list[str]) -> object:
    return subprocess.run(
        command,
        env=environment(os.environ),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_LONGEST,
        check=True,
        start_new_session=True,
    )
