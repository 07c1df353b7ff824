"""Health that follows a Directory."""

import asyncio
import contextlib

from pyserving.api.health import Health
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.process.model import ProcessModel
from pyserving.server.directory import Directory

DOWN_SECONDS = 5.0
"""A model's own process that ended is started again within a second or two. Readiness passes over that: to take a
whole server out of traffic for it would hurt all other models."""


def follow(directory: Directory) -> Health:
    """To be called inside the running event loop on which it is used."""
    loop = asyncio.get_running_loop()
    health = Health(
        directory.monitor,
        lambda: [model.name for model in directory.models],
        lambda name: directory.defaults.get(name),
        lambda name: _is_down(directory, name),
    )

    def notify(*_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: a load outlived the server
            loop.call_soon_threadsafe(health.notify)

    directory.bus.subscribe(notify)
    directory.subscribe(notify)
    directory.subscribe_to_defaults(notify)
    return health


async def require_ready(directory: Directory, timeout: float) -> None:
    """Returns when all configured models can answer. Raises DEADLINE_EXCEEDED, with those that cannot, after
    ``timeout`` seconds."""
    health = follow(directory)
    try:
        async with asyncio.timeout(timeout):
            while not health.ready:
                await health.changed()
    except TimeoutError:
        listed = "; ".join(f"{name} ({reason})" for name, reason in health.missing().items())
        raise ServingError(Code.DEADLINE_EXCEEDED, f"Not ready within {timeout:g} s: {listed}") from None


def _is_down(directory: Directory, name: str) -> bool:
    """Whether the model runs in a process of its own that has been gone for long; in a worker, this worker's."""
    served = directory.serving.peek(name)
    return isinstance(served, ProcessModel) and served.down_seconds > DOWN_SECONDS
