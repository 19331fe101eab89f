"""Receiving OTLP/gRPC: what is recorded, what is refused and how, and what broken senders can do."""

from __future__ import annotations

import errno
import gzip
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import h2.events
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal
from rimp_otel.storage.recording import open_recording
from rimp_otel.transport.grpc_wire import DETAILS_KEY, METHODS, retry_delay_of
from rimp_otel.transport.receiving.address import parse_address
from rimp_otel.transport.receiving.grpc_receiver import GrpcLimits, GrpcReceiver
from rimp_otel.transport.receiving.grpc_service import IncomingCalls
from rimp_otel.transport.receiving.intake import Intake, Unavailable
from rimp_otel.transport.receiving.security import ServerSecurity
from tests.processes import ROOT
from tests.transport.certificates import Authority
from tests.transport.grpc_peers import (
    TOKEN,
    TRACES,
    RawCaller,
    call,
    channel_to,
    framed,
    receiving,
    recorded,
    trace_request,
    wait_until,
)

# What is received.


def test_each_signal_is_recorded(tmp_path):
    """A full success is answered with an empty message."""
    logs, metrics = ExportLogsServiceRequest(), ExportMetricsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1)
    record.body.string_value = "hello"
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="size")
    metric.gauge.data_points.add(time_unix_nano=1, as_int=5)
    bodies = {
        Signal.TRACES: trace_request("a", "b"),
        Signal.LOGS: logs.SerializeToString(),
        Signal.METRICS: metrics.SerializeToString(),
    }
    with receiving(tmp_path) as peer, channel_to(peer.address) as channel:
        for kind, body in bodies.items():
            assert call(channel, body, METHODS[kind])[:3] == ("OK", "", b"")
        assert peer.intake.stats().records == {
            Signal.TRACES: 2,
            Signal.LOGS: 1,
            Signal.METRICS: 1,
        }
    data = open_recording(tmp_path).retrieve()
    assert [span.name for span in data.spans] == ["a", "b"]
    assert [event.message for event in data.events] == ["hello"]
    assert [(metric.name, metric.value) for metric in data.metrics] == [("size", 5)]


def test_gzip_is_received(tmp_path):
    """As well as requests without compression."""
    with receiving(tmp_path) as peer, channel_to(peer.address) as channel:
        for name, compression in zip("abc", grpc.Compression, strict=True):
            assert call(channel, trace_request(name), compression=compression).code == "OK"
    assert recorded(tmp_path) == ["a", "b", "c"]


def test_an_empty_request_is_a_success(tmp_path):
    """As the specification says."""
    with receiving(tmp_path) as peer, channel_to(peer.address) as channel:
        assert call(channel, b"")[:3] == ("OK", "", b"")


def test_a_bad_record_costs_itself(tmp_path):
    """The others are recorded; the answer says how many were refused, and why."""
    bad = trace_request("bad", trace_id=b"short")
    with receiving(tmp_path) as peer, channel_to(peer.address) as channel:
        reply = call(channel, trace_request("good") + bad)
        answer = ExportTraceServiceResponse.FromString(reply.body)
        assert (reply.code, answer.partial_success.rejected_spans) == ("OK", 1)
        assert "traceId" in answer.partial_success.error_message
    assert recorded(tmp_path) == ["good"]


def test_many_senders_at_once(tmp_path):
    """More than there are threads, each with a connection of its own."""
    with receiving(tmp_path, limits=GrpcLimits(calls=3)) as peer, ExitStack() as stack:
        channels = [stack.enter_context(channel_to(peer.address)) for _ in range(12)]
        with ThreadPoolExecutor(12) as senders:

            def send(number):
                return [
                    call(channels[number], trace_request(f"{number}.{i}")).code for i in range(20)
                ]

            codes = [code for found in senders.map(send, range(12)) for code in found]
    assert codes == ["OK"] * 240
    assert recorded(tmp_path) == sorted(f"{n}.{i}" for n in range(12) for i in range(20))


