"""One gRPC connection in memory: bytes in, writes out."""

import asyncio

from grpc_serving import Methods

from pyserving.transport.grpc import GrpcConnection
from pyserving.transport.grpc_limits import GrpcLimits
from pyserving.transport.listener import Connections


class MemoryTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.reading = True
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def in_memory(limits: GrpcLimits | None = None) -> tuple[GrpcConnection, MemoryTransport, Methods]:
    methods = Methods()
    connection = GrpcConnection(Connections(), methods.all(), limits, methods.streaming())
    transport = MemoryTransport()
    connection.connection_made(transport)
    return connection, transport, methods
