"""The page's exceptions by type and place."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("starlette")

from rimp_otel import TelemetryData
from rimp_otel.storage.recording import open_storage
from tests.viewer.shown import Shown

S = 10**9
START = 1_795_521_600 * S
STACK = 'Traceback:\n  File "/app/shop.py", line 7, in pay\n    raise KeyError\nKeyError: 5\n'


def attributes(**texts):
    """Return attributes of text."""
    return [
        {"key": key.replace("__", "."), "value": {"stringValue": v}} for key, v in texts.items()
    ]


RAISED = attributes(exception__type="KeyError", exception__message="5", exception__stacktrace=STACK)


def resource(service):
    """Return a resource."""
    return {"attributes": attributes(service__name=service)}


def span(number, service="shop", **fields):
    """Return a line of a span of a second."""
    begin = START + number * S
    found = {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": "pay",
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(begin + S // 2),
        "status": {"code": 2, "message": "broken"},
        **fields,
    }
    scopes = [{"scope": {}, "spans": [found]}]
    return json.dumps({"resourceSpans": [{"resource": resource(service), "scopeSpans": scopes}]})


def event(number):
    """Return a span event of an exception."""
    time = str(START + number * S + S // 4)
    return {"timeUnixNano": time, "name": "exception", "attributes": RAISED}


LOG = json.dumps(
    {
        "resourceLogs": [
            {
                "resource": resource("worker"),
                "scopeLogs": [
                    {
                        "scope": {"name": "app"},
                        "logRecords": [
                            {
                                "timeUnixNano": str(START + 9 * S),
                                "severityNumber": 17,
                                "attributes": attributes(
                                    exception__type="OSError", exception__message="gone"
                                ),
                            }
                        ],
                    }
                ],
            }
        ]
    }
)


@pytest.fixture(scope="module", params=["recording", "recording.db"])
def shown(request, tmp_path_factory):
    """Show a recording of a few errors."""
    path = tmp_path_factory.mktemp("errors") / request.param
    with open_storage(path) as storage:
        lines = [*(span(n, events=[event(n)]) for n in range(3)), span(5, "bank"), LOG]
        for line in lines:
            storage.store(TelemetryData.from_otlp_json([line]))
    with Shown(path) as running:
        yield running


def test_by_type_and_place(shown):
    """How often and when, with an example; the most frequent first."""
    answer = shown.get("/api/errors", **{"from": START, "to": START + 10 * S})
    steps = 10 * S // answer["step"]
    first, *others = answer["errors"]
    series = first.pop("series")
    assert len(series) == steps
    assert sum(series) == 3
    assert series[S // 4 // answer["step"]] == 1
    assert first == {
        "type": "KeyError",
        "message": "5",
        "place": "in pay, shop.py:7",
        "name": None,
        "service": "shop",
        "stack": STACK,
        "count": 3,
        "first": str(START + S // 4),
        "last": str(START + 2 * S + S // 4),
        "trace_id": f"{3:032x}",
        "span_id": f"{3:016x}",
    }
    assert [(o["type"], o["place"], o["service"], o["message"]) for o in others] == [
        ("OSError", "app", "worker", "gone"),
        ("", "pay", "bank", "broken"),
    ]
    assert others[0]["trace_id"] is None


def test_conditions(shown):
    """Of one service; of a time; as many kinds as are asked for."""
    assert [e["service"] for e in shown.get("/api/errors", service="bank")["errors"]] == ["bank"]
    window = {"from": START + S, "to": START + 2 * S}
    (error,) = shown.get("/api/errors", **window)["errors"]
    assert error["count"] == 1
    assert len(shown.get("/api/errors", limit=1)["errors"]) == 1
    assert shown.get("/api/errors", service="nobody")["errors"] == []
