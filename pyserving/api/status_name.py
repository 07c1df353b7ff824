"""The name of a request's end, as metrics have it."""

from asyncio import CancelledError

from pyserving.core.errors import Code, ServingError


def status_name(error: BaseException) -> str:
    """Of what ended a request: that of its code, CANCELLED if the client left, INTERNAL for a bug."""
    if isinstance(error, ServingError):
        return error.code.name
    return Code.CANCELLED.name if isinstance(error, CancelledError) else Code.INTERNAL.name
