"""Lines of which only some records are decoded."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("starlette")

from rimp_otel.viewer.answers.line_sieve import sieve_lines
from tests.transport.serving import span, traces


def has_two(text):
    """Return True for a text with the word."""
    return b"span-2" in text


def test_only_the_records_that_may_be_wanted():
    """With their resource and scope."""
    decode = sieve_lines(has_two)
    (found,) = decode(traces(span(1), span(2), span(3)).encode()).spans
    assert (found.name, found.resource.attributes["service.name"]) == ("span-2", "sender")
    assert found.instrumentation_scope.name == "test"
    assert not decode(traces(span(1)).encode())


def test_all_of_a_resource_or_a_scope():
    """If its own text says so."""
    line = json.loads(traces(span(1), span(3), service="span-2"))
    line["resourceSpans"] += json.loads(traces(span(4), span(2)))["resourceSpans"]
    decode = sieve_lines(has_two, lambda text: has_two(text))
    names = [found.name for found in decode(json.dumps(line).encode()).spans]
    assert names == ["span-1", "span-3", "span-2"]


def test_logs():
    """They are divided as well."""
    records = [{"body": {"stringValue": text}} for text in ("span-1", "span-2")]
    line = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    (found,) = sieve_lines(has_two)(json.dumps(line).encode()).events
    assert found.message == "span-2"


def test_another_form():
    """It is decoded as a whole, with its unknown fields."""
    line = json.loads(traces(span(1), span(2)))
    line["resourceSpans"][0]["new"] = 5
    assert len(sieve_lines(has_two)(json.dumps(line).encode()).spans) == 2
