"""TraceQL from text to its tree and back, and what is said of texts that are none."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")
pytest.importorskip("lark")

from hypothesis import given, settings
from hypothesis import strategies as st

from rimp_otel.viewer.tempo.traceql import TraceQLError, parse_traceql, parse_traceql_field
from rimp_otel.viewer.tempo.traceql_tree import (
    INTRINSICS,
    Aggregate,
    Attribute,
    BinaryOperation,
    Coalesce,
    Compare,
    FilterStage,
    Group,
    Literal,
    Logic,
    Measure,
    Query,
    ScalarFilter,
    ScalarOperation,
    Select,
    SpansetFilter,
    SpansetOperation,
    TopSeries,
    Unary,
    format_query,
)
from tests.processes import run

NAME, STATUS = Attribute("intrinsic", "name"), Attribute("intrinsic", "status")
DURATION = Attribute("intrinsic", "duration")
TRUE = SpansetFilter(Literal("bool", True))


def only(text):
    """Return the expression of a query that is one filter."""
    (stage,) = parse_traceql(text).stages
    return stage.spanset.expression


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resource.service.name", Attribute("resource", "service.name")),
        ("span.http.status_code", Attribute("span", "http.status_code")),
        ("event.exception.type", Attribute("event", "exception.type")),
        ("link.kind", Attribute("link", "kind")),
        ("instrumentation.language", Attribute("instrumentation", "language")),
        (".region", Attribute("any", "region")),
        (".event.x", Attribute("any", "event.x")),
        ('span."two words".x', Attribute("span", "two words.x")),
        (r'."a \"b\" \\"', Attribute("any", r'a "b" \\'.replace("\\\\", "\\"))),
        ("span.a-b/c:d", Attribute("span", "a-b/c:d")),
        ("parent.x", Attribute("any", "x", True)),
        ("parent.span.x", Attribute("span", "x", True)),
        ("parent.resource.service.name", Attribute("resource", "service.name", True)),
        ("name", NAME),
        ("span:name", NAME),
        ("trace:rootName", Attribute("intrinsic", "rootName")),
        ("trace:id", Attribute("intrinsic", "traceID")),
        ("event:name", Attribute("intrinsic", "event:name")),
        ("nestedSetParent", Attribute("intrinsic", "nestedSetParent")),
    ],
)
def test_attributes(text, expected):
    """Each scope, quoted names, and intrinsics by both of their names."""
    assert parse_traceql_field(text) == expected


@pytest.mark.parametrize("text", ["", "foo", "traceID", "name, kind", "name) | select(kind", "1"])
def test_what_is_no_attribute(text):
    """It has no scope, or is more than one."""
    with pytest.raises(TraceQLError, match="not an intrinsic or an attribute"):
        parse_traceql_field(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'"a\n\"\\\x41\u00e9\U0001f600\101"', Literal("string", 'a\n"\\Aé\U0001f600A')),
        (r"`a\n`", Literal("string", r"a\n")),
        ("5", Literal("int", 5)),
        ("-5", Literal("int", -5)),
        (".5", Literal("float", 0.5)),
        ("1.5e3", Literal("float", 1_500.0)),
        ("1h30m", Literal("duration", 5_400 * 10**9)),
        ("1.5ms", Literal("duration", 1_500_000)),
        ("5µs", Literal("duration", 5_000)),
        ("true", Literal("bool", True)),
        ("nil", Literal("nil", None)),
    ],
)
def test_constants(text, expected):
    """Strings with Go's escapes, numbers, durations, keywords."""
    assert only(f"{{ .x = {text} }}") == BinaryOperation("=", Attribute("any", "x"), expected)


