"""From a gRPC call's bytes to its message."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from pyserving.core.errors import Code, ServingError

M = TypeVar("M", bound=Message)


def parse_message(kind: type[M], data: bytes) -> M:
    """Raises INTERNAL where ``data`` is no message of this type."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ServingError(Code.INTERNAL, f"the message is no {kind.DESCRIPTOR.full_name}: {error}") from None
