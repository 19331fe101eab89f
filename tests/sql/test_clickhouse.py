"""ClickHouse's functions return what ClickHouse itself returns, which chDB runs in a process."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
import subprocess
import sys
from typing import Any

import pytest

from rimp_otel.sql import connect
from rimp_otel.sql.views import MACROS
from tests.sql.conftest import ask

pytest.importorskip("chdb", reason="needs chDB")
pytestmark = pytest.mark.one_python

# In the expressions, {t} is a time, and {d} a map.
TIMES = {
    "t": (
        "TIMESTAMP_NS '2026-11-24 12:34:56.987654321'",
        "toDateTime64('2026-11-24 12:34:56.987654321', 9)",
    ),
    "sunday": ("TIMESTAMP_NS '2026-11-29 23:59:59'", "toDateTime64('2026-11-29 23:59:59', 9)"),
    "old": ("TIMESTAMP_NS '1969-12-31 23:59:58.5'", "toDateTime64('1969-12-31 23:59:58.5', 9)"),
    "nl": ("'a' || chr(10) || 'b'", "concat('a', char(10), 'b')"),
    "d": ("MAP {'a': 'b'}", "map('a', 'b')"),
}
SCALARS = r"""
toInt64(12.7)
toInt64(-12.7)
toInt64(toFloat64(12.7))
toInt64('12')
toInt64('-12')
toInt64(true)
toInt64(9007199254740993)
toInt64OrZero('12.7')
toInt64OrZero('x')
toInt64OrZero('')
toInt64OrZero(' 12')
toInt64OrZero('+12')
toInt64OrZero('1e3')
toInt64OrZero('99999999999999999999')
toInt64OrNull('12.7')
toInt64OrNull('12')
toUInt64(12.7)
toUInt64('7')
toUInt64('18446744073709551615') = 18446744073709551615
toUInt64OrNull('7')
toUInt64OrNull('7.5')
toUInt64OrZero('-1')
toUInt64OrZero('12.7')
toFloat64('1.5')
toFloat64(3)
toFloat64OrZero('1.5x')
toFloat64OrZero('.5')
toFloat64OrZero('1e5')
toFloat64OrZero(' 1.5')
toFloat64OrZero('1_0')
toFloat64OrZero('')
toFloat64OrNull('abc')
toString(1.0)
toString(1.5)
toString(-0.25)
toString(toFloat64(1.5))
toString(1e20)
toString(-1.25e20)
toString(1e30)
toString(1.25e22)
toString(1.5e-6)
toString(0.00001)
toString(-1e-7)
toString(true)
toString(12)
toString('x')
toString({t})
intDiv(7, 2)
intDiv(-7, 2)
intDiv(7, -2)
intDiv(7.5, 2)
intDiv(-7.5, 2)
intDiv(7.9, 0.5)
toStartOfInterval({t}, INTERVAL 1 WEEK)
toStartOfInterval({t}, INTERVAL 2 WEEK)
toStartOfInterval({t}, INTERVAL 3 WEEK)
toStartOfInterval({sunday}, INTERVAL 1 WEEK)
toStartOfInterval({sunday}, INTERVAL 3 WEEK)
toStartOfInterval({t}, INTERVAL 1 MONTH)
toStartOfInterval({t}, INTERVAL 5 MONTH)
toStartOfInterval({t}, INTERVAL 1 QUARTER)
toStartOfInterval({t}, INTERVAL 1 YEAR)
toStartOfInterval({t}, INTERVAL 5 YEAR)
toStartOfInterval({t}, INTERVAL 1 DAY)
toStartOfInterval({t}, INTERVAL 5 DAY)
toStartOfInterval({t}, INTERVAL 1 HOUR)
toStartOfInterval({t}, INTERVAL 5 HOUR)
toStartOfInterval({t}, INTERVAL 7 HOUR)
toStartOfInterval({t}, INTERVAL 36 HOUR)
toStartOfInterval({t}, INTERVAL 7 MINUTE)
toStartOfInterval({t}, INTERVAL 100 MINUTE)
toStartOfInterval({t}, INTERVAL 15 SECOND)
toStartOfInterval({t}, INTERVAL 250 MILLISECOND)
toStartOfInterval({t}, toIntervalMinute(5))
toStartOfInterval({t}, toIntervalWeek(1))
toStartOfSecond({t})
toStartOfMinute({t})
toStartOfFiveMinutes({t})
toStartOfTenMinutes({t})
toStartOfFifteenMinutes({t})
toStartOfHour({t})
toStartOfDay({t})
toStartOfWeek({t})
toStartOfWeek({sunday})
toMonday({t})
toMonday({sunday})
toStartOfMonth({t})
toStartOfQuarter({t})
toStartOfYear({t})
toDateTime({t})
toDateTime('2026-11-24 12:34:56')
toDateTime(1795521600)
toDateTime(1795521600.7)
toDateTime('1795521600')
toDateTime64('2026-11-24 12:34:56.987654321', 3)
toDateTime64('2026-11-24 12:34:56.987654321', 9)
toDateTime64({t}, 3)
toDateTime64({t}, 0)
toDateTime64(1795521600, 3)
toDateTime64(1795521600.5, 3)
fromUnixTimestamp(1500)
fromUnixTimestamp64Milli(1500)
fromUnixTimestamp64Milli(-1500)
fromUnixTimestamp64Micro(1500)
fromUnixTimestamp64Nano(7)
toUnixTimestamp({t})
toUnixTimestamp('2026-11-24 12:34:56')
toUnixTimestamp64Milli({t})
toUnixTimestamp64Micro({t})
toUnixTimestamp64Nano({t})
toUnixTimestamp64Milli({old})
toUnixTimestamp64Nano({old})
toDate({t})
toDate('2026-11-24')
toDate('2026-11-24 12:34:56')
toDate(20000)
toDate(1795521600)
toDateTime('2026-01-01 00:00:00') + toIntervalSecond(5)
toDateTime('2026-01-01 00:00:00') + toIntervalMinute(5)
toDateTime('2026-01-01 00:00:00') + toIntervalHour(5)
toDateTime('2026-01-01 00:00:00') + toIntervalDay(5)
toDateTime('2026-01-01 00:00:00') - toIntervalWeek(1)
toDateTime('2026-01-31 00:00:00') + toIntervalMonth(1)
now() >= current_timestamp
toDateTime(now64()) >= toDateTime(current_timestamp)
mapKeys({d})
mapValues({d})
mapContains({d}, 'a')
mapContains({d}, 'x')
mapContainsKey({d}, 'a')
hasToken('GET /http x', 'http')
hasToken('GET /https x', 'http')
hasToken('GET_http x', 'http')
hasToken('éhttp', 'http')
hasToken('é http', 'http')
hasToken('HTTP', 'http')
match('abc', 'b.')
match('abc', '^b')
match({nl}, 'a.b')
match('ABC', '(?i)b')
positionCaseInsensitive('ABCD', 'cd')
positionCaseInsensitive('abc', 'x')
startsWith('abc', 'ab')
endsWith('abc', 'bc')
empty('')
empty('[]')
empty([1])
empty({d})
notEmpty('a')
notEmpty([1])
notEmpty({d})
has([1, 2], 2)
has(['a'], 'b')
hasAny([1, 2], [2, 3])
hasAny([1, 2], [3])
hasAll([1, 2], [2])
hasAll([1, 2], [2, 3])
arrayElement([1, 2], 1)
arrayElement([1, 2], -1)
multiIf(1 = 1, 'a', 'b')
multiIf(1 = 2, 'a', 'b')
multiIf(1 = 2, 'a', 1 = 1, 'b', 'c')
multiIf(1 = 2, 'a', 1 = 3, 'b', 1 = 1, 'c', 'd')
multiIf(1 = 2, 'a', 1 = 3, 'b', 1 = 4, 'c', 1 = 5, 'd', 'e')
JSONExtractString('{{"a.b": "x"}}', 'a.b')
JSONExtractString('{{"a/b~c": "x"}}', 'a/b~c')
JSONExtractString('{{"a": 1.50}}', 'a')
JSONExtractString('{{"a": true}}', 'a')
JSONExtractString('{{"a": null}}', 'a')
JSONExtractString('{{"a": {{"b":1}}}}', 'a')
JSONExtractString('not json', 'a')
JSONExtractString('', 'a')
JSONExtractString('{{"a": {{"b": "c"}}}}', 'a', 'b')
JSONExtractString('{{"a": 5}}', 'a', 'b')
JSONExtractFloat('{{"a": 1.5}}', 'a')
JSONExtractFloat('{{"a": "1.5"}}', 'a')
JSONExtractFloat('{{"a": "x"}}', 'a')
JSONExtractFloat('bad', 'a')
JSONExtractInt('{{"a": 15}}', 'a')
JSONExtractInt('{{"a": 9007199254740993}}', 'a')
JSONExtractInt('{{"a": 15.7}}', 'a')
JSONExtractInt('{{"a": -15.7}}', 'a')
JSONExtractInt('{{"a": "15"}}', 'a')
JSONExtractInt('{{"a": "15.7"}}', 'a')
JSONExtractInt('{{"a": 1e30}}', 'a')
JSONExtractInt('bad', 'a')
JSONExtractBool('{{"a": true}}', 'a')
JSONExtractBool('{{"a": 1}}', 'a')
JSONExtractBool('{{"a": 0}}', 'a')
JSONExtractBool('{{"a": "true"}}', 'a')
JSONExtractBool('{{"a": "1"}}', 'a')
JSONExtractBool('bad', 'a')
""".strip().splitlines()

ROWS = "(1, 0.5, 'a', 1), (2, 1.5, 'b', NULL), (3, 2.5, 'b', 3), (3, 9.25, 'c', NULL)"
OUR_ROWS = f"FROM (SELECT x, f::DOUBLE AS f, s, n FROM (VALUES {ROWS}) v(x, f, s, n))"
THEIR_ROWS = f"FROM VALUES('x Int64, f Float64, s String, n Nullable(Int64)', {ROWS})"
AGGREGATES = """
sumIf(x, x > 1)
sumIf(x, x > 100)
sumIf(f, x > 100)
avgIf(x, x > 1)
minIf(x, x > 1)
maxIf(f, x < 3)
countIf(x > 1)
countIf(x > 100)
countIf(n > 1)
uniq(x)
uniq(n)
uniq(x, s)
uniqIf(x, x > 1)
uniqExact(x)
uniqExact(x, s)
uniqExactIf(x, x > 1)
groupArray(x)
groupArray(n)
groupArray(if(x > 100, n, NULL))
groupArrayIf(x, x > 1)
groupUniqArray(n)
anyIf(s, x = 1)
anyLast(s)
anyLast(n)
anyLastIf(s, x < 3)
argMin(s, x)
argMax(s, f)
quantile(0.5)(x)
quantile(0.9)(f)
quantileIf(0.5)(x, x > 1)
quantiles(0.5, 0.9)(x)
quantileExact(0.5)(x)
quantileExact(0.9)(x)
quantileExact(1)(x)
quantileExactIf(0.5)(f, x > 1)
quantilesExact(0.25, 0.5, 0.9)(f)
quantilesExactIf(0.5)(f, x > 1)
""".strip().splitlines()

# Their own answers to a list of queries; an error is an answer, too.
SCRIPT = """
import chdb, json, sys
answers = []
for query in json.load(sys.stdin):
    try:
        answers.append(json.loads(str(chdb.query(query, "JSONCompact"))))
    except Exception as error:
        answers.append(str(error))
