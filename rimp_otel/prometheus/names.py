"""Names of metrics and labels for Prometheus.

By OpenTelemetry's specification *Prometheus and OpenMetrics Compatibility*; where that leaves room, as
Prometheus' own translator does it.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

__all__ = ["TranslationStrategy", "label_name", "metric_name", "unit_name"]


class TranslationStrategy(Enum):
    """How names are translated. Content negotiation may escape once more what is left."""

    #: Characters that Prometheus 2 does not know become underscores; units and types are suffixes.
    UNDERSCORES_WITH_SUFFIXES = "UnderscoreEscapingWithSuffixes"
    #: The same, without suffixes.
    UNDERSCORES_WITHOUT_SUFFIXES = "UnderscoreEscapingWithoutSuffixes"
    #: All characters stay; units and types are suffixes.
    SUFFIXES_ONLY = "NoUTF8EscapingWithSuffixes"
    #: Names stay as they are.
    NONE = "NoTranslation"

    @property
    def has_suffixes(self) -> bool:
        """True if units and types become suffixes."""
        return "WithSuffixes" in self.value

    @property
    def has_underscores(self) -> bool:
        """True if only letters, digits, underscores and colons are left."""
        return self.value.startswith("Underscore")


_UNITS = {
    "1": "",
    "%": "percent",
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
}
_PER_UNITS = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}
_NAMELESS = "_"
_SEPARATORS = re.compile(r"[^a-zA-Z0-9:]+", re.ASCII)
_INVALID = re.compile(r"[^a-zA-Z0-9:_]+", re.ASCII)
_INVALID_IN_LABEL = re.compile(r"[^a-zA-Z0-9_]", re.ASCII)


@lru_cache(4_096)
def metric_name(name: str, unit: str, kind: str, strategy: TranslationStrategy) -> str:
    """Return the name of a metric, with the suffix ``_total`` of a counter.

    Args:
        name: the instrument's.
        unit: in UCUM, as the instrument has it.
        kind: "counter" for a monotonic sum, "gauge" for a gauge; any other adds no suffix.
        strategy: how it is translated.
    """
    if not strategy.has_suffixes:
        if not strategy.has_underscores:
            return name or _NAMELESS
        return _not_from_digit("_".join(_split_name(_INVALID, name)), "_") or _NAMELESS
    main, per = _unit_suffixes(unit)
    if not strategy.has_underscores:
        return _with_suffixes(name, main, per, unit, kind) or _NAMELESS
    tokens = _split_name(_SEPARATORS, name)
    main, per = _clean_unit(main), _clean_unit(per)
    if main and main not in tokens:
        tokens.append(main)
    if per and per not in tokens:
        tokens += ["per", per]
    if kind == "counter":
        tokens = [*(token for token in tokens if token != "total"), "total"]
    if kind == "gauge" and unit == "1":
        tokens = [*(token for token in tokens if token != "ratio"), "ratio"]
    return _not_from_digit("_".join(tokens), "_") or _NAMELESS


def _with_suffixes(name: str, main: str, per: str, unit: str, kind: str) -> str:
    if kind == "counter":
        name = _without_suffix(name, "total")
    if kind == "gauge" and unit == "1":
        name = _without_suffix(name, "ratio")
    if main and not name.endswith(main):
        name = f"{name}_{main}"
    if per and not name.endswith(f"per_{per}"):
        name = f"{name}_per_{per}"
    if kind == "counter":
        return f"{name}_total"
    return f"{name}_ratio" if kind == "gauge" and unit == "1" else name


def _without_suffix(name: str, suffix: str) -> str:
    rest = name.removesuffix(suffix)
    return rest.rstrip("._-") if rest != name and rest[-1:] in tuple("._-") else name


@lru_cache(4_096)
def label_name(key: str, strategy: TranslationStrategy) -> str:
    """Return the name of the label for an attribute.

    Two attributes may become one label; their values are joined then, by whoever finds that out.
    """
    if not strategy.has_underscores:
        return key or _NAMELESS
    name = re.sub("_{2,}", "_", _INVALID_IN_LABEL.sub("_", key))
    return _not_from_digit(name, "key_") or _NAMELESS


@lru_cache(1_024)
def unit_name(unit: str) -> str:
    """Return a unit in the words of Prometheus, as in ``# UNIT``; empty for none."""
    main, per = map(_clean_unit, _unit_suffixes(unit))
    if per:
        return f"{main}_per_{per}" if main else f"per_{per}"
    return main


def _unit_suffixes(unit: str) -> tuple[str, str]:
    """Return the words for what is measured and for what it is measured by, each perhaps empty."""
    main, _, per = unit.partition("/")
    main, per = main.strip(), per.strip()
    if "{" in main or "}" in main:
        main = ""
    if "{" in per or "}" in per:
        per = ""
    return _UNITS.get(main, main), _PER_UNITS.get(per, per)


def _clean_unit(unit: str) -> str:
    return "_".join(_split_name(_SEPARATORS, unit))


def _split_name(separators: re.Pattern[str], text: str) -> list[str]:
    return [part for part in separators.split(text) if part]


def _not_from_digit(name: str, prefix: str) -> str:
    return prefix + name if name[:1].isdigit() else name
