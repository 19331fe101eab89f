"""Both ends of gRPC for tests: a receiver over an intake, calls with raw bytes, requests of spans."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import h2.config
import h2.connection
import h2.events
import h2.exceptions
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from typing_extensions import Self

from rimp_otel.models.records import Signal
from rimp_otel.storage.recording import open_recording
from rimp_otel.transport.forwarding.destination import Batch, DestinationOptions, open_destination
from rimp_otel.transport.grpc_wire import DETAILS_KEY, METHODS
from rimp_otel.transport.receiving.address import ListenAddress, parse_address
from rimp_otel.transport.receiving.grpc_receiver import GrpcLimits, GrpcReceiver
from rimp_otel.transport.receiving.intake import Intake, IntakeLimits
from rimp_otel.transport.receiving.security import ServerSecurity

TRACES = METHODS[Signal.TRACES]
TOKEN = "a-token-of-a-test"


def recorded(path):
    """Return the names of the spans in a recording."""
    return sorted(span.name for span in open_recording(path).retrieve().spans)


def wait_until(is_true):
    """Wait for a condition, a minute at most."""
    deadline = time.monotonic() + 60.0
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def trace_request(*names: str, trace_id: bytes = b"t" * 16) -> bytes:
    """Return a request with a span of each name."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number, name in enumerate(names, 1):
        spans.add(trace_id=trace_id, span_id=number.to_bytes(8, "big"), name=name)
    return request.SerializeToString()


class Receiving(NamedTuple):
    """A receiver that runs, and the intake behind it."""

    intake: Intake
    receiver: GrpcReceiver
    address: ListenAddress

    def refused(self) -> dict[str, int]:
        """Return how many requests were refused, by reason."""
        return self.intake.stats().requests_refused


@contextmanager
def receiving(
    path: Path,
    security: ServerSecurity | None = None,
    limits: GrpcLimits | None = None,
    address: str = "127.0.0.1:0",
    request_size: int | None = None,
    intake_type: type[Intake] = Intake,
) -> Iterator[Receiving]:
    """Receive into a recording while the block runs."""
    bounds = None if request_size is None else IntakeLimits(request_size=request_size)
    intake = intake_type(path, limits=bounds)
    intake.start()
    receiver = GrpcReceiver(intake, parse_address(address, "--grpc"), security, limits)
    try:
        yield Receiving(intake, receiver, receiver.start())
        receiver.stop(10.0)
    finally:
        receiver.stop(0.0)
        assert intake.stop(30.0)


class Reply(NamedTuple):
    """What became of a call."""

    #: The name of the status.
    code: str
    #: Its message.
    text: str
    #: The answer.
    body: bytes
    #: Of the trailing metadata, by key.
    trailers: dict[str, Any]


def call(channel: grpc.Channel, body: bytes, method: str = TRACES, **options: Any) -> Reply:
    """Call a method with raw bytes."""
    try:
        answer, done = channel.unary_unary(method).with_call(body, timeout=30.0, **options)
    except grpc.RpcError as error:
        return Reply(error.code().name, error.details(), b"", dict(error.trailing_metadata() or ()))
    return Reply(done.code().name, done.details(), answer, dict(done.trailing_metadata() or ()))


@contextmanager
def channel_to(address: object, **options: int) -> Iterator[grpc.Channel]:
    """Open a channel that sends messages of any size."""
    arguments = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    arguments += [(f"grpc.{key}", value) for key, value in options.items()]
    with grpc.insecure_channel(str(address), arguments) as channel:
        yield channel


def framed(message: bytes, is_compressed: bool = False) -> bytes:
    """Return a message as gRPC puts it into the stream."""
    return struct.pack(">?I", is_compressed, len(message)) + message


class RawCaller:
    """A connection of HTTP/2 on which a test can do what no client of gRPC does."""

    def __init__(self, address: ListenAddress) -> None:
        self.socket = socket.create_connection((address.host, address.port), timeout=30.0)
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.http.initiate_connection()
        self.flush()

    def begin(self, method: str = TRACES, **headers: str) -> int:
        """Begin a call; return its stream."""
        stream = self.http.get_next_available_stream_id()
        fixed = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "test"}
        fixed |= {"content-type": "application/grpc", "te": "trailers"}
        more = {key.replace("_", "-"): value for key, value in headers.items()}
        self.http.send_headers(stream, [*fixed.items(), *more.items()])
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, end: bool = True) -> None:
        """Send data, as far as the receiver's window lets it."""
        while data:
            room = self.http.local_flow_control_window(stream)
            size = min(len(data), room, self.http.max_outbound_frame_size)
            if size <= 0:
                self.receive()
                continue
            self.http.send_data(stream, data[:size])
            data = data[size:]
            self.flush()
        if end:
            self.http.end_stream(stream)
            self.flush()

    def flush(self) -> None:
        """Send what waits to be sent."""
        self.socket.sendall(self.http.data_to_send())

    def receive(self) -> list[h2.events.Event]:
        """Return the next events; none once the connection is closed."""
        try:
            data = self.socket.recv(65_536)
        except ConnectionResetError:
            return []
        if not data:
            return []
        events = self.http.receive_data(data)
        self.flush()
        return events

    def wait_for(self, is_wanted: Callable[[h2.events.Event], object]) -> h2.events.Event | None:
        """Return the first event that is wanted; None if the connection is closed before."""
        while events := self.receive():
            for event in events:
                if is_wanted(event):
                    return event
        return None

    def status_of(self, stream: int) -> tuple[str, str]:
        """Return the status of a call, once it has ended, and its message."""

        def is_status(event: h2.events.Event) -> bool:
            kinds = (h2.events.TrailersReceived, h2.events.ResponseReceived)
            return (
                isinstance(event, kinds)
                and event.stream_id == stream
                and b"grpc-status" in dict(event.headers)
            )

        event = self.wait_for(is_status)
        assert event is not None, "the connection was closed"
        headers = dict(event.headers)
        return headers[b"grpc-status"].decode(), headers.get(b"grpc-message", b"").decode()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


