"""Recordings that the tests look at in the browser: a small shop, and what nobody means to record.

All of them are the same at each run: the shop's are on the screenshots of the documentation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

__all__ = [
    "SECOND",
    "SHOP_END",
    "SHOP_START",
    "Deep",
    "Hostile",
    "make_deep",
    "make_hostile",
    "make_shop",
]

SECOND = 10**9
MINUTE = 60 * SECOND
#: 2026-11-24, 12:00 and 13:00 UTC.
SHOP_START = 1_795_521_600 * SECOND
SHOP_END = SHOP_START + 60 * MINUTE

_Json = dict[str, Any]
_LISTS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}


class Deep:
    """The trace of 20,000 spans."""

    trace = "d" * 32
    spans = 20_000
    last = "step 19999"


def make_shop(path: Path) -> Path:
    """Record an hour of a small shop: four services, some failures, and a slower second half."""
    path.mkdir(mode=0o700, parents=True)
    chance = Random(13)
    spans: dict[str, list[_Json]] = {}
    logs: dict[str, list[_Json]] = {}
    for number in range(240):
        _Visit(chance, SHOP_START + number * 15 * SECOND, number).record(spans, logs)
    for service, records in spans.items():
        _append(path, "traces", service, records)
    for service, records in logs.items():
        _append(path, "logs", service, records)
    _append(path, "metrics", "shop", list(_shop_metrics(chance, spans)))
    return path


class _Visit:
    """One request to the shop."""

    def __init__(self, chance: Random, start: int, number: int) -> None:
        self.chance, self.start, self.number = chance, start, number
        self.trace = f"{chance.getrandbits(128):032x}"
        self.spans: list[tuple[str, _Json]] = []
        self.logs: list[tuple[str, _Json]] = []
        self.slow = 3.0 if number >= 120 else 1.0

    def record(self, spans: dict[str, list[_Json]], logs: dict[str, list[_Json]]) -> None:
        """Append what the services record."""
        (self._browse if self.number % 3 else self._check_out)()
        for service, span in self.spans:
            spans.setdefault(service, []).append(span)
        for service, record in self.logs:
            logs.setdefault(service, []).append(record)

    def _browse(self) -> None:
        took = self._millis(20, 60)
        root = self._span(
            "web", "GET /products", 2, None, 0, took, self._http("GET", "/products", 200)
        )
        self._span("catalog", "SELECT products", 3, root, took // 5, took // 2, _DATABASE)
        if self.number % 7 == 0:
            self._log("catalog", root, took // 2, 13, "stock of “Größe 42 ✂” is low: 3 left")
        self._log("web", root, took - 1, 9, f"200 GET /products in {took // 10**6} ms")

    def _check_out(self) -> None:
        took = int(self._millis(90, 160) * self.slow)
        fails = self.number % 21 == 0
        is_killed = self.number == 234
        status = 500 if fails else 200
        attributes = self._http("POST", "/checkout", status)
        root = self._span("web", "POST /checkout", 2, None, 0, took, attributes, fails)
        self._span("catalog", "SELECT stock", 3, root, took // 20, took // 6, _DATABASE)
        pay = self._span(
            "web", "POST", 3, root, took // 5, took * 3 // 4, {"server.address": "payment"}, fails
        )
        raised = [_exception(self.start + took // 2)] if fails else []
        card = {
            "card.brand": self.chance.choice(["visa", "master"]),
            "amount": self.number * 3.5,
            "retries": 2,
        }
        if is_killed:
            card["rimp.interrupted"] = True
        self._span(
            "payment", "charge card", 2, pay, took // 4, took // 2, card, fails, events=raised,
            links=[{"traceId": "a" * 32, "spanId": "b" * 16}] if self.number % 9 == 0 else [],
        )  # fmt: skip
        if fails:
            record = self._log("payment", pay, took // 2, 17, "the bank refused the card")
            record["attributes"] = _exception(0)["attributes"]
        mail = self._span(
            "mail", "send receipt", 5, root, took * 3 // 4, took // 5, {"messaging.system": "redis"}
        )
        self._log("mail", mail, took * 4 // 5, 5, f"receipt {self.number} is queued")

    def _millis(self, low: int, high: int) -> int:
        return self.chance.randint(low, high) * 10**6 + self.chance.randint(0, 10**6)

    def _http(self, method: str, route: str, status: int) -> _Json:
        return {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }

    def _span(
        self, service: str, name: str, kind: int, parent: str | None, after: int, took: int,
        attributes: _Json, fails: bool = False, **more: Any,
    ) -> str:  # fmt: skip
        span = f"{self.chance.getrandbits(64) | 1:016x}"
        self.spans.append(
            (
                service,
                {
                    "traceId": self.trace,
                    "spanId": span,
                    **({"parentSpanId": parent} if parent else {}),
                    "name": name,
                    "kind": kind,
                    "startTimeUnixNano": str(self.start + after),
                    "endTimeUnixNano": str(self.start + after + took),
                    "attributes": attributes_of(attributes),
                    "status": {"code": 2, "message": "card declined"} if fails else {},
                    **more,
                },
            )
        )
        return span

    def _log(self, service: str, span: str, after: int, severity: int, text: str) -> _Json:
        names = {5: "DEBUG", 9: "INFO", 13: "WARN", 17: "ERROR"}
        record = log_record(self.start + after, severity, text, severityText=names[severity])
        record.update(traceId=self.trace, spanId=span)
        self.logs.append((service, record))
        return record


_DATABASE = {
    "db.system.name": "sqlite",
    "db.query.text": "SELECT * FROM products WHERE id IN (?, ?)",
}


def _exception(time: int) -> _Json:
    stack = (
        'Traceback (most recent call last):\n  File "/shop/payment.py", line 41, in charge\n'
        '    bank.charge(card)\n  File "/shop/bank.py", line 7, in charge\n'
        '    raise CardDeclined("card declined")\nshop.bank.CardDeclined: card declined\n'
    )
    attributes = {
        "exception.type": "shop.bank.CardDeclined",
        "exception.message": "card declined",
        "exception.stacktrace": stack,
    }
    return {"timeUnixNano": str(time), "name": "exception", "attributes": attributes_of(attributes)}


def _shop_metrics(chance: Random, spans: dict[str, list[_Json]]) -> Iterator[_Json]:
    served = [span for span in spans["web"] if span["kind"] == 2]
    points: dict[str, list[_Json]] = {
        name: [] for name in ("requests", "durations", "sizes", "stock", "waiting", "old")
    }
    for minute in range(1, 61):
        times = {
            "startTimeUnixNano": str(SHOP_START),
            "timeUnixNano": str(SHOP_START + minute * MINUTE),
        }
        so_far = served[: minute * 4]
        for route in ("/products", "/checkout"):
            mine = [span for span in so_far if span["name"].endswith(route)]
            took = [
                (int(s["endTimeUnixNano"]) - int(s["startTimeUnixNano"])) / SECOND for s in mine
            ]
            labels = attributes_of({"http.route": route})
            exemplar = _exemplar(mine[-1], took[-1]) if mine else []
            common = {**times, "attributes": labels, "exemplars": exemplar}
            points["requests"].append({**common, "asInt": str(len(mine))})
            points["durations"].append(
                {
                    **common, "count": str(len(took)), "sum": sum(took), "explicitBounds": list(_BOUNDS),
                    "bucketCounts": [str(count) for count in _buckets(took)],
                }
            )  # fmt: skip
        counts = [str(minute * (number + 1)) for number in range(6)]
        points["sizes"].append(
            {
                **times, "count": str(sum(map(int, counts)) + minute), "sum": minute * 9_000.0, "scale": 1,
                "zeroCount": str(minute), "positive": {"offset": 4, "bucketCounts": counts}, "negative": {},
            }
        )  # fmt: skip
        points["stock"].append({**times, "asDouble": 100 - minute + chance.random() * 10})
        points["waiting"].append({**times, "asInt": str(chance.randint(0, 9))})
        quantiles = [{"quantile": q, "value": q * minute / 100} for q in (0.5, 0.9, 1.0)]
        points["old"].append(
            {**times, "count": str(minute), "sum": minute * 0.3, "quantileValues": quantiles}
        )
    total = {"aggregationTemporality": 2, "isMonotonic": True}
    yield {"name": "http.server.requests", "unit": "{request}", "description": "Requests that were answered",
           "sum": {**total, "dataPoints": points["requests"]}}  # fmt: skip
    yield {"name": "http.server.request.duration", "unit": "s", "description": "How long requests took",
           "histogram": {"aggregationTemporality": 2, "dataPoints": points["durations"]}}  # fmt: skip
    yield {"name": "response.size", "unit": "By", "description": "Sizes of answers",
           "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": points["sizes"]}}  # fmt: skip
    yield {
        "name": "stock.level",
        "unit": "%",
        "description": "What is left",
        "gauge": {"dataPoints": points["stock"]},
    }
    yield {"name": "queue.waiting", "unit": "{mail}", "description": "Mails that wait",
           "sum": {"aggregationTemporality": 2, "dataPoints": points["waiting"]}}  # fmt: skip
    yield {"name": "legacy.latency", "unit": "s", "summary": {"dataPoints": points["old"]}}


_BOUNDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


def _buckets(values: list[float]) -> list[int]:
    counts = [0] * (len(_BOUNDS) + 1)
    for value in values:
        counts[sum(value > bound for bound in _BOUNDS)] += 1
    return counts


def _exemplar(span: _Json, value: float) -> list[_Json]:
    time = span["endTimeUnixNano"]
    return [
        {
            "timeUnixNano": time,
            "asDouble": value,
            "spanId": span["spanId"],
            "traceId": span["traceId"],
        }
    ]


def make_deep(path: Path) -> Path:
    """Record one trace of 20,000 spans, of which each tenth has the nine after it for children."""
    path.mkdir(mode=0o700, parents=True)
    spans = [
        {
            "traceId": Deep.trace,
            "spanId": f"{number + 1:016x}",
            **({"parentSpanId": f"{(number // 10 * 10 if number % 10 else 0) + 1:016x}"} if number else {}),
            "name": f"step {number}",
            "kind": 1,
            "startTimeUnixNano": str(SHOP_START + number * 10**6),
            "endTimeUnixNano": str(SHOP_START + (Deep.spans * 2 - number) * 10**6),
            "attributes": attributes_of({"number": number}),
            "status": {},
        }
        for number in range(Deep.spans)
    ]  # fmt: skip
    for start in range(0, Deep.spans, 500):
        _append(path, "traces", "deep", spans[start : start + 500])
    return path


class Hostile:
    """Texts that nobody means to record, and the ids of the traces that have them."""

    markup = "<img src=x onerror=\"alert('markup')\"><script>alert('script')</script>"
    link = "javascript:alert('link')"
    quotes = "\"'`</style></script>--><svg onload=alert(1)>${7*7}{{7*7}}&lt;b&gt;"
    turned = "user\u202egnp.exe\u2066\u2067 \u200f\u200b"
    controls = "a\x00b\x07c\x1b[31md\x9be\x7f\r\nf\tg"
    names = ("__proto__", "constructor", "toString", "hasOwnProperty")
    long = "needle " + "very long text " * 20_000
    trace = "1" * 32
    times = "2" * 32
    cycle = "3" * 32
    orphan = "4" * 32
    open = "5" * 32


def make_hostile(path: Path) -> Path:
    """Record what nobody means to record: markup, controls, odd times, parents in a circle."""
    path.mkdir(mode=0o700, parents=True)
    texts = [
        Hostile.markup,
        Hostile.link,
        Hostile.quotes,
        Hostile.turned,
        Hostile.controls,
        *Hostile.names,
        Hostile.long,
    ]
    attributes = [
        *({"key": text[:2_000], "value": {"stringValue": text}} for text in texts),
        {"key": "int", "value": {"intValue": str(2**63 - 1)}},
        {"key": "nan", "value": {"doubleValue": "NaN"}},
        {"key": "bytes", "value": {"bytesValue": "AAH/"}},
        {"key": "nothing", "value": {}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": Hostile.markup}, {"boolValue": True}]}}},
        {"key": "map", "value": {"kvlistValue": {"values": [{"key": "__proto__", "value": {"stringValue": "x"}}]}}},
    ]  # fmt: skip
    spans = [_span(Hostile.trace, 1, 0, "all texts", 0, 2_000, attributes=attributes)]
    for number, text in enumerate(texts, 2):
        event = {
            "timeUnixNano": str(SHOP_START + number * 10**6),
            "name": text,
            "attributes": attributes[:5],
        }
        status = {"code": 2, "message": text}
        link = {"traceId": Hostile.times, "spanId": f"{1:016x}", "attributes": attributes[:2]}
        more = {"events": [event], "links": [link], "status": status, "attributes": attributes}
        spans.append(_span(Hostile.trace, number, 1, text, number, number * 100, **more))
    ends = [
        (0, 0),
        (0, 2**64 - 1),
        (2**64 - 1, 2**64 - 1),
        (2**64 - 1, 0),
        (SHOP_START, SHOP_START),
    ]
    for number, (start, end) in enumerate(ends, 1):
        span = _span(Hostile.times, number, number > 1, f"times {start} {end}", 0, 0)
        spans.append({**span, "startTimeUnixNano": str(start), "endTimeUnixNano": str(end)})
    for number in (1, 2, 3):
        spans.append(
            _span(Hostile.cycle, number, number % 3 + 1, f"in a circle {number}", number, 10)
        )
    spans.append(_span(Hostile.cycle, 9, 9, "its own parent", 1, 5))
    spans.append(_span(Hostile.orphan, 1, 77, "without its parent", 1, 5))
    spans.append(_span(Hostile.orphan, 2, 78, "without another", 3, 5))
    interrupted = attributes_of({"rimp.interrupted": True})
    spans.append(_span(Hostile.open, 1, 0, "was killed", 1, 50, attributes=interrupted))
    for service in (Hostile.markup, Hostile.turned, "__proto__", ""):
        _append(
            path,
            "traces",
            service,
            [_span(f"{len(service) + 6:032x}", 1, 0, f"of {service}", 1, 9)],
        )
    _append(path, "traces", "hostile", spans)
    logs = [
        log_record(SHOP_START + number * 10**6, 9, text, attributes=attributes, traceId=Hostile.trace, spanId=f"{1:016x}")
        for number, text in enumerate(texts)
    ]  # fmt: skip
    raised = {
        "exception.type": Hostile.markup,
        "exception.message": Hostile.quotes,
        "exception.stacktrace": Hostile.markup,
    }
    logs.append(log_record(SHOP_START, 17, "it failed", attributes=attributes_of(raised)))
    logs.append(log_record(0, 0, "at zero"))
    logs.append(log_record(2**64 - 1, 24, "at the end of time"))
    logs.append({"timeUnixNano": str(SHOP_START), "body": attributes[-1]["value"]})
    _append(path, "logs", "hostile", logs)
    metrics = [
        {
            "name": text[:500], "unit": text[:50], "description": text,
            "gauge": {"dataPoints": [
                {"timeUnixNano": str(SHOP_START + minute * MINUTE), "asDouble": value,
                 "attributes": attributes[:4]}
                for minute, value in enumerate((1.0, "NaN", "Infinity", -5.0))
            ]},
        }
        for text in texts
    ]  # fmt: skip
    _append(path, "metrics", "hostile", metrics)
    return path


def _span(
    trace: str, number: int, parent: int, name: str, after: int, took: int, **more: Any
) -> _Json:
    start = SHOP_START + after * 10**6
    return {
        "traceId": trace,
        "spanId": f"{number:016x}",
        **({"parentSpanId": f"{parent:016x}"} if parent else {}),
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + took * 10**6),
        "status": {},
        **more,
    }


def log_record(time: int, severity: int, text: str, **more: Any) -> _Json:
    """Return a log record in OTLP JSON."""
    return {
        "timeUnixNano": str(time),
        "severityNumber": severity,
        "body": {"stringValue": text},
        **more,
    }


def attributes_of(values: _Json) -> list[_Json]:
    """Return attributes in OTLP JSON."""
    return [{"key": key, "value": _value_of(value)} for key, value in values.items()]


def _value_of(value: Any) -> _Json:
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return {kinds[type(value)]: str(value) if type(value) is int else value}


def _append(path: Path, signal: str, service: str, records: list[_Json]) -> None:
    resources, scopes, name = _LISTS[signal]
    resource = {"attributes": attributes_of({"service.name": service, "service.version": "1.4.2"})}
    message = {
        resources: [{"resource": resource, scopes: [{"scope": {"name": "shop"}, name: records}]}]
    }
    with (path / f"{signal}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(message, separators=(",", ":")) + "\n")