json.dump(answers, sys.stdout)
"""


def fill_in(expression: str, which: int) -> str:
    """Return the expression for us (0) or for them (1)."""
    return expression.format(**{name: both[which] for name, both in TIMES.items()})


@pytest.fixture
def connection(tmp_path):
    """A connection to an empty recording, for all expressions."""
    with connect(tmp_path / "t") as connection:
        yield connection


@pytest.fixture
def theirs():
    """ClickHouse's answers by expression."""
    queries = {each: f"SELECT {fill_in(each, 1)} AS r" for each in SCALARS}
    queries |= {each: f"SELECT {each} AS r {THEIR_ROWS}" for each in AGGREGATES}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(list(queries.values())),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={"TZ": "UTC"},
    )
    return dict(zip(queries, json.loads(done.stdout), strict=True))


def plain_answer(answer: Any) -> Any:
    """Return their answer as a plain value."""
    assert isinstance(answer, dict), answer
    value, kind = answer["data"][0][0], answer["meta"][0]["type"]
    if isinstance(value, str) and "Int64" in kind:
        return int(value)
    return plain_time(value) if isinstance(value, str) and "Date" in kind else value


def plain_time(text: str) -> str:
    """Return a time without what is zero at its end: a date is a time for us."""
    return re.sub(r"( 00:00:00)?(\.0*)?$", "", re.sub(r"(\.\d*?)0+$", r"\1", text))


