"""The bytes of a status with a RetryInfo, against the official messages."""

from __future__ import annotations

import sys

import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from rimp_otel.errors import MissingExtraError
from rimp_otel.transport.grpc_wire import clean_text, encode_details, import_grpc, retry_delay_of
from tests.processes import run


@pytest.mark.parametrize("seconds", [0.0, 0.25, 1, 5, 130.000000001, 1e6])
def test_a_delay_is_read_as_it_was_written(seconds):
    """Also by the official messages."""
    data = encode_details(14, "full: ü", seconds)
    status, info = Status.FromString(data), RetryInfo()
    assert (status.code, status.message) == (14, "full: ü")
    assert status.details[0].Unpack(info)
    assert info.retry_delay.ToNanoseconds() == round(seconds * 1e9)
    assert retry_delay_of(data) == pytest.approx(seconds)


def test_without_a_delay_there_are_no_details():
    """A status by itself asks for nothing."""
    data = encode_details(3, "bad")
    assert Status.FromString(data) == Status(code=3, message="bad")
    assert retry_delay_of(data) is None


def test_a_delay_is_found_among_other_details():
    """Whatever else stands there."""
    status = Status(code=8)
    for message in (BadRequest(), RetryInfo()):
        packed = Any()
        packed.Pack(message)
        status.details.append(packed)
    info = RetryInfo()
    info.retry_delay.FromMilliseconds(1500)
    assert retry_delay_of(status.SerializeToString()) == 0.0
    status.details[1].Pack(info, type_url_prefix="example.com/somewhere")
    assert retry_delay_of(status.SerializeToString()) == 1.5


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"\x1a\x7f", b"\x1a\x02\x0a\x7f", b"<html>", b"\x1a\x02\x12\x00", b"\x1a\x00"],
)
def test_what_is_no_status_asks_for_nothing(data):
    """Nothing is raised."""
    assert retry_delay_of(data) is None


def test_a_negative_or_absurd_delay_is_none():
    """A server's mistake makes nobody wait for ever."""
    packed, info = Any(), RetryInfo()
    info.retry_delay.seconds = -5
    packed.Pack(info)
    assert retry_delay_of(Status(details=[packed]).SerializeToString()) == 0.0


def test_a_text_is_one_line_and_not_too_long():
    """It is shown on terminals, and sent as metadata."""
    assert clean_text("a\nb\x1b[31m\udcff") == "a b [31m "
    assert clean_text("x" * 999) == "x" * 999
    assert len(clean_text("x" * 5_000)) == 1_000


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    """The message says how to install it."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingExtraError, match=r"rimp-otel\[grpc\]"):
        import_grpc()


def test_grpc_is_loaded_when_it_is_used():
    """Neither end imports it before, and what a user has set stays."""
    script = """
    import os, sys
    import rimp_otel.transport.receiving.grpc_receiver, rimp_otel.transport.forwarding.otlp_grpc
    from rimp_otel.transport.grpc_wire import import_grpc
    print("grpc" in sys.modules)
    import_grpc()
    print(os.environ["GRPC_VERBOSITY"], os.environ["GRPC_ENABLE_FORK_SUPPORT"])
    """
    assert run(script, GRPC_VERBOSITY="ERROR").split() == ["False", "ERROR", "false"]
