"""The parts of the page that draw nothing, asked in Chromium: OTLP JSON, traces, files, URLs, times, texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.visits import Server, visiting

Ask = Callable[..., Any]

# A request of 100 ns: two calls one after the other, the second with a call of its own that outlives it.
TRACE = """
const span = (spanId, parentId, from, to, more = {}) => ({
  traceId: "t1", spanId, parentId, name: spanId, service: "shop", kind: "internal", start: BigInt(from), end: BigInt(to),
  status: "unset", statusMessage: "", attributes: [], events: [], links: [], resource: { attributes: [] },
  scope: { name: "", version: "", attributes: [] }, ...more,
});
const log = (spanId, time, text) => ({
  spanId, time: BigInt(time), text, attributes: [], severity: 9, service: "shop",
});
const request = [
  span("root", "", 1000, 1100), span("first", "root", 1010, 1040), span("second", "root", 1050, 1090),
  span("deep", "second", 1060, 1120),
];
"""


@pytest.fixture(scope="module")
def ask(chromium: Any, servers: Callable[[str], Server]) -> Iterator[Ask]:
    """Return a function that evaluates an expression over a module's exports, with `TRACE` before it."""
    server = servers("shop")
    with visiting(chromium, urlsplit(server.url).netloc) as visit:
        # A document of the same origin, in which the page itself does not run; Chromium asks for its icon.
        visit.page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        page = visit.open(server.url + "icon.svg")

        def evaluate(module: str, expression: str, argument: Any = None) -> Any:
            code = f"const m = await import('/{module}.js'); {TRACE} return {expression};"
            return page.evaluate(f"async (given) => {{ {code} }}", argument)

        yield evaluate


def test_values_keep_their_types_and_all_64_bits(ask: Ask) -> None:
    """Each kind of value has its type; an integer is exact, and text where JSON has no room for it."""
    pairs = [
        {"key": "int", "value": {"intValue": "9223372036854775807"}},
        {"key": "small", "value": {"intValue": "-7"}},
        {"key": "double", "value": {"doubleValue": "Infinity"}},
        {"key": "bool", "value": {"boolValue": False}},
        {"key": "array", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {}]}}},
        {
            "key": "map",
            "value": {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": 1}}]}},
        },
        {"key": "bytes", "value": {"bytesValue": "AAE="}},
        {"key": "nothing"},
    ]
    assert ask(
        "otlp", "m.readAttributes(given).map((one) => [one.type, m.textOfValue(one)])", pairs
    ) == [
        ["int", "9223372036854775807"],
        ["int", "-7"],
        ["double", '"Infinity"'],
        ["bool", "false"],
        ["array", '["a",null]'],
        ["map", '{"k":1}'],
        ["bytes", "AAE="],
        ["empty", ""],
    ]
    assert ask("otlp", "m.plainAttributes(m.readAttributes(given)).int", pairs) == (
        "9223372036854775807"
    )


def test_enumerations_are_read_as_numbers_and_as_names(ask: Ask) -> None:
    """Kind, status and severity of a record may be numbers or the names of the protocol's enumerations."""
    spans = [
        {"kind": 2, "status": {"code": 2}},
        {"kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_OK"}},
        {},
    ]
    data = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    assert ask("otlp", "m.readSpans(given).map((one) => [one.kind, one.status])", data) == [
        ["server", "error"],
        ["client", "ok"],
        ["unspecified", "unset"],
    ]
    records = [{"severityNumber": 17}, {"severityNumber": "SEVERITY_NUMBER_WARN2"}, {}]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    assert ask(
        "otlp",
        "m.readLogs(given).map((one) => [one.severity, m.levelOf(one.severity)])",
        logs,
    ) == [[17, "error"], [14, "warn"], [0, "unspecified"]]


def test_critical_path_is_what_the_end_waited_for(ask: Ask) -> None:
    """The path goes from the end back; a child counts no longer than its parent."""
    found = ask(
        "trace/model",
        "[...m.findCriticalPath(m.buildTrace(request, []))].map(([node, pieces]) => [node.span.spanId, pieces])",
    )
    assert found == [
        ["root", [[90, 100], [40, 50], [0, 10]]],
        ["first", [[10, 40]]],
        ["second", [[50, 60]]],
        ["deep", [[60, 90]]],
    ]


def test_self_time_is_what_no_child_accounts_for(ask: Ask) -> None:
    """Children that overlap count once, and not beyond the end of the span."""
    times = "m.buildTrace(request, []).nodes.map((node) => [node.span.spanId, m.selfTimeOf(node)])"
    assert ask("trace/model", times) == [["root", 30], ["first", 30], ["second", 10], ["deep", 60]]


