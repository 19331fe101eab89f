"""Records come back from ClickHouse as they were, whatever is in them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from rimp_otel import ClickHouseStorage, TelemetryData
from rimp_otel.models.records import Signal
from tests.clickhouse import unused_database
from tests.otlp import generate, generate_own
from tests.otlp.choices import RandomSource


@pytest.fixture
def storage(clickhouse):
    """Return a storage in a database of its own."""
    with ClickHouseStorage(clickhouse.url(unused_database())) as made:
        yield made


def texts_of(data, signal):
    """Return each record as text, with what stands around it."""
    return Counter(record[1:] for record in data.encoded_records(signal))


def decoded(data):
    """Return a batch as any storage gives it back."""
    lines = [line for signal in Signal for line in data.otlp_json(signal)]
    found = TelemetryData.from_otlp_json(lines)
    return TelemetryData(found.events, found.metrics, found.spans)


@pytest.mark.parametrize("seed", range(2))
def test_records_of_every_kind(storage, seed):
    """Records with every field, of any value that OTLP has, come back with the same text."""
    source = RandomSource(random.Random(seed))
    data = decoded(
        TelemetryData(
            [generate_own.event(source) for _ in range(80)],
            [generate_own.metric(source) for _ in range(80)],
            [span for _ in range(30) for span in generate.spans(source, 4)],
        )
    )
    storage.store(data)
    back = storage.retrieve()
    for signal in Signal:
        expected, found = texts_of(data, signal), texts_of(back, signal)
        assert found - expected == Counter() == expected - found
    assert storage.damaged == []
