"""Regular expressions that never explode."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("starlette")

from hypothesis import given
from hypothesis import strategies as st

from rimp_otel.errors import ConfigurationError
from rimp_otel.viewer.search.patterns import compile_full_match

ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\s", "1", "-", "[a-c1]"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "*?", "{1,}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        inner.map(lambda part: f"^{part}$"),
        inner.map(lambda part: f"(?i:{part})"),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.text("abAB1- \n", max_size=6))
def test_it_matches_as_python_does(pattern, text):
    """Whichever way it is matched."""
    expected = re.fullmatch(pattern, text) is not None
    # Python's dollar stands before a last line end, too; here it is the end alone.
    if "$" in pattern and text.endswith("\n"):
        return
    assert compile_full_match(pattern)(text) is expected
    # Python could need long for this one.
    assert compile_full_match(f"(?:{pattern})(?:z|zz)*")(text) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "(a|a)*b",
        "(a*)*b",
        "(a+)+b",
        "(?:a?){30}a{30}b",
        "a?" * 40 + "a" * 40 + "b",
        ".*.*.*.*.*b",
        "(?:aa|aa)" * 30 + "b",
        "(a|aa)+$b",
        "(?i)(A|a)*b",
        "a*a*b",
        "(?:(?:a|b)*|c)*d",
    ],
)
def test_expressions_that_explode(pattern):
    """They are matched at once, or long before anybody notices."""
    match = compile_full_match(pattern)
    assert match("a" * 20_000) is False
    assert match("a" * 20_000 + "c") is False


def test_a_long_text_that_matches():
    """The answer is right, too."""
    assert compile_full_match("(a|aa)*b")("a" * 20_001 + "b")
    assert compile_full_match(".*x.*y.*z.*")("a" * 5_000 + "x" + "b" * 5_000 + "yz")
    assert compile_full_match("(?s).*a.*")("\n" * 5_000 + "a\n")
    assert not compile_full_match(".*a.*")("\n" * 5_000 + "a\n")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "not a regular expression: '('"),
        (r"(a)\1", "since it has groupref"),
        ("(?=a)a", "since it has assert"),
        (r"(\ba*)*", "since it has at"),
        ("(?:(?:a{100}){100}){100}", "a regular expression is too large"),
        ("a" * 10_001, "a regular expression may have 10000 characters, got 10001"),
    ],
)
def test_what_is_refused(pattern, said):
    """The message says why."""
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        compile_full_match(pattern)
