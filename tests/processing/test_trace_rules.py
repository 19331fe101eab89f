"""Rules that decide about whole traces."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel import ConfigurationError, Signal
from rimp_otel.processing.trace_rules import TraceDecision, TraceFacts, TraceRule

S = 10**9
TRACE = 0x0123456789ABCDEF_0100000000000000  # its randomness is 0


def span(
    name="work",
    *,
    trace=TRACE,
    parent="",
    start=S,
    end=2 * S,
    status=0,
    kind=1,
    state="",
    **attributes,
):
    """Return a span as OTLP JSON has it; a double underscore in a key stands for a dot."""
    return {
        "traceId": f"{trace:032x}",
        "spanId": "00000000000000aa",
        "parentSpanId": parent,
        "traceState": state,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "status": {"code": status},
        "attributes": [pair(key.replace("__", "."), value) for key, value in attributes.items()],
    }


def pair(key, value):
    """Return an attribute as OTLP JSON has it."""
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
    kind = kinds[type(value)]
    return {"key": key, "value": {kind: str(value) if kind == "intValue" else value}}


def line(*spans, service="shop", **resource):
    """Return a line of spans of one service."""
    attributes = [pair("service.name", service), *(pair(k, v) for k, v in resource.items())]
    group = {"resource": {"attributes": attributes}, "scopeSpans": [{"spans": list(spans)}]}
    return msgspec.json.encode({"resourceSpans": [group]})


def logs(*severities, trace=TRACE):
    """Return a line of log records of one trace."""
    records = [{"traceId": f"{trace:032x}", "severityNumber": number} for number in severities]
    return msgspec.json.encode({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})


def decide(text, *lines, trace=TRACE):
    """Return the decision about one trace."""
    rule = TraceRule.parse(text)
    facts: dict[int, TraceFacts] = {}
    for one in lines:
        signal = Signal.TRACES if b"resourceSpans" in one else Signal.LOGS
        rule.observe(signal, one, facts, 10 * S)
    return rule.decide(trace, facts.get(trace))


ROOT = span(
    "GET /cart/7", kind=2, http__response__status_code=200, user="ann", cached=False, ratio=0.5
)
CHILD = span("SELECT", parent="00000000000000aa", start=2 * S, end=3 * S, status=2, kind=3)
LINES = (line(ROOT), line(CHILD, service="db", zone="b"))


@pytest.mark.parametrize(
    "rule",
    [
        "status = error",
        "status == error",
        "not status = ok",
        "status != ok",
        "kind = server and kind = client",
        "name = 'GET /cart/7'",
        'name = "GET /*"',
        "name = *cart*",
        "name = SEL*T",
        "service = db",
        "service != web",
        "root.name = GET*",
        "root.service = shop",
        "attr.user = ann",
        "attr.user = 'a*n'",
        "attr.user",
        "not attr.other",
        "attr.http.response.status_code >= 200",
        "attr.http.response.status_code = 200",
        "attr.http.response.status_code != 404",
        "attr.ratio < 0.6",
        "attr.cached = false",
        'attr."user"',
        "resource.zone = b",
        "duration = 2s",
        "duration > 1.5s",
        "duration >= 1s and duration < 1m",
        "span.duration >= 1000ms",
        "spans = 2",
        "spans > 1",
        "status = ok or (status = error and (spans > 5 or service = db))",
        "service = web or service = db and status = error",
        "sample(100%)",
    ],
)
def test_rules_that_keep(rule):
    """A condition about a span holds if it holds for any span; one about the trace, if it holds at all."""
    assert decide(rule, *LINES).is_kept


@pytest.mark.parametrize(
    "rule",
    [
        "status = ok",
        "status != error",
        "kind = producer",
        "name = cart",
        "name = 'GET'",
        "root.name = SELECT",
        "root.service = db",
        "service = sh",
        "attr.user = bob",
        "attr.user > 5",
        "attr.cached = true",
        "attr.cached = 0",
        "attr.user = 'true'",
        "attr.zone",
        "resource.user",
        "duration > 2s",
        "span.duration > 1s",
        "spans > 2",
        "severity >= trace",
        "not (status = error)",
        "status = error and service = web",
        "sample(1%)",
    ],
)
def test_rules_that_do_not_keep(rule):
    """Whatever is not so does not hold; a trace with randomness 0 is only among 100 %."""
    assert decide(rule, *LINES) == TraceDecision(False)


def test_severity_of_its_logs():
    """A trace can be kept for its log records."""
    rule = "severity >= warn"
    assert not decide(rule, *LINES, logs(9)).is_kept
    assert decide(rule, *LINES, logs(9, 13)).is_kept
    assert decide("severity > 16", logs(17)).is_kept
    assert TraceRule.parse(rule).signals == {Signal.TRACES, Signal.LOGS}
    assert TraceRule.parse("status = error").signals == {Signal.TRACES}


def test_a_trace_of_which_nothing_is_known():
    """Only what does not depend on its records can hold."""
    rule = TraceRule.parse("status = error or duration < 1s")
    assert rule.decide(TRACE, None) == TraceDecision(False)
    assert TraceRule.parse("sample(100%)").decide(TRACE, None) == TraceDecision(True, 0)


@pytest.mark.parametrize(
    ("rule", "trace", "decision"),
    [
        ("sample(25%)", 0xC0000000000000, TraceDecision(True, 0xC0000000000000)),
        ("sample(0.25)", 0xC0000000000000, TraceDecision(True, 0xC0000000000000)),
        ("sample(25%)", 0xBFFFFFFFFFFFFF, TraceDecision(False)),
        ("sample(25%) or sample(50%)", 0x80000000000000, TraceDecision(True, 0x80000000000000)),
        ("sample(25%) and sample(50%)", 0x80000000000000, TraceDecision(False)),
        ("status = error or sample(25%)", 0xFFFFFFFFFFFFFF, TraceDecision(True, None)),
        ("status = ok or sample(25%)", 0xFFFFFFFFFFFFFF, TraceDecision(True, 0xC0000000000000)),
        ("status = error and sample(25%)", 0xFFFFFFFFFFFFFF, TraceDecision(True, 0xC0000000000000)),
        ("status = ok and sample(25%)", 0xFFFFFFFFFFFFFF, TraceDecision(False)),
    ],
)
def test_who_decided(rule, trace, decision):
    """The threshold is told where a probability decided, and never where a rule did."""
    assert decide(rule, line(span(trace=trace, status=2)), trace=trace) == decision


def test_the_randomness_that_a_trace_state_says():
    """It counts for all spans of the trace, whichever of them says it."""
    state = "ot=rv:ffffffffffffff"
    assert decide("sample(1%)", line(span()), line(span(state=state))).is_kept


@pytest.mark.parametrize(
    ("decision", "before", "after"),
    [
        (TraceDecision(True, 0xC0000000000000), "", "ot=th:c"),
        (TraceDecision(True, 0xC0000000000000), "a=b,ot=th:8", "ot=th:c,a=b"),
        (TraceDecision(True, 0x80000000000000), "ot=th:c", "ot=th:c"),
        (
            TraceDecision(True, 0x80000000000000),
            "ot=th:c;rv:80000000000000",
            "ot=rv:80000000000000",
        ),
        (TraceDecision(True, None), "ot=th:c,a=b", "a=b"),
        (TraceDecision(True, None), "a=b", "a=b"),
    ],
)
def test_trace_state(decision, before, after):
    """A threshold is only raised; it goes where a rule decided, and where it contradicts the randomness."""
    assert decision.trace_state(0xFFFFFFFFFFFFFF, before) == after


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("", r"at character 1: expected a condition, got 'the end'"),
        ("status = broken", r"at character 10: expected one of unset, ok, error, got 'broken'"),
        ("statuss = error", r"at character 1: unknown field 'statuss': did you mean 'status'\?"),
        ("user = 5", r"unknown field 'user': an attribute is attr.user"),
        ("duration > 5", r"at character 12: invalid duration '5': expected a number with a unit"),
        ("duration ~ 5s", r"at character 10: unexpected '~'"),
        ("status > error", r"at character 8: expected one of = !=, got '>'"),
        ("sample 5%", r"at character 8: expected '\(' after sample"),
        ("sample(0%)", r"expected a share of more than 0 % to 100 %"),
        ("sample(101%)", r"expected a share of more than 0 % to 100 %"),
        ("not sample(5%)", r"at character 1: 'not' cannot stand before sample\(\)"),
        ("(status = error", r"at character 16: expected '\)', got 'the end'"),
        ("status = error status = ok", r"at character 16: expected 'and', 'or' or the end"),
        ("attr.x > many", r"expected a number after '>', got 'many'"),
        ("severity >= loud", r"at character 13: expected .*got 'loud'"),
        ("spans > 1.5", r"expected a whole number, got '1.5'"),
        ("name = 'open", r"at character 8: unexpected"),
        ("(" * 200 + "spans > 1" + ")" * 200, r"more than 100 levels"),
        ("spans > 1 or " * 2_000 + "spans > 1", r"at most 10,000 characters"),
    ],
)
def test_what_is_no_rule(rule, reason):
    """The message says where and why, and what was meant."""
    with pytest.raises(ConfigurationError, match=reason):
        TraceRule.parse(rule)


@given(st.text(alphabet="status=error duraton><5%()'\" andornotsample.*attr_\\!", max_size=60))
def test_any_text_is_a_rule_or_refused(text):
    """Nothing else is raised."""
    try:
        TraceRule.parse(text).decide(TRACE, None)
    except ConfigurationError:
        pass


def test_facts_add_up():
    """What two files say of a trace together decides about it."""
    rule = TraceRule.parse("duration > 3s and status = error and spans = 2")
    first: dict[int, TraceFacts] = {}
    second: dict[int, TraceFacts] = {}
    early = line(span(start=S, end=2 * S))
    late = line(span(parent="aa" * 8, start=4 * S, end=5 * S, status=2))
    rule.observe(Signal.TRACES, early, first, 10 * S)
    rule.observe(Signal.TRACES, late, second, 3 * S)
    assert not rule.decide(TRACE, first[TRACE]).is_kept
    assert not rule.decide(TRACE, second[TRACE]).is_kept
    first[TRACE].add(second[TRACE])
    assert rule.decide(TRACE, first[TRACE]).is_kept
    assert first[TRACE].is_rooted
    assert first[TRACE].last == 3 * S