SERVER = """
import signal, sys
from rimp_otel.transport.receiving.address import parse_address
from rimp_otel.transport.receiving.grpc_receiver import GrpcReceiver
from rimp_otel.transport.receiving.intake import Intake
intake = Intake(sys.argv[1])
intake.start()
receiver = GrpcReceiver(intake, parse_address("127.0.0.1:0", "--grpc"))
print(receiver.start(), flush=True)
signal.sigwait({signal.SIGTERM})
receiver.stop(10.0)
intake.stop(10.0)
"""
"""A process that receives until SIGTERM."""


class ServerProcess:
    """A receiver in a process of its own; what it writes to standard error is kept."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import signal\nsignal.pthread_sigmask(0, [15])\n{SERVER}",
                str(path),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.address = parse_address(self.process.stdout.readline().strip(), "--grpc")

    def __enter__(self):
        return self

    def end(self, number=signal.SIGTERM):
        """End it; return what it has written to standard error."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=60)[1]

    def peak(self):
        """Return the most memory that it has had, in MiB."""
        with open(f"/proc/{self.process.pid}/status") as file:
            (line,) = [line for line in file if line.startswith("VmHWM")]
        return int(line.split()[1]) // 1024

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def test_what_was_answered_survives_a_kill(tmp_path):
    """SIGKILL comes right after the answer."""
    with ServerProcess(tmp_path) as server, channel_to(server.address) as channel:
        for name in "abc":
            assert call(channel, trace_request(name)).code == "OK"
        server.end(signal.SIGKILL)
    assert recorded(tmp_path) == ["a", "b", "c"]


def send_until_killed(address, prefix, answered, enough):
    """Send spans with names of their own until nobody answers; note those that were answered."""
    with channel_to(address) as channel:
        for number in range(1_000_000):
            names = [f"{prefix}.{number}.{i}" for i in range(20)]
            if call(channel, trace_request(*names)).code != "OK":
                return
            answered += names
            if len(answered) > 200:
                enough.set()


@pytest.mark.parametrize("rounds", [3])
def test_killed_under_load(tmp_path, rounds):
    """What was answered is there once, what was not at most once, over many lives on one recording."""
    answered: list[str] = []
    for life in range(rounds):
        with ServerProcess(tmp_path) as server, ThreadPoolExecutor(3) as senders:
            enough, mine = threading.Event(), [[] for _ in range(3)]
            done = [
                senders.submit(send_until_killed, server.address, f"{life}.{n}", found, enough)
                for n, found in enumerate(mine)
            ]
            assert enough.wait(60.0)
            time.sleep(random.random() / 10)
            server.end(signal.SIGKILL)
            for sender in done:
                sender.result(60.0)
        answered += [name for found in mine for name in found]
    counts = Counter(recorded(tmp_path))
    assert [name for name in answered if counts[name] != 1] == []
    assert set(counts.values()) == {1}


# What is refused.


def test_what_cannot_be_decoded_is_invalid(tmp_path):
    """The status has details with the reason."""
    with receiving(tmp_path) as peer, channel_to(peer.address) as channel:
        reply = call(channel, b"\x0a\xff")
        assert reply.code == "INVALID_ARGUMENT"
        status = Status.FromString(reply.trailers[DETAILS_KEY])
        assert (status.code, status.message) == (3, reply.text)
        assert peer.refused() == {"invalid": 1}


@pytest.mark.parametrize(
    "method",
    [
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/grpc.health.v1.Health/Check",
    ],
)
def test_other_methods_are_unimplemented(tmp_path, method):
    """Also those of signals that are not recorded."""
    with receiving(tmp_path) as peer, channel_to(peer.address) as channel:
        assert call(channel, b"", method).code == "UNIMPLEMENTED"
        assert peer.refused() == {"unknown_method": 1}


