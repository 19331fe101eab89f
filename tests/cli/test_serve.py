"""``rimp serve``: its addresses, its messages, who may send, and its end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from rimp_otel.models.records import Signal
from tests.processes import ROOT, run, run_process
from tests.transport.certificates import Authority
from tests.transport.serving import DEADLINE, JSON, Served, logs, span, span_names, traces

TOKEN = "correct-horse-battery"


def serve(*options, **env):
    """Run the command, which must end by itself."""
    return run_process([sys.executable, "-m", "rimp_otel", "serve", *options], **env)


def test_the_line_when_it_is_ready(tmp_path):
    """It says where it records, where it listens, and where the page is; it is the only one."""
    with Served(tmp_path / "t") as running:
        port = running.address[1]
        assert running.ready_line == (
            f"rimp: recording into {tmp_path / 't'}; OTLP/HTTP at http://127.0.0.1:{port}; "
            f"the page at http://127.0.0.1:{port}/\n"
        )
        assert running.post(traces(span(1))).status == 200
        running.end()
        assert len(running.said) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_by_a_signal(tmp_path, number):
    """All is stored then, and the exit code is 0."""
    with Served(tmp_path / "t") as running:
        assert running.post(traces(span(1))).status == 200
        assert running.end(number).startswith("rimp: received 1 request: 1 span,")
    names = os.listdir(tmp_path / "t")
    assert "traces.jsonl" in names
    assert not any(name.endswith(".seg") for name in os.listdir(tmp_path / "t" / "journal"))


def test_it_ends_under_load(tmp_path):
    """What was answered with success is there, once."""
    answered, lock = [], threading.Lock()
    with Served(tmp_path / "t") as running:
        enough = threading.Event()

        def send(first):
            connection = running.connect()
            try:
                for number in range(first, first + 100_000):
                    body = traces(span(number))
                    if running.post(body, connection=connection).status == 200:
                        with lock:
                            answered.append(f"span-{number}")
                            if len(answered) > 200:
                                enough.set()
            except (OSError, http.client.HTTPException):
                connection.close()  # it has ended

        threads = [threading.Thread(target=send, args=(n * 100_000,)) for n in range(4)]
        for thread in threads:
            thread.start()
        assert enough.wait(DEADLINE)
        running.end()
        for thread in threads:
            thread.join(DEADLINE)
    found = span_names(tmp_path / "t")
    assert set(answered) <= set(found)
    assert len(found) == len(set(found))
    assert len(found) - len(answered) <= len(threads)


def test_what_was_answered_survives_a_kill(tmp_path):
    """It is killed the moment it has answered, in each of three lives."""
    for life in range(3):
        with Served(tmp_path / "t") as running:
            assert running.post(traces(span(life))).status == 200
            assert running.post(logs("x"), Signal.LOGS).status == 200
            running.kill()
        assert span_names(tmp_path / "t") == [f"span-{n}" for n in range(life + 1)]


def test_a_second_signal_is_quicker(tmp_path):
    """It waits no more for a sender that has not sent all of its request."""
    with Served(tmp_path / "t") as running, socket.create_connection(running.address) as sender:
        assert running.post(traces(span(1))).status == 200
        sender.sendall(
            b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nContent-Type: application/json\r\n\r\n{"
        )
        running.process.send_signal(signal.SIGTERM)
        while running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            try:
                running.process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        assert running.process.returncode == 0
    assert span_names(tmp_path / "t") == ["span-1"]


def test_several_at_once(tmp_path):
    """Two servers and a program that records itself share one recording."""
    script = """
import sys
from rimp_otel import TelemetryConfig, install
with install(TelemetryConfig(storage_path=sys.argv[1]), quiet=True) as telemetry:
    telemetry.collector.collect_event("program", "mine")
    print("ready", flush=True)
    input()
