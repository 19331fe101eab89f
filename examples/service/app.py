"""A small online shop, which `rimp demo` records.

Flask, an SQLite database, an HTTP call and logging, all of them instrumented by the published
OpenTelemetry packages. No code here is about recording; the shop's own span and two metrics use
OpenTelemetry's API.

    rimp run --service shop -- python app.py --port 8000
    curl -d '{"sku": "tea", "quantity": 2, "card": "4242"}' http://127.0.0.1:8000/checkout
"""

from __future__ import annotations

import argparse
import logging
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from flask import Flask, abort, request
from opentelemetry import metrics, trace
from werkzeug.serving import make_server

PRODUCTS = [("tea", 480, 200), ("mug", 1250, 40), ("kettle", 3900, 6)]
SLOW_CARD, EXPIRED_CARD, SILENT_CARD = "1881", "0069", "0404"

log = logging.getLogger("shop")
app = Flask(__name__)
tracer = trace.get_tracer("shop")
meter = metrics.get_meter("shop")
orders = meter.create_counter("shop.orders", "{order}", "Orders, by outcome")
latency = meter.create_histogram(
    "shop.checkout.duration",
    "s",
    "How long a customer waits for a checkout",
    explicit_bucket_boundaries_advisory=[0.015, 0.02, 0.03, 0.045, 0.07, 0.1, 0.25, 0.5],
)


class PaymentError(Exception):
    """The bank refuses to pay."""


@contextmanager
def database() -> Iterator[sqlite3.Cursor]:
    """Run a transaction."""
    connection = sqlite3.connect(app.config["DATABASE"])
    try:
        with connection:
            yield connection.cursor()
    finally:
        connection.close()


def open_shop(path: Path) -> None:
    """Create and fill the database."""
    app.config["DATABASE"] = path
    with tracer.start_as_current_span("open shop"), database() as cursor:
        cursor.execute("CREATE TABLE products (sku TEXT PRIMARY KEY, cents INTEGER, stock INTEGER)")
        cursor.execute("CREATE TABLE orders (sku TEXT, quantity INTEGER, cents INTEGER)")
        cursor.executemany("INSERT INTO products VALUES (?, ?, ?)", PRODUCTS)
    log.info("the shop is open", extra={"products": len(PRODUCTS)})


@app.get("/products")
def list_products() -> list[dict[str, Any]]:
    """Return all products."""
    with database() as cursor:
        rows = cursor.execute("SELECT sku, cents FROM products ORDER BY sku").fetchall()
    return [{"sku": sku, "cents": cents} for sku, cents in rows]


@app.get("/products/<sku>")
def show_product(sku: str) -> dict[str, Any]:
    """Return one product."""
    return {"sku": sku, "cents": price_of(sku)}


@app.get("/inventory/<sku>")
def show_inventory(sku: str) -> dict[str, Any]:
    """Return the stock of a product; in a larger shop, this is another service."""
    with database() as cursor:
        found = cursor.execute("SELECT stock FROM products WHERE sku = ?", (sku,)).fetchone()
    if found and found[0] < 5:
        log.warning("stock is low", extra={"sku": sku, "left": found[0]})
    return {"sku": sku, "stock": found[0] if found else 0}


@app.post("/checkout")
def checkout() -> dict[str, Any]:
    """Handle an order, and measure how long it takes."""
    started = time.perf_counter()
    outcome = "failed"
    try:
        receipt = sell(**request.get_json(force=True))
        outcome = "paid"
        return receipt
    finally:
        orders.add(1, {"outcome": outcome})
        latency.record(time.perf_counter() - started)


def sell(sku: str, quantity: int, card: str) -> dict[str, Any]:
    """Look up price and stock, charge the card, and store the order."""
    cents = price_of(sku) * quantity
    answer = requests.get(f"{request.host_url}inventory/{sku}", timeout=5)
    if answer.json()["stock"] < quantity:
        log.warning("sold out", extra={"sku": sku, "wanted": quantity})
        abort(409)
    charge(card, cents)
    with database() as cursor:
        cursor.execute("UPDATE products SET stock = stock - ? WHERE sku = ?", (quantity, sku))
        cursor.execute("INSERT INTO orders VALUES (?, ?, ?)", (sku, quantity, cents))
    log.info("order paid", extra={"sku": sku, "quantity": quantity, "cents": cents})
    return {"sku": sku, "quantity": quantity, "cents": cents}


def price_of(sku: str) -> int:
    """Return the price of a product in cents."""
    with database() as cursor:
        found = cursor.execute("SELECT cents FROM products WHERE sku = ?", (sku,)).fetchone()
    if found is None:
        abort(404)
    return int(found[0])


def charge(card: str, cents: int) -> None:
    """Charge a card; the bank takes longer for larger sums."""
    with tracer.start_as_current_span("charge card", attributes={"payment.cents": cents}):
        log.info("charging", extra={"card": f"*{card}", "cents": cents})
        if card == SLOW_CARD:
            log.warning("the bank is slow, trying again", extra={"attempt": 2})
            time.sleep(0.45)
        if card == SILENT_CARD:
            log.warning("the bank does not answer", extra={"card": f"*{card}"})
            time.sleep(60)
        time.sleep(cents / 100_000)
        if card == EXPIRED_CARD:
            raise PaymentError(f"the bank refused card *{card}: expired")


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="A small online shop.")
    parser.add_argument(
        "--port", type=int, default=0, help="port to listen on (default: any free port)"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory() as directory:
        open_shop(Path(directory) / "shop.db")
        server = make_server("127.0.0.1", args.port, app, threaded=True)
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        try:
            server.serve_forever()
        finally:
            server.server_close()
            log.info("the shop is closed")


if __name__ == "__main__":
    main()