def test_a_request_that_is_too_large_is_not_to_be_repeated(tmp_path):
    """With and without compression; the bound is that of the intake, and the server goes on."""
    with receiving(tmp_path, request_size=100_000) as peer, channel_to(peer.address) as channel:
        body = trace_request(*["name" * 10] * 5_000)
        for compression in grpc.Compression:
            reply = call(channel, body, compression=compression)
            assert reply.code == "RESOURCE_EXHAUSTED"
            assert DETAILS_KEY not in reply.trailers
        assert call(channel, trace_request("a")).code == "OK"
    assert recorded(tmp_path) == ["a"]


def test_a_bomb_is_not_decompressed(tmp_path):
    """256 MiB of zeros, compressed to one, are refused, and never are in memory."""
    bomb = gzip.compress(b"\0" * (256 << 20), 1)
    with ServerProcess(tmp_path) as server, RawCaller(server.address) as caller:
        stream = caller.begin(grpc_encoding="gzip")
        caller.send(stream, framed(bomb, is_compressed=True))
        assert caller.status_of(stream)[0] == "8"
        assert server.peak() < 250
        with channel_to(server.address) as channel:
            assert call(channel, trace_request("a")).code == "OK"


def test_an_unknown_compression_is_refused(tmp_path):
    """By grpc itself: INTERNAL, where its own specification has UNIMPLEMENTED."""
    with receiving(tmp_path) as peer, RawCaller(peer.address) as caller:
        stream = caller.begin(grpc_encoding="snappy")
        caller.send(stream, framed(b"abc", is_compressed=True))
        assert caller.status_of(stream)[0] in ("12", "13")


class FullIntake(Intake):
    """An intake whose disk is full."""

    def receive(self, signal, body, format):
        return self.refuse("storage", Unavailable("the disk is full\nby far", 7))


class BrokenIntake(Intake):
    """An intake with a mistake in it."""

    def receive(self, signal, body, format):
        raise RuntimeError("never thought of")


def test_a_full_disk_asks_for_a_repetition(tmp_path):
    """With a RetryInfo, by which senders know when."""
    with receiving(tmp_path, intake_type=FullIntake) as peer, channel_to(peer.address) as channel:
        reply = call(channel, trace_request("a"))
        assert (reply.code, reply.text) == ("UNAVAILABLE", "the disk is full by far")
        assert retry_delay_of(reply.trailers[DETAILS_KEY]) == 7


def test_a_mistake_loses_nothing(tmp_path, caplog, capfd):
    """It is counted, said once without a traceback, and the sender is asked to try again."""
    with receiving(tmp_path, intake_type=BrokenIntake) as peer, channel_to(peer.address) as channel:
        for _ in range(3):
            reply = call(channel, trace_request("a"))
            assert reply.code == "UNAVAILABLE"
            assert "never thought of" not in reply.text
            assert retry_delay_of(reply.trailers[DETAILS_KEY]) == 5
        assert peer.refused() == {"error": 3}
    assert caplog.text == ""
    assert capfd.readouterr().err.count("never thought of") == 1


def test_requests_that_take_too_much_memory_wait(tmp_path):
    """Those that are received at once take no more than the intake allows."""
    with receiving(tmp_path) as peer, channel_to(peer.address) as channel:
        most = peer.intake.limits.in_flight
        assert peer.intake.reserve(most)
        reply = call(channel, trace_request("a"))
        assert (reply.code, retry_delay_of(reply.trailers[DETAILS_KEY])) == ("UNAVAILABLE", 1)
        peer.intake.release(most)
        assert call(channel, trace_request("a")).code == "OK"
        assert peer.intake.reserve(most)
        peer.intake.release(most)


# Who is let in.


