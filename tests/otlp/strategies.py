"""Hypothesis strategies for the SDK's records, over the builders of ``generate``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.otlp import generate, generate_own

__all__ = [
    "events",
    "generated",
    "log_records",
    "metrics",
    "metrics_data",
    "provider_spans",
    "spans",
    "values",
]

T = TypeVar("T")

generated = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
"""How tests on generated records run; HYPOTHESIS_PROFILE=long makes them take their time."""

# Without the surrogates: those are for the tests of poison.
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_REALS = st.floats(allow_nan=False) | st.just(math.nan)
_BINARY = st.binary(max_size=8)


class _HypothesisSource:
    """The choices that Hypothesis makes, and shrinks."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        """Any of the range."""
        number: int = self._draw(st.integers(low, high))
        return number

    def choose(self, options: Sequence[T]) -> T:
        """Any of them."""
        chosen: T = self._draw(st.sampled_from(options))
        return chosen

    def text(self) -> str:
        """Any text, all of Unicode."""
        text: str = self._draw(_TEXT)
        return text

    def real(self) -> float:
        """Any double."""
        real: float = self._draw(_REALS)
        return real

    def binary(self) -> bytes:
        """Any bytes."""
        binary: bytes = self._draw(_BINARY)
        return binary


def _of(make: Callable[..., Any], *arguments: Any) -> st.SearchStrategy[Any]:
    @st.composite
    def built(draw: Any) -> Any:
        return make(_HypothesisSource(draw), *arguments)

    return built()


spans = _of(generate.spans, 4)
provider_spans = _of(generate.spans_of_provider, 2)
log_records = _of(generate.log_records, 4)
metrics_data = _of(generate.metrics_data, 4)
events = st.lists(_of(generate_own.event), max_size=2)
metrics = st.lists(_of(generate_own.metric), max_size=2)
values = _of(generate.value)
