import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest
from http1_running import Running, echo, running

from pyserving.api.exchange import HttpHandler
from pyserving.transport.limits import HttpLimits
from pyserving.transport.loop import new_event_loop

ServeHttp1 = Callable[..., Running]


@pytest.fixture(params=[new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def serve_http1(request: pytest.FixtureRequest) -> Iterator[ServeHttp1]:
    """Starts an HTTP/1.1 server, once on each kind of event loop."""
    with contextlib.ExitStack() as stack:

        def serve(handler: HttpHandler = echo, limits: HttpLimits | None = None) -> Running:
            return stack.enter_context(running(handler, limits, request.param))

        yield serve