OK_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
"""How an answer of gRPC begins."""


class RawConnection:
    """What a ``RawServer`` has of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        # What a broken server sends is not checked.
        configuration = h2.config.H2Configuration(
            client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.http = h2.connection.H2Connection(configuration)
        #: Of the last request.
        self.headers: dict[str, str] = {}

    def run(self, answer: Callable[[RawConnection, int], object]) -> None:
        """Answer each request, until the connection ends."""
        self.http.initiate_connection()
        self.flush()
        while data := self.socket.recv(65_536):
            for event in self.http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.headers = {key.decode(): value.decode() for key, value in event.headers}
                elif isinstance(event, h2.events.DataReceived):
                    size = event.flow_controlled_length
                    self.http.acknowledge_received_data(size, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    answer(self, event.stream_id)
            self.flush()

    def flush(self) -> None:
        """Send what waits to be sent."""
        self.socket.sendall(self.http.data_to_send())

    def send(self, stream: int, data: bytes) -> None:
        """Send data, as far as the client's window lets it."""
        while data:
            room = self.http.local_flow_control_window(stream)
            size = min(len(data), room, self.http.max_outbound_frame_size)
            if size > 0:
                self.http.send_data(stream, data[:size])
                data = data[size:]
                self.flush()
            else:
                received = self.socket.recv(65_536)
                if not received:
                    raise ConnectionError("the client is gone")
                self.http.receive_data(received)


class RawServer:
    """A server of HTTP/2 that can answer what no server of gRPC does.

    Args:
        answer: called with the connection and the stream of each request.
        accept: called with the socket of each connection, in place of HTTP/2.
    """

    def __init__(
        self,
        answer: Callable[[RawConnection, int], object] = lambda *_: None,
        accept: Callable[[socket.socket], object] | None = None,
    ) -> None:
        self._answer, self._accept = answer, accept
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"otlp+grpc://{self.place}"
        #: One after the other.
        self.connections: list[RawConnection] = []
        self._threads = [threading.Thread(target=self._run)]
        self._threads[0].start()

    def _run(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            self.connections.append(RawConnection(connection))
            thread = threading.Thread(target=self._serve, args=(self.connections[-1],))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: RawConnection) -> None:
        with connection.socket:
            try:
                if self._accept is None:
                    connection.run(self._answer)
                else:
                    self._accept(connection.socket)
            except (OSError, h2.exceptions.ProtocolError):
                pass  # the client has had enough

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            try:
                connection.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(60.0)
            assert not thread.is_alive()


# The other end of a destination.


def span_line(name):
    """Return a line with one span."""
    text = f'"traceId":"{"ab" * 16}","spanId":"{"cd" * 8}","name":"{name}"'
    return ('{"resourceSpans":[{"scopeSpans":[{"spans":[{' + text + "}]}]}]}").encode()


def traces(*names):
    """Return a batch with a span of each name."""
    return Batch(Signal.TRACES, [span_line(name) for name in names], len(names))


def send(url, batch=None, timeout=30.0, **options):
    """Send a batch with a destination of its own."""
    destination = open_destination(url, DestinationOptions(**options))
    try:
        return destination.send(batch or traces("a"), timeout)
    finally:
        destination.close()


class StubServer(grpc.GenericRpcHandler):
    """A server that answers each call as a test says; it keeps what it is sent.

    Args:
        answer: called with the request and the context; by default each request is a full success.
        port: 0 for any that is free.
    """

    def __init__(self, answer=lambda body, context: b"", port=0):
        self.answer = answer
        self.bodies, self.methods, self.metadata = [], [], []
        self._server = grpc.server(
            futures.ThreadPoolExecutor(4),
            handlers=[self],
            options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
        )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.url = f"otlp+grpc://127.0.0.1:{self.port}"
        self._server.start()

    def service(self, call):
        self.methods.append(call.method)
        self.metadata.append(dict(call.invocation_metadata))
        return grpc.unary_unary_rpc_method_handler(self._take)

    def _take(self, body, context):
        self.bodies.append(body)
        return self.answer(body, context)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stop(0).wait()


def refusing(code, text="because", details=None):
    """Return an answer with a status."""

    def answer(_, context):
        if details is not None:
            context.set_trailing_metadata(((DETAILS_KEY, details),))
        context.abort(code, text)

    return answer
