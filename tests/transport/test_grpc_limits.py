"""gRPC's channel arguments: what they mean, and what the limits do that only they can set."""

from dataclasses import asdict

import pytest
from grpc_serving import WAIT, Server, connect, prefixed
from hypothesis import given
from hypothesis import strategies as st

from pyserving.transport.grpc_limits import GrpcLimits, read_channel_arguments

FOREVER = 2147483647


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", {}),
        ("grpc.max_receive_message_length=1000", {"max_receive_message": 1000}),
        ("grpc.max_receive_message_length=-1", {"max_receive_message": -1}),
        ("grpc.max_send_message_length=0", {"max_send_message": 0}),
        ("grpc.max_concurrent_streams=7", {"max_concurrent_streams": 7}),
        ("grpc.max_metadata_size=9000", {"max_header_list": 9000}),
        ("grpc.keepalive_time_ms=1500", {"keepalive_time": 1.5}),
        (f"grpc.keepalive_time_ms={FOREVER}", {"keepalive_time": None}),
        ("grpc.keepalive_time_ms=0", {"keepalive_time": 0.001}),
        ("grpc.keepalive_timeout_ms=250", {"keepalive_timeout": 0.25}),
        ("grpc.max_connection_idle_ms=60000", {"idle_timeout": 60.0}),
        ("grpc.max_connection_age_ms=2000", {"max_age": 2.0}),
        (f"grpc.max_connection_age_ms={FOREVER}", {}),
        ("grpc.max_connection_age_grace_ms=500", {"max_age_grace": 0.5}),
        ("grpc.http2.max_frame_size=65536", {"max_frame_size": 65536}),
        ("grpc.http2.max_frame_size=1", {"max_frame_size": 16384}),
        (f"grpc.http2.max_frame_size={FOREVER}", {"max_frame_size": 16777215}),
        ("grpc.http2.lookahead_bytes=100000", {"stream_window": 100_000}),
        ("grpc.max_send_message_length=1,grpc.max_send_message_length=2", {"max_send_message": 2}),
        (" grpc.max_send_message_length=1 ,, grpc.max_metadata_size=2,", {"max_send_message": 1, "max_header_list": 2}),
    ],
)
def test_what_they_mean(text: str, changed: dict[str, object]) -> None:
    limits, warnings = read_channel_arguments(text)
    assert asdict(limits) == asdict(GrpcLimits()) | changed
    assert warnings == []


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("grpc.so_reuseport=0", "gRPC channel argument grpc.so_reuseport has no effect in this server"),
        ("no.such=x=y", "gRPC channel argument no.such has no effect in this server"),
        (
            "grpc.keepalive_time_ms",
            "gRPC channel argument 'grpc.keepalive_time_ms' has no effect: expected name=value",
        ),
        (
            "grpc.keepalive_time_ms=soon",
            "gRPC channel argument grpc.keepalive_time_ms has no effect: "
            "expected a whole number from 0 to 2147483647, got 'soon'",
        ),
        (
            "grpc.max_send_message_length=-2",
            "gRPC channel argument grpc.max_send_message_length has no effect: "
            "expected a whole number from -1 to 2147483647, got '-2'",
        ),
        (
            "grpc.max_metadata_size=2147483648",
            "gRPC channel argument grpc.max_metadata_size has no effect: "
            "expected a whole number from 0 to 2147483647, got '2147483648'",
        ),
    ],
)
def test_one_line_for_each_that_has_no_effect(text: str, warning: str) -> None:
    limits, warnings = read_channel_arguments(f"{text},grpc.max_connection_age_ms=1000")
    assert warnings == [warning]
    assert limits == GrpcLimits(max_age=1.0)


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    read_channel_arguments(text)


def test_a_connection_of_age_is_drained_and_serves_what_it_has() -> None:
    with Server(GrpcLimits(max_age=0.4)) as server, connect(server) as client:
        stream = client.request(b"x", "/test.Test/Wait")
        client.until(lambda: len(client.goaways) == 2)
        assert [goaway.error_code for goaway in client.goaways] == [0, 0]
        server.open_gate()
        assert client.finish(stream).message == b"x"
        client.until_eof()


def test_after_the_grace_it_is_cut_off() -> None:
    with Server(GrpcLimits(max_age=0.4, max_age_grace=0.02)) as server, connect(server) as client:
        client.begin("/test.Test/Settle")
        client.until_eof()
        assert server.methods.cancelled.acquire(timeout=WAIT)


@pytest.mark.parametrize("size", [16_384, 100_000])
def test_frames_may_be_as_large_as_said_and_no_larger(size: int) -> None:
    with Server(GrpcLimits(max_frame_size=size)) as server, connect(server) as client:
        client.finish(client.request(b"x"))
        assert client.h2.remote_settings[5] == size
        stream = client.begin()
        client.send()
        body = prefixed(bytes(size - 5))
        head = size.to_bytes(3, "big") + b"\0\1" + stream.to_bytes(4, "big")
        client.socket.sendall(head + body)
        assert client.finish(stream).message == bytes(size - 5)
        client.socket.sendall((size + 1).to_bytes(3, "big") + b"\0\1" + (stream + 2).to_bytes(4, "big"))
        client.until_eof()
        assert client.goaways[0].error_code != 0