"""
    program = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "t")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    with Served(tmp_path / "t") as one, Served(tmp_path / "t") as two:
        assert program.stdout.readline() == "ready\n"
        for number in range(10):
            running = (one, two)[number % 2]
            assert running.post(traces(span(number))).status == 200
        slots = [name for name in os.listdir(tmp_path / "t") if name.startswith("journal")]
        assert len(slots) == 3
        program.communicate("\n")
        one.end()
        assert span_names(tmp_path / "t") == [f"span-{number}" for number in range(10)]
        two.end()
    assert span_names(tmp_path / "t") == [f"span-{number}" for number in range(10)]


def test_into_sqlite(tmp_path):
    """A path that is named like a database is one; killed, nothing is lost."""
    path = tmp_path / "t.db"
    with Served(path) as running:
        assert running.post(traces(span(1))).status == 200
        running.end()
    with Served(path) as running:
        assert running.post(traces(span(2))).status == 200
        running.kill()
    assert span_names(path) == ["span-1", "span-2"]


def test_the_environment(tmp_path):
    """It says where to record, and how; what a program records of itself does not matter."""
    env = {
        "RIMP_STORAGE_PATH": str(tmp_path / "t"),
        "RIMP_ENABLED": "false",
        "RIMP_JOURNAL": "false",
        "OTEL_SDK_DISABLED": "true",
        "OTEL_SERVICE_NAME": "not-this",
        "RIMP_RETAIN_SIZE": "none",
    }
    with Served(tmp_path / "t", env=env) as running:
        assert running.post(traces(span(1), service="mine")).status == 200
        running.end()
    assert span_names(tmp_path / "t") == ["span-1"]
    wrong = serve("--http", "127.0.0.1:0", "--grpc", "off", RIMP_SYNC="sometimes")
    assert wrong.returncode == 2
    assert "sync must be" in wrong.stderr


def test_a_port_that_is_taken(tmp_path):
    """The message names the address and what to do; nothing is left running or recorded."""
    with Served(tmp_path / "t") as running:
        address = "{}:{}".format(*running.address)
        done = serve("--http", address, "--grpc", "off", "--path", str(tmp_path / "other"))
    assert done.returncode == 1
    assert done.stderr == (
        f"rimp: cannot listen at {address}: the address is in use; stop what listens there, or give "
        "another address with --http, such as 127.0.0.1:0 for any free port\n"
    )


def test_addresses_that_make_no_sense(tmp_path):
    """Usage errors, before anything is started."""
    for options, message in (
        (["--http", "off", "--grpc", "off"], "nothing to serve: --http and --grpc are both off"),
        (["--http", "::1:4318"], "--http must be HOST:PORT"),
        (["--http", "0.0.0.0:0", "--grpc", "off"], "can be reached from other machines"),
        (["--http", "off", "--grpc", "[::]:0"], "--grpc [::]:0 can be reached from other"),
        (["--max-request-size", "none"], "not a size such as 20MB"),
        (["--allow-origin", "*"], "--allow-origin must be"),
        (["--token-file", str(tmp_path / "none")], "cannot read --token-file"),
    ):
        done = serve("--path", str(tmp_path / "t"), *options)
        assert done.returncode == 2, options
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "t").exists()
    done = serve("--path", "/dev/null/x", "--http", "127.0.0.1:0", "--grpc", "off")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot record into /dev/null/x: /dev/null is no directory" in done.stderr


def test_without_the_extra(tmp_path):
    """The message says how to install it."""
    for module, name in (("uvicorn", "uvicorn"), ("starlette", "Starlette")):
        (tmp_path / f"{module}.py").write_text(
            f"raise ModuleNotFoundError('gone', name='{module}')"
        )
        done = serve(
            "--path", str(tmp_path / "t"), PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)])
        )
        (tmp_path / f"{module}.py").unlink()
        assert done.returncode == 1
        assert done.stderr == (
            f"rimp: {name} is not installed. Install it with: pip install 'rimp-otel[server]'\n"
        )


def test_without_grpcio(tmp_path):
    """HTTP is served all the same, and the line says so; asked for, it is an error."""
    (tmp_path / "grpc.py").write_text("raise ModuleNotFoundError('gone', name='grpc')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "rimp_otel", "serve", "--path", str(tmp_path / "t")]
    with subprocess.Popen(
        [*command, "--http", "127.0.0.1:0"],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "; OTLP/gRPC is off, since grpcio is not installed" in line
        process.terminate()
        assert process.wait(DEADLINE) == 0
    done = serve("--grpc", "127.0.0.1:0", "--path", str(tmp_path / "t"), PYTHONPATH=path)
    assert done.returncode == 1
    assert "pip install 'rimp-otel[grpc]'" in done.stderr


def test_ipv6_and_a_unix_socket(tmp_path):
    """Both are addresses as any other."""
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with Served(tmp_path / "t", "--http", "[::1]:0") as running:
        assert running.http.startswith("http://[::1]:")
        assert running.post(traces(span(1))).status == 200
        running.end()
    place = tmp_path / "socket"
    with Served(tmp_path / "t", "--http", f"unix:{place}") as running:
        assert running.http == f"unix:{place}"
        with closing(http.client.HTTPConnection("localhost")) as connection:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(place))
            connection.request("POST", "/v1/traces", traces(span(2)), JSON)
            assert connection.getresponse().status == 200
        running.end()
        assert not place.exists()
    assert span_names(tmp_path / "t") == ["span-1", "span-2"]


def _has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_tokens(tmp_path):
    """One of them lets in; none of them is shown anywhere."""
    file = tmp_path / "tokens"
    file.write_text(f"{TOKEN}\nsecond-{TOKEN}\n")
    with Served(tmp_path / "t", "--token-file", str(file)) as running:
        connection = running.connect()
        for given in (None, "Bearer wrong-wrong-wrong", TOKEN, f"Basic {TOKEN}"):
            headers = JSON if given is None else {**JSON, "Authorization": given}
            done = running.post(traces(span(1)), headers=headers, connection=connection)
            assert (done.status, done.json["code"]) == (401, 16)
            assert done.headers["www-authenticate"] == 'Bearer realm="rimp"'
            assert TOKEN not in str(done)
        assert running.request("GET", "/v1/nothing").status == 401
        for token in (TOKEN, f"second-{TOKEN}"):
            headers = {**JSON, "Authorization": f"Bearer {token}"}
            done = running.post(traces(span(2)), headers=headers, connection=connection)
            assert done.status == 200
        connection.close()
        with open(f"/proc/{running.process.pid}/cmdline") as command:
            assert TOKEN not in command.read()
        assert "refused 5 requests: 5 unauthorized" in running.end()
        assert TOKEN not in "".join(running.said)
    with Served(tmp_path / "t", env={"RIMP_SERVE_TOKEN": TOKEN}) as running:
        assert running.post(traces(span(3))).status == 401
        headers = {**JSON, "Authorization": f"Bearer {TOKEN}"}
        assert running.post(traces(span(3)), headers=headers).status == 200


def test_tls_and_client_certificates(tmp_path):
    """A sender without a certificate of the right authority is not let in."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    server, client, stranger = (
        authority.issue("server"),
        authority.issue("client"),
        other.issue("stranger"),
    )
    options = ["--certificate", str(server.certificate), "--key", str(server.key)]
    options += ["--client-ca", str(authority.certificate)]
    with Served(tmp_path / "t", *options, "--http", "0.0.0.0:0") as running:
        assert running.http.startswith("https://0.0.0.0:")

        def send(pair):
            context = ssl.create_default_context(cafile=authority.certificate)
            if pair is not None:
                context.load_cert_chain(*pair)
            address = ("127.0.0.1", running.address[1])
            with closing(
                http.client.HTTPSConnection(*address, context=context, timeout=DEADLINE)
            ) as connection:
                connection.request("POST", "/v1/traces", traces(span(1)), JSON)
                return connection.getresponse().status

        assert send(client) == 200
        for pair in (None, stranger):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
                send(pair)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            running.post(traces(span(1)))  # no TLS
        assert send(client) == 200
        assert "received 2 requests" in running.end()
        assert len(running.said) == 2


