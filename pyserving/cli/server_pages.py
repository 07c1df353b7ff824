"""What a server's REST port has for the commands: pages, and what it can be told there."""

import asyncio
from collections.abc import Mapping
from typing import Any

from pyserving.client.address import Address, Protocol, parse_address
from pyserving.client.call import Call
from pyserving.client.http1 import RestConnection
from pyserving.client.tls import Tls
from pyserving.core.errors import invalid_argument
from pyserving.monitoring.metrics import Family
from pyserving.monitoring.page_reader import read_page

METRICS_PATH = "/monitoring/prometheus/metrics"


def rest_address(url: str, *, tls: bool, what: str) -> Address:
    """Of a server's REST port. ``what``: who names it, for errors. Raises INVALID_ARGUMENT."""
    address = parse_address(url, tls=tls)
    if address.protocol is Protocol.GRPC:
        raise invalid_argument(f"{what} is the REST port: expected http://HOST:PORT, got {url}")
    return address.at(Protocol.REST)


class ServerPages:
    """One server. Not to be used on an event loop."""

    def __init__(self, address: Address, options: Mapping[str, Any]) -> None:
        """``address``: of REST; ``options``: those of ``connection_options``. Raises INVALID_ARGUMENT."""
        self._address = address
        self._timeout = options["timeout"]
        self._headers = [] if options["token"] is None else [("Authorization", f"Bearer {options['token']}")]
        self._context = Tls(options["ca"], options["cert"], options["key"]).context() if address.tls else None

    def metrics(self, path: str = METRICS_PATH) -> list[Family]:
        """What the page for Prometheus shows. Raises ServingError, of which Unreachable is one."""
        return read_page(self.get(path).decode(errors="replace"))

    def get(self, path: str) -> bytes:
        """Raises Unreachable, and ServingError for what is not there or not allowed."""
        return asyncio.run(self._ask(path, b""))

    def post(self, path: str, body: bytes) -> bytes:
        """Sends JSON. Raises as ``get``."""
        return asyncio.run(self._ask(path, body))

    async def _ask(self, path: str, body: bytes) -> bytes:
        connection = RestConnection(self._address, self._context, self._headers)
        try:
            return await connection.ask(Call(path, body, bytes), self._timeout)
        finally:
            await connection.close()