def test_rows_have_logs_in_place_and_hide_what_is_collapsed(ask: Ask) -> None:
    """Rows are in the order of time below their parents; logs of no span stand at the top level."""
    built = """(() => {
      const trace = m.buildTrace(request, [log("second", 1055, "hello"), log("unknown", 1001, "loose")]);
      const say = (row) => `${row.depth} ${row.kind === "log" ? row.log.text : row.node.span.spanId}`;
      return [m.listRows(trace, new Set(), true).map(say), m.listRows(trace, new Set([2]), true).map(say),
        m.listRows(trace, new Set(), false).map(say)];
    })()"""
    whole = ["0 root", "1 first", "1 second", "2 hello", "2 deep", "0 loose"]
    assert ask("trace/model", built) == [
        whole,
        ["0 root", "1 first", "1 second", "0 loose"],
        ["0 root", "1 first", "1 second", "2 deep"],
    ]


def test_any_recording_is_laid_out(ask: Ask) -> None:
    """Orphans, circles and spans that start before their parent have a place and say what is odd."""
    built = """(() => {
      const odd = [span("orphan", "missing", 5, 6), span("a", "b", 3, 9), span("b", "a", 4, 8), span("self", "self", 7, 8),
        span("late", "", 20, 30), span("early", "late", 10, 25)];
      const trace = m.buildTrace(odd, []);
      return [trace.roots.map((node) => node.span.spanId), trace.nodes.map((node) => [node.span.spanId, node.flaw, node.depth])];
    })()"""
    roots, nodes = ask("trace/model", built)
    assert roots == ["a", "orphan", "self", "late"]
    assert nodes == [
        ["a", "circle", 0],
        ["b", "", 1],
        ["orphan", "orphan", 0],
        ["self", "circle", 0],
        ["early", "skewed", 1],
        ["late", "", 0],
    ]


def test_a_chain_of_20_000_spans_is_laid_out(ask: Ask) -> None:
    """A chain that is deeper than the stack has all its rows and its critical path."""
    built = """(() => {
      const chain = Array.from({ length: 20000 }, (_, at) => span(`s${at}`, at ? `s${at - 1}` : "", 1000 + at, 100000 - at));
      const trace = m.buildTrace(chain, []);
      return [m.listRows(trace, new Set(), true).length, m.findCriticalPath(trace).size, trace.nodes.at(-1).depth];
    })()"""
    assert ask("trace/model", built) == [20000, 20000, 19999]


def test_two_traces_are_matched_by_their_paths(ask: Ask) -> None:
    """Spans of one path are counted and added up; a path of one trace alone has no spans on the other side."""
    built = """(() => {
      const other = [span("root", "", 0, 50), span("first", "root", 0, 10), span("x", "root", 20, 25, { name: "first" }),
        span("new", "root", 30, 40, { status: "error" })];
      return m.mergeTraces(m.buildTrace(request, []), m.buildTrace(other, []))
        .map(({ path, before, after }) => [path, before.count, before.duration, after.count, after.duration, after.errors]);
    })()"""
    assert ask("trace/model", built) == [
        ["/shop:root", 1, 100, 1, 50, 0],
        ["/shop:root/shop:first", 1, 30, 2, 15, 0],
        ["/shop:root/shop:new", 0, 0, 1, 10, 1],
        ["/shop:root/shop:second", 1, 40, 0, 0, 0],
        ["/shop:root/shop:second/shop:deep", 1, 60, 0, 0, 0],
    ]


def test_a_chrome_trace_nests_on_each_thread(ask: Ask) -> None:
    """A span that does not nest in what is open has a thread of its own."""
    built = """JSON.parse(m.writeChromeTrace((await import('/trace/model.js')).buildTrace(request, []))).traceEvents
      .filter((event) => event.ph === "X").map(({ name, tid, ts, dur }) => [name, tid, ts, dur])"""
    assert ask("trace/files", built) == [
        ["root", 1, 0, 0.1],
        ["first", 1, 0.01, 0.03],
        ["second", 1, 0.05, 0.04],
        ["deep", 2, 0.06, 0.06],
    ]