def test_a_token_lets_a_sender_in(tmp_path):
    """Nothing else does; a refusal names no token."""
    with (
        receiving(tmp_path, ServerSecurity(tokens=(TOKEN, "another-token"))) as peer,
        channel_to(peer.address) as channel,
    ):
        for value in ("", TOKEN, f"Basic {TOKEN}", "Bearer wrong-token", f"Bearer {TOKEN}x"):
            metadata = [("authorization", value)] if value else []
            reply = call(channel, trace_request("bad"), metadata=metadata)
            assert reply.code == "UNAUTHENTICATED"
            assert TOKEN not in reply.text
        twice = [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer wrong-token")]
        assert call(channel, b"", metadata=twice).code == "UNAUTHENTICATED"
        assert peer.refused() == {"unauthorized": 6}
        for token in (TOKEN, "another-token"):
            metadata = [("authorization", f"Bearer {token}")]
            assert call(channel, trace_request(token), metadata=metadata).code == "OK"
    assert recorded(tmp_path) == [TOKEN, "another-token"]


def test_without_a_token_nothing_is_read(tmp_path):
    """The refusal does not wait for the request."""
    with (
        receiving(tmp_path, ServerSecurity(tokens=(TOKEN,))) as peer,
        RawCaller(peer.address) as caller,
    ):
        assert caller.status_of(caller.begin())[0] == "16"


def tls_channel(address, authority, pair=None):
    """Open a channel with TLS to an address."""
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(),
        pair and pair.key.read_bytes(),
        pair and pair.certificate.read_bytes(),
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(f"localhost:{address.port}", credentials, options)


def test_tls(tmp_path):
    """A sender without it gets nowhere."""
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    security = ServerSecurity(certificate=pair.certificate, key=pair.key)
    with receiving(tmp_path / "recording", security) as peer:
        with tls_channel(peer.address, authority) as channel:
            assert call(channel, trace_request("a")).code == "OK"
        with channel_to(peer.address) as channel:
            assert call(channel, trace_request("b")).code == "UNAVAILABLE"


def test_a_client_certificate_lets_a_sender_in(tmp_path):
    """One that the right authority has signed."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    pair = authority.issue("server")
    security = ServerSecurity(
        certificate=pair.certificate, key=pair.key, client_ca=authority.certificate
    )
    with receiving(tmp_path / "recording", security) as peer:
        for client, code in [
            (authority.issue("client"), "OK"),
            (other.issue("stranger"), "UNAVAILABLE"),
            (None, "UNAVAILABLE"),
        ]:
            with tls_channel(peer.address, authority, client) as channel:
                assert call(channel, trace_request("a")).code == code
    assert recorded(tmp_path / "recording") == ["a"]


def test_a_new_certificate_needs_no_restart(tmp_path):
    """New connections get it; files that do not fit each other are not taken."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    pair, later = old.issue("server"), new.issue("later")
    security = ServerSecurity(certificate=pair.certificate, key=pair.key)
    with receiving(tmp_path / "recording", security) as peer:

        def code_with(authority):
            with tls_channel(peer.address, authority) as channel:
                return call(channel, trace_request("a")).code

        assert [code_with(old), code_with(new)] == ["OK", "UNAVAILABLE"]
        later.certificate.replace(pair.certificate)
        assert [code_with(old), code_with(new)] == ["OK", "UNAVAILABLE"]
        later.key.replace(pair.key)
        assert [code_with(old), code_with(new)] == ["UNAVAILABLE", "OK"]


def test_files_for_tls_that_do_not_fit_are_refused(tmp_path):
    """At once, with the names of both."""
    authority = Authority(tmp_path)
    one, two = authority.issue("one"), authority.issue("two")
    security = ServerSecurity(certificate=one.certificate, key=two.key)
    with pytest.raises(ConfigurationError, match=r"one\.pem"):
        GrpcReceiver(Intake(tmp_path / "r"), parse_address("127.0.0.1:0", "--grpc"), security)


# Addresses.


def test_a_port_is_not_shared(tmp_path):
    """A second receiver on one port says that it is taken; on port 0 each gets another."""
    with receiving(tmp_path / "1") as peer, receiving(tmp_path / "2") as other:
        assert peer.address.port != other.address.port
        third = GrpcReceiver(other.intake, peer.address)
        with pytest.raises(OSError, match="in use") as raised:
            third.start()
        assert raised.value.errno == errno.EADDRINUSE
        assert third.stop(1.0)


@pytest.mark.parametrize("address", ["192.0.2.1:0", "unix:/no/such/folder/socket"])
def test_an_address_that_is_none_is_an_error(tmp_path, address):
    """The system says why."""
    receiver = GrpcReceiver(Intake(tmp_path), parse_address(address, "--grpc"))
    with pytest.raises(OSError, match=r"assign|No such"):
        receiver.start()


def test_a_unix_socket(tmp_path):
    """It is for its owner alone; one that nobody listens at any more is taken over."""
    path = tmp_path / "socket"
    abandoned = socket.socket(socket.AF_UNIX)
    abandoned.bind(str(path))
    abandoned.close()
    with receiving(tmp_path / "recording", address=f"unix:{path}") as peer:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with channel_to(peer.address) as channel:
            assert call(channel, trace_request("a")).code == "OK"
        with pytest.raises(OSError, match="listens"):
            GrpcReceiver(peer.intake, peer.address).start()
    assert recorded(tmp_path / "recording") == ["a"]


# Broken and slow senders, and bounds.


def test_nothing_is_written_whatever_is_sent(tmp_path):
    """HTTP/1, TLS, noise, half a call: the server stays, and its standard error empty."""
    stray = [
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        bytes(range(256)) * 20,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(200)),
        b"",
    ]
    with ServerProcess(tmp_path) as server:
        address = (server.address.host, server.address.port)
        for data in stray:
            with socket.create_connection(address, timeout=30.0) as connection:
                connection.sendall(data)
                if data:
                    try:
                        while connection.recv(65_536):
                            pass
                    except ConnectionResetError:
                        pass
        with RawCaller(server.address) as caller:
            caller.send(caller.begin(), framed(trace_request("half"))[:10], end=False)
        with channel_to(server.address) as channel:
            assert call(channel, trace_request("a")).code == "OK"
        assert server.end() == ""
        assert server.process.returncode == 0
    assert recorded(tmp_path) == ["a"]


