"""What one gRPC client may use of the server, and gRPC's own names for that."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

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
    max_gzip_ratio: int = 200
    """Decompressed to compressed size, of messages that decompress to more than ``gzip_ratio_from``; see HttpLimits."""
    gzip_ratio_from: int = 16 * 1024 * 1024
    body_timeout: float = 60.0
    """In which some of a unary call's message has to come, looked at as seldom; else the call is cut off."""


def read_channel_arguments(text: str) -> tuple[GrpcLimits, list[str]]:
    """Limits from gRPC's channel arguments, ``name=value`` with commas between; of a name given twice the last counts.

    Names and meanings are those of grpc/impl/channel_arg_names.h. Also returns a line for each argument that has no
    effect: unknown here, or with a value that it cannot have. gRPC goes on without those, too.
    """
    limits = GrpcLimits()
    warnings = []
    for argument in filter(None, map(str.strip, text.split(","))):
        name, equals, value = argument.partition("=")
        meaning = _MEANINGS.get(name)
        if not equals:
            warnings.append(f"gRPC channel argument {argument!r} has no effect: expected name=value")
        elif meaning is None:
            warnings.append(f"gRPC channel argument {name} has no effect in this server")
        elif not re.fullmatch(r"-?[0-9]{1,10}", value, re.ASCII) or not meaning.least <= int(value) <= _INT_MAX:
            warnings.append(
                f"gRPC channel argument {name} has no effect: "
                f"expected a whole number from {meaning.least} to {_INT_MAX}, got {value!r}"
            )
        else:
            limits = replace(limits, **{meaning.field: meaning.convert(int(value))})
    return limits, warnings


@dataclass(frozen=True, slots=True)
class _Meaning:
    field: str
    convert: Callable[[int], Any]
    least: int = 0


def _seconds_or_never(milliseconds: int) -> float | None:
    return None if milliseconds == _INT_MAX else max(milliseconds, 1) / 1e3


def _seconds(milliseconds: int) -> float:
    return max(milliseconds, 1) / 1e3


def _frame_size(size: int) -> int:
    """RFC 9113, 4.2, has these bounds; gRPC moves a value into them."""
    return min(max(size, 1 << 14), (1 << 24) - 1)


def _window(size: int) -> int:
    return max(size, 0xFFFF)


_INT_MAX = (1 << 31) - 1
_MEANINGS: Mapping[str, _Meaning] = {
    "grpc.max_receive_message_length": _Meaning("max_receive_message", int, least=-1),
    "grpc.max_send_message_length": _Meaning("max_send_message", int, least=-1),
    "grpc.max_concurrent_streams": _Meaning("max_concurrent_streams", int),
    "grpc.max_metadata_size": _Meaning("max_header_list", int),
    "grpc.keepalive_time_ms": _Meaning("keepalive_time", _seconds_or_never),
    "grpc.keepalive_timeout_ms": _Meaning("keepalive_timeout", _seconds),
    "grpc.max_connection_idle_ms": _Meaning("idle_timeout", _seconds_or_never),
    "grpc.max_connection_age_ms": _Meaning("max_age", _seconds_or_never),
    "grpc.max_connection_age_grace_ms": _Meaning("max_age_grace", _seconds_or_never),
    "grpc.http2.max_frame_size": _Meaning("max_frame_size", _frame_size),
    "grpc.http2.lookahead_bytes": _Meaning("stream_window", _window),
}
