"""A trace as text, to the character, also for unusual traces."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan

from rimp_otel.models.records import EventType
from rimp_otel.render.terminal import Style, display_width
from rimp_otel.render.trace_text import render_trace_text
from tests.cli.records import HOSTILE, MS, T0, checkout, event, raised, span, without_our_colour


def body(spans: list[ReadableSpan], width: int = 60, **style: bool) -> list[str]:
    """Return the lines below the heading and the axis."""
    lines = render_trace_text(spans, [], width, Style(**style))
    return lines[lines.index("") + 2 :]


def test_a_trace() -> None:
    """Spans, bars, failures and log records have their places."""
    assert (
        "\n".join(render_trace_text(*checkout(), 100))
        == """\
POST /checkout  231 ms
trace 4bf92f3577b34da6a3ce929d0e0e4736 · 2026-11-18 11:06:40.000 · 7 spans · 3 logs · 3 errors
● shop  ● stock  ● payment

                                         0             57.8 ms        116 ms         173 ms   231 ms
✗ POST /checkout        shop     231 ms  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
├─ SELECT cart          shop      13 ms   ━━━╸         ┊              ┊              ┊
│  INFO  cart loaded  items=3                                                                 +18 ms
├─ GET /stock           shop      81 ms       ━━━━━━━━━━━━━━━━━━━━━   ┊              ┊
│  └─ GET /stock/{sku}  stock     74 ms        ━━━━━━━━━━━━━━━━━━━╸   ┊              ┊
│     └─ SELECT stock   stock     58 ms         ╺━━━━━━━━━━━━━━━      ┊              ┊
│        WARN  stock is low  sku=A-17  left=2                                                 +92 ms
└─ ✗ POST /charge       shop     122 ms                ┊           ╺━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
   │  http.response.status_code=502
   └─ ✗ charge card     payment  111 ms                ┊             ━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸
         payment.provider=bank.example  payment.amount=42.5  retries=2
         ✗  ConnectionError: bank.example refused the connection (in charge, bank.py:42)     +219 ms
   ERROR  payment failed, order kept  order=4711                                             +228 ms"""
    )


def test_a_trace_in_ascii() -> None:
    """A terminal without box characters gets the same drawing in ASCII."""
    spans = [span("caf\xe9", 1, 0, 0, 100), span("b", 2, 1, 50, 100), span("c", 3, 2, 60, None)]
    lines = render_trace_text(spans, [], 60, Style(unicode=False))
    assert (
        "\n".join(lines)
        == r"""caf\xe9  100 ms
trace 4bf92f3577b34da6a3ce929d0e0e4736
2026-11-18 11:06:40.000 | 3 spans
* shop

                 0             33.3 ms       66.7 ms  100 ms