def test_cells_of_durations_have_their_times_and_limits(ask: Ask) -> None:
    """Empty cells are left out, and so are those beyond the limits of the durations that are asked for."""
    durations = {
        "from": "1795521600000000000",
        "step": 60_000_000_000,
        "bounds": [10, 20, 40, 80],
        "counts": [[1, 0, 2], [0, 3, 0]],
        "errors": [[0, 0, 1], [0, 0, 0]],
    }
    cells = "m.readCells(given, { least: 20, most: 100 }).map((cell) => ({ ...cell, from: `${cell.from}`, to: `${cell.to}` }))"
    minutes = [f"{1_795_521_600 + 60 * minute}000000000" for minute in range(3)]
    assert ask("traces/heat", cells, durations) == [
        {"from": minutes[0], "to": minutes[1], "low": 40, "high": 80, "count": 2, "errors": 1},
        {"from": minutes[1], "to": minutes[2], "low": 20, "high": 40, "count": 3, "errors": 0},
    ]


def test_what_is_pasted_into_a_shell_is_one_word(ask: Ask) -> None:
    """Recorded text can neither end its quotes nor become an option of curl."""
    pairs = [
        {"key": "http.request.method", "type": "string", "value": "-K/etc/passwd"},
        {"key": "url.full", "type": "string", "value": "http://shop/';rm -rf ~;'"},
        {
            "key": "http.request.header.accept",
            "type": "array",
            "value": [{"type": "string", "value": "a'b"}],
        },
        {"key": "http.request.header.x y", "type": "string", "value": "not a header's name"},
    ]
    assert ask("trace/files", "m.writeRequestCurl({ attributes: given })", pairs) == (
        "curl --request -K/etc/passwd --url 'http://shop/'\\'';rm -rf ~;'\\'''"
        " \\\n  --header 'accept: a'\\''b'"
    )
    assert ask("trace/files", """m.writeSpanSql({ traceId: "a'b", spanId: "c" })""") == (
        "SELECT * FROM otel_traces\nWHERE TraceId = 'a''b' AND SpanId = 'c'"
    )


def test_urls_hold_the_state(ask: Ask) -> None:
    """What is written into the fragment is read from it; names of JavaScript's own are no parameters."""
    text = "#/traces?from=now-1h&to=now&attr=span.a+%3D+%221%22&attr=span.b+exists&service=a%26b"
    state = ask("url_state", "m.parseState(given)", text)
    assert state == {
        "view": "traces",
        "rangeText": {"from": "now-1h", "to": "now"},
        "attr": ['span.a = "1"', "span.b exists"],
        "by": [],
        "service": "a&b",
    }
    assert ask("url_state", "m.formatState(m.parseState(given))", text) == text
    hostile = "#/x?__proto__=1&constructor=2&view=3&range=4&revision=5&ok=6"
    assert ask("url_state", "m.parseState(given)", hostile) == {
        "view": "x",
        "rangeText": {"from": "", "to": ""},
        "attr": [],
        "by": [],
        "ok": "6",
    }


def test_another_view_keeps_the_range_alone(ask: Ask) -> None:
    """A link to another view drops the parameters of the one before; in the view, null removes one."""
    start = "m.parseState('#/traces?from=1&to=2&service=a&status=error')"
    assert ask("url_state", f"m.linkTo({start}, {{ view: 'logs', severity: 17 }})") == (
        "#/logs?from=1&to=2&severity=17"
    )
    assert ask(
        "url_state", f"m.linkTo({start}, {{ service: null, from: 'now-1h', to: 'now' }})"
    ) == ("#/traces?from=now-1h&to=now&status=error")


def test_the_token_is_taken_out_of_the_fragment(ask: Ask) -> None:
    """A token stands first in the fragment, alone or before a view."""
    for fragment, token, rest in (
        ("#token=a%2Fb", "a/b", ""),
        ("#token=abc&/trace?id=1", "abc", "#/trace?id=1"),
        ("#/traces?q=token=x", "", "#/traces?q=token=x"),
    ):
        found = ask("url_state", "m.takeToken(given)", fragment)
        assert found == {"token": token, "fragment": rest}


def test_times_are_read_as_people_write_them(ask: Ask) -> None:
    """Relative times stay texts, absolute ones become nanoseconds; all else is refused."""
    for text, expected in (
        ("now-15m", "now-15m"),
        (" 2026-11-29 14:05 ", "1795961100000000000"),
        ("2026-11-29T14:05:06.123456789Z", "1795961106123456789"),
        ("2026-11-29T14:05:06+02:00", "1795953906000000000"),
        ("1795961106", "1795961106000000000"),
        ("1795961106123456789", "1795961106123456789"),
        ("yesterday", None),
        ("2026-13-01", None),
    ):
        assert ask("time_range", "m.readTime(given, true)", text) == expected, text


