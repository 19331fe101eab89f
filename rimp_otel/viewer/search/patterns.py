"""Regular expressions of strangers: matched in time that grows with the text, and never explodes.

Python's own engine tries one way after the other, holds the interpreter while it does, and can need
longer than anybody waits (``(a|a)*b``). It is used for expressions that cannot do that. The others are
matched by following all ways at once, as RE2 and Go do; what these cannot do, such as references to a
group, is refused.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from rimp_otel.errors import ConfigurationError
from rimp_otel.viewer.questions import check_time

__all__ = ["compile_full_match"]

_parser: Any = import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")

_MAX_PATTERN = 10_000
_MAX_STATES = 10_000
# Sets of states, and what follows from them, that are remembered.
_MAX_KNOWN = 20_000
# Ways through an expression that Python may try for each place in a text; and how many characters such a text
# may have if the places are those of two repetitions.
_MAX_WAYS = 500
_MAX_SQUARED = 1_000
_MANY = 16

FullMatch = Callable[[str], bool]
_Test = Callable[[str], bool]


@lru_cache(maxsize=256)
def compile_full_match(pattern: str) -> FullMatch:
    """Return a function that says whether a regular expression matches a whole text.

    Raises:
        ConfigurationError: it is none, or one that cannot be matched in bounded time.
    """
    if len(pattern) > _MAX_PATTERN:
        raise ConfigurationError(
            f"a regular expression may have {_MAX_PATTERN} characters, got {len(pattern)}"
        )
    try:
        plain = re.compile(pattern)
        parsed = _parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigurationError(f"not a regular expression: {pattern!r}: {error}") from None
    effort = _effort_of(parsed)
    if effort is not None and effort.ways <= _MAX_WAYS and effort.repeats <= 1:
        return lambda text: plain.fullmatch(text) is not None
    linear = _LinearPattern(pattern, parsed).matches
    if effort is None or effort.ways > _MAX_WAYS or effort.repeats > 2:
        return linear

    def match(text: str) -> bool:
        return plain.fullmatch(text) is not None if len(text) <= _MAX_SQUARED else linear(text)

    return match


# How long Python can take.


class _Effort(NamedTuple):
    """How Python's time grows."""

    #: How many long repetitions there are: with each, it grows with the length of the text once more.
    repeats: int
    #: The number of other ways through the expression.
    ways: int


_ONE_CHARACTER = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN"})
_REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT"})


def _effort_of(items: Iterable[Any]) -> _Effort | None:
    """Return how Python's time grows; None if it explodes, or who knows."""
    repeats, ways = 0, 1
    for operator, argument in items:
        name = str(operator)
        found: _Effort | None = _Effort(0, 1)
        if name in _REPEATS:
            found = _effort_of_repeat(*argument)
        elif name == "BRANCH":
            inner = [_effort_of(branch) for branch in argument[1]]
            known = [one for one in inner if one is not None]
            found = None
            if len(known) == len(inner):
                found = _Effort(sum(one.repeats for one in known), sum(one.ways for one in known))
        elif name == "SUBPATTERN":
            found = _effort_of(argument[-1])
        elif name not in _ONE_CHARACTER and name != "AT":
            return None
        if found is None:
            return None
        repeats, ways = repeats + found.repeats, min(ways * found.ways, _MAX_WAYS + 1)
    return _Effort(repeats, ways)


def _effort_of_repeat(least: int, most: int, body: Any) -> _Effort | None:
    if len(body) == 1 and str(body[0][0]) in _ONE_CHARACTER:
        return _Effort(1, 1) if most - least > _MANY else _Effort(0, most - least + 1)
    inner = _effort_of(body)
    if most > 1 or inner is None:
        return None
    return _Effort(inner.repeats, inner.ways + 1 - least)


# Following all ways at once.


class _State:
    """A place in an expression: with a test it is left by a character, without one at once."""

    __slots__ = ("number", "place", "targets", "test")

    def __init__(
        self,
        number: int,
        targets: list[_State],
        test: _Test | None = None,
        place: str | None = None,
    ) -> None:
        self.number = number
        self.targets = targets
        self.test = test
        #: "start" or "end" if it is left there alone.
        self.place = place