def test_operators_bind_as_tempo_has_it():
    """Arithmetic before comparisons, and these before && and ||, which bind alike."""
    found = only("{ .a = 1 || .b = 2 && .c + 2 * 3 > -.d }")
    a, b, c, d = (Attribute("any", key) for key in "abcd")
    either = Logic(
        "||",
        (
            BinaryOperation("=", a, Literal("int", 1)),
            BinaryOperation("=", b, Literal("int", 2)),
        ),
    )
    product = BinaryOperation("*", Literal("int", 2), Literal("int", 3))
    more = BinaryOperation(">", BinaryOperation("+", c, product), Unary("-", d))
    assert found == Logic("&&", (either, more))


def test_what_the_search_builder_writes():
    """Filters that are joined, several values in brackets."""
    text = '{resource.service.name="shop" && duration>1.5s && (status=error || status=ok)}'
    service, longer, statuses = only(text).operands
    assert service == BinaryOperation(
        "=", Attribute("resource", "service.name"), Literal("string", "shop")
    )
    assert longer == BinaryOperation(">", DURATION, Literal("duration", 1_500_000_000))
    assert [s.right for s in statuses.operands] == [
        Literal("status", "error"),
        Literal("status", "ok"),
    ]


def test_what_traces_drilldown_writes():
    """Relations of spans, fields to show, measures by fields, hints, comparisons."""
    roots = BinaryOperation("<", Attribute("intrinsic", "nestedSetParent"), Literal("int", 0))
    filtered = SpansetFilter(Logic("&&", (roots, Literal("bool", True))))
    server = BinaryOperation("=", Attribute("intrinsic", "kind"), Literal("kind", "server"))
    text = (
        "({nestedSetParent<0 && true } &>> { kind = server }) || ({nestedSetParent<0 && true })"
        " | select(status, resource.service.name, name)"
    )
    spans = SpansetOperation(
        "||", SpansetOperation("&>>", filtered, SpansetFilter(server)), filtered
    )
    shown = Select((STATUS, Attribute("resource", "service.name"), NAME))
    assert parse_traceql(text) == Query((FilterStage(spans), shown))

    text = "{nestedSetParent<0 && true} | rate() by(resource.service.name) with(sample=true)"
    measure = Measure("rate", None, (), (Attribute("resource", "service.name"),))
    hints = (("sample", Literal("bool", True)),)
    assert parse_traceql(text) == Query((FilterStage(filtered),), measure, (), hints)

    everything = (FilterStage(TRUE),)
    text = "{} | quantile_over_time(duration, 0.5, .99) by (name, status) | topk(3)"
    measure = Measure("quantile_over_time", DURATION, (0.5, 0.99), (NAME, STATUS))
    assert parse_traceql(text) == Query(everything, measure, (TopSeries("topk", 3),))

    failed = SpansetFilter(BinaryOperation("=", STATUS, Literal("status", "error")))
    text = "{} | compare({status=error}, 5, 1, 2)"
    assert parse_traceql(text) == Query(everything, Compare(failed, 5, 1, 2))
    assert parse_traceql("{}|compare({status=error})").measure == Compare(failed, 10, 0, 0)


