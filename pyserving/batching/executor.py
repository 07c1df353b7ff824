"""Where an engine call runs: at once on the event loop while that is known to be quick, else on a thread."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakKeyDictionary

from pyserving.batching.cost import CostEstimate
from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle
from pyserving.platforms.model import Array, Model, Signature

INLINE_SECONDS = 200e-6
"""A run that takes less than this may hold up the event loop: a hop to a thread and back costs about as much."""


class EngineExecutor:
    """Runs signatures for requests.

    The cost of a signature depends on how much it is fed, so it is learned per signature and size of the
    inputs (in powers of two). What is not known yet runs on a thread.
    """

    def __init__(self, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="engine")
        self._costs: WeakKeyDictionary[Signature, dict[int, CostEstimate]] = WeakKeyDictionary()

    async def run(
        self,
        handle: ServableHandle,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: float | None,
    ) -> list[Array]:
        """The named outputs of ``signature``, in that order.

        ``deadline`` is on the clock of ``time.monotonic``. The caller is answered at its deadline; the run
        itself may end later, and keeps the servable loaded until then. Raises ServingError.
        """
        cost = self._cost(signature, inputs)
        if cost.seconds < INLINE_SECONDS:
            if deadline is not None and time.monotonic() >= deadline:
                raise _deadline_exceeded()
            start = time.perf_counter()
            model: Model = handle.servable
            results = model.run(signature, inputs, outputs, inline=True)
            cost.add(time.perf_counter() - start)
            return results
        return await self._run_on_thread(handle, signature, inputs, outputs, deadline, cost)

    async def _run_on_thread(
        self,
        handle: ServableHandle,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: float | None,
        cost: CostEstimate,
    ) -> list[Array]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Array]] = loop.create_future()
        shared = handle.share()

        def job() -> None:
            results: list[Array] | None = None
            error: BaseException | None = None
            try:
                timeout = None if deadline is None else deadline - time.monotonic()
                if future.done() or (timeout is not None and timeout <= 0):
                    error = _deadline_exceeded()  # or nobody is waiting any more: in neither case run it
                else:
                    start = time.perf_counter()
                    results = shared.servable.run(signature, inputs, outputs, timeout=timeout)
                    cost.add(time.perf_counter() - start)
            except BaseException as caught:
                error = caught
            finally:
                shared.release()
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped, nobody waits
                loop.call_soon_threadsafe(_settle, future, results, error)

        try:
            self._threads.submit(job)
        except RuntimeError:
            shared.release()
            raise ServingError(Code.UNAVAILABLE, "the server is stopping") from None
        timer = None
        if deadline is not None:
            timer = loop.call_later(deadline - time.monotonic(), _settle, future, None, _deadline_exceeded())
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()

    def _cost(self, signature: Signature, inputs: Mapping[str, Array]) -> CostEstimate:
        by_size = self._costs.get(signature)
        if by_size is None:
            by_size = self._costs[signature] = {}
        size = sum([array.size for array in inputs.values()]).bit_length()
        cost = by_size.get(size)
        if cost is None:
            cost = by_size[size] = CostEstimate()
        return cost

    def stop(self) -> None:
        """Takes no more work; what runs goes on to its end, on its own."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _settle(future: "asyncio.Future[list[Array]]", results: list[Array] | None, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    elif results is not None:
        future.set_result(results)


def _deadline_exceeded() -> ServingError:
    return ServingError(Code.DEADLINE_EXCEEDED, "the deadline of the request has passed")
