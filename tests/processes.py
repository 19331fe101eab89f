"""Running a script of a test in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import rimp_otel

ROOT = Path(rimp_otel.__file__).parents[1]


def run(script: str, *args: object, timeout: float = 60.0, code: int = 0, **env: str) -> str:
    """The standard output of a Python script; it must end with ``code``."""
    done = run_process([sys.executable, "-c", dedent(script), *map(str, args)], timeout, **env)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def run_process(
    command: list[str], timeout: float = 60.0, **env: str
) -> subprocess.CompletedProcess[str]:
    """A command with our package on its path."""
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def skip_without(package: str) -> None:
    """Skip the test if a package is not installed. It is not imported: that may change this process,
    as eventlet does for every fork."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
