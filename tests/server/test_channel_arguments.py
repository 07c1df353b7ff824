"""The flag grpc_channel_arguments, down to the wire."""

import logging
from collections.abc import Callable

import grpc
import pytest
from running_server import RunningServer

from pyserving.cli.model_server import settings_of
from pyserving.cli.model_server_flags import read_command_line

Start = Callable[..., RunningServer]


def test_the_flag_reaches_the_connections(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    line = read_command_line(
        ["--model_base_path=/m", "--grpc_channel_arguments=grpc.max_receive_message_length=100,grpc.so_reuseport=1"], {}
    )
    assert line.warnings == ()
    with caplog.at_level(logging.WARNING):
        settings = settings_of(line.flags)
    assert [record.message for record in caplog.records] == [
        "gRPC channel argument grpc.so_reuseport has no effect in this server"
    ]
    server = start([], grpc_limits=settings.grpc_limits)
    with (
        grpc.insecure_channel(server.server.ports.grpc_addresses[0]) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(bytes(101), timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "Received message larger than max (101 vs. 100)"