def test_a_sender_that_goes_away_is_counted(tmp_path):
    """In the middle of its request."""
    with receiving(tmp_path) as peer, RawCaller(peer.address) as caller:
        caller.send(caller.begin(), framed(trace_request("half"))[:10], end=False)
        caller.close()
        wait_until(lambda: peer.refused() == {"disconnected": 1})


def test_a_call_without_a_request_is_invalid(tmp_path):
    """It ends, and takes nobody's thread."""
    with receiving(tmp_path) as peer, RawCaller(peer.address) as caller:
        stream = caller.begin()
        caller.send(stream, b"")
        assert caller.status_of(stream) == ("3", "the call has no request")


def test_slow_senders_do_not_keep_others_out(tmp_path):
    """While all threads wait for them they have less time; then their calls are cancelled, which is
    a reason to try again."""
    limits = GrpcLimits(calls=4, receiving=1_000.0, hurried=0.1)
    with receiving(tmp_path, limits=limits) as peer, RawCaller(peer.address) as caller:
        streams = [caller.begin() for _ in range(12)]
        for stream in streams:
            caller.send(stream, framed(trace_request("half"))[:10], end=False)
        wait_until(lambda: peer.refused().get("slow", 0) >= 4)
        with channel_to(peer.address) as channel:
            assert call(channel, trace_request("a")).code == "OK"
    assert recorded(tmp_path) == ["a"]


class StubCall:
    """A call that counts how often it is cancelled."""

    def __init__(self):
        self.cancelled = 0

    def cancel(self):
        self.cancelled += 1


