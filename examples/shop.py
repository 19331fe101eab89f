"""A checkout whose payment fails, to be recorded and asked about.

rimp run -- python examples/shop.py
rimp traces --errors
"""

import logging
import time

from opentelemetry import trace

tracer = trace.get_tracer("shop")


def charge(order: int) -> None:
    """Ask the bank, which refuses."""
    with tracer.start_as_current_span("charge card"):
        time.sleep(0.03)
        raise ConnectionError("bank.example refused the connection")


with tracer.start_as_current_span("POST /checkout"):
    with tracer.start_as_current_span("SELECT stock"):
        time.sleep(0.01)
    try:
        charge(4711)
    except ConnectionError:
        logging.exception("payment failed, order %d kept", 4711)