def test_pipelines():
    """Numbers of sets, groups, and joining them."""
    text = "{} | by(name) | count() > 2 | avg(duration) + 1s >= 2s | coalesce()"
    average = ScalarOperation("+", Aggregate("avg", DURATION), Literal("duration", 10**9))
    assert parse_traceql(text).stages == (
        FilterStage(TRUE),
        Group(NAME),
        ScalarFilter(">", Aggregate("count", None), Literal("int", 2)),
        ScalarFilter(">=", average, Literal("duration", 2 * 10**9)),
        Coalesce(),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ name = }", "parse error at line 1, col 10: syntax error: unexpected }"),
        ("{ name =\n  }", "parse error at line 2, col 3: syntax error: unexpected }"),
        ("{ name = `x`", "parse error at line 1, col 13: syntax error: unexpected $end"),
        ("", "parse error at line 1, col 1: syntax error: unexpected $end"),
        ("{} |\n", "parse error at line 2, col 1: syntax error: unexpected $end"),
        ('{ name = "x', "parse error at line 1, col 10: syntax error: literal not terminated"),
        (r'{ name = "\q" }', r"parse error at line 1, col 10: syntax error: unknown escape"),
        ("{ foo = 1 }", r"col 3: syntax error: unexpected foo \(an attribute has a scope, such as"),
        ("{ .a = 1 } ; {}", "col 12: syntax error: unexpected ;"),
        ("{} | rate() by(name", "col 20: syntax error: unexpected $end, expecting . or ,"),
        ("{ .a = 9223372036854775808 }", "col 8: number too large: 9223372036854775808"),
        ("{ .a = 1e999 }", "col 8: number too large"),
        ("{} | quantile_over_time(duration, 2)", "col 35: a quantile is a number from 0 to 1"),
        ('{duration>"1"}', "binary operations must operate on the same type: duration > `1`"),
        ("{ status = `error` }", "must operate on the same type: status = `error`"),
        ("{ kind = ok }", "must operate on the same type: kind = ok"),
        ("{ 1 + 1 }", r"must resolve to a boolean: { 1 \+ 1 }"),
        ("{ status > ok }", "illegal operation for the given types: status > ok"),
        ("{ !duration }", "illegal operation for the given types: !duration"),
        ("{ name && true }", "illegal operation for the given types: name && true"),
        ("{ duration =~ `1` }", "must operate on the same type"),
        ("{ name =~ .x }", "illegal operation for the given types: name =~ .x"),
        ("{ name =~ `(` }", r"not a regular expression: '\('"),
        ("{} | avg(name) > 1", r"avg\(\) needs a number, not name"),
        ("{} | min_over_time(status)", r"min_over_time\(\) needs a number, not status"),
        ("{} | compare({}, 0)", "a number of values of at least 1"),
        ("{} | compare({}, 1, 2)", "takes a filter, the number of values, and a start and an end"),
        ("{} | compare({}, 1, 2, 2)", "the end of compare.. must be after its start"),
        ("{ " + "(" * 200 + ".a" + ")" * 200 + " }" + " && {}" * 200, "nested more than 64 deep"),
        ("{ " + "!" * 200 + ".a }", "nested more than 64 deep"),
        ("{" + " " * 40_000 + "}", "it has 40002 characters, at most 32768"),
    ],
)
def test_errors_name_the_position(text, message):
    """A query that cannot be read, or makes no sense, is refused with the reason."""
    with pytest.raises(
        TraceQLError, match="(?s)^invalid TraceQL query: .*" + message.replace("$", ".")
    ):
        parse_traceql(text)


def test_a_long_chain_is_not_deep():
    """Hundreds of filters are joined as a builder does it."""
    text = " && ".join(f"span.a{number} = {number}" for number in range(500))
    assert len(only(f"{{ {text} }}").operands) == 500


def test_without_the_extra():
    """What is missing is named, and how to get it."""
    script = """
    import sys
    sys.modules["lark"] = None
    from rimp_otel.errors import MissingExtraError
    from rimp_otel.viewer.tempo.traceql import parse_traceql
    try:
        parse_traceql("{}")
    except MissingExtraError as error:
        print(error)
    """
    assert (
        run(script) == "lark is not installed. Install it with: pip install 'rimp-otel[server]'\n"
    )


# Any text, and any tree.

QUICK = settings(max_examples=100, deadline=None)
WORDS = ["{", "}", "(", ")", "|", "&&", "||", "=", "!=", "=~", "<", ">>", "&>>", "~", "-", "!", "^"]
WORDS += ["name", "status", "error", "nil", "span.a", ".b", '."c d"', "parent.x", "5", ".5", "1.5s"]
WORDS += [
    '"x"',
    "`y`",
    "rate()",
    "by",
    "count()",
    "avg",
    "select",
    "with",
    "compare",
    ",",
    "\\",
    '"',
]


@QUICK
@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join))
def test_any_text_is_a_query_or_refused(text):
    """Nothing but a TraceQLError is raised, and what is read prints as it reads."""
    try:
        query = parse_traceql(text)
    except TraceQLError:
        return
    assert parse_traceql(format_query(query)) == query