caf\xe9  100 ms  ===========================================
`- b      50 ms                :      ======================
   `- c    open                :          ~~~~~~~~~~~~~~~~~~"""
    )


def test_colour_is_the_only_difference() -> None:
    """Without its escape sequences, the coloured drawing is the plain one."""
    colored = "\n".join(render_trace_text(*checkout(), 100, Style(color=True)))
    assert "\x1b[36m━" in colored
    assert without_our_colour(colored) == "\n".join(render_trace_text(*checkout(), 100))


def test_no_line_is_wider_than_the_terminal() -> None:
    """No line is wider than the terminal, from 50 columns on."""
    for width in (50, 51, 79, 80, 133, 250):
        lines = render_trace_text(*checkout(), width)
        assert max(map(display_width, lines)) <= width


def test_a_narrow_terminal_gets_50_columns() -> None:
    """Narrower terminals get 50 columns."""
    assert render_trace_text(*checkout(), 3) == render_trace_text(*checkout(), 50)


def test_interrupted_spans() -> None:
    """They have a mark that the legend explains, and no text that repeats it."""
    cut = {"rimp.interrupted": True, "order": "4711", "card": "x" * 60}
    spans = [
        span("checkout", 1, 0, 0, 100, error="process terminated", **cut),
        span("SELECT", 2, 1, 10, 20),
        span("charge", 3, 1, 50, 100, error="process terminated", **{"rimp.interrupted": True}),
    ]
    assert body(spans, 70) == [
        "✂ checkout   100 ms  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━",
        "│  order=4711  card=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…",
        "├─ SELECT     10 ms      ╺━━━━━      ┊               ┊",
        "└─ ✂ charge   50 ms                  ┊       ╺━━━━━━━━━━━━━━━━━━━━━━━━",
        "",
        "✂ its process was terminated here",
    ]
    assert body(spans, 70, unicode=False)[-1] == "# its process was terminated here"


def test_missing_parents_and_several_roots() -> None:
    """Spans whose parent is not recorded are roots with a mark."""
    assert body([span("a", 1, 9, 5, 10), span("b", 2, 0, 0, 20), span("c", 3, 2, 15, 20)]) == [
        "b     20 ms  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━",
        "└─ c   5 ms                 ┊               ┊   ━━━━━━━━━━━━",
        "⋯ a    5 ms             ╺━━━━━━━━━━━╸       ┊",
        "",
        "⋯ its parent is not recorded",
    ]


def test_circles() -> None:
    """Of spans that are each other's ancestors, the earliest is the root."""
    spans = [span("a", 1, 2, 1, 10), span("b", 2, 1, 2, 8), span("c", 3, 2, 3, 9)]
    names = [line.split("  ")[0].rstrip() for line in body([*spans, span("self", 4, 4, 3, 4)])]
    assert names == ["↻ a", "└─ b", "", "↻ self", "", "↻ its ancestors go round in a circle"]
    assert "└─ c" in body(spans)[2]


def test_clocks_that_disagree() -> None:
    """A span that starts before its parent has a mark, and its bar is not moved."""
    assert body([span("a", 1, 0, 0, 30), span("b", 2, 1, -10, 20, "far")]) == [
        "a       shop  30 ms           ╺━━━━━━━━━━━━━━━━━━━━━━━━━━━━━",
        "└─ « b  far   30 ms  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸",
        "",
        "« starts before its parent does",
    ]


def test_spans_without_end_start_or_duration() -> None:
    """A span without an end is open; one without a duration takes half a column."""
    spans = [
        span("root", 1, 0, 0, 100),
        span("open", 2, 1, 50, None),
        span("zero", 3, 1, 100, 100),
        span("back", 4, 1, 40, 30),
        span("none", 5, 1, None, None),
    ]
    assert body(spans) == [
        "root     100 ms  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━",
        "├─ none    open  ╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍",
        "├─ back  -10 ms                ┊  ╸          ┊",
        "├─ open    open                ┊      ╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍",
        "└─ zero    0 ns                ┊             ┊             ╺",
    ]


def test_a_trace_that_took_no_time() -> None:
    """Spans without times are drawn without a scale."""
    assert render_trace_text([span("one", 1, 0, 0, 0)], [], 50)[-1] == "one  0 ns  ╸"


def test_nothing_but_logs() -> None:
    """Log records of a trace without spans are shown."""
    assert render_trace_text([], [event("hello", 3), event("bye", 5, 99)], 60) == [
        "(no spans)",
        "trace 4bf92f3577b34da6a3ce929d0e0e4736",
        "2026-11-18 11:06:40.003 · 0 spans · 2 logs",
        "",
        "INFO  hello                                            +0 ns",
        "INFO  bye                                              +2 ms",
    ]


def test_nothing_at_all() -> None:
    """An empty trace can be drawn."""
    assert render_trace_text([])[0] == "(no spans)"


def test_deep_chains_stop_indenting() -> None:
    """Deep spans share one depth, so that names keep their room."""
    lines = body([span(f"d{i}", i, i - 1, i, 100 - i) for i in range(1, 8)])
    assert [line[:24] for line in lines] == [
        "d1                 98 ms",
        "└─ d2              96 ms",
        "   └─ d3           94 ms",
        "      └─ d4        92 ms",
        "         └─ d5     90 ms",
        "         ⋯  └─ d6  88 ms",
        "         ⋯  └─ d7  86 ms",
    ]


