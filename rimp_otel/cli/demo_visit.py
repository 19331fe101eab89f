"""The customers of ``rimp demo``'s shop, the last of whom never gets an answer."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rimp_otel.cli.demo_service import Service, ServiceError
from rimp_otel.cli.render import to_json
from rimp_otel.slots import is_owned

if TYPE_CHECKING:
    from rimp_otel.data import TelemetryData

__all__ = ["ORDERS", "REQUESTS", "Visit", "visit"]

ORDERS = "shop.orders"
"""The metric that counts them."""

_LONGEST_WAIT, _PAUSE = 15.0, 0.005
"""Seconds to wait for a sign, and between two looks."""


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

_ENDLESS = Request("mug", "0404")
_LAST = (Request("/products"), Request("/products/tea"), Request("/products/mug"))
_SIGN = "the bank does not answer"


class Visit(NamedTuple):
    """How the requests went."""

    #: Nanoseconds since the epoch.
    began: int
    #: Of those that were answered.
    statuses: Counter[int]
    seconds: float


def visit(service: Service) -> Visit:
    """Sends the requests, one after the other; then kills the service while it handles one, at the
    very moment at which it has answered the last of the others.

    Raises:
        ServiceError: the service did not do what it should.
    """
    began, started = time.time_ns(), time.monotonic()
    watcher = _Watcher(service.path)
    statuses = Counter(_status(service.address, request) for request in REQUESTS)
    ordered = sum(bool(request.card) for request in REQUESTS)
    watcher.wait_for("its metrics", lambda: watcher.orders == ordered)
    never_answered = threading.Thread(target=_wait, args=(service.address, _ENDLESS), daemon=True)
    never_answered.start()
    watcher.wait_for("the last order", lambda: watcher.is_charging)
    statuses += Counter(_status(service.address, request) for request in _LAST)
    service.kill()
    watcher.wait_for("its end", watcher.is_alone)
    return Visit(began, statuses, time.monotonic() - started)


def _wait(address: str, request: Request) -> None:
    try:
        _status(address, request)
    except (OSError, http.client.HTTPException):
        pass  # as it must be: who would answer has been killed


def _status(address: str, request: Request) -> int:
    path, body = request.path, None
    if request.card:
        order = {"sku": request.path, "quantity": request.quantity, "card": request.card}
        path, body = "/checkout", to_json(order).encode()
    # Loopback needs no proxy, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address + path, body, timeout=_LONGEST_WAIT) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class _Watcher:
    """Sees in the recording what the service does, while it does it."""

    def __init__(self, path: Path) -> None:
        from rimp_otel.storage.reader import RecordingReader

        self._reader = RecordingReader(path)
        self._reader.skip()
        self._outcomes: dict[str, float] = {}
        #: Whether it waits for the bank.
        self.is_charging = False

    @property
    def orders(self) -> float:
        """How many it has counted."""
        return sum(self._outcomes.values())

    def is_alone(self) -> bool:
        """Whether nobody records there any more."""
        layout = self._reader.layout
        return not any(is_owned(layout.journal(slot)) for slot in layout.slots())

    def wait_for(self, what: str, is_there: Callable[[], bool]) -> None:
        """Looks again and again, until it is there.

        Raises:
            ServiceError: that takes too long.
        """
        deadline = time.monotonic() + _LONGEST_WAIT
        while not is_there():
            if time.monotonic() > deadline:
                raise ServiceError(f"the service did not show {what} in {_LONGEST_WAIT:g} s")
            time.sleep(_PAUSE)
            for data in self._reader.poll():
                self._see(data)

    def _see(self, data: TelemetryData) -> None:
        for metric in data.metrics:
            if metric.name == ORDERS:
                self._outcomes[str(metric.tags["outcome"])] = metric.value
        self.is_charging |= any(event.message == _SIGN for event in data.events)
