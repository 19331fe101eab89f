"""Other people's senders into `rimp serve`: what they sent is in the recording."""

from __future__ import annotations

import pytest

from rimp_otel.models.records import MetricKind, Temporality
from tests.peers.processes import get, wait_until
from tests.peers.records import read_recording, records_of, split_requests
from tests.peers.senders import run_k6, send_node, send_python
from tests.peers.servers import caddy, envoy, rimp_serve, traefik


def service_of(record):
    """Return the name of the service that a record is from."""
    return record.resource.attributes["service.name"]


@pytest.fixture
def serve(tmp_path):
    """A receiver of ours, into ``recording``; it must end in order."""
    with rimp_serve(tmp_path / "recording", tmp_path / "serve.log") as receiver:
        yield receiver
        assert receiver.running.end() == 0, receiver.running.output


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_official_python_exporters(serve, tmp_path, protocol, compression):
    """Every field of every record is recorded as the official encoder wrote it."""
    sent = send_python(serve, protocol, compression)
    recorded = records_of(read_recording(tmp_path / "recording"))
    assert {k: len(v) for k, v in recorded.items()} == {"traces": 7, "logs": 2, "metrics": 4}
    assert recorded == {signal: split_requests(signal, bodies) for signal, bodies in sent.items()}


@pytest.mark.parametrize("protocol", ["proto", "http", "grpc"])
def test_sdk_of_node(serve, tmp_path, protocol):
    """Chunked bodies, of protobuf and JSON, and gRPC: with the ids, kinds and texts of the sender."""
    ids = send_node(serve, protocol)
    data = read_recording(tmp_path / "recording")
    assert sorted((s.context.trace_id, s.context.span_id) for s in data.spans) == sorted(ids)
    assert len(ids) == 400
    spans = sorted(data.spans, key=lambda span: span.attributes["number"])
    assert [span.attributes["number"] for span in spans] == list(range(400))
    assert {span.kind.name for span in spans} == {"CLIENT"}
    assert {(span.status.status_code.name, span.status.description) for span in spans} == {
        ("ERROR", "too slow")
    }
    assert all(span.start_time <= span.events[0].timestamp <= span.end_time for span in spans)
    (event,) = data.events
    assert (event.body, event.severity_number) == ({"clicked": [1, "two"]}, 13)
    metrics = {metric.name: metric for metric in data.metrics}
    assert (metrics["clicks"].value, metrics["clicks"].tags) == (400, {"page": "/"})
    assert (metrics["wait"].point.count, metrics["wait"].point.sum) == (1, 12.5)
    assert {service_of(record) for record in (*spans, event, *metrics.values())} == {"front"}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_traefik(serve, tmp_path, protocol):
    """Traefik's traces, access log and cumulative metrics."""

    def asked(data):
        return [span for span in data.spans if span.attributes.get("url.path") == "/ping"]

    def is_there():
        data = read_recording(tmp_path / "recording")
        counts = [m.value for m in data.metrics if m.name == "traefik_entrypoint_requests_total"]
        return len(asked(data)) >= 3 and len(data.events) >= 3 and max(counts, default=0) >= 3

    with traefik(tmp_path, serve, protocol) as page:
        assert [get(page, "/ping") for _ in range(3)] == [200] * 3
        wait_until(is_there, lambda: read_recording(tmp_path / "recording"))
    data = read_recording(tmp_path / "recording")
    assert {service_of(record) for record in (*data.spans, *data.events, *data.metrics)} == {"edge"}
    assert {"SERVER", "CLIENT"} <= {span.kind.name for span in data.spans}
    assert {m.temporality for m in data.metrics if m.kind is MetricKind.SUM} == {
        Temporality.CUMULATIVE
    }
    assert all(span.start_time <= span.end_time for span in data.spans)
    traces = {span.context.trace_id for span in data.spans}
    assert {event.trace_id for event in data.events} <= traces


def test_envoy(serve, tmp_path):
    """Envoy's traces and access log, and its metrics as deltas, whose sum is what happened."""

    def counted(data):
        return [m for m in data.metrics if m.name == "http.downstream_rq_completed"]

    def is_there():
        data = read_recording(tmp_path / "recording")
        return (
            len(data.spans) >= 5
            and len(data.events) >= 5
            and sum(metric.value for metric in counted(data)) >= 5
        )

    with envoy(tmp_path, serve) as page:
        assert [get(page, f"/{number}") for number in range(5)] == [200] * 5
        wait_until(is_there, lambda: read_recording(tmp_path / "recording"))
    data = read_recording(tmp_path / "recording")
    assert sorted(event.metadata["path"] for event in data.events) == [f"/{n}" for n in range(5)]
    assert {service_of(span) for span in data.spans} == {"gate"}
    assert [span.kind.name for span in data.spans] == ["SERVER"] * 5
    assert sum(metric.value for metric in counted(data)) == 5
    sums = [m for m in data.metrics if m.kind is MetricKind.SUM]
    histograms = [m for m in data.metrics if m.kind is MetricKind.HISTOGRAM]
    assert (
        {m.temporality for m in sums} == {m.temporality for m in histograms} == {Temporality.DELTA}
    )
    assert all(0 < m.start_time_unix_nano <= m.time_unix_nano for m in sums)


def test_caddy(serve, tmp_path):
    """Caddy's traces over HTTP."""
    with caddy(tmp_path, f"http://127.0.0.1:{serve.http}") as page:
        assert get(page, "/hello") == 200
        wait_until(lambda: read_recording(tmp_path / "recording").spans)
    (span,) = read_recording(tmp_path / "recording").spans
    assert (service_of(span), span.kind.name) == ("caddy", "SERVER")


def test_http_on_the_grpc_port(serve, tmp_path):
    """Caddy speaks HTTP/1 unless it is told otherwise: that costs its request, and nobody else's."""
    with caddy(tmp_path, f"http://127.0.0.1:{serve.grpc}", OTEL_BSP_EXPORT_TIMEOUT="2000") as page:
        assert get(page, "/hello") == 200
        wait_until(lambda: "127.0.0.1:" in (tmp_path / "caddy.log").read_text())
        send_python(serve, "grpc")
    names = [span.name for span in read_recording(tmp_path / "recording").spans]
    assert (len(names), "bill" in names) == (7, True)


def test_k6(serve, tmp_path):
    """k6's counters over gRPC."""
    run_k6(serve, tmp_path)
    data = read_recording(tmp_path / "recording")
    orders = [metric for metric in data.metrics if metric.name == "orders"]
    assert max(metric.value for metric in orders) == 20
    assert {metric.tags["kind"] for metric in orders} == {"tea"}
    assert {service_of(metric) for metric in orders} == {"k6"}


def test_several_senders_and_receivers(tmp_path):
    """Two receivers on one recording take from several senders at once; all of it is there, once."""
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "recording"
    with (
        rimp_serve(path, tmp_path / "one.log") as one,
        rimp_serve(path, tmp_path / "two.log") as two,
        ThreadPoolExecutor(4) as pool,
    ):
        sent = pool.map(send_python, (one, two, one, two), ("http", "grpc", "grpc", "http"))
        spans = [body for requests in sent for body in requests["traces"]]
        assert records_of(read_recording(path))["traces"] == split_requests("traces", spans)
        assert (one.running.end(), two.running.end()) == (0, 0)
    assert records_of(read_recording(path))["traces"] == split_requests("traces", spans)
