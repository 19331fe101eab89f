"""SQL over recordings, and Parquet: ``python -m tests.benchmarks.sql``.

Records a small shop's spans (a request with some statements under it, eight and six attributes),
seals most of them, and measures against DuckDB's own ``read_json`` over the same JSON lines. Both
answer the same question with the same result, on the same number of threads.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

from rimp_otel.models.records import Signal
from rimp_otel.sql import connect
from rimp_otel.sql.parquet import parquet_path
from rimp_otel.storage.files.layout import SealedName, fingerprint
from rimp_otel.storage.files.lines import list_data_files
from rimp_otel.storage.files.sealed_file import make_sealed_file

_FILE = 64 * 1024 * 1024
_LINE = 90
_START = 1_795_000_000_000_000_000
_SERVICES = ("shop", "stock", "payment", "users")
_TABLES = ("users", "orders", "stock", "cart", "pay")
_ROUTES = [f"/api/{table}/{what}" for table in _TABLES for what in ("{id}", "list", "new")]

_ATTRIBUTE = 'STRUCT("key" VARCHAR, "value" STRUCT(stringValue VARCHAR, intValue VARCHAR, doubleValue DOUBLE, boolValue BOOLEAN))'
_LINES = (
    "read_json('{}', format = 'newline_delimited', maximum_object_size = 67108864, columns = {{"
    f"resourceSpans: 'STRUCT(resource STRUCT(attributes {_ATTRIBUTE}[]), scopeSpans STRUCT("
    'scope STRUCT("name" VARCHAR, "version" VARCHAR), spans STRUCT(traceId VARCHAR, spanId VARCHAR,'
    ' parentSpanId VARCHAR, flags UINTEGER, "name" VARCHAR, kind INTEGER, startTimeUnixNano BIGINT,'
    f" endTimeUnixNano BIGINT, attributes {_ATTRIBUTE}[], status STRUCT(code INTEGER, message"
    " VARCHAR))[])[])[]'}})"
)
_UNNESTED = (
    "SELECT s.*, r.resource.attributes AS resource, c.scope FROM {}, unnest(resourceSpans) t(r),"
    " unnest(r.scopeSpans) u(c), unnest(c.spans) v(s)"
)
_SERVICE = 'list_filter(resource, lambda a: a."key" = \'service.name\')[1]."value".stringValue'
_THEIRS = (
    f"SELECT {_SERVICE} AS service, s.name, count(*) AS n,"
    " quantile_disc(s.endTimeUnixNano - s.startTimeUnixNano, 0.99) AS p99 FROM ({}) s"
    " GROUP BY ALL ORDER BY ALL"
)
_OURS = (
    "SELECT ServiceName, SpanName, count(*) AS n, quantile_disc(Duration, 0.99) AS p99"
    " FROM otel_traces GROUP BY ALL ORDER BY ALL"
)


def main() -> int:
    """Measure, and print the figures; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sql")
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json-spans", type=int, help="of read_json's part (default: all)")
    parser.add_argument("--directory", type=Path, help="for the data, instead of a temporary one")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="rimp-sql-bench-", dir=arguments.directory))
    try:
        rows = measure(directory, arguments.spans, arguments.rounds, arguments.json_spans)
    finally:
        shutil.rmtree(directory)
    for what, figure, target, is_met in rows:
        print(f"{what:58}  {figure:34}  {target:12}  {'met' if is_met else 'NOT MET'}")
    return 0 if all(row[-1] for row in rows) else 1


Row = tuple[str, str, str, bool]
"""What, the figure, its target, and whether that is met."""


def measure(directory: Path, spans: int, rounds: int, json_spans: int | None) -> list[Row]:
    """Return all figures."""
    path = directory / "recording"
    texts = make_recording(path, spans, random.Random(1))
    return [
        *measure_sealing(path, spans),
        measure_size(path, spans),
        measure_quantiles(path, texts, spans, rounds, json_spans or spans),
        *compare_with_chdb(path, rounds),
        measure_one_trace(path, rounds),
        *measure_decoding(directory, texts[0], rounds),
    ]


