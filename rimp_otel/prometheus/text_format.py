"""The text formats of Prometheus: 0.0.4, 1.0.0, and OpenMetrics 1.0.

The bytes are those that prometheus-client writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from rimp_otel.prometheus.families import (
    Family,
    Labels,
    Member,
    ShownExemplar,
    exemplars_by_line,
    numbers_in,
)
from rimp_otel.prometheus.series import Series
from rimp_otel.prometheus.totals import Value
from rimp_otel.prometheus.writer import PageWriter

__all__ = ["Escaping", "TextWriter"]

_NANOS = 1e9
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


class Escaping(Enum):
    """What becomes of characters in names that Prometheus before 3.0 does not know."""

    #: They stay; such a name stands in quotes.
    ALLOW_UTF8 = "allow-utf-8"
    UNDERSCORES = "underscores"
    #: A dot is ``_dot_``, an underscore is two.
    DOTS = "dots"
    #: Each is its code, after ``U__``, so that they can be told again.
    VALUES = "values"

    def escape(self, name: str, is_metric: bool) -> str:
        """Return a name; in quotes if it needs them.

        Args:
            name: of a metric or a label.
            is_metric: True for a metric, whose name may have colons.
        """
        is_plain = (_METRIC_NAME if is_metric else _LABEL_NAME).fullmatch(name) is not None
        if self is Escaping.ALLOW_UTF8:
            return name if is_plain else f'"{quote_label(name)}"'
        if is_plain and self is not Escaping.DOTS:
            return name
        known = [_is_known(char, number, is_metric) for number, char in enumerate(name)]
        if self is Escaping.UNDERSCORES:
            return "".join(c if known[n] else "_" for n, c in enumerate(name))
        if self is Escaping.DOTS:
            return "".join(
                {"_": "__", ".": "_dot_"}.get(c, c if known[n] else "__")
                for n, c in enumerate(name)
            )
        return "U__" + "".join(
            "__" if c == "_" else c if known[n] else f"_{_code_of(c)}_" for n, c in enumerate(name)
        )


def _is_known(char: str, number: int, is_metric: bool) -> bool:
    if char.isascii() and (char.isalpha() or char == "_" or (is_metric and char == ":")):
        return True
    return char.isascii() and char.isdigit() and number > 0


def _code_of(char: str) -> str:
    return "FFFD" if 0xD800 <= ord(char) <= 0xDFFF else format(ord(char), "x")


def quote_label(text: str) -> str:
    """Return a text as it stands between quotes."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def format_sample(value: float) -> str:
    """Return a number as Go writes it, so that equal bounds are equal labels."""
    number = float(value)
    text = repr(number)
    if text[-2:] == ".0" and len(text) < 9:
        return text
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    if number != number:
        return "NaN"
    dot = text.find(".")
    if number > 0 and dot > 6:  # Go has exponents sooner than Python
        mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0").rstrip(".")
        return f"{mantissa}e+{dot - 1:02d}"
    return text


class _Heads(NamedTuple):
    """The lines of a series up to their values."""

    #: Of the first lines: of buckets, or the shares of quantiles.
    bounds: tuple[float, ...]
    first: list[str]
    of_count: str
    of_sum: str
    #: Empty if there is none.
    of_created: str


