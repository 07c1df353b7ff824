"""Bodies that hold a few settings, and may be as large as any."""

from typing import Any

from pyserving.api.long_work import LONG_BODY, on_thread
from pyserving.wire.json_request import parse_object


async def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object that it holds; empty where the body is. A large one must not hold up the requests of others.

    Raises INVALID_ARGUMENT.
    """
    if len(body) >= LONG_BODY:
        return await on_thread(parse_object, body)
    return parse_object(body) if body.strip() else {}