def make_recording(path: Path, spans: int, rng: random.Random) -> list[Path]:
    """Make sealed files of spans; return the paths of the same spans as text."""
    (path / "sealed").mkdir(parents=True, mode=0o700)
    aside = path.parent / "text"
    aside.mkdir()
    texts, lines, size, made = [], [], 0, 0
    for line, count in _lines(rng):
        lines.append(line)
        size += len(line)
        made += count
        if size >= _FILE or made >= spans:
            texts.append(_seal_lines(path / "sealed", aside, b"".join(lines)))
            lines, size = [], 0
        if made >= spans:
            return texts
    raise AssertionError


def _seal_lines(directory: Path, aside: Path, text: bytes) -> Path:
    name = SealedName(Signal.TRACES, fingerprint(text.partition(b"\n")[0]))
    waiting, copy = directory / str(name), aside / str(name)
    waiting.write_bytes(text)
    copy.write_bytes(text)
    make_sealed_file(waiting, name, "zstd", syncs=False)
    return copy


def _lines(rng: random.Random) -> Iterator[tuple[bytes, int]]:
    """Yield OTLP JSON lines like those of a journal, each of some 90 spans, without end."""
    now = _START
    groups: dict[tuple[str, str], list[str]] = {}
    count = 0
    while True:
        now += rng.randrange(1, 40_000_000)
        count += _request(rng, now, groups)
        if count >= _LINE:
            yield _line(groups), count
            groups, count = {}, 0


def _request(rng: random.Random, now: int, groups: dict[tuple[str, str], list[str]]) -> int:
    service, route = rng.choice(_SERVICES), rng.choice(_ROUTES)
    table = route.split("/")[2]
    trace, root, at = f"{rng.getrandbits(128):032x}", f"{rng.getrandbits(64):016x}", now
    statements = groups.setdefault((service, "sqlite3"), [])
    children = rng.randrange(3, 9)
    for _ in range(children):
        at += rng.randrange(100_000, 3_000_000)
        end = at + rng.randrange(50_000, 9_000_000)
        attributes = {
            "db.system.name": "sqlite",
            "db.query.text": f"SELECT * FROM {table} WHERE id = ?",
            "db.namespace": "shop.db",
            "db.rows": rng.randrange(100),
            "server.address": "db-1",
            "server.port": 5432,
        }
        ids = f'"traceId":"{trace}","spanId":"{rng.getrandbits(64):016x}","parentSpanId":"{root}"'
        statements.append(_span(ids, f"SELECT {table}", 3, at, end, attributes))
        at = end
    attributes = {
        "http.request.method": "GET",
        "http.route": route,
        "url.path": route.replace("{id}", str(rng.randrange(10**6))),
        "http.response.status_code": rng.choice((200, 200, 200, 404, 500)),
        "client.address": f"10.0.{rng.randrange(4)}.{rng.randrange(256)}",
        "user.id": f"u-{rng.randrange(10**5)}",
        "cache.hit": rng.random() < 0.5,
        "db.duration": rng.random() * 20,
    }
    ids = f'"traceId":"{trace}","spanId":"{root}"'
    requests = groups.setdefault((service, "flask"), [])
    requests.append(_span(ids, f"GET {route}", 2, now, at + 1_000, attributes))
    return children + 1


