"""A large recording, made once and kept: spans of one day, written from a template, and stored,
rotated and sealed by the package."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.storage.files.layout import SealedName

START = 1_767_225_600
"""2026-01-01T00:00:00Z, in seconds since the epoch."""
DAY = 86_400

_VERSION = 1
_LINE, _FILE = 90, 60 * 1024 * 1024
_HEAD = (
    '{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":'
    '"shop"}},{"key":"service.version","value":{"stringValue":"1.4.2"}}]},"scopeSpans":[{"scope":'
    '{"name":"benchmark","version":"1.0"},"spans":['
)
_TAIL = "]}]}]}"
_SPAN = (
    '{"traceId":"%032x","spanId":"%016x","parentSpanId":"%016x","flags":257,"name":"GET %s",'
    '"kind":2,"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":['
    '{"key":"http.request.method","value":{"stringValue":"GET"}},'
    '{"key":"http.route","value":{"stringValue":"%s"}},'
    '{"key":"http.response.status_code","value":{"intValue":"%d"}},'
    '{"key":"client.address","value":{"stringValue":"10.0.%d.%d"}},'
    '{"key":"enduser.id","value":{"stringValue":"u-%d"}},'
    '{"key":"cache.hit","value":{"boolValue":%s}},'
    '{"key":"db.duration","value":{"doubleValue":%.3f}},'
    '{"key":"db.rows","value":{"intValue":"%d"}}],"status":{}}'
)
_ROUTES = ("/api/users/{id}", "/api/orders", "/api/orders/{id}", "/checkout", "/search", "/health")


def recording_path(cache: Path, spans: int) -> Path:
    """Return the directory of a recording of sealed spans, spread evenly over a day."""
    path = cache / f"recording-{spans}-{_VERSION}"
    done = path / "complete.json"
    if not done.exists():
        shutil.rmtree(path, ignore_errors=True)
        _make(path, spans)
        done.write_text(json.dumps({"spans": spans}))
    return path


def _make(path: Path, spans: int) -> None:
    storage = FileStorage(path, sync="never")
    lines: list[bytes] = []
    size = 0
    for line in _lines(spans):
        lines.append(line)
        size += len(line)
        if size >= _FILE:
            _seal(storage, lines)
            lines, size = [], 0
    _seal(storage, lines)
    storage.close()


def _seal(storage: FileStorage, lines: list[bytes]) -> None:
    storage.store(TelemetryData.from_otlp_json(lines))
    storage.rotate()


def _lines(spans: int) -> Iterator[bytes]:
    chance = random.Random(7)
    step = DAY * 10**9 // spans
    for first in range(0, spans, _LINE):
        texts = [_span(chance, n * step) for n in range(first, min(first + _LINE, spans))]
        yield f"{_HEAD}{','.join(texts)}{_TAIL}".encode()


def _span(chance: random.Random, after: int) -> str:
    bits = chance.getrandbits(320)
    start = START * 10**9 + after
    route = _ROUTES[bits % 6]
    return _SPAN % (
        bits >> 192,
        bits >> 64 & 0xFFFFFFFFFFFFFFFF,
        bits & 0xFFFFFFFFFFFFFFFF,
        route,
        start,
        start + (bits >> 20 & 0xFFFFFFF),
        route,
        500 if bits >> 8 & 63 == 0 else 200,
        bits >> 16 & 255,
        bits >> 24 & 255,
        bits >> 32 & 0xFFFF,
        "true" if bits >> 40 & 1 else "false",
        (bits >> 41 & 0xFFFF) / 1_000,
        bits >> 48 & 255,
    )


def sample_path(path: Path, spans: int, most: int) -> Path:
    """Return a recording of the oldest files of another, which hold about ``most`` spans."""
    target = path.with_name(f"{path.name}-sample")
    if not target.exists():
        names = [SealedName.parse(file.name) for file in (path / "sealed").iterdir()]
        sealed = sorted((name for name in names if name), key=lambda name: name.first or 0)
        wanted = max(1, round(len(sealed) * min(1.0, most / spans)))
        (target / "sealed").mkdir(parents=True)
        for name in sealed[:wanted]:
            # What is derived from a file is named after it.
            for file in (path / "sealed").glob(f"{name.stem}*"):
                os.link(file, target / "sealed" / file.name)
    return target
