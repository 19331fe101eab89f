"""Conditions on a span: as functions, as filters, and as SQL."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.viewer.search.conditions import (
    INTRINSICS,
    All,
    Comparison,
    Either,
    Scope,
    WholeTrace,
    filter_of,
    make_matcher,
    to_sql,
)
from tests.otlp import strategies
from tests.viewer.recordings import START, S, span_json, span_line

SPAN = span_json(
    1,
    "GET /cart",
    parent=7,
    seconds=0.25,
    attributes={"text": "a", "int": 5, "double": 5.0, "yes": True, "both": "span", "nan": math.nan},
    events=[
        {"timeUnixNano": str(START + 5), "name": "retry"},
        {
            "timeUnixNano": str(START + 9),
            "name": "exception",
            "attributes": [{"key": "exception.type", "value": {"stringValue": "KeyError"}}],
        },
    ],
    links=[{"traceId": "0d" * 16, "spanId": "0e" * 8}],
    status={"code": 2, "message": "broken"},
)


@pytest.fixture(scope="module")
def span():
    """Return one span with something of everything."""
    line = span_line("shop", SPAN, both="resource", zone="eu").replace(b"NaN", b'"NaN"')
    return TelemetryData.from_otlp_json([line]).spans[0]


def intrinsic(key, operator, value):
    """Return a comparison of an intrinsic key."""
    return Comparison(Scope.INTRINSIC, key, operator, value)


@pytest.mark.parametrize(
    ("scope", "key", "operator", "value", "expected"),
    [
        ("intrinsic", "name", "=", "GET /cart", True),
        ("intrinsic", "name", "=~", "GET .*", True),
        ("intrinsic", "name", "=~", "GET", False),
        ("intrinsic", "name", "!~", "GET", True),
        ("intrinsic", "status", "=", "error", True),
        ("intrinsic", "statusMessage", "=", "broken", True),
        ("intrinsic", "kind", "=", "server", True),
        ("intrinsic", "duration", ">=", S // 4, True),
        ("intrinsic", "duration", ">", S // 4, False),
        ("intrinsic", "duration", "<", 0.25 * S + 0.5, True),
        ("intrinsic", "traceID", "=", f"{0xABC:032x}", True),
        ("intrinsic", "spanID", "=", f"{1:016x}", True),
        ("intrinsic", "parentID", "=", f"{7:016x}", True),
        ("intrinsic", "nestedSetParent", "<", 0, False),
        ("intrinsic", "instrumentation:name", "=", "lib", True),
        ("intrinsic", "instrumentation:version", "=", "2", True),
        ("intrinsic", "event:name", "=", "exception", True),
        ("intrinsic", "event:timeSinceStart", ">", 8, True),
        ("intrinsic", "event:timeSinceStart", ">", 9, False),
        ("intrinsic", "link:traceID", "=", "0d" * 16, True),
        ("span", "text", "=", "a", True),
        ("span", "text", "!=", "b", True),
        ("span", "text", "<", "b", True),
        ("span", "int", "=", 5, True),
        ("span", "int", "=", 5.0, True),
        ("span", "double", "=", 5, True),
        ("span", "int", "=", "5", False),
        ("span", "int", "!=", "5", False),
        ("span", "int", ">", 4.9, True),
        ("span", "yes", "=", True, True),
        ("span", "yes", "!=", False, True),
        ("span", "yes", "=", 1, False),
        ("span", "int", "=", True, False),
        ("span", "nan", "!=", 1, False),
        ("span", "nan", "exists", None, True),
        ("span", "absent", "!=", "x", False),
        ("span", "absent", "exists", None, False),
        ("resource", "zone", "=", "eu", True),
        ("any", "zone", "=", "eu", True),
        ("any", "both", "=", "span", True),
        ("any", "both", "=", "resource", False),
        ("event", "exception.type", "=", "KeyError", True),
        ("link", "x", "exists", None, False),
        ("instrumentation", "x", "exists", None, False),
    ],
)
def test_a_comparison(span, scope, key, operator, value, expected):
    """Types are strict, and of what is absent nothing is true."""
    comparison = Comparison(Scope(scope), key, operator, value)
    assert make_matcher(comparison)(span) is expected


def test_all_and_either(span):
    """Conditions go together; without parts, all of them are true, and none of them is."""
    true, false = intrinsic("kind", "=", "server"), intrinsic("kind", "=", "client")
    assert make_matcher(All((true, Either((false, true)))))(span)
    assert not make_matcher(All((true, false)))(span)
    assert make_matcher(All(()))(span)
    assert not make_matcher(Either(()))(span)


def test_what_is_about_the_whole_trace(span):
    """Such a comparison may be true, until the trace is known."""
    condition = All((intrinsic("rootName", "=", "x"), intrinsic("traceDuration", ">", 5)))
    assert make_matcher(condition)(span)
    assert make_matcher(condition, WholeTrace("x", "shop", 6))(span)
    assert not make_matcher(condition, WholeTrace("y", "shop", 6))(span)
    assert not make_matcher(condition, WholeTrace("x", "shop", 5))(span)
    with pytest.raises(ConfigurationError, match="whole trace"):
        to_sql(condition)


@pytest.mark.parametrize(
    ("key", "operator", "value", "reason"),
    [
        ("name", "~", "x", "no operator"),
        ("name", ">", True, "compares nothing"),
        ("name", "=", None, "compares nothing"),
        ("name", "=", math.nan, "compares nothing"),
        ("name", "=~", 5, "compares nothing"),
        ("name", "=~", "(", "not a regular expression"),
        ("color", "=", "x", "no intrinsic key"),
    ],
)
def test_an_impossible_comparison(key, operator, value, reason):
    """It is refused, in both forms."""
    for use in (make_matcher, to_sql):
        with pytest.raises(ConfigurationError, match=reason):
            use(intrinsic(key, operator, value))


def test_a_filter_leaves_out_what_cannot_match():
    """Of what must be true, it takes what indexes know."""
    condition = All(
        (
            Comparison(Scope.RESOURCE, "service.name", "=", "shop"),
            All((intrinsic("name", "=", "GET"), intrinsic("duration", ">", 10.5))),
            Comparison(Scope.SPAN, "service.name", "=", "other"),
            Either((intrinsic("name", "=", "a"), intrinsic("name", "=", "b"))),
        )
    )
    signals = frozenset({Signal.TRACES})
    assert filter_of(condition) == Filter(
        signals=signals, service="shop", name="GET", min_duration=11
    )
    assert filter_of(intrinsic("traceID", "=", "0a" * 16)).trace_id == int("0a" * 16, 16)
    assert filter_of(intrinsic("duration", "<", 5)) == filter_of(None) == Filter(signals=signals)


# Both forms say the same of generated spans.

connect = pytest.importorskip("rimp_otel.sql").connect

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-3, 3),
    st.sampled_from([2**53 + 1, 2**63 - 1, -(2**63), 2**53 + 0.0, 0.5, -0.5, math.inf, -math.inf]),
    st.floats(allow_nan=False),
)


def comparisons(spans):
    """Return a strategy for comparisons, mostly with keys and values that the spans have."""
    keys: list[tuple[Scope, str]] = [(Scope.INTRINSIC, key) for key in INTRINSICS]
    found: list[object] = ["", "a", "server", "error"]
    for span in spans:
        for scope, items in (
            (Scope.SPAN, [span]),
            (Scope.RESOURCE, [span.resource]),
            (Scope.EVENT, span.events),
            (Scope.LINK, span.links),
        ):
            for item in items:
                for key, value in (item.attributes or {}).items():
                    keys += [(scope, key), (Scope.ANY, key)]
                    found.append(value)
        found += [span.name, span.status.description or ""]
    plain = [value for value in found if isinstance(value, (str, int, float)) and value == value]
    values = st.one_of(st.sampled_from(plain), NUMBERS, st.booleans(), st.text(max_size=3))
    made = st.builds(
        lambda key, operator, value: Comparison(*key, operator, value),
        st.sampled_from(keys),
        st.sampled_from(["=", "!=", ">", ">=", "<", "<=", "exists"]),
        values,
    ).map(
        lambda one: (
            one._replace(operator="=")
            if isinstance(one.value, bool) and one.operator not in ("=", "!=")
            else one
        )
    )
    patterns = st.builds(
        lambda key, operator, value: Comparison(*key, operator, value),
        st.sampled_from(keys),
        st.sampled_from(["=~", "!~"]),
        st.sampled_from([".*", "a|b", "[a-z]+", ".", "", "GET.*", "ser(ver)?", r"\d+"]),
    )
    return st.one_of(made, made, patterns)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_the_function_and_the_sql_agree(tmp_path_factory, data):
    """Of each generated span, a condition says the same in both forms."""
    from rimp_otel.storage.recording import open_storage

    given_spans = data.draw(strategies.spans)
    path = tmp_path_factory.mktemp("agree")
    with open_storage(path) as storage:
        storage.store(TelemetryData(spans=given_spans))
        spans = storage.retrieve().spans
    if not spans:
        return
    conditions = data.draw(st.lists(comparisons(spans), min_size=8, max_size=30))
    with connect(path) as connection:
        for condition in [*conditions, All(tuple(conditions[:2])), Either(tuple(conditions[:3]))]:
            matches = make_matcher(condition)
            expected = sorted(f"{span.context.span_id:016x}" for span in spans if matches(span))
            where, values = to_sql(condition)
            rows = connection.execute(f"SELECT SpanId FROM otel_traces WHERE {where}", values)
            assert sorted(row[0].lower() for row in rows.fetchall()) == expected, condition
