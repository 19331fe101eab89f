"""The records of all contenders."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode

NAME = "GET /api/users/{id}"
ATTRIBUTES = {
    "http.request.method": "GET",
    "http.route": "/api/users/{id}",
    "http.response.status_code": 200,
    "client.address": "10.0.0.1",
    "user.id": "u-1234",
    "cache.hit": False,
    "db.duration": 12.5,
    "db.rows": 17,
}


def tracing(processor: SpanProcessor | None = None) -> trace.Tracer:
    """Return a tracer of a provider with this processor."""
    provider = TracerProvider(
        resource=Resource({"service.name": "shop", "service.version": "1.4.2"}),
        shutdown_on_exit=False,
    )
    if processor is not None:
        provider.add_span_processor(processor)
    return provider.get_tracer("benchmark", "1.0")


def spans(tracer: trace.Tracer, records: int) -> None:
    """Start and end spans with eight attributes, one after another."""
    start = tracer.start_span
    for _ in range(records):
        start(NAME, attributes=ATTRIBUTES).end()


def in_threads(work: Callable[[int], object], records: int, threads: int) -> None:
    """Have threads do equal parts of the work."""
    if threads == 1:
        work(records)
        return
    share = records // threads
    running = [threading.Thread(target=work, args=(share,)) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


_ROUTES = ("/api/users/{id}", "/api/orders", "/api/orders/{id}", "/checkout", "/search", "/health")
_TABLES = ("users", "orders", "order_items", "products", "sessions")


def varied_spans(tracer: trace.Tracer, records: int, seed: int = 7) -> None:
    """Yield spans of a web shop: requests with queries and calls, no two of them equal."""
    chance = random.Random(seed)
    left = records
    while left > 0:
        children = min(chance.randrange(2, 6), left - 1)
        _request(tracer, chance, children)
        left -= 1 + children


def _request(tracer: trace.Tracer, chance: random.Random, children: int) -> None:
    route = chance.choice(_ROUTES)
    failed = chance.random() < 0.03
    start = 1_767_225_600_000_000_000 + chance.randrange(86_400_000_000_000)
    root = tracer.start_span(
        f"GET {route}",
        kind=SpanKind.SERVER,
        start_time=start,
        attributes={
            "http.request.method": "GET",
            "http.route": route,
            "url.path": route.replace("{id}", str(chance.randrange(1_000_000))),
            "http.response.status_code": 500 if failed else 200,
            "client.address": f"10.{chance.randrange(4)}.{chance.randrange(256)}.{chance.randrange(256)}",
            "user_agent.original": chance.choice(_AGENTS),
            "enduser.id": f"u-{chance.randrange(50_000)}",
            "network.protocol.version": "1.1",
        },
    )
    context = trace.set_span_in_context(root)
    for attributes in _calls(chance, children):
        begun = start + chance.randrange(1_000_000, 40_000_000)
        child = tracer.start_span(
            str(attributes["db.operation.name"]),
            context,
            SpanKind.CLIENT,
            attributes,
            start_time=begun,
        )
        child.end(begun + chance.randrange(100_000, 30_000_000))
    if failed:
        root.set_status(StatusCode.ERROR, "the payment was refused")
        root.add_event("exception", {"exception.type": "PaymentError"}, start + 50_000_000)
    root.end(start + chance.randrange(40_000_000, 400_000_000))


_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15",
    "python-requests/2.32.4",
)


def _calls(chance: random.Random, children: int) -> Iterator[dict[str, Any]]:
    for _ in range(children):
        table = chance.choice(_TABLES)
        operation = f"SELECT {table}"
        yield {
            "db.system.name": "postgresql",
            "db.namespace": "shop",
            "db.operation.name": operation,
            "db.query.text": f"SELECT * FROM {table} WHERE id = %s AND shop = %s",
            "db.response.returned_rows": chance.randrange(200),
            "server.address": f"db-{chance.randrange(3)}.internal",
            "server.port": 5432,
        }
