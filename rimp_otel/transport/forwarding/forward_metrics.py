"""OpenTelemetry's metrics of forwarding: what the ledgers say, read when metrics are collected.

============================ ====================================================================
``rimp.forward.records``     counter: records by ``rimp.outcome`` ("acknowledged", "expired", "refused",
                             "not_kept") and, of the last two, ``error.type``, the reason
``rimp.forward.pending``     up-down counter: records behind the cursor
``rimp.forward.lag``         gauge: the age of the oldest of them, in seconds
============================ ====================================================================

Each with ``rimp.destination`` and ``rimp.signal``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from time import time_ns
from typing import Any, Protocol

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter

from rimp_otel.errors import RimpError
from rimp_otel.storage.recording import layout_of
from rimp_otel.transport.forwarding.forward_status import (
    DestinationStatus,
    SignalStatus,
    StatusReader,
)

__all__ = ["Forwarding", "observe_forwarders"]

_METER = "rimp_otel"


class Forwarding(Protocol):
    """Something that forwards a recording in this process."""

    @property
    def path(self) -> Path:
        """The path of the recording."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the destinations that it forwards to."""


def observe_forwarders(forwarding: Forwarding, meter_provider: MeterProvider | None = None) -> None:
    """Record ``rimp.forward.*`` of what is forwarded, as long as it lives.

    Args:
        forwarding: what forwards.
        meter_provider: records them; default: the global one.
    """
    meter = get_meter(_METER, meter_provider=meter_provider)
    alive = weakref.ref(forwarding)
    reader: list[StatusReader] = []

    def states() -> list[DestinationStatus]:
        found = alive()
        names = [] if found is None else found.names
        if found is None or not names:
            return []
        try:
            if not reader:
                reader.append(StatusReader(layout_of(found.path)))
            return reader[0].read(names)
        except (RimpError, OSError):
            return []

    def observing(
        read: Callable[[SignalStatus, dict[str, Any]], Iterable[Observation]],
    ) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        def callback(_: CallbackOptions) -> Iterator[Observation]:
            for state in states():
                for signal, status in state.signals.items():
                    attributes = {"rimp.destination": state.name, "rimp.signal": signal.value}
                    yield from read(status, attributes)

        return [callback]

    meter.create_observable_counter(
        "rimp.forward.records",
        observing(_observe_records),
        unit="{record}",
        description="The number of records that forwarding has dealt with.",
    )
    meter.create_observable_up_down_counter(
        "rimp.forward.pending",
        observing(_observe_pending),
        unit="{record}",
        description="The number of records that are not forwarded yet.",
    )
    meter.create_observable_gauge(
        "rimp.forward.lag",
        observing(_observe_lag),
        unit="s",
        description="The age of the oldest record that is not forwarded yet.",
    )


def _observe_records(status: SignalStatus, attributes: dict[str, Any]) -> Iterator[Observation]:
    ledger = status.ledger
    yield Observation(ledger.acknowledged, {**attributes, "rimp.outcome": "acknowledged"})
    yield Observation(ledger.expired, {**attributes, "rimp.outcome": "expired"})
    for outcome, counts in (("refused", ledger.refused), ("not_kept", ledger.not_kept)):
        for reason, count in counts.items():
            own = {**attributes, "rimp.outcome": outcome, "error.type": reason}
            yield Observation(count, own)


def _observe_pending(status: SignalStatus, attributes: dict[str, Any]) -> Iterator[Observation]:
    yield Observation(status.pending.records, attributes)


def _observe_lag(status: SignalStatus, attributes: dict[str, Any]) -> Iterator[Observation]:
    yield Observation(status.lag(time_ns()), attributes)
