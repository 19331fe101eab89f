"""The ledger adds up, whatever a destination answers and whatever the files do meanwhile."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rimp_otel.batch import TelemetryData, decode_batch
from rimp_otel.config import TelemetryConfig
from rimp_otel.models.records import Signal, TelemetryEvent
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.policy import FilePolicy
from rimp_otel.storage.files.sealer import Sealer
from rimp_otel.storage.files.storage import FileStorage
from rimp_otel.transport.forwarding.cursor import read_cursor
from rimp_otel.transport.forwarding.dead_letters import DeadLetters
from rimp_otel.transport.forwarding.destination import (
    Batch,
    Delivered,
    Outcome,
    Refused,
    RetryLater,
    Stopped,
)
from rimp_otel.transport.forwarding.forward_status import StatusReader
from rimp_otel.transport.forwarding.forwarder import Forwarder, ForwarderOptions
from rimp_otel.transport.forwarding.ledger import Ledger
from rimp_otel.transport.forwarding.sources import PortionLimits
from tests.transport.doubles import FakeTime

OUTCOMES = ["ok"] * 8 + ["partial", "later", "throttled", "refused", "dies"]
LIMITS = PortionLimits(size=2_000, records=7)


class RandomDestination:
    """Answers by chance, and knows what it took."""

    name = "test://random"
    max_request_size = 100_000

    def __init__(self) -> None:
        self.random = random.Random()
        self.outcomes = ["ok"]
        self.taken: list[str] = []
        self.rejected = 0
        self.deaths = 0

    def send(self, batch: Batch, timeout: float) -> Outcome:
        """Take what the answer says."""
        messages = [e.message for line in batch.lines for e in decode_batch(line).events]
        assert len(messages) == batch.records
        outcome = self.random.choice(self.outcomes)
        if outcome == "partial":
            rejected = self.random.randint(0, batch.records)
            self.rejected += rejected
            self.taken += messages[rejected:]
            return Delivered(rejected, "some are bad")
        if outcome == "later":
            return RetryLater("503", self.random.choice([None, 1.0]))
        if outcome == "throttled":
            return RetryLater("429", None, is_throttled=True)
        if outcome == "refused":
            return Refused("400")
        if outcome == "stopped":
            return Stopped("401")
        self.taken += messages
        if outcome == "dies":
            self.deaths += 1
            raise SystemExit  # ends the thread, as a death would, before anything is noted
        return Delivered()

    def close(self) -> None:
        """Do nothing."""


class Ledgers(RuleBasedStateMachine):
    """A recording whose files move, and a destination that is never sure."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(prefix="rimp-ledger-")
        self.path = Path(self._directory.name) / "telemetry"
        self.layout = Layout(self.path)
        self.storage = FileStorage(self.path, retain_size=None)
        self.destination = RandomDestination()
        self.stored = 0
        self.has_died = self.has_deleted = False
        self.reader = StatusReader(self.layout)
        self.forward("ok", 0)

    def teardown(self) -> None:
        """Send what is left, and compare."""
        self.forward("ok", 0)
        found = self.status()
        assert found.pending.records == 0
        letters = {
            event.message for letter in self.letters() for event in decode_batch(letter.line).events
        }
        taken = set(self.destination.taken)
        lost = self.stored - len(taken | letters)
        assert lost <= found.ledger.expired + self.destination.rejected
        if not self.has_died:
            assert len(taken) == len(self.destination.taken) == found.ledger.acknowledged
            assert not taken & letters
        self.storage.close()
        self._directory.cleanup()

    def status(self):
        """Return the state of the log records."""
        (found,) = self.reader.read()
        return found.signals[Signal.LOGS]

    def letters(self):
        """Return the dead letters."""
        (directory,) = self.layout.forward.iterdir()
        return list(DeadLetters(Signal.LOGS, read_cursor(directory, Signal.LOGS)))

    @rule(batches=st.lists(st.integers(1, 9), min_size=1, max_size=5))
    def store(self, batches):
        """Store lines of some records each."""
        for count in batches:
            numbers = range(self.stored, self.stored + count)
            self.stored += count
            events = [TelemetryEvent("source", f"m{number}") for number in numbers]
            self.storage.store(TelemetryData(events))

    @rule(seal=st.booleans(), delete=st.booleans())
    def rotate(self, seal, delete):
        """Rotate the files; perhaps have them sealed, or deleted."""
        self.storage.rotate()
        if seal or delete:
            config = TelemetryConfig(retain_size=0 if delete else None)
            Sealer(self.layout, FilePolicy.of(config)).run()
            self.has_deleted = self.has_deleted or delete

    @rule(kind=st.sampled_from(["ok", "random", "stopped", "later"]), seed=st.integers(0, 2**32))
    def forward(self, kind, seed):
        """Forward what is there."""
        self.destination.random = random.Random(seed)
        self.destination.outcomes = {"ok": ["ok"], "random": OUTCOMES}.get(kind, ["ok", kind])
        before = self.destination.deaths
        options = ForwarderOptions(once=True, hold=0, signals=(Signal.LOGS,), limits=LIMITS)
        forwarder = Forwarder(self.path, [self.destination], options, make_pace=self.make_pace)
        forwarder.start()
        assert forwarder.wait(20)
        forwarder.close()
        self.has_died = self.has_died or self.destination.deaths > before

    def make_pace(self, stop):
        """Return a pace that lets no time pass, and gives up."""
        return FakeTime().make_pace(stop, give_up=300)

    @invariant()
    def everything_is_somewhere(self):
        """All records ever stored are in one place of the ledger."""
        found = self.status()
        assert found.recorded == self.stored
        ledger = found.ledger
        parts = (ledger.acknowledged, ledger.expired, *ledger.refused.values())
        assert all(part >= 0 for part in parts)
        assert sum(parts) + found.pending.records == self.stored
        assert len(self.letters()) == sum(
            count for reason, count in ledger.refused.items() if reason != "partial_success"
        )


# A thread that a death ends is what one rule is about.
TestLedgers = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")(
    Ledgers.TestCase
)
TestLedgers.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_ledgers_add_and_subtract():
    """Reason by reason; what is 0 is left out."""
    first = Ledger(3, 1, {"a": 2}, {"rule": 5})
    second = first + Ledger(1, refused={"a": 1, "b": 1})
    assert second == Ledger(4, 1, {"a": 3, "b": 1}, {"rule": 5})
    assert second.since(first) == Ledger(1, 0, {"a": 1, "b": 1}, {})
    assert second.passed == 14
    assert Ledger.parse(second.as_json()) == second
    with pytest.raises(ValueError, match="not a ledger"):
        Ledger.parse({"acknowledged": 1})
    assert first.__add__(1) is NotImplemented