def test_a_call_has_a_bounded_time_for_its_request():
    """A shorter one while there are as many as there can be."""
    now = 0.0
    incoming = IncomingCalls(2, receiving=60.0, hurried=3.0, clock=lambda: now)
    first, second, third = StubCall(), StubCall(), StubCall()
    incoming.add(first)
    now = 59.0
    assert incoming.cancel_slow() == 0
    incoming.add(second)
    assert incoming.cancel_slow() == 1
    assert (first.cancelled, second.cancelled) == (1, 0)
    assert not incoming.remove(first)
    incoming.add(third)
    assert incoming.remove(second)
    now = 100.0
    assert incoming.cancel_slow() == 0
    now = 120.0
    assert incoming.cancel_slow() == 1
    assert third.cancelled == 1


@pytest.mark.parametrize("value", [{"calls": 0}, {"receiving": -1.0}, {"connection_age": 0.0}])
def test_bounds_are_checked(value):
    """Each must be more than 0."""
    with pytest.raises(ConfigurationError, match="must be more than 0"):
        GrpcLimits(**value)


def test_pings_disconnect_nobody(tmp_path):
    """However many there are, and without a call."""
    with receiving(tmp_path) as peer, RawCaller(peer.address) as caller:
        for number in range(50):
            caller.http.ping(number.to_bytes(8, "big"))
            caller.flush()
            assert caller.wait_for(lambda event: isinstance(event, h2.events.PingAckReceived))
        stream = caller.begin()
        caller.send(stream, framed(trace_request("a")))
        assert caller.status_of(stream)[0] == "0"


def test_floods_of_frames_do_no_harm(tmp_path):
    """Of settings, of windows, and of headers that are too many; others are served meanwhile."""
    with ServerProcess(tmp_path) as server:
        with RawCaller(server.address) as caller:
            for number in range(2_000):
                caller.http.update_settings({3: 100 + number})
                caller.http.increment_flow_control_window(1)
            try:
                caller.flush()
            except ConnectionError:
                pass
            with channel_to(server.address) as channel:
                assert call(channel, trace_request("a")).code == "OK"
        with RawCaller(server.address) as caller:
            stream = caller.begin(**{f"x{number}": "x" * 1_000 for number in range(500)})
            caller.send(stream, framed(b""))
            assert caller.status_of(stream)[0] in ("0", "8")
        with channel_to(server.address) as channel:
            assert call(channel, trace_request("b")).code == "OK"
        assert server.peak() < 200
    assert recorded(tmp_path) == ["a", "b"]


def test_calls_that_are_reset_at_once_do_no_harm(tmp_path):
    """Thousands of them, on one connection."""
    with receiving(tmp_path) as peer, RawCaller(peer.address) as caller:
        for _ in range(2_000):
            stream = caller.begin()
            caller.http.reset_stream(stream)
        try:
            caller.flush()
        except ConnectionError:
            pass
        with channel_to(peer.address) as channel:
            assert call(channel, trace_request("a")).code == "OK"
    assert recorded(tmp_path) == ["a"]


def test_a_thousand_connections(tmp_path):
    """Those that are idle keep nobody out."""
    with ServerProcess(tmp_path) as server, ExitStack() as stack:
        address = (server.address.host, server.address.port)
        for _ in range(1_000):
            stack.enter_context(socket.create_connection(address, timeout=30.0))
        with channel_to(server.address) as channel:
            assert call(channel, trace_request("a")).code == "OK"
        assert server.peak() < 500


def test_connections_are_bounded(tmp_path):
    """Those that are too many are closed; once others have gone there is room again."""
    with receiving(tmp_path, limits=GrpcLimits(connections=2)) as peer:
        with RawCaller(peer.address) as first, RawCaller(peer.address) as second:
            for caller in (first, second):
                stream = caller.begin()
                caller.send(stream, framed(b""))
                assert caller.status_of(stream)[0] == "0"
            address = (peer.address.host, peer.address.port)
            with socket.create_connection(address, timeout=30.0) as third:
                assert third.recv(10) == b""
        with channel_to(peer.address) as channel:
            wait_until(lambda: call(channel, trace_request("a")).code == "OK")