def test_the_first_range_shows_what_there_is(ask: Ask) -> None:
    """The last hour while something is recorded, all of a short recording, the last hour of a long one."""
    hour = 3_600_000_000_000
    now = 1_795_961_100_000_000_000

    def range_of(first: int, last: int) -> Any:
        info = {"first": str(first), "last": str(last)}
        return ask("time_range", f"m.firstRange(given, {now // 1_000_000})", info)

    assert range_of(now - 24 * hour, now) == {"from": "now-1h", "to": "now"}
    assert range_of(now - 60_000_000_000, now) == {"from": "now-5m", "to": "now"}
    assert range_of(now - 10 * hour - 1, now - 9 * hour) == {
        "from": str(now - 10 * hour - 1_000_000_000),
        "to": str(now - 9 * hour + 1_000_000_000),
    }
    assert range_of(now, now + 2 * hour) == {
        "from": str(now),
        "to": str(now + 2 * hour + 1_000_000_000),
    }
    assert range_of(now - 48 * hour, now - 24 * hour) == {
        "from": str(now - 25 * hour + 1_000_000_000),
        "to": str(now - 24 * hour + 1_000_000_000),
    }


def test_axes_have_few_round_times(ask: Ask) -> None:
    """Ticks are round, and never more than fit, from microseconds to centuries."""
    ticks = "m.timeTicks(BigInt(given[0]), given[1], 8).map((tick) => tick.text)"
    second = 1_000_000_000
    assert ask("time_range", ticks, ["1795961100000000000", 60 * second]) == [
        "14:05:00",
        "14:05:10",
        "14:05:20",
        "14:05:30",
        "14:05:40",
        "14:05:50",
        "14:06:00",
    ]
    assert len(ask("time_range", ticks, ["0", 2**64])) <= 9
    assert len(ask("time_range", ticks, ["0", 1])) <= 9


def test_durations_and_numbers_are_short(ask: Ask) -> None:
    """Durations as in the terminal; parts of 1 that are not 0 never read as 0 %."""
    durations = [0, 999, 1234, 12_345_678, 59_940_000_000, 247_000_000_000, 2**64, None]
    assert ask("format", "given.map((one) => m.formatDuration(one))", durations) == [
        "0 ns",
        "999 ns",
        "1.23 µs",
        "12.3 ms",
        "59.9 s",
        "4 m 7 s",
        "584 years",
        "\u2013",
    ]
    parts = [0, 0.00001, 0.0004, 0.06, 0.153, 1]
    assert ask("format", "given.map((one) => m.formatPercent(one))", parts) == [
        "0 %",
        "< 0.01 %",
        "0.040 %",
        "6.0 %",
        "15.3 %",
        "100 %",
    ]
    assert ask("format", "given.map((one) => m.formatRate(one))", [12.34, 0.02, 0]) == [
        "12.3/s",
        "1.2/min",
        "0/s",
    ]


def test_invisible_characters_are_shown_as_escapes(ask: Ask) -> None:
    """What reorders or hides text is an escape; what languages and emoji are spelt with stays."""
    hostile = "a\x1b[31m\u202eb\u200b\n\U000e0041 \u200d\U0001f469"
    assert ask("format", "m.escapeText(given)", hostile) == (
        "a\\x1b[31m\\u202eb\\u200b\\n\\U000e0041 \u200d\U0001f469"
    )
    assert ask("format", "m.escapeText('\\ud800x')") == "\\ud800x"


def test_an_exception_that_is_logged_after_its_trace_counts_once(ask: Ask) -> None:
    """In files: if it is logged outside of all traces, with the same message, within a second after."""
    counted = """((at, message) => {
      const texts = (...pairs) => pairs.map(([key, value]) => ({ key: `exception.${key}`, value: { stringValue: value } }));
      const stack = 'Traceback\\n  File "/srv/shop.py", line 7, in pay\\n';
      const raised = texts(["type", "KeyError"], ["message", "5"], ["stacktrace", stack]);
      const left = { traceId: "t1", spanId: "a", parentId: "", name: "pay", status: "error", start: 0, duration: 9,
        resource: {}, raw: { events: [{ timeUnixNano: "7", attributes: raised }] } };
      const logged = texts(["type", "KeyError"], ["message", message], ["stacktrace", stack]);
      const log = { traceId: "", time: at, resource: {}, scope: {}, raw: { attributes: logged } };
      return m.exceptionsIn([left], [log], { relative: Number }).length;
    })(...given)"""
    assert ask("local/exceptions", counted, [9, "5"]) == 1
    assert ask("local/exceptions", counted, [9, "6"]) == 2
    assert ask("local/exceptions", counted, [6, "5"]) == 2
    assert ask("local/exceptions", counted, [1_000_000_008, "5"]) == 2
