"""Records in one form that can be compared, whichever way they came: one message each, in protobuf."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from rimp_otel import FileStorage, Signal, TelemetryData
from rimp_otel.otlp.protobuf import protobuf_from_line

__all__ = ["SIGNALS", "read_recording", "records_of", "split_requests"]

SIGNALS = ("traces", "logs", "metrics")
_MESSAGES = {"traces": TracesData, "logs": LogsData, "metrics": MetricsData}
_ENVELOPES = {"traces": "spans", "logs": "logs", "metrics": "metrics"}
_RECORDS = {"traces": "spans", "logs": "log_records", "metrics": "metrics"}


def split_requests(signal: str, requests: Iterable[bytes]) -> list[bytes]:
    """Return each record of requests as a request of its own, sorted; of metrics, each point."""
    records = []
    for request in requests:
        message: Any = _MESSAGES[signal]()
        message.ParseFromString(request)
        records += _split(signal, message)
    return sorted(records)


def read_recording(path: Path) -> TelemetryData:
    """Return all that a recording has, which others may be writing to."""
    return FileStorage(path).retrieve() if path.exists() else TelemetryData()


def records_of(data: TelemetryData) -> dict[str, list[bytes]]:
    """Return the records by signal, each as ``split_requests`` has it."""
    return {
        signal: sorted(
            record
            for line in data.otlp_json(Signal(signal))
            for record in _split(signal, protobuf_from_line(line))
        )
        for signal in SIGNALS
    }


def _split(signal: str, message: Any) -> list[bytes]:
    envelope = _ENVELOPES[signal]
    return [
        _alone(signal, of_resource, of_scope, one)
        for of_resource in getattr(message, f"resource_{envelope}")
        for of_scope in getattr(of_resource, f"scope_{envelope}")
        for record in getattr(of_scope, _RECORDS[signal])
        for one in (_points(record) if signal == "metrics" else [record])
    ]


def _alone(signal: str, of_resource: Any, of_scope: Any, record: Any) -> bytes:
    message: Any = _MESSAGES[signal]()
    resource = getattr(message, f"resource_{_ENVELOPES[signal]}").add()
    resource.resource.CopyFrom(of_resource.resource)
    resource.schema_url = of_resource.schema_url
    scope = getattr(resource, f"scope_{_ENVELOPES[signal]}").add()
    scope.scope.CopyFrom(of_scope.scope)
    scope.schema_url = of_scope.schema_url
    getattr(scope, _RECORDS[signal]).add().CopyFrom(record)
    return bytes(message.SerializeToString(deterministic=True))


def _points(metric: Any) -> list[Any]:
    kind = metric.WhichOneof("data")
    alone = []
    for point in getattr(metric, kind).data_points if kind else ():
        one = type(metric)()
        one.CopyFrom(metric)
        data = getattr(one, kind)
        del data.data_points[:]
        data.data_points.add().CopyFrom(point)
        alone.append(one)
    return alone
