"""Pages of a server's REST port, as a browser would get them."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from pyserving.client import Unreachable
from pyserving.client.address import Address
from pyserving.client.tls import Tls
from pyserving.core.errors import Code, ServingError
from pyserving.monitoring.metrics import Family
from pyserving.monitoring.page_reader import read_page

METRICS_PATH = "/monitoring/prometheus/metrics"
_CODES = {401: Code.UNAUTHENTICATED, 403: Code.PERMISSION_DENIED, 404: Code.NOT_FOUND}


class ServerPages:
    """One server."""

    def __init__(self, address: Address, options: Mapping[str, Any]) -> None:
        """``address``: of REST; ``options``: those of ``connection_options``."""
        self._base = str(address)
        self._timeout = options["timeout"]
        self._headers = {} if options["token"] is None else {"Authorization": f"Bearer {options['token']}"}
        self._context = Tls(options["ca"], options["cert"], options["key"]).context() if address.tls else None

    def metrics(self, path: str = METRICS_PATH) -> list[Family]:
        """What the page for Prometheus shows. Raises ServingError, of which Unreachable is one."""
        return read_page(self.get(path).decode(errors="replace"))

    def get(self, path: str) -> bytes:
        """Raises Unreachable, and ServingError for what is not there or not allowed."""
        request = urllib.request.Request(self._base + path, headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout, context=self._context) as answer:
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            raise ServingError(_CODES.get(error.code, Code.UNKNOWN), f"{path}: HTTP status {error.code}") from None
        except OSError as error:
            raise Unreachable(f"no answer from {self._base}: {getattr(error, 'reason', error)}") from None
