"""A large recording of a shop's traces, made once and kept: five services that call each other.

Spans of one day, spread evenly, as a collector in front of the services would have stored them: each line
has the spans of all services. They are filled into templates, sealed by the package, and the same each time.
In the last two hours payment takes longer, and fails more often.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rimp_otel.models.records import Signal
from rimp_otel.storage.files.layout import SealedName, fingerprint
from rimp_otel.storage.files.sealed_file import make_sealed_file

__all__ = ["DAY", "START", "parse_arguments", "shop_path"]

START = 1_767_225_600 * 10**9
"""2026-01-01T00:00:00Z, in nanoseconds since the epoch."""
DAY = 86_400 * 10**9

_VERSION = 1
_LINE, _FILE = 90, 60 * 1024 * 1024
_TABLES = ("users", "orders", "order_items", "products", "sessions")


class _Step(NamedTuple):
    """A span of a template; times are in microseconds."""

    service: str
    name: str
    kind: int
    #: The number of its parent within the trace; -1 for the root.
    parent: int
    start: int
    duration: int


def _query(table: str, service: str, parent: int, start: int) -> _Step:
    return _Step(service, f"SELECT {table}", 3, parent, start, 2_000)


def _call(service: str, other: str, route: str, parent: int, at: int, took: int) -> list[_Step]:
    return [
        _Step(service, f"POST {route}", 3, parent, at, took),
        _Step(other, f"POST {route}", 2, parent + 1, at + 500, took - 1_000),
    ]


_TEMPLATES: tuple[tuple[int, list[_Step]], ...] = (
    (
        50,
        [
            _Step("web", "GET /products/{id}", 2, -1, 0, 20_000),
            _query("products", "web", 0, 2_000),
            _Step("web", "render", 1, 0, 5_000, 9_000),
        ],
    ),
    (
        25,
        [
            _Step("web", "GET /cart", 2, -1, 0, 40_000),
            *_call("web", "cart", "/cart/items", 0, 3_000, 25_000),
            _query("order_items", "cart", 2, 6_000),
            _query("products", "cart", 2, 12_000),
            _Step("web", "render", 1, 0, 30_000, 8_000),
        ],
    ),
    (
        10,
        [
            _Step("web", "POST /checkout", 2, -1, 0, 150_000),
            *_call("web", "orders", "/orders", 0, 5_000, 140_000),
            _query("orders", "orders", 2, 9_000),
            _query("order_items", "orders", 2, 14_000),
            _Step("orders", "POST /charge", 3, 2, 20_000, 90_000),
            _Step("payment", "POST /charge", 2, 5, 21_000, 80_000),
            _query("users", "payment", 6, 30_000),
            _Step("orders", "POST /reserve", 3, 2, 115_000, 20_000),
            _Step("stock", "POST /reserve", 2, 8, 116_000, 15_000),
            _query("products", "stock", 9, 119_000),
        ],
    ),
    (15, [_Step("web", "GET /health", 2, -1, 0, 900)]),
)
_CHARGE = 6
_CHANGE = DAY * 11 // 12
_RESOURCE = (
    '{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"%s"}},'
    '{"key":"service.version","value":{"stringValue":"1.4.2"}},'
    '{"key":"host.name","value":{"stringValue":"node-%d"}}]},'
    '"scopeSpans":[{"scope":{"name":"shop","version":"1.0"},"spans":['
)
_SERVICES = ("web", "cart", "orders", "payment", "stock")
_RESOURCES = {name: _RESOURCE % (name, number) for number, name in enumerate(_SERVICES)}
_IDS = '{"traceId":"%032x","spanId":"%016x",'
_TIMES = '"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":['
_SERVER = (
    '{"key":"http.request.method","value":{"stringValue":"%s"}},'
    '{"key":"http.route","value":{"stringValue":"%s"}},'
    '{"key":"http.response.status_code","value":{"intValue":"%d"}},'
    '{"key":"client.address","value":{"stringValue":"10.0.%d.%d"}},'
    '{"key":"enduser.id","value":{"stringValue":"u-%d"}},'
    '{"key":"cache.hit","value":{"boolValue":%s}}]'
)
_CLIENT = (
    '{"key":"db.system.name","value":{"stringValue":"postgresql"}},'
    '{"key":"db.query.text","value":{"stringValue":"SELECT * FROM %s WHERE id = $1"}},'
    '{"key":"server.address","value":{"stringValue":"db-%d.internal"}},'
    '{"key":"server.port","value":{"intValue":"5432"}},'
    '{"key":"db.response.returned_rows","value":{"intValue":"%d"}}]'
)
_FAILED = (
    ',"status":{"code":2,"message":"the card was refused"},"events":[{"timeUnixNano":"%d","name":'
    '"exception","attributes":[{"key":"exception.type","value":{"stringValue":"CardRefused"}},'
    '{"key":"exception.message","value":{"stringValue":"the card was refused"}}]}]'
)


def shop_path(cache: Path, spans: int) -> Path:
    """Return the directory of a recording of about as many sealed spans."""
    path = cache / f"shop-{spans}-{_VERSION}"
    done = path / "complete.json"
    if not done.exists():
        shutil.rmtree(path, ignore_errors=True)
        (path / "sealed").mkdir(parents=True, mode=0o700)
        made = _make(path / "sealed", spans)
        done.write_text(json.dumps({"spans": made}))
    return path


def _make(sealed: Path, spans: int) -> int:
    lines: list[bytes] = []
    size = made = 0
    for line, count in _lines(spans):
        lines.append(line)
        size += len(line)
        made += count
        if size >= _FILE:
            _seal(sealed, lines)
            lines, size = [], 0
    if lines:
        _seal(sealed, lines)
    return made


def _seal(sealed: Path, lines: list[bytes]) -> None:
    name = SealedName(Signal.TRACES, fingerprint(lines[0]))
    waiting = sealed / str(name)
    waiting.write_bytes(b"".join(lines))
    make_sealed_file(waiting, name, "zstd", syncs=False)


def _lines(spans: int) -> Iterator[tuple[bytes, int]]:
    """Yield lines, each with how many spans it has."""
    chance = random.Random(7)
    weights = [weight for weight, _ in _TEMPLATES]
    mean = sum(weight * len(steps) for weight, steps in _TEMPLATES) / sum(weights)
    interval = int(DAY * mean / spans)
    groups: dict[str, list[str]] = {}
    made = count = trace = 0
    while made < spans:
        steps = chance.choices(_TEMPLATES, weights)[0][1]
        for service, text in _spans(chance, steps, START + trace * interval):
            groups.setdefault(service, []).append(text)
        trace += 1
        made += len(steps)
        count += len(steps)
        if count >= _LINE or made >= spans:
            resources = [
                f"{_RESOURCES[service]}{','.join(texts)}]}}]}}" for service, texts in groups.items()
            ]
            yield f'{{"resourceSpans":[{",".join(resources)}]}}\n'.encode(), count
            groups, count = {}, 0


def _spans(chance: random.Random, steps: list[_Step], start: int) -> Iterator[tuple[str, str]]:
    bits = chance.getrandbits(256)
    trace, first = bits >> 128, bits & 0xFFFFFFFFFFFFFF00
    slowness = 700 + (bits >> 100 & 1_023)
    is_late = start - START > _CHANGE
    is_failed = len(steps) > _CHARGE and bits % (10 if is_late else 50) == 0
    for number, step in enumerate(steps):
        begin = start + step.start * slowness
        end = begin + step.duration * (slowness + (bits >> number & 255))
        if is_late and step.service == "payment":
            end += (end - begin) // 2
        parent = "" if step.parent < 0 else f'"parentSpanId":"{first + step.parent:016x}",'
        if step.name.startswith(("SELECT", "render")):
            table = _TABLES[bits >> number & 3]
            attributes = _CLIENT % (table, bits >> 9 & 3, bits >> 17 & 127)
        else:
            method, _, route = step.name.partition(" ")
            status = 500 if is_failed and step.parent < _CHARGE else 200
            bytes = bits >> 24 & 255, bits >> 32 & 255
            hit = "true" if bits >> 40 & 1 else "false"
            user = bits >> 41 & 0xFFFF
            attributes = _SERVER % (method, route, status, *bytes, user, hit)
        failure = _FAILED % end if is_failed and number == _CHARGE else ""
        if not failure and is_failed and step.kind == 2 and step.parent < _CHARGE:
            failure = ',"status":{"code":2}'
        yield (
            step.service,
            f'{_IDS % (trace, first + number)}{parent}"flags":257,"name":"{step.name}",'
            f'"kind":{step.kind},{_TIMES % (begin, end)}{attributes}{failure}}}',
        )


if __name__ == "__main__":
    import sys

    print(shop_path(Path(sys.argv[1]), int(sys.argv[2])))


def parse_arguments(prog: str) -> argparse.Namespace:
    """Return the arguments of a command that measures over the recording: ``spans``, ``rounds``, ``cache``."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        default=Path(tempfile.gettempdir()) / f"rimp-benchmark-{os.getuid()}",
        help="where the recording is kept",
    )
    return parser.parse_args()
