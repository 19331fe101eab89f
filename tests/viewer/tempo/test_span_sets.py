"""Which spans a TraceQL query is about: relations, values of whole traces, and conditions on single spans."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("lark")

from rimp_otel import TelemetryData
from rimp_otel.viewer.search.conditions import WholeTrace, make_matcher
from rimp_otel.viewer.tempo.span_sets import TraceTree, condition_of, find_sets, is_about_traces
from rimp_otel.viewer.tempo.traceql import parse_traceql
from rimp_otel.viewer.tempo.traceql_tree import FilterStage
from tests.viewer.jaeger.test_v1 import DETAILED, line, span
from tests.viewer.tempo.test_traceql import QUERIES

# root ─┬─ a ─┬─ aa ── aaa
#       │     └─ ab
#       └─ b ──── ba            lost: its parent is not there
NAMES = ["root", "a", "aa", "aaa", "ab", "b", "ba", "lost"]
PARENTS = [0, 1, 2, 3, 2, 1, 6, 99]
TREE = TraceTree(
    TelemetryData.from_otlp_json(
        [
            line(
                "shop",
                *(
                    span(n + 1, NAMES[n], parent=PARENTS[n], start=n, seconds=8 - n)
                    for n in range(4)
                ),
            ),
            line(
                "db",
                *(
                    span(n + 1, NAMES[n], parent=PARENTS[n], start=n, seconds=8 - n)
                    for n in range(4, 8)
                ),
            ),
        ]
    ).spans
)


def names(query, tree=TREE):
    """Return the names of the spans that a query finds, of all sets."""
    sets = find_sets(parse_traceql(query).stages, tree)
    return [tree.spans[at].name for one in sets for at in one.positions]


A, AA, B = "{ name = `a` }", "{ name = `aa` }", "{ name =~ `b.?` }"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"{A} > {{ }}", ["aa", "ab"]),
        (f"{A} >> {{ }}", ["aa", "aaa", "ab"]),
        (f"{AA} < {{ }}", ["a"]),
        (f"{AA} << {{ }}", ["root", "a"]),
        (f"{AA} ~ {{ }}", ["ab"]),
        ("{ } ~ { }", ["a", "aa", "ab", "b"]),
        (f"{A} !> {{ }}", ["root", "a", "aaa", "b", "ba", "lost"]),
        (f"{A} !>> {{ }}", ["root", "a", "b", "ba", "lost"]),
        (f"{AA} !< {{ }}", ["root", "aa", "aaa", "ab", "b", "ba", "lost"]),
        (f"{AA} !<< {{ }}", ["aa", "aaa", "ab", "b", "ba", "lost"]),
        (f"{A} &> {{ name = `ab` }}", ["a", "ab"]),
        (f"{{ }} &>> {AA}", ["root", "a", "aa"]),
        (f"{AA} &<< {{ }}", ["root", "a", "aa"]),
        (f"{AA} &~ {{ }}", ["aa", "ab"]),
        (f"{A} &> {{ name = `ba` }}", []),
        (f"{A} && {B}", ["a", "b", "ba"]),
        (f"{A} && {{ name = `x` }}", []),
        (f"{A} || {{ name = `x` }}", ["a"]),
        (f"({A} || {AA}) > {{ }}", ["aa", "aaa", "ab"]),
        ("{ nestedSetParent < 0 }", ["root"]),
        ("{ nestedSetParent = 0 }", ["lost"]),
        ("{ nestedSetLeft = 2 && nestedSetRight = 9 }", ["a"]),
        ("{ childCount = 2 }", ["root", "a"]),
        ("{ parent.resource.service.name = `shop` && resource.service.name = `db` }", ["ab", "b"]),
        ("{ rootName = `root` && duration > 7s }", ["root"]),
        ("{ traceDuration = 8s && duration * 2 = traceDuration }", ["ab"]),
        ("{ -duration < -7s || 1 / 0 = 1 || duration ^ 999 > 1 }", ["root"]),
        (
            "{ } | by(resource.service.name) | count() = 4 | max(duration) < 5s",
            ["ab", "b", "ba", "lost"],
        ),
        ("{ } | avg(duration) = 4.5s", NAMES),
        ("{ } | by(name) | coalesce() | count() = 8", NAMES),
        (
            "{ } | { childCount > 0 } | sum(childCount) * 1.0 / count() > 1.4",
            ["root", "a", "aa", "b"],
        ),
    ],
)
def test_spans_of_a_trace(query, expected):
    """Relations by generation, numbers of nested sets, values of parents and of the trace, pipelines."""
    assert names(query) == expected


def test_spans_that_are_their_own_ancestors():
    """They are related to nothing, and end."""
    spans = [span(1, "one", parent=2), span(2, "two", parent=1), span(3, "self", parent=3)]
    tree = TraceTree(TelemetryData.from_otlp_json([line("shop", *spans)]).spans)
    assert names("{ } >> { }", tree) == []
    assert names("{ } > { }", tree) == ["one", "two"]
    assert names("{ nestedSetLeft = 0 }", tree) == ["one", "two", "self"]


DETAILS = TraceTree(
    TelemetryData.from_otlp_json([line("shop", DETAILED, span(2, "SELECT", parent=1))]).spans
)

FILTERS = [
    "{ }",
    "{ false }",
    "{ name = `GET /cart` && status = error }",
    "{ name != `GET /cart` || kind = client }",
    "{ name =~ `GET.*` }",
    "{ name !~ `GET.*` }",
    "{ `SELECT` = name }",
    "{ 1s <= duration }",
    "{ span.int = 9007199254740993 }",
    "{ span.int = 9007199254740992.0 }",
    "{ span.int > 1.5 }",
    '{ span.int = "9007199254740993" }',
    "{ span.double < 1 }",
    "{ span.nan != 0 }",
    "{ .yes }",
    "{ .yes = false }",
    "{ .text != `b` }",
    "{ .zone = 7 }",
    "{ span.zone = 7 }",
    "{ resource.zone = 7 }",
    "{ span.list != nil }",
    "{ span.list = `x` }",
    "{ span.bytes = `AAE=` }",
    "{ .text = ok }",
    "{ event:name = `exception` }",
    "{ event.exception.type =~ `Key.+` }",
    "{ event:timeSinceStart >= 5us }",
    "{ link:traceID = `" + "0d" * 16 + "` }",
    "{ instrumentation:version = `2` }",
    "{ span:parentID = `0000000000000001` }",
    "{ nestedSetParent < 0 }",
    "{ nestedSetParent >= 0 }",
    "{ rootName = `GET /cart` }",
    "{ traceDuration > 1s }",
    "{ statusMessage = `broken` }",
]


@pytest.mark.parametrize("query", FILTERS)
def test_conditions_say_what_evaluation_says(query):
    """What is left to conditions on single spans gives the same spans as evaluating whole traces."""
    (stage,) = parse_traceql(query).stages
    needed = condition_of(stage.spanset)
    assert needed.is_enough
    evaluated = {at for one in find_sets((stage,), DETAILS) for at in one.positions}
    matched = set(range(2))
    if needed.condition is not None:
        facts = WholeTrace("GET /cart", "shop", 10**9)
        matches = make_matcher(needed.condition, facts)
        matched = {at for at, one in enumerate(DETAILS.spans) if matches(one)}
    assert evaluated == matched


@pytest.mark.parametrize(
    "query",
    [
        "{ .x = nil }",
        "{ !(name = `x`) && name = `SELECT` }",
        "{ span.a = span.b }",
        "{ parent.text = `a` }",
        "{ nestedSetLeft > 1 }",
        "{ name = `SELECT` } >> { }",
        "{ name = `GET /cart` } > { name = `SELECT` }",
        "{ childCount > 0 } || { name = `x` }",
    ],
)
def test_what_conditions_cannot_say_they_do_not_leave_out(query):
    """The condition is met by a span of each trace that has such spans."""
    query = parse_traceql(query)
    needed = condition_of(query.stages[0].spanset)
    assert not needed.is_enough
    if needed.condition is not None and find_sets(query.stages, DETAILS):
        assert any(map(make_matcher(needed.condition), DETAILS.spans))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(QUERIES)
def test_any_query_can_be_asked(query):
    """Nothing is raised, whatever is compared, calculated or grouped; and no trace is left out that matches."""
    first = query.stages[0]
    for tree in (TREE, DETAILS):
        found = find_sets(query.stages, tree)
        if found and isinstance(first, FilterStage):
            needed = condition_of(first.spanset)
            facts = WholeTrace("GET /cart", "shop", 10**9)
            if needed.condition is not None and not is_about_traces(needed.condition):
                assert any(map(make_matcher(needed.condition, facts), tree.spans))