@pytest.mark.parametrize(
    "parent_of",
    [lambda i: i - 1, lambda i: min(i - 1, 1), lambda i: i % 10_000 + 1],
    ids=["chain", "fan", "circle"],
)
def test_ten_thousand_spans(parent_of: Callable[[int], int]) -> None:
    """Each span has a line; there is no recursion and no quadratic growth."""
    spans = [span(f"s{i}", i, parent_of(i), i, i + 20) for i in range(1, 10_001)]
    lines = render_trace_text(spans, [], 80)
    assert sum(" ms  " in line for line in lines[5:]) == 10_000
    assert max(map(len, lines)) <= 80


def test_wide_names() -> None:
    """Columns are counted as a terminal does."""
    assert body([span("日本語", 1, 0, 0, 100), span("e\u0301", 2, 1, 50, 100)]) == [
        "日本語  100 ms  " + "━" * 44,
        "└─ e\u0301     50 ms                ┊       ━━━━━━━━━━━━━━━━━━━━━━",
    ]


def test_hostile_names() -> None:
    """No recorded text reaches the terminal raw, with and without colour."""
    boom = Event("exception", {"exception.type": HOSTILE, "exception.message": HOSTILE}, T0 + MS)
    spans = [
        span(HOSTILE, 1, 0, 0, 9, HOSTILE, HOSTILE, events=(boom,), **{HOSTILE: HOSTILE}),
        span(HOSTILE, 2, 1, 1, 5, "", HOSTILE, events=(Event(HOSTILE, {HOSTILE: 1}, T0),)),
    ]
    events = [event(HOSTILE, 1, 2, EventType.ERROR, **{HOSTILE: [HOSTILE]})]
    plain = render_trace_text(spans, events, 100)
    assert all(line.isprintable() for line in plain)
    painted = render_trace_text(spans, events, 100, Style(color=True))
    assert [without_our_colour(line) for line in painted] == plain


def test_long_messages_of_failures_are_wrapped() -> None:
    """The reason of a failure may take four lines, beside the guides."""
    boom = raised("ValueError", "no " + "very " * 30 + "good", 4)
    lines = body([span("a", 1, 0, 0, 9, error="x", events=(boom,)), span("b", 2, 1, 5, 9)])
    assert lines[1] == "│  ✗  x"
    assert lines[2] == "│  ✗  ValueError: no very very very very very very     +4 ms"
    assert lines[3] == "│     very very very very very very very very very"
    assert lines[5] == "│     very very very very very very good"
    assert lines[6].startswith("└─ b")


def test_a_status_message_that_the_exception_repeats_is_shown_once() -> None:
    """The SDK also writes the exception into the status, which is not repeated."""
    boom = raised("ValueError", "bad", 4)
    lines = body([span("a", 1, 0, 0, 9, error="ValueError: bad", events=(boom,))])
    assert lines[1:] == ["   ✗  ValueError: bad" + " " * 34 + "+4 ms"]


def test_span_events() -> None:
    """Events other than exceptions are shown, too."""
    miss = Event("cache miss", {"key": "cart:7"}, T0 + 4 * MS)
    assert body([span("a", 1, 0, 0, 9, events=(miss,))])[1] == (
        "   EVENT  cache miss  key=cart:7" + " " * 22 + " +4 ms"
    )


def test_repeated_span_ids() -> None:
    """Spans with the same id are all shown; children belong to the first."""
    spans = [span("a", 1, 0, 0, 9), span("again", 1, 0, 1, 9), span("c", 2, 1, 2, 9)]
    assert [line.split("  ")[0] for line in body(spans)] == ["a", "└─ c", "again"]


def test_stacks_are_shown_when_they_are_asked_for() -> None:
    """Their lines are below the exception, indented as they are, and as wide as the terminal."""
    spans, events = checkout()
    folded = render_trace_text(spans, events, 60)
    shown = render_trace_text(spans, events, 60, with_stacks=True)
    assert [line for line in shown if line in folded] == folded
    added = "".join(line.lstrip(" │") for line in shown if line not in folded)
    assert added.startswith('Traceback (most recent call last):File "/srv/payment/app.py"')
    assert 'raise ConnectionError("bank.example refused the connection")' in " ".join(
        line.strip(" │") for line in shown
    )
    assert all(display_width(line) <= 60 for line in shown)