def test_certificates_that_are_replaced(tmp_path):
    """New connections have the new ones, of the server and of those who sign for senders."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    server, client, later = (
        authority.issue("server"),
        authority.issue("client"),
        other.issue("later"),
    )
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate.read_bytes())
    options = ["--certificate", str(server.certificate), "--key", str(server.key)]
    with Served(tmp_path / "t", *options, "--client-ca", str(ca)) as running:

        def send(pair, trusted):
            context = ssl.create_default_context(cafile=trusted)
            context.load_cert_chain(*pair)
            with closing(
                http.client.HTTPSConnection(*running.address, context=context, timeout=DEADLINE)
            ) as connection:
                connection.request("POST", "/v1/traces", traces(span(1)), JSON)
                return connection.getresponse().status

        assert send(client, authority.certificate) == 200
        new = other.issue("new")
        server.key.write_bytes(new.key.read_bytes())
        assert send(client, authority.certificate) == 200  # they do not fit each other yet
        server.certificate.write_bytes(new.certificate.read_bytes())
        ca.write_bytes(other.certificate.read_bytes())
        assert send(later, other.certificate) == 200
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            send(client, other.certificate)
        assert "received 3 requests" in running.end()


def test_web_pages(tmp_path):
    """Pages of the origins on the list may send, and ask whether they may; no others."""
    mine, page = "https://app.example.com", {**JSON, "Origin": "https://app.example.com"}
    with Served(tmp_path / "t", "--allow-origin", mine) as running:
        done = running.post(traces(span(1)), headers=page)
        assert (done.status, done.headers["access-control-allow-origin"]) == (200, mine)
        assert done.headers["vary"] == "origin"
        asks = {"Access-Control-Request-Method": "POST"}
        headers = {"Access-Control-Request-Headers": "content-type,x-mine"}
        done = running.request("OPTIONS", "/v1/logs", headers={**page, **asks, **headers})
        assert (done.status, done.body) == (204, b"")
        assert done.headers["access-control-allow-methods"] == "POST"
        assert done.headers["access-control-allow-headers"] == "content-type,x-mine"
        for origin in ("https://evil.example", "null", "http://app.example.com"):
            others = {**JSON, "Origin": origin}
            for method in ("POST", "OPTIONS"):
                done = running.request(method, "/v1/traces", b"{}", {**others, **asks})
                assert (done.status, done.json["code"]) == (403, 7)
                assert "access-control-allow-origin" not in done.headers
        own = "http://{}:{}".format(*running.address)
        assert running.post("{}", headers={**JSON, "Origin": own}).status == 200


def test_names_that_stand_for_this_machine(tmp_path):
    """A page cannot send by making its own name stand for 127.0.0.1."""
    with Served(tmp_path / "t", "--allow-host", "telemetry.example.com") as running:
        for host, status in (
            ("rebound.example:4318", 403),
            ("127.0.0.1.evil.example", 403),
            ("localhost:4318", 200),
            ("telemetry.example.com", 200),
            ("rimp:4318", 200),
        ):
            done = running.post(traces(span(1)), headers={**JSON, "Host": host})
            assert done.status == status, host
            if status == 403:
                assert f"--allow-host {host}" in done.json["message"]


def test_the_official_exporter(tmp_path):
    """Python's own, over HTTP: protobuf with gzip, all three signals."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    script = """
    import sys
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    resource = Resource({"service.name": "official"})
    url = sys.argv[1]
    exporter = OTLPSpanExporter(url + "/v1/traces", compression=Compression.Gzip)
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(exporter))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(url + "/v1/metrics"))
    meters = MeterProvider([reader], resource=resource)
    meters.get_meter("m").create_counter("c").add(3)
    for number in range(1000):
        traces.get_tracer("t").start_span(f"span-{number}", attributes={"n": number}).end()
    traces.shutdown()
    meters.shutdown()
    """
    with Served(tmp_path / "t") as running:
        run(script, running.http)
        said = running.end()
    assert ": 1,000 spans, 0 log records and 1 metric point\n" in said
    assert span_names(tmp_path / "t") == sorted(f"span-{number}" for number in range(1_000))


def test_help_loads_nothing_more():
    """Neither the SDK nor a server is imported for the help."""
    script = """
import sys
from rimp_otel.cli.main import main
try:
    main(["serve", "--help"])
finally:
    names = ("opentelemetry", "starlette", "uvicorn", "asyncio", "ssl")
    print("loaded", [name for name in names if name in sys.modules])
"""
    done = run_process([sys.executable, "-c", script])
    assert "loaded []" in done.stdout
