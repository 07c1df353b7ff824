"""What one gRPC client may use of the server."""

from dataclasses import dataclass

from pyserving.transport.http2 import Http2Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLimits(Http2Limits):
    """Sizes in bytes."""

    max_receive_message: int = 512 * 1024 * 1024
    """Of one request message, as sent and decompressed; -1: none."""
    max_send_message: int = -1
    """Of one answer before compression; -1: none but gRPC's own, 4 GiB."""
    max_held_requests: int = 1024 * 1024 * 1024
    """Of all requests of a connection that were announced and not yet answered; one alone is always let in."""
