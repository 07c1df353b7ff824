"""Answers requests that no client waits for, out of the way of those that clients wait for."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextvars import Context
from typing import Any, TypeVar

from pyserving.api.prediction_methods import PredictionMethods
from pyserving.batching.executor import EngineExecutor
from pyserving.batching.parameters import Batching, BatchingPolicies
from pyserving.core.background import work_in_background
from pyserving.core.errors import Code, ServingError
from pyserving.monitoring.serving_metrics import ServingMetrics

T = TypeVar("T")


class Aside:
    """An event loop on a thread of its own, with engine threads of its own. What it answers is counted nowhere.

    Its methods may be called from any thread.
    """

    def __init__(self, name: str, *, in_background: bool, check_method_names: bool = False) -> None:
        """``in_background``: engines may let its runs step back behind others."""
        self._name = name
        self._in_background = in_background
        self._executor = EngineExecutor(1, BatchingPolicies(Batching.OFF), in_background=in_background)
        self.prediction = PredictionMethods(
            self._executor, ServingMetrics(lambda _: True), check_method_names=check_method_names
        )
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    def run(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Runs ``work`` on the loop. Raises UNAVAILABLE after ``stop``."""
        with self._lock:
            if self._stopped:
                work.close()
                raise ServingError(Code.UNAVAILABLE, "the server is stopping")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True).start()
            # In no request's context: what is done aside is no part of what is seen of a request.
            return Context().run(asyncio.run_coroutine_threadsafe, work, self._loop)

    def stop(self) -> None:
        """What runs is cancelled; an engine call goes on to its end."""
        with self._lock:
            self._stopped = True
            loop = self._loop
        self._executor.stop()
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._in_background:
            work_in_background()
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.close()
