"""The format is the one that the scraper likes best."""

from __future__ import annotations

import pytest

from rimp_otel.prometheus.pages import choose_format

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
PROTOBUF = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)
PROTO = PROTOBUF.replace(" ", "")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", TEXT),
        ("application/json", TEXT),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", TEXT),
        # Prometheus 2.42, without and with native histograms.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
            "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPENMETRICS,
        ),
        (
            f"{PROTO},application/openmetrics-text;version=1.0.0;q=0.8,"
            "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5",
            f"{PROTOBUF}; escaping=underscores",
        ),
        # Prometheus 3.
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            "application/openmetrics-text;version=0.0.1;q=0.4,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
        (
            f"text/plain;version=0.0.4;q=0.2,{PROTO};escaping=dots;q=0.6",
            f"{PROTOBUF}; escaping=dots",
        ),
        (
            "text/plain;version=1.0.0;escaping=values",
            "text/plain; version=1.0.0; charset=utf-8; escaping=values",
        ),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=nonsense", OPENMETRICS),
        # What there is nothing of.
        (
            "application/openmetrics-text;version=2.0.0,application/openmetrics-text;version=0.0.1",
            TEXT,
        ),
        ("application/vnd.google.protobuf;proto=other.Message;encoding=delimited", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0", TEXT),
        (";;;,=,q=;;text/plain;q=x", TEXT),
    ],
)
def test_choose_format(accept, content_type):
    """What is answered says its version and its escaping."""
    assert choose_format(accept).content_type == content_type