def _span(ids: str, name: str, kind: int, start: int, end: int, attributes: dict) -> str:
    pairs = ",".join(f'{{"key":"{key}","value":{_value(v)}}}' for key, v in attributes.items())
    return (
        f'{{{ids},"flags":257,"name":"{name}","kind":{kind},"startTimeUnixNano":"{start}",'
        f'"endTimeUnixNano":"{end}","attributes":[{pairs}],"status":{{}}}}'
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return f'{{"boolValue":{json.dumps(value)}}}'
    if isinstance(value, int):
        return f'{{"intValue":"{value}"}}'
    return (
        f'{{"doubleValue":{value}}}' if isinstance(value, float) else f'{{"stringValue":"{value}"}}'
    )


def _line(groups: dict[tuple[str, str], list[str]]) -> bytes:
    resources: dict[str, list[str]] = {}
    for (service, scope), spans in groups.items():
        scoped = (
            f'{{"scope":{{"name":"opentelemetry.instrumentation.{scope}","version":"0.66b1"}},'
            f'"spans":[{",".join(spans)}]}}'
        )
        resources.setdefault(service, []).append(scoped)
    made = [
        '{"resource":{"attributes":['
        + ",".join(
            f'{{"key":"{key}","value":{{"stringValue":"{value}"}}}}'
            for key, value in {
                "telemetry.sdk.language": "python",
                "telemetry.sdk.name": "opentelemetry",
                "telemetry.sdk.version": "1.45.1",
                "service.name": service,
                "host.name": "web-1",
                "service.version": "1.2.3",
            }.items()
        )
        + f']}},"scopeSpans":[{",".join(scopes)}]}}'
        for service, scopes in resources.items()
    ]
    return f'{{"resourceSpans":[{",".join(made)}]}}\n'.encode()


_SEAL = """
import os, resource, sys, time
os.sched_setaffinity(0, {next(iter(os.sched_getaffinity(0)))})
from rimp_otel.sql.parquet import make_parquet_files
before = resource.getrusage(resource.RUSAGE_SELF)
done = make_parquet_files(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF)
print(done.records, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
      before.ru_maxrss, after.ru_maxrss)
"""


def measure_sealing(path: Path, spans: int) -> list[Row]:
    """Measure spans a second of one core (its CPU time, since the machine is shared), and memory."""
    command = [sys.executable, "-c", _SEAL]
    one = path.parent / "one"
    (one / "sealed").mkdir(parents=True)
    first = list_data_files(path / "sealed")[0]
    shutil.copy(first.path, one / "sealed")
    *_, small = _run([*command, str(one)])
    records, seconds, _, peak = _run([*command, str(path)])
    if not spans <= records <= spans + _LINE:
        raise AssertionError(f"{records} of {spans} spans were sealed")
    rate = records / seconds
    grown = peak / small
    return [
        ("sealing, spans a second of one core", f"{rate:,.0f}", ">= 150,000", rate >= 150_000),
        (
            "memory of sealing all, of that of one file",
            f"{grown:.2f} ({peak / 1024:.0f} MB)",
            "<= 1.25",
            grown <= 1.25,
        ),
    ]


def _run(command: list[str]) -> list[float]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in done.stdout.split()]


def measure_size(path: Path, spans: int) -> Row:
    """Measure bytes a span in Parquet and in zstd."""
    contents = list_data_files(path / "sealed")
    packed = sum(content.path.stat().st_size for content in contents) / spans
    parquet = sum(parquet_path(content).stat().st_size for content in contents) / spans
    ratio = parquet / packed
    figure = f"{ratio:.2f} ({parquet:.1f} of {packed:.1f})"
    return "Parquet, bytes a span, of .jsonl.zst", figure, "<= 0.50", ratio <= 0.5


def measure_quantiles(
    path: Path, texts: list[Path], spans: int, rounds: int, json_spans: int
) -> Row:
    """Measure p99 by operation: Parquet against ``read_json`` over all JSON lines."""
    some = texts[: max(1, round(len(texts) * json_spans / spans))]
    share = sum(t.stat().st_size for t in some) / sum(t.stat().st_size for t in texts)
    with connect(path) as ours, duckdb.connect() as theirs:
        asked = _THEIRS.format(_UNNESTED.format(_LINES.format("', '".join(map(str, some)))))
        asked = asked.replace("read_json('", "read_json(['").replace("', format", "'], format")
        ours.execute(_OURS).fetchall()
        began = time.perf_counter()
        expected = theirs.execute(asked).fetchall()
        slow = (time.perf_counter() - began) / share
        times = [_timed(lambda: ours.execute(_OURS).fetchall()) for _ in range(rounds)]
        if len(some) == len(texts) and ours.execute(_OURS).fetchall() != expected:
            raise AssertionError("the two do not agree")
    quick = statistics.median(times)
    figure = f"1/{slow / quick:,.0f} ({quick * 1e3:.0f} ms of {slow:.1f} s)"
    return (
        f"p99 by operation over {spans:,} spans, of read_json",
        figure,
        "<= 1/50",
        slow >= 50 * quick,
    )