def plain_value(value: Any) -> Any:
    """Return our answer as a plain value."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.date):
        return plain_time(str(value))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def test_functions_return_what_clickhouse_returns(connection, theirs):
    """A function of one row, and one of many rows, has the same value."""
    differences = {}
    for expression in SCALARS:
        ours = fill_in(expression, 0)
        ((kind, value, text),) = ask(
            connection, f"SELECT typeof(r), r, CAST(r AS VARCHAR) FROM (SELECT {ours} AS r)"
        )
        found = plain_time(text) if kind.startswith("TIMESTAMP") else plain_value(value)
        if found != (expected := plain_answer(theirs[expression])):
            differences[expression] = found, expected
    for expression in AGGREGATES:
        ((value,),) = ask(connection, f"SELECT {expression} {OUR_ROWS}")
        found, expected = plain_value(value), plain_answer(theirs[expression])
        if expression.startswith("groupUniq"):
            found, expected = sorted(found), sorted(expected)
        if found != pytest.approx(expected):
            differences[expression] = found, expected
    assert differences == {}


def test_every_function_is_compared():
    """A function that is added has an expression here."""
    tried = " ".join([*SCALARS, *AGGREGATES]).lower()
    names = {macro.partition("(")[0] for macro in MACROS}
    missing = {n for n in names if not n.startswith("_") and f"{n.lower()}(" not in tried}
    assert missing == {"arrayJoin"}  # makes rows