def read_goaway(connection):
    """Read frames of HTTP/2 up to a GOAWAY; raise if the connection ends before."""
    with connection.makefile("rb") as file:
        while True:
            head = file.read(9)
            file.read(int.from_bytes(head[:3], "big"))
            if head[3] == 7:
                return


def test_a_connection_has_an_age(tmp_path):
    """Past it the sender is told to open another one."""
    with (
        receiving(tmp_path, limits=GrpcLimits(connection_age=0.05)) as peer,
        RawCaller(peer.address) as caller,
    ):
        read_goaway(caller.socket)
        with channel_to(peer.address) as channel:
            for _ in range(50):
                assert call(channel, b"").code in ("OK", "UNAVAILABLE")


# Stopping.


class WaitingIntake(Intake):
    """An intake that takes its time for the first request."""

    def receive(self, signal, body, format):
        if not self.has_begun.is_set():
            self.has_begun.set()
            assert self.may_end.wait(60.0)
        return super().receive(signal, body, format)

    def start(self):
        self.has_begun, self.may_end = threading.Event(), threading.Event()
        super().start()


def test_what_was_taken_in_is_answered(tmp_path):
    """A stop waits for it, and lets nothing new in."""
    with (
        receiving(tmp_path, intake_type=WaitingIntake) as peer,
        channel_to(peer.address) as channel,
        ThreadPoolExecutor(2) as threads,
    ):
        reply = threads.submit(call, channel, trace_request("a"))
        assert peer.intake.has_begun.wait(60.0)
        stopped = threads.submit(peer.receiver.stop, 60.0)
        with channel_to(peer.address) as other:
            wait_until(lambda: call(other, b"").code == "UNAVAILABLE")
        peer.intake.may_end.set()
        assert reply.result(60.0).code == "OK"
        assert stopped.result(60.0)
    assert recorded(tmp_path) == ["a"]


def test_a_stop_does_not_wait_for_slow_senders(tmp_path):
    """Not longer than while all threads wait for them."""
    limits = GrpcLimits(receiving=1_000.0, hurried=0.1)
    with receiving(tmp_path, limits=limits) as peer, RawCaller(peer.address) as caller:
        stream = caller.begin()
        caller.send(stream, framed(trace_request("half"))[:10], end=False)
        with channel_to(peer.address) as channel:
            assert call(channel, trace_request("a")).code == "OK"
        assert peer.receiver.stop(500.0)
        assert peer.refused() == {"slow": 1}


@pytest.mark.parametrize("is_hurried", [False, True])
def test_a_stop_has_an_end(tmp_path, is_hurried):
    """What takes longer is cut off, sooner if somebody is in a hurry; the sender tries again."""
    with (
        receiving(tmp_path, intake_type=WaitingIntake) as peer,
        channel_to(peer.address) as channel,
        ThreadPoolExecutor(2) as threads,
    ):
        reply = threads.submit(call, channel, trace_request("a"))
        assert peer.intake.has_begun.wait(60.0)
        if is_hurried:
            stopped = threads.submit(peer.receiver.stop, 3_000.0)
            peer.receiver.hurry()
            assert not stopped.result(60.0)
        else:
            assert not peer.receiver.stop(0.05)
        assert reply.result(60.0).code in ("UNAVAILABLE", "CANCELLED")
        peer.intake.may_end.set()


def test_stopping_what_never_started(tmp_path):
    """Nothing happens."""
    assert GrpcReceiver(Intake(tmp_path), parse_address("127.0.0.1:0", "--grpc")).stop(1.0)


def test_the_method_of_traces_is_the_official_one():
    """As its generated client has it."""
    assert TRACES == "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
