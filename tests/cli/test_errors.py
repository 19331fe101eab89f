"""``rimp errors``: exceptions by type and place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.cli.errors import may_have_errors
from tests.cli.records import HOSTILE, STACK, event, raised, span, without_our_colour


def failing() -> TelemetryData:
    """Return two kinds of error, one of them three times."""
    spans = [
        span(
            "charge card",
            number,
            0,
            1_000 * number,
            1_000 * number + 5,
            "payment",
            "x",
            number,
            events=(raised("ConnectionError", f"refused {number}", 1_000 * number + 4, STACK),),
        )
        for number in (1, 2, 3)
    ]
    missing = {"exception.type": "KeyError", "exception.message": "'sku'"}
    return TelemetryData(spans=spans, events=[event("no product", 500, 7, trace_id=7, **missing)])


def test_list(rimp: Any, record: Any) -> None:
    """An error has two lines: how often, what and where; service, times, and an example."""
    record(failing())
    assert (
        rimp("errors").out
        == f"""\
3  ConnectionError: refused 3  (in charge, bank.py:42)
   payment · first 11-18 11:06:41.004 · last 11-18 11:06:43.004 · rimp trace {3:032x}
1  KeyError: 'sku'  (app)
   shop · first 11-18 11:06:40.500 · last 11-18 11:06:40.500 · rimp trace {7:032x}
"""
    )


def test_stack(rimp: Any, record: Any) -> None:
    """The stack of the example is shown when it is asked for."""
    record(failing())
    assert '    raise ConnectionError("bank.example' not in rimp("errors").out
    assert rimp("errors", "--stack", "-n", "1").out.splitlines()[2:] == [
        *(f"    {line}" for line in STACK.splitlines()),
        "and 1 more: select some with --service or --name, or show all with -n all",
    ]


def test_json(rimp: Any, record: Any) -> None:
    """JSON has whole ids and the whole stack."""
    record(failing())
    first, second = map(json.loads, rimp("errors", "--json").out.splitlines())
    assert first == {
        "type": "ConnectionError",
        "message": "refused 3",
        "service": "payment",
        "name": None,
        "function": "charge",
        "file": "/srv/payment/bank.py",
        "line": 42,
        "count": 3,
        "first": "2026-11-18T11:06:41.004000000Z",
        "last": "2026-11-18T11:06:43.004000000Z",
        "trace_id": f"{3:032x}",
        "span_id": f"{3:016x}",
        "stack": STACK,
    }
    assert (second["name"], second["file"], second["count"]) == ("app", None, 1)


@pytest.mark.parametrize(
    ("options", "types"),
    [
        (("--sort", "last"), ["ConnectionError", "KeyError"]),
        (("--sort", "first"), ["ConnectionError", "KeyError"]),
        (("--service", "shop"), ["KeyError"]),
        (("--name", "charge*"), ["ConnectionError"]),
        (("--until", "2026-11-18T11:06:41Z"), ["KeyError"]),
        (("--since", "2026-11-18T11:06:43.004Z"), ["ConnectionError"]),
        (("--since", "2026-11-19"), []),
    ],
)
def test_conditions(rimp: Any, record: Any, options: tuple[str, ...], types: list[str]) -> None:
    """Errors are selected and sorted."""
    record(failing())
    lines = rimp("errors", "--json", *options).out.splitlines()
    assert [json.loads(line)["type"] for line in lines] == types


def test_nothing(rimp: Any, record: Any) -> None:
    """A recording without errors says so."""
    record(TelemetryData(spans=[span("GET /", 1)]))
    assert rimp("errors") == (0, "no errors\n", "")


def test_hostile_text(rimp: Any, record: Any) -> None:
    """No recorded character reaches the terminal raw."""
    hostile = raised(HOSTILE, HOSTILE, 0, f'File "{HOSTILE}", line 1, in {HOSTILE}\n{HOSTILE}')
    record(TelemetryData(spans=[span(HOSTILE, 1, service=HOSTILE, error="x", events=(hostile,))]))
    out = without_our_colour(rimp("errors", "--stack", "--color", "always").out)
    assert all(char == "\n" or char.isprintable() for char in out)


def test_lines_that_have_no_errors_are_not_decoded() -> None:
    """What may have an error is told by the text of a line, however it is written."""
    assert not may_have_errors(b'{"spans":[{"name":"x","status":{}}]}')
    assert not may_have_errors(b'{"status": {"code": 1}}{"status":{"code":"STATUS_CODE_OK"}}')
    for text in (
        b'"key":"exception.type"',
        b'"code":2',
        b'"code" : "STATUS_CODE_ERROR"',
        b'"key":"ex\\u0063eption.type"',
    ):
        assert may_have_errors(text)
