"""Where the peers are installed, and how."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

__all__ = ["find_command", "install", "node_directory", "python_with"]

# Read at once: the tests run without variables of ours.
_NAMED = os.environ.get("RIMP_PEERS")
_ROOT = Path(__file__).parents[2]
_NODE = (
    "@opentelemetry/api@1",
    "@opentelemetry/sdk-node@0.223",
    "@opentelemetry/sdk-logs@0.223",
    "@opentelemetry/sdk-metrics@2",
    "@opentelemetry/sdk-trace-base@2",
    *(
        f"@opentelemetry/exporter-{signal}-otlp-{protocol}@0.223"
        for signal in ("trace", "logs", "metrics")
        for protocol in ("proto", "http", "grpc")
    ),
)

# They pin what others need newer, so that they have an environment of their own in that of the peers.
_READERS = ("jaeger-mcp==0.6.1", "opentelemetry-mcp==0.2.2")


def install(directory: Path) -> None:
    """Make an environment of the peers: the extra ``peers``, readers of query APIs, and the SDK of Node
    where npm is there."""
    if not (directory / "bin" / "python").exists():
        venv.create(directory, with_pip=True)
    pip = [directory / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, f"{_ROOT}[peers]"], check=True)
    readers = directory / "readers"
    if not (readers / "bin" / "python").exists():
        venv.create(readers, with_pip=True)
    pip = [readers / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *_READERS], check=True)
    if npm := shutil.which("npm"):
        options = ["--no-audit", "--no-fund", "--silent", "--prefix", str(directory / "node")]
        subprocess.run([npm, "install", *options, *_NODE], check=True)
    else:
        print("npm is not there: the SDK of Node is left out", file=sys.stderr)


def find_command(name: str) -> str:
    """Return the path of a peer's command; skip the test where it is not installed."""
    for directory in _directories():
        if name == "rotel":
            found = [*directory.glob("lib/python3*/site-packages/rotel/rotel-agent")]
        else:
            places = [directory / "bin" / name, directory / "readers" / "bin" / name]
            found = [path for path in places if path.exists()]
        if found:
            return str(found[0])
    pytest.skip(_reason(name))


def python_with(module: str) -> str:
    """Return an interpreter that can import a module; skip the test where there is none."""
    for directory in _directories():
        python = directory / "bin" / "python"
        command = [python, "-c", f"import {module}"]
        if python.exists() and not subprocess.run(command, capture_output=True).returncode:
            return str(python)
    pytest.skip(_reason(module))


def node_directory() -> Path:
    """Return the directory that has the SDK of Node; skip the test where it is not installed."""
    for directory in _directories():
        if (directory / "node" / "node_modules" / "@opentelemetry").exists() and shutil.which(
            "node"
        ):
            return directory / "node"
    pytest.skip(_reason("the SDK of Node"))


def library_path() -> str:
    """Return where libpython is, which rotel is linked to."""
    return str(sysconfig.get_config_var("LIBDIR"))


def _directories() -> list[Path]:
    return [Path(_NAMED) if _NAMED else Path(sys.prefix)]


def _reason(name: str) -> str:
    return f"{name} is not installed: python -m tests.peers install DIRECTORY, and RIMP_PEERS=DIRECTORY"
