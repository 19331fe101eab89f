"""The service of ``rimp demo``, and its customers."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from rimp_otel.cli.render import Style, to_json
from rimp_otel.errors import RimpError

__all__ = ["REQUESTS", "ServiceError", "Visit", "service_file", "serving", "visit"]

_START, _STOP, _LIFETIME = 30.0, 10.0, 120
"""Seconds to start, to stop, and to live at most."""


class ServiceError(RimpError):
    """The service did not do what it should."""


class Request(NamedTuple):
    """What a customer asks for; an order, where there is a card."""

    path: str
    card: str = ""
    quantity: int = 1


def _requests() -> Iterator[Request]:
    for number in range(10):
        yield Request("/products")
        yield Request(f"/products/{('tea', 'mug', 'kettle')[number % 3]}")
        card = "1881" if number in (3, 7) else "0069" if number == 5 else "4242"
        yield Request("tea" if number % 2 else "mug", card, 1 + number % 3)
        if number % 3 == 0:
            yield Request("/products/toaster")
            yield Request("kettle", "4242", 2)
        elif number % 4 == 0:
            yield Request("tea", "4242", 3)


REQUESTS = tuple(_requests())
"""The same every time: some are slow, some ask for what there is not, one card is refused."""


class Visit(NamedTuple):
    """How the requests went."""

    statuses: Counter[int]
    seconds: float


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
def serving(path: Path) -> Iterator[str]:
    """Runs the service, recorded at ``path``, and gives the address at which it listens.

    It has ended, and everything is recorded, when the context is left.

    Raises:
        ServiceError: it did not start, or did not end well.
    """
    with tempfile.TemporaryFile() as errors:
        process = _start(path, errors)
        try:
            yield _address(process, errors)
            code = _stop(process)
        finally:
            _make_sure(process)
        if code:
            raise _failure(f"ended with exit code {code}", errors)


def _start(path: Path, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    rimp = [sys.executable, "-m", "rimp_otel.cli.main"]
    run = ["run", "--quiet", "--path", str(path), "--service", "shop"]
    return subprocess.Popen(
        [*rimp, *run, "--", sys.executable, str(service_file())],
        env=_env(),
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
    }


def _address(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], _START)
    line = process.stdout.readline().decode() if ready else ""
    if not line.startswith("listening on "):
        raise _failure("did not start" if ready else f"did not start in {_START:g} s", errors)
    return line.split()[-1]


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(_STOP)
    except subprocess.TimeoutExpired:
        return -signal.SIGTERM


def _make_sure(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the service is left, whatever happened."""
    if process.poll() is None:
        _stop(process)
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


def visit(address: str) -> Visit:
    """Sends the requests, one after the other."""
    # Loopback needs no proxy, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    started = time.monotonic()
    statuses = Counter(_status(opener, address, request) for request in REQUESTS)
    return Visit(statuses, time.monotonic() - started)


def _status(opener: urllib.request.OpenerDirector, address: str, request: Request) -> int:
    path, body = request.path, None
    if request.card:
        order = {"sku": request.path, "quantity": request.quantity, "card": request.card}
        path, body = "/checkout", to_json(order).encode()
    try:
        with opener.open(address + path, body, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
