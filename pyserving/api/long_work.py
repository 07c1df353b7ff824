"""What takes longer than the event loop should be held up: decoding and encoding of large tensors."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from pyserving.platforms.model import Array

P = ParamSpec("P")
T = TypeVar("T")

LONG_BODY = 256 << 10
"""Bytes of a request from which on it is decoded on a thread: half a millisecond's work, if all goes well."""
LONG_TENSORS = 128 << 10
"""Bytes of tensors from which on they are encoded on a thread: a millisecond's work where they become JSON."""
LONG_MESSAGE = 4 << 20
"""Bytes from which on even a copy is made on a thread."""


def size_of(tensors: Mapping[str, Array]) -> int:
    """Bytes of all of them; of strings, of what refers to them."""
    size = 0
    for array in tensors.values():  # for a few, a loop is quicker than what makes a frame of its own
        size += array.nbytes
    return size


# Two, as most of this work holds the GIL: more would get in each other's way, and in that of the event loop.
_threads = ThreadPoolExecutor(2, thread_name_prefix="long-work")


def on_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> Awaitable[T]:
    """What ``work`` returns or raises. It goes on to its end though nobody should wait any more."""
    return asyncio.wrap_future(_threads.submit(work, *arguments, **named))