def compare_with_chdb(path: Path, rounds: int) -> list[Row]:
    """Measure the same query over the same Parquet files, against ClickHouse in the process if it
    is installed."""
    try:
        from chdb.session import Session
    except ImportError:
        print("chdb is not installed, so it is not compared: pip install chdb", file=sys.stderr)
        return []
    asked = (
        "SELECT ServiceName, SpanName, count() AS n, quantileExactLow(0.99)(Duration) AS p99"
        f" FROM file('{path}/sealed/*.parquet', Parquet) GROUP BY ALL ORDER BY ALL"
    )
    session, ratios = Session(), []
    with connect(path) as ours:
        ours.execute(_OURS).fetchall(), session.query(asked, "JSONCompactEachRow")
        for _ in range(rounds):
            own = _timed(lambda: ours.execute(_OURS).fetchall())
            ratios.append(own / _timed(lambda: session.query(asked, "JSONCompactEachRow")))
    ratio = statistics.median(ratios)
    return [("p99 by operation, of chDB over the same Parquet", f"{ratio:.2f}", "<= 1", ratio <= 1)]


def measure_one_trace(path: Path, rounds: int) -> Row:
    """Measure one trace by its id, against reading all columns of all spans."""
    with connect(path) as connection:
        ids = connection.execute(
            "SELECT DISTINCT TraceId FROM otel_traces USING SAMPLE 20"
        ).fetchall()
        sql = "SELECT * FROM otel_traces WHERE TraceId = ?"
        scan = "SELECT sum(length(CAST(COLUMNS(*) AS VARCHAR))) FROM otel_traces"
        times = [
            _timed(lambda id=id: connection.execute(sql, [id]).fetchall())
            for (id,) in ids[: max(rounds, 5)]
        ]
        full = _timed(lambda: connection.execute(scan).fetchall())
    quick = statistics.median(times)
    figure = f"1/{full / quick:,.0f} ({quick * 1e3:.0f} ms of {full:.1f} s)"
    return "one trace by its id, of a full scan", figure, "<= 1/100", full >= 100 * quick


def measure_decoding(directory: Path, text: Path, rounds: int) -> list[Row]:
    """Measure active JSON lines into a query, and into all columns, against ``read_json``."""
    active = directory / "active"
    active.mkdir()
    shutil.copy(text, active / "traces.jsonl")
    unnested = _UNNESTED.format(_LINES.format(text))
    questions: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        (
            "active JSON lines into p99 by operation",
            lambda: _ask_anew(active, _OURS),
            lambda: _ask_duckdb(_THEIRS.format(unnested)),
        ),
        (
            "active JSON lines into a table of all columns",
            lambda: _ask_anew(active, "SELECT count(*) FROM otel_traces"),
            lambda: _ask_duckdb(f"CREATE TABLE t AS {unnested}"),
        ),
    ]
    rows = []
    for what, ours, theirs in questions:
        pairs = [(_timed(ours), _timed(theirs)) for _ in range(rounds)]
        ratio = statistics.median(slow / quick for quick, slow in pairs)
        quick, slow = (statistics.median(times) for times in zip(*pairs, strict=True))
        figure = f"{ratio:.1f} times as fast ({quick:.2f} s, {slow:.2f} s)"
        rows.append((what, figure, ">= 5", ratio >= 5))
    return rows


def _ask_anew(path: Path, sql: str) -> object:
    with connect(path) as connection:
        return connection.execute(sql).fetchall()


def _ask_duckdb(sql: str) -> object:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
