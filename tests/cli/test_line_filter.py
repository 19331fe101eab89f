"""Lines that are refused by their text have no matching record, however they are written."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from rimp_otel.batch import TelemetryData, decode_batch
from rimp_otel.cli.line_filter import may_have_trace, may_match_line
from rimp_otel.cli.record_filter import RecordFilter
from tests.cli.records import TRACE, span


def line(value: str, key: str = '"order"', name: str = '"GET /"', resource: str = "") -> bytes:
    """Return a line with a span that has one attribute, of which ``value`` is JSON text."""
    attributes = f'[{{"key":{key},"value":{value}}}]'
    own, shared = ("[]", attributes) if resource else (attributes, "[]")
    return (
        f'{{"resourceSpans":[{{"resource":{{"attributes":{shared}}},"scopeSpans":[{{"spans":[{{'
        f'"traceId":"{TRACE:032x}","spanId":"{1:016x}","name":{name},"attributes":{own}}}]}}]}}]}}'
    ).encode()


def filter_and_test(**conditions: Any) -> Any:
    """Return the filter of the conditions, and its test of lines."""
    wanted = RecordFilter.from_options(["traces"], **conditions)
    return wanted, may_match_line(wanted)


WRITTEN = {
    "4711": [
        '{"intValue":"4711"}',
        '{"intValue" : 4711}',
        '{"doubleValue":4711}',
        '{"doubleValue":4711.0}',
        '{"doubleValue":4.711e3}',
        '{"doubleValue":"0.4711E4"}',
        '{"doubleValue":47110e-1}',
        '{"doubleValue":4710.99999999999999999}',
        '{"doubleValue":4711.00000000000000001}',
        '{"stringValue":"4711"}',
        r'{"stringValue":"4\u0037\u00311"}',
        '{"bytesValue":"' + base64.b64encode(b"4711").decode() + '"}',
    ],
    "-4700": ['{"intValue":"-4700"}', '{"doubleValue":-4.7e3}', '{"stringValue":"-4700"}'],
    "0": ['{"intValue":"0"}', '{"doubleValue":0.0}', '{"doubleValue":-0}'],
    "1": ['{"doubleValue":0.99999999999999999999}', '{"intValue":1}', '{"doubleValue":10e-1}'],
    "999999999999999": ['{"doubleValue":999999999999998.9999}', '{"intValue":"999999999999999"}'],
    "0.1": ['{"doubleValue":0.1}', '{"doubleValue":0.1000000000000000055}'],
    "4_711": ['{"intValue":"4711"}', '{"stringValue":"4_711"}'],
    "TRUE": ['{"boolValue":true}', '{"stringValue":"TRUE"}'],
    "null": ["{}", '{"stringValue":"null"}'],
    '["a", 1]': [
        '{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":"1"}]}}',
    ],
    "größe 12": [
        '{"stringValue":"größe 12"}',
        r'{"stringValue":"gr\u00f6\u00dfe 12"}',
        r'{"stringValue":"\u0067r\u00f6\u00dfe\u0020\u0031\u0032"}',
    ],
    'say "hi"\\/there': [r'{"stringValue":"say \"hi\"\\/there"}', r'{"stringValue":"say \"hi\"\\\/there"}'],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"), [(text, value) for text, values in WRITTEN.items() for value in values]
)
@pytest.mark.parametrize("resource", ["", "yes"])
def test_a_line_with_a_match_is_not_refused(text: str, value: str, resource: str) -> None:
    """Each of these ways to write the value matches, and passes."""
    wanted, test = filter_and_test(attributes=[("order", text)])
    for key in ('"order"', r'"\u006frder"'):
        written = line(value, key, resource=resource)
        assert any(map(wanted.matches, decode_batch(written).spans))
        assert test(written)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4711", '{"intValue":"4712"}'),
        ("4711", '{"intValue":"14711"}'),
        ("4711", '{"doubleValue":0.333333333333333314829616256247}'),
        ("abc", '{"stringValue":"ab"}'),
        ("abc", r'{"stringValue":"\n\u00e4"}'),
    ],
)
def test_other_lines_are_refused(text: str, value: str) -> None:
    """A line that shows that it has no such value is refused."""
    _, test = filter_and_test(attributes=[("order", text)])
    assert not test(line(value))
    assert not filter_and_test(attributes=[("missing", None)])[1](line(value))


def test_names_and_services() -> None:
    """Names with ``*`` are looked for by their longest part."""
    assert filter_and_test(name="GET *")[1](line("{}"))
    assert not filter_and_test(name="*POST*")[1](line("{}"))
    assert not filter_and_test(name="POST /")[1](line("{}"))
    assert not filter_and_test(service="shop")[1](line("{}"))
    assert filter_and_test(name="*")[1] is None
    assert filter_and_test()[1] is None
    assert filter_and_test(attributes=[("\u00e4", None)])[1] is None


def test_traces() -> None:
    """Ids are found in any case, and a line with ids in base64 may have any trace."""
    test = may_have_trace(frozenset({TRACE}))
    assert test(line("{}"))
    assert test(line("{}").replace(f"{TRACE:032x}".encode(), f"{TRACE:032X}".encode()))
    assert not test(line("{}").replace(f"{TRACE:032x}".encode(), b"0" * 31 + b"1"))
    assert test(b'{"traceId":"S/kvNXezTaajzpKdDg5HNg=="}')


def test_traces_by_attribute(rimp: Any, record: Any) -> None:
    """A trace that is found by the text of one line has the spans of all lines."""
    for number in range(30):
        children = [span("child", 2, 1, 3, 9, trace_id=number + 1, order=number)]
        record(TelemetryData(spans=children))
        record(TelemetryData(spans=[span("root", 1, 0, 0, 20, trace_id=number + 1)]))
    (found,) = rimp("traces", "--attr", "order=7", "--json").out.splitlines()
    trace = json.loads(found)
    assert (trace["trace_id"], trace["spans"], trace["name"]) == (f"{8:032x}", 2, "root")
    assert len(rimp("traces", "--attr", "order", "--json", "-n", "all").out.splitlines()) == 30
    assert rimp("traces", "--attr", "order=77").out == "no traces\n"


def test_many_traces_by_attribute(rimp: Any, record: Any) -> None:
    """More traces than are looked up by their ids are found all the same."""
    record(TelemetryData(spans=[span("a", 1, trace_id=i, order=7) for i in range(1, 1_100)]))
    assert len(rimp("traces", "--attr", "order=7", "--json", "-n", "all").out.splitlines()) == 1_099
