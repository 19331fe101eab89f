"""A real Prometheus, and questions to it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["DEADLINE", "PROMETHEUS", "Prometheus", "free_port", "wait_for"]

DEADLINE = 60.0
PROMETHEUS = shutil.which("prometheus") or os.environ.get("PROMETHEUS")


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(condition: Callable[[], Any], timeout: float = DEADLINE) -> Any:
    """Wait until it returns something; return that. What cannot be reached yet is asked again."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            found = condition()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("not in time")


class Prometheus:
    """A Prometheus that scrapes one address; a context manager that ends it.

    Args:
        directory: for its data.
        address: what it scrapes.
        options: for its command line.
        interval: between two scrapes.
    """

    def __init__(self, directory: Path, address: str, *options: str, interval: str = "1s") -> None:
        config = directory / "prometheus.yml"
        config.write_text(
            f"""
global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
scrape_configs:
  - job_name: rimp
    honor_labels: true
    static_configs: [{{targets: ["{address}"]}}]
"""
        )
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/api/v1"
        command = [str(PROMETHEUS), f"--config.file={config}", "--log.level=warn"]
        command += [f"--web.listen-address=127.0.0.1:{port}", *options]
        command += [f"--storage.tsdb.path={directory / 'tsdb'}"]
        self._log = (directory / "prometheus.log").open("w+")
        self._process = subprocess.Popen(command, stderr=self._log)

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE)
        self._log.close()

    def _ask(self, path: str, **parameters: str) -> Any:
        asked = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self._url}/{path}?{asked}", timeout=DEADLINE) as answer:
            return json.load(answer)["data"]

    def value(self, query: str, time: float | None = None) -> float | None:
        """Return the value of a query of one series; None if it has none yet."""
        at = {} if time is None else {"time": f"{time:.3f}"}
        result = self._ask("query", query=query, **at)["result"]
        assert len(result) < 2, result
        return float(result[0]["value"][1]) if result else None

    def samples(self, selector: str) -> list[tuple[float, float]]:
        """Return all samples of one series, with their times, the oldest first."""
        result = self._ask("query", query=f"{selector}[1h]")["result"]
        assert len(result) < 2, result
        found = result[0]["values"] if result else []
        return [(float(time), float(value)) for time, value in found]

    def exemplars(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Return the exemplars of all series of a query: their labels and their values."""
        now = time.time()
        found = self._ask("query_exemplars", query=query, start=str(now - 3_600), end=str(now + 60))
        return [(e["labels"], float(e["value"])) for one in found for e in one["exemplars"]]

    def failed_scrapes(self) -> list[str]:
        """Return what the newest scrape of each target complained of."""
        return [t["lastError"] for t in self._ask("targets")["activeTargets"] if t["lastError"]]

    @property
    def log(self) -> str:
        """What it has said."""
        self._log.flush()
        self._log.seek(0)
        return self._log.read()