class _LinearPattern:
    """An expression whose states are followed all at once. Thread-safe.

    Args:
        pattern: the expression, for errors.
        parsed: as Python's parser has it.

    Raises:
        ConfigurationError: it cannot be matched so.
    """

    def __init__(self, pattern: str, parsed: Any) -> None:
        self._pattern = pattern
        self._count = 0
        self._ignores_case = bool(parsed.state.flags & re.IGNORECASE)
        self._dot_matches_all = bool(parsed.state.flags & re.DOTALL)
        if parsed.state.flags & re.MULTILINE:
            raise self._unsupported("(?m)")
        self._end = self._make([])
        first = self._sequence(parsed, self._end)
        self._first = self._closure([first], is_start=True)
        self._known: dict[tuple[tuple[_State, ...], str], tuple[_State, ...]] = {}

    def matches(self, text: str) -> bool:
        """Return True if it matches the whole text."""
        states, known = self._first, self._known
        for at, character in enumerate(text):
            key = states, character
            following = known.get(key)
            if following is None:
                if len(known) >= _MAX_KNOWN:
                    known.clear()
                left = [
                    target
                    for state in states
                    if state.test is not None and state.test(character)
                    for target in state.targets
                ]
                following = known[key] = self._closure(left)
            if not following:
                return False
            states = following
            if at % 4_096 == 0:
                check_time()
        return self._end in self._closure(states, is_start=not text, is_end=True)

    def _closure(
        self, states: Iterable[_State], is_start: bool = False, is_end: bool = False
    ) -> tuple[_State, ...]:
        """Return the states that can be reached without a character, in an order of their own."""
        found: dict[int, _State] = {}
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state.number in found:
                continue
            found[state.number] = state
            is_passed = {"start": is_start, "end": is_end}.get(state.place or "", True)
            if state.test is None and is_passed:
                waiting += state.targets
        return tuple(found[number] for number in sorted(found))

    # Making states, from the last one to the first.

    def _make(
        self, targets: list[_State], test: _Test | None = None, place: str | None = None
    ) -> _State:
        self._count += 1
        if self._count > _MAX_STATES:
            raise ConfigurationError(f"a regular expression is too large: {self._pattern[:100]!r}")
        return _State(self._count, targets, test, place)

    def _sequence(self, items: Any, after: _State) -> _State:
        for operator, argument in reversed(list(items)):
            after = self._item(str(operator), argument, after)
        return after

    def _item(self, name: str, argument: Any, after: _State) -> _State:
        if name in _ONE_CHARACTER:
            return self._make([after], self._test(name, argument))
        if name in _REPEATS:
            least, most, body = argument
            return self._repeat(least, most, body, after)
        if name == "BRANCH":
            return self._make([self._sequence(branch, after) for branch in argument[1]])
        if name == "SUBPATTERN":
            _, added, dropped, body = argument
            before = self._ignores_case, self._dot_matches_all
            self._ignores_case = _with_flag(before[0], re.IGNORECASE, added, dropped)
            self._dot_matches_all = _with_flag(before[1], re.DOTALL, added, dropped)
            found = self._sequence(body, after)
            self._ignores_case, self._dot_matches_all = before
            return found
        if name == "AT" and str(argument) in _PLACES:
            return self._make([after], place=_PLACES[str(argument)])
        raise self._unsupported(name.lower().replace("_", " "))

    def _repeat(self, least: int, most: int, body: Any, after: _State) -> _State:
        if most == _parser.MAXREPEAT:
            loop = self._make([])
            loop.targets = [self._sequence(body, loop), after]
            after = loop
        else:
            end = after
            for _ in range(most - least):
                after = self._make([self._sequence(body, after), end])
        for _ in range(least):
            after = self._sequence(body, after)
        return after

    def _test(self, name: str, argument: Any) -> _Test:
        if name == "ANY":
            return (lambda _: True) if self._dot_matches_all else (lambda found: found != "\n")
        if name == "IN":
            return self._class(argument)
        test = self._literal(argument)
        return test if name == "LITERAL" else lambda found: not test(found)

    def _literal(self, code: int) -> _Test:
        wanted = chr(code)
        if not self._ignores_case:
            return lambda found: found == wanted
        forms = {wanted, wanted.lower(), wanted.upper()}
        return lambda found: found in forms or found.lower() in forms or found.upper() in forms

    def _class(self, items: Any) -> _Test:
        is_negated = bool(items) and str(items[0][0]) == "NEGATE"
        tests = [self._class_item(str(name), value) for name, value in items[is_negated:]]
        return lambda found: any(test(found) for test in tests) is not is_negated

    def _class_item(self, name: str, value: Any) -> _Test:
        if name == "LITERAL":
            return self._literal(value)
        if name == "CATEGORY" and str(value) in _CATEGORIES:
            return _CATEGORIES[str(value)]
        if name != "RANGE":
            raise self._unsupported(name.lower())
        first, last = value
        if not self._ignores_case:
            return lambda found: first <= ord(found) <= last
        return lambda found: any(
            len(form) == 1 and first <= ord(form) <= last
            for form in (found, found.lower(), found.upper())
        )

    def _unsupported(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"a regular expression as {self._pattern[:100]!r} may take too long, since it has {what}: "
            "write a simpler one"
        )


def _with_flag(is_set: bool, flag: int, added: int, dropped: int) -> bool:
    return (is_set or bool(added & flag)) and not dropped & flag


_PLACES = {
    "AT_BEGINNING": "start",
    "AT_BEGINNING_STRING": "start",
    "AT_END": "end",
    "AT_END_STRING": "end",
}
_CATEGORIES: dict[str, _Test] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_NOT_DIGIT": lambda found: not found.isdecimal(),
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda found: not found.isspace(),
    "CATEGORY_WORD": lambda found: found.isalnum() or found == "_",
    "CATEGORY_NOT_WORD": lambda found: not (found.isalnum() or found == "_"),
}
