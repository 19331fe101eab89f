"""The long comparison with the official encoder, in short."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from rimp_otel.otlp import fragment, logs, metrics, spans
from rimp_otel.otlp.signals import Signal
from tests.otlp.prove import main, prove


@pytest.fixture(autouse=True)
def quiet_sdk() -> Iterator[None]:
    """The SDK logs each attribute that it drops or cuts."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def empty_caches() -> Iterator[None]:
    """What broken encoders make of resources and scopes is forgotten."""
    yield
    fragment._resources._entries.clear()
    fragment._scopes._entries.clear()


def test_twenty_thousand_records_are_the_official_message():
    """Of all signals; ``python -m tests.otlp.prove`` compares a million."""
    outcome = prove(20_000, seed=2026)
    assert outcome.found == []
    assert outcome.counts.total() == 20_000
    assert min(outcome.counts[signal] for signal in Signal) > 2_000


def test_the_same_seed_compares_the_same_records():
    """So that a difference can be looked for again."""
    assert prove(500, seed=3).counts == prove(500, seed=3).counts


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        (spans, "_kind", lambda *_: 0),
        (spans, "_parent", lambda _: ""),
        (spans, "_attributes", lambda _: ""),
        (spans, "_event", lambda _: "{}"),
        (spans, "_link", lambda _: "{}"),
        (spans, "_events", lambda _: ""),
        (spans, "_links", lambda _: ""),
        (spans, "uint32", lambda _: 1),
        (spans, "_status", lambda _: ""),
        (spans, "_trace_state", lambda _: ""),
        (spans, "_flags", lambda *_: 0),
        (logs, "_context", lambda *_: ""),
        (logs, "value_json", lambda _: "{}"),
        (logs, "uint32", lambda _: 1),
        (metrics, "_exemplar", lambda _: "{}"),
        (metrics, "_buckets", lambda *_: ""),
        (metrics, "_sum_min_max", lambda _: ""),
        (metrics, "_number", lambda _: '"asInt":"0"'),
        (metrics, "_INT64", range(2**31)),
        (metrics, "_double", lambda _: "0.5"),
        (fragment, "_schema_tail", lambda _: "}"),
        (fragment, "_attributes_of", lambda _: ""),
    ],
)
@pytest.mark.usefixtures("empty_caches")
def test_a_field_that_is_lost_is_found(monkeypatch, module, name, instead):
    """Whatever piece of the encoders is broken, a few hundred records tell."""
    monkeypatch.setattr(module, name, instead)
    assert prove(1_000, seed=1).found


def test_a_difference_is_narrowed_down_to_its_record(monkeypatch):
    """What is printed is the first record that is wrong on its own, and both messages."""
    monkeypatch.setattr(spans, "_status", lambda _: "")
    first = prove(400, seed=1).found[0]
    assert first.startswith("seed 1: [<opentelemetry.sdk.trace.ReadableSpan object")
    assert ".spans[0].status: 'None' is not " in first
    assert first.count("resource_spans {") == 2


def test_the_command_says_what_it_compared(capsys):
    """One line, and success."""
    assert main(["--records", "10", "--seed", "4"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("10 records, 0 differences beyond the documented ones (spans ")
    assert ", seed 4, took " in line
