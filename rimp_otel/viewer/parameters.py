"""The parameters of the page's questions: read from a query, and checked."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from starlette.datastructures import QueryParams

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.times import Window

__all__ = ["AttributeTest", "Parameters", "parse_trace_id"]

# One more than the last time that OTLP has.
_MAX_NUMBER = 2**64
_TRACE_ID = re.compile("[0-9a-fA-F]{32}")
_SCOPE, _OPERATOR = r"\s*(?P<scope>[a-z]+)\.", r"(?P<operator>!=|>=|<=|=~|!~|=|>|<)"
# As the page writes them, with blanks around the operator: keys may have anything in them. As people write them.
_WRITTEN = re.compile(
    rf'{_SCOPE}(?P<key>.+?)\s+{_OPERATOR}\s+(?P<value>"(?:[^"\\]|\\.)*"|[^\s"]+)\s*', re.DOTALL
)
_EXISTS = re.compile(
    rf"{_SCOPE}(?P<key>(?:(?!\s(?:!=|>=|<=|=~|!~|=|>|<)\s).)+?)\s+exists\s*", re.DOTALL
)
_LOOSE = re.compile(rf"{_SCOPE}(?P<key>.+?)\s*{_OPERATOR}\s*(?P<value>.*?)\s*", re.DOTALL)


class AttributeTest(NamedTuple):
    """A condition on an attribute, as ``span.http.status_code >= 500`` says it."""

    scope: str
    key: str
    #: One of ``= != > >= < <= =~ !~ exists``.
    operator: str
    value: str | int | float | bool | None


class Parameters:
    """The parameters of one question.

    Args:
        query: as it was sent. Parameters that are not known are ignored, empty ones absent.
    """

    def __init__(self, query: QueryParams) -> None:
        self._query = query

    def text(self, name: str) -> str | None:
        """Return a text; None if it is absent or empty."""
        return self._query.get(name) or None

    def texts(self, name: str) -> list[str]:
        """Return all texts of a parameter that may come several times."""
        return [text for text in self._query.getlist(name) if text]

    def required(self, name: str) -> str:
        """Return a text.

        Raises:
            ConfigurationError: it is absent.
        """
        text = self.text(name)
        if text is None:
            raise ConfigurationError(f"parameter {name!r} is missing")
        return text

    def integer(self, name: str, default: int | None = None) -> int | None:
        """Return a whole number that is not negative.

        Raises:
            ConfigurationError: it is none.
        """
        text = self.text(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdecimal() or len(text) > 20 or int(text) > _MAX_NUMBER:
            raise ConfigurationError(
                f"parameter {name!r} must be a whole number, got {text[:100]!r}"
            )
        return int(text)

    def count(self, name: str, default: int, most: int) -> int:
        """Return a whole number from 1 to ``most``; what is more is taken as ``most``.

        Raises:
            ConfigurationError: it is none.
        """
        number = self.integer(name, default)
        if not number:
            raise ConfigurationError(f"parameter {name!r} must be a number above 0")
        return min(number, most)

    def window(self) -> Window:
        """Return the time of ``from`` and ``to``, in nanoseconds since the epoch.

        Raises:
            ConfigurationError: one is no whole number, or nothing lies between them.
        """
        window = Window(self.integer("from"), self.integer("to"))
        if window.start is not None and window.end is not None and window.start >= window.end:
            raise ConfigurationError(
                f"parameter 'from' must be before 'to', got {window.start} and {window.end}"
            )
        return window

    def trace_id(self, name: str) -> int | None:
        """Return a trace id; None if it is absent.

        Raises:
            ConfigurationError: it is none.
        """
        text = self.text(name)
        return None if text is None else parse_trace_id(text)

    def attributes(self) -> list[AttributeTest]:
        """Return the conditions of each ``attr``.

        Raises:
            ConfigurationError: one is not of the form ``scope.key OP value``.
        """
        return [parse_attribute_test(text) for text in self.texts("attr")]


def parse_trace_id(text: str) -> int:
    """Return the trace id of 32 hexadecimal digits.

    Raises:
        ConfigurationError: there are others.
    """
    if not _TRACE_ID.fullmatch(text) or not int(text, 16):
        raise ConfigurationError(f"not a trace id of 32 hexadecimal digits: {text[:100]!r}")
    return int(text, 16)


def parse_attribute_test(text: str) -> AttributeTest:
    """Return the condition of a text such as ``span.http.status_code >= 500``.

    A value is JSON (``500``, ``true``, ``"500"``); what is no JSON is taken as text.

    Raises:
        ConfigurationError: it has another form.
    """
    if match := _EXISTS.fullmatch(text):
        return AttributeTest(match["scope"], match["key"], "exists", None)
    match = _WRITTEN.fullmatch(text) or _LOOSE.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"parameter 'attr' must be SCOPE.KEY OPERATOR VALUE, such as span.http.status_code >= 500, "
            f"got {text[:200]!r}"
        )
    return AttributeTest(
        match["scope"], match["key"], match["operator"], _parse_value(match["value"])
    )


def _parse_value(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (str, int, float, bool)) else text