KEYS = st.text(min_size=1, max_size=8)
SCOPES = st.sampled_from(["resource", "span", "event", "link", "instrumentation", "any"])
ATTRIBUTES = st.builds(Attribute, SCOPES, KEYS, st.just(False)) | st.builds(
    Attribute, st.sampled_from(["resource", "span", "any"]), KEYS, st.just(True)
)
NUMBERS = (
    st.builds(Literal, st.just("int"), st.integers(-(2**63) + 1, 2**63 - 1))
    | st.builds(Literal, st.just("float"), st.floats(allow_nan=False, allow_infinity=False))
    | st.builds(Literal, st.just("duration"), st.integers(-(2**62), 2**62))
)
ORDERED = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
CALCULATIONS = st.recursive(
    ATTRIBUTES | NUMBERS,
    lambda inner: (
        st.builds(BinaryOperation, st.sampled_from("+-*/%^"), inner, inner)
        | st.builds(Unary, st.just("-"), inner.filter(lambda node: not isinstance(node, Literal)))
    ),
    max_leaves=6,
)


COMPARISONS = (
    st.builds(BinaryOperation, ORDERED, CALCULATIONS, CALCULATIONS)
    | st.builds(
        BinaryOperation,
        st.sampled_from(["=", "!="]),
        ATTRIBUTES,
        st.builds(Literal, st.just("string"), st.text(max_size=8)) | st.just(Literal("nil", None)),
    )
    | st.builds(
        BinaryOperation,
        st.just("="),
        st.just(STATUS),
        st.builds(Literal, st.just("status"), st.sampled_from(["ok", "error", "unset"])),
    )
)


def join(operator, operands):
    """Return operands joined, the first of which is not joined by the same operator."""
    first = operands[0]
    if isinstance(first, Logic) and first.operator == operator:
        operands = [Unary("!", first), *operands[1:]]
    return Logic(operator, tuple(operands))


EXPRESSIONS = st.recursive(
    COMPARISONS | ATTRIBUTES,
    lambda inner: (
        st.builds(join, st.sampled_from(["&&", "||"]), st.lists(inner, min_size=2, max_size=3))
        | st.builds(Unary, st.just("!"), inner)
    ),
    max_leaves=5,
)
SPANSETS = st.recursive(
    st.builds(SpansetFilter, EXPRESSIONS),
    lambda inner: st.builds(
        SpansetOperation,
        st.sampled_from(["&&", "||", ">", ">>", "<", "<<", "~", "!>", "!>>", "!~", "&>>", "&~"]),
        inner,
        inner,
    ),
    max_leaves=3,
)
STAGES = (
    st.builds(FilterStage, SPANSETS)
    | st.builds(ScalarFilter, ORDERED, st.just(Aggregate("avg", DURATION)), NUMBERS)
    | st.builds(Group, ATTRIBUTES)
    | st.builds(Select, st.lists(ATTRIBUTES, min_size=1, max_size=3).map(tuple))
)
INTRINSIC_KEYS = st.sampled_from(sorted(INTRINSICS)).map(lambda key: Attribute("intrinsic", key))
MEASURES = st.builds(
    Measure,
    st.just("quantile_over_time"),
    ATTRIBUTES,
    st.lists(st.floats(0, 1), min_size=1, max_size=2).map(tuple),
    st.lists(ATTRIBUTES | INTRINSIC_KEYS, max_size=2).map(tuple),
)
QUERIES = st.builds(
    Query,
    st.lists(STAGES, min_size=1, max_size=3).map(tuple),
    st.none() | MEASURES,
    st.just(()),
    st.just(()),
)


@QUICK
@given(QUERIES)
def test_printed_queries_read_as_the_same(query):
    """Whatever the names, texts and numbers are."""
    assert parse_traceql(format_query(query)) == query