class TextWriter(PageWriter):
    """Writes families of one table as a page. For one thread at a time.

    Args:
        escaping: of names.
        is_openmetrics: True for OpenMetrics 1.0, which has exemplars, units and times of creation.
    """

    def __init__(
        self, escaping: Escaping = Escaping.UNDERSCORES, is_openmetrics: bool = False
    ) -> None:
        super().__init__()
        self._escaping = escaping
        self._is_openmetrics = is_openmetrics
        self._heads: dict[Series, _Heads] = {}

    def write(self, families: Iterable[Family]) -> bytes:
        """Return the page."""
        parts: list[bytes] = []
        for family in families:
            parts.append(_to_utf8(self._comments(family)))
            parts += self._write_members(family)
        if self._is_openmetrics:
            parts.append(b"# EOF\n")
        return b"".join(parts)

    def _comments(self, family: Family) -> str:
        kind = family.kind
        if self._is_openmetrics:
            name, help = _openmetrics_name(family), quote_label(family.help)
            if kind == "counter" and name == family.name:
                kind = "unknown"  # without the suffix there are no counters
        else:
            name, help = family.name, family.help.replace("\\", r"\\").replace("\n", r"\n")
            kind = "gauge" if kind == "info" else kind
        name = self._escaping.escape(name, True)
        unit = f"# UNIT {name} {family.unit}\n" if self._is_openmetrics and family.unit else ""
        return f"# HELP {name} {help}\n# TYPE {name} {kind}\n{unit}"

    def _write_member(self, family: Family, member: Member) -> bytes:
        if member.series is None:
            line = f"{self._head(family.name, member.labels)}{format_sample(member.value)}\n"
            return _to_utf8(line)
        value = member.value
        bounds, counts = numbers_in(value)
        heads = self._heads.get(member.series)
        if heads is None or heads.bounds != bounds:
            heads = self._heads[member.series] = self._make_heads(family, member, bounds)
        return _to_utf8("".join(self._lines_of(family, member.series, value, heads, counts)))

    def _make_heads(self, family: Family, member: Member, bounds: tuple[float, ...]) -> _Heads:
        name, labels = family.name, member.labels
        first: list[str] = []
        if family.kind == "histogram":
            first = [
                self._head(f"{name}_bucket", _with_label(labels, "le", format_sample(bound)))
                for bound in (*bounds, math.inf)
            ]
        elif family.kind == "summary":
            first = [
                self._head(name, _with_label(labels, "quantile", format_sample(share)))
                for share in bounds
            ]
        else:
            first = [self._head(name, labels)]
        created = f"{_openmetrics_name(family)}_created"
        return _Heads(
            bounds,
            first,
            self._head(f"{name}_count", labels),
            self._head(f"{name}_sum", labels),
            self._head(created, labels) if _has_created(family) else "",
        )

    def _lines_of(
        self,
        family: Family,
        series: Series,
        value: Value,
        heads: _Heads,
        counts: Sequence[float],
    ) -> Iterable[str]:
        exemplars: Mapping[int, ShownExemplar] = {}
        if self._is_openmetrics and series.exemplars:
            exemplars = exemplars_by_line(family, series, heads.bounds)
        for number, (head, shown) in enumerate(zip(heads.first, counts, strict=True)):
            exemplar = _format_exemplar(exemplars[number]) if number in exemplars else ""
            yield f"{head}{format_sample(shown)}{exemplar}\n"
        if not isinstance(value, (int, float)):
            has_sum = value.sum is not None
            if has_sum and self._is_openmetrics:
                # It has no sum of values below zero, and no count without a sum.
                is_below = family.kind == "histogram" and heads.bounds and heads.bounds[0] < 0
                has_sum = value.sum >= 0 and not is_below
            if has_sum or not self._is_openmetrics:
                yield f"{heads.of_count}{format_sample(value.count)}\n"
            if has_sum:
                yield f"{heads.of_sum}{format_sample(value.sum)}\n"
        if self._is_openmetrics and heads.of_created and series.start:
            yield f"{heads.of_created}{format_sample(series.start / _NANOS)}\n"

    def _head(self, name: str, labels: Labels) -> str:
        """Return a line up to its value."""
        shown = self._escaping.escape(name, True)
        own = ",".join([f'{self._label(label)}="{quote_label(text)}"' for label, text in labels])
        if shown.startswith('"'):
            return f"{{{shown},{own}}} " if own else f"{{{shown}}} "
        return f"{shown}{{{own}}} " if own else f"{shown} "

    def _label(self, name: str) -> str:
        return self._escaping.escape(name, False)


def _to_utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _openmetrics_name(family: Family) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(family.kind, "")
    return family.name.removesuffix(suffix) or family.name


def _has_created(family: Family) -> bool:
    if family.kind == "counter":
        return _openmetrics_name(family) != family.name
    return family.kind in ("histogram", "summary")


def _with_label(labels: Labels, name: str, value: str) -> Labels:
    return tuple(sorted((*labels, (name, value))))


def _format_exemplar(found: ShownExemplar | None) -> str:
    if found is None:
        return ""
    labels = ",".join(f'{name}="{quote_label(text)}"' for name, text in sorted(found.labels))
    time = f" {found.time / _NANOS}" if found.time else ""
    return f" # {{{labels}}} {format_sample(found.value)}{time}"
