"""What a server used between two looks at its metrics."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyserving.cli.server_pages import ServerPages
from pyserving.client.address import Address, Protocol
from pyserving.core.errors import ServingError
from pyserving.monitoring.summary import summarise


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all processes of a server, but for those that run a model of their own."""

    cpu_seconds: float
    seconds: float
    memory: float
    """Bytes, at the end."""

    def to_json(self, answers: int) -> dict[str, float | None]:
        return {
            "cpu_ms_per_request": self.cpu_seconds / answers * 1e3 if answers else None,
            "cores": self.cpu_seconds / self.seconds,
            "memory_bytes": self.memory,
        }


class UsageMeter:
    """Reads the metrics of a server, where it has any: TensorFlow Serving tells neither CPU time nor memory."""

    def __init__(self, addresses: Sequence[Address], options: Mapping[str, Any]) -> None:
        """``addresses``: those of a server, of which one may speak REST; ``options``: of ``connection_options``."""
        rest = next((one for one in addresses if one.protocol is Protocol.REST and not one.unix), None)
        self._pages = None if rest is None else ServerPages(rest, options)
        self._before: Mapping[str, Any] = {}

    async def begin(self) -> None:
        self._before = await self._look()

    async def end(self, seconds: float) -> Usage | None:
        """What was used in the ``seconds`` since ``begin``; None where that is not known."""
        before, now = self._before, await self._look()
        if not before or not now or before["start"] != now["start"] or not now["memory_bytes"]:
            return None
        return Usage(now["cpu_seconds"] - before["cpu_seconds"], seconds, now["memory_bytes"])

    async def _look(self) -> Mapping[str, Any]:
        if self._pages is None:
            return {}
        try:
            return summarise(await asyncio.to_thread(self._pages.metrics))
        except (ServingError, ValueError):
            return {}
