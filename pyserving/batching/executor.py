"""Where and with what an engine call runs: at once on the event loop, on a thread, or joined with others."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from weakref import WeakKeyDictionary, WeakValueDictionary

from pyserving.batching.admission import Admission, Lane
from pyserving.batching.automatic_queue import AutomaticQueue
from pyserving.batching.batch_run import BatchRun
from pyserving.batching.batch_size import BatchSize
from pyserving.batching.cost import CostEstimate
from pyserving.batching.fair_threads import RESERVE, FairThreads, Share
from pyserving.batching.parameters import Batching, BatchingParameters, BatchingPolicies, Policy
from pyserving.batching.priority import read_priority
from pyserving.batching.queue import BatchQueue, Slots
from pyserving.batching.refusal import Refusal
from pyserving.batching.request import Outcome, Part, Request, deadline_exceeded, waits
from pyserving.batching.rows import Inputs, Key, count_rows, fit, join_key
from pyserving.core.background import work_in_background
from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle
from pyserving.monitoring.observation import Computation, Run, current
from pyserving.platforms.memory import claim_heap
from pyserving.platforms.model import INLINE_SECONDS, Array, Model, Signature, ThreadedModel

logger = logging.getLogger("pyserving.batching")

BATCH_THREADS, ENGINE_THREADS = "batch_threads", "engine_threads"
"""Names under which it is counted how long requests waited: for a batch by parameters, or an automatic one."""


class EngineExecutor:
    """Runs signatures for requests. Used on one event loop.

    The cost of a signature depends on how much it is fed, so it is learned per signature and size of the
    inputs (in powers of two). What is not known yet runs on a thread.
    """

    def __init__(
        self,
        num_threads: int,
        policies: BatchingPolicies | None = None,
        observe_waits: Callable[[str, Sequence[float]], None] | None = None,
        *,
        in_background: bool = False,
        admission: Admission | None = None,
    ) -> None:
        """``num_threads``: calls that may run at once, besides the batch threads of ``policies``, and one more for each
        model of which none runs.

        ``observe_waits`` is told, for each batch that begins, the name of its threads and how long each of its
        requests waited, in microseconds. ``in_background``: engines may let those calls step back behind the calls of
        other executors. ``admission``: which requests may wait; by default all.
        """
        self._observe_waits = observe_waits or (lambda _name, _micros: None)
        self._policies = policies or BatchingPolicies()
        mark = work_in_background if in_background else claim_heap
        self._admission = admission or Admission()
        self._threads = FairThreads(num_threads, 0 if in_background else RESERVE, initializer=mark)
        num_batch_threads = self._policies.num_batch_threads
        self._batch_threads = ThreadPoolExecutor(num_batch_threads, thread_name_prefix="batch", initializer=mark)
        self._batch_slots = Slots(num_batch_threads)
        # Values that refer to their key would keep it for ever.
        self._states: WeakKeyDictionary[Signature, _SignatureState] = WeakKeyDictionary()
        self._shares: WeakValueDictionary[str, Share] = WeakValueDictionary()

    async def run(
        self,
        handle: ServableHandle,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: float | None,
        priority: str = "",
    ) -> list[Array]:
        """The named outputs of ``signature``, in that order.

        ``deadline`` is on the clock of ``time.monotonic``. The caller is answered at its deadline; the run
        itself may end later, and keeps the servable loaded until then. ``priority`` is as the client named it. Raises
        ServingError, with RESOURCE_EXHAUSTED where a limit keeps the request out.
        """
        model: Model = handle.servable
        state = self._states.get(signature)
        if state is None:
            name = handle.id.name
            state = self._states[signature] = _SignatureState(
                signature, handle, self._policies.of(model, name), self._admission.lane(name), self._share(name)
            )
        observation = current.get()
        observed = None if observation is None else observation.run(handle.id.name, handle.id.version, signature.name)
        if state.parameters is None and signature.steady:
            cost = state.cost(inputs)
            if cost.inline:
                if deadline is not None and time.monotonic() >= deadline:
                    raise deadline_exceeded()
                start = time.perf_counter()
                results = model.run(signature, inputs, outputs, inline=True)
                seconds = time.perf_counter() - start
                cost.add(seconds)
                if observed is not None:
                    observed.computed_inline(seconds, count_rows(inputs) or 0)
                return results
        return await self._run_on_thread(state, handle, signature, inputs, outputs, deadline, priority, observed)

    @contextlib.contextmanager
    def streaming(self, handle: ServableHandle) -> Iterator[None]:
        """Within it, a streamed answer is counted as a request in flight. Raises RESOURCE_EXHAUSTED."""
        lane = self._admission.lane(handle.id.name)
        lane.enter()
        try:
            yield
        finally:
            lane.exit()

    def _share(self, name: str) -> Share:
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = Share()
        return share

    async def call(
        self,
        handle: ServableHandle,
        work: Callable[[float | None], list[Array]],
        deadline: float | None,
        priority: str = "",
    ) -> list[Array]:
        """What ``work`` returns, run on a thread; its argument is how long it may take, in seconds.

        For engine calls that are no run of a signature: nothing is learned of them, and they are never joined.
        ``deadline``, handle and errors are as in ``run``.
        """
        loop = asyncio.get_running_loop()
        lane = self._admission.lane(handle.id.name)
        observation = current.get()
        observed = None if observation is None else observation.run(handle.id.name, handle.id.version, "")
        request = Request(loop.create_future(), {}, 1, deadline, read_priority(priority, lane.terms.priority), observed)
        shared = handle.share()

        def settle(outcome: Outcome) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped, nobody waits
                loop.call_soon_threadsafe(request.settle, outcome)

        def job() -> None:
            began = lane.begin([request])
            try:
                timeout = None if deadline is None else deadline - time.monotonic()
                if timeout is not None and timeout <= 0:
                    settle(deadline_exceeded())
                elif observed is None:
                    settle(work(timeout))
                else:
                    with Computation([observed], 1, 0, time.monotonic()):
                        outcome = work(timeout)
                    settle(outcome)
            except BaseException as error:
                settle(error)
            finally:
                lane.end([request], began)
                shared.release()

        def dropped() -> None:
            shared.release()
            settle(_stopping())

        timer = None
        try:
            lane.admit(request, math.inf)
        except ServingError:
            shared.release()
            raise
        try:
            try:
                self._threads.submit(self._share(handle.id.name), request.priority, job, dropped)
            except RuntimeError:
                shared.release()
                raise _stopping() from None
            if deadline is not None:
                timer = loop.call_later(deadline - time.monotonic(), request.settle, deadline_exceeded())
            return await request.future
        finally:
            if observed is not None:
                observed.end()
            lane.leave(request)
            if timer is not None:
                timer.cancel()

    async def _run_on_thread(
        self,
        state: "_SignatureState",
        handle: ServableHandle,
        signature: Signature,
        inputs: Inputs,
        outputs: Sequence[str],
        deadline: float | None,
        priority: str,
        observed: Run | None,
    ) -> list[Array]:
        loop = asyncio.get_running_loop()
        work = _Work(state, signature, tuple(outputs))
        rows = count_rows(inputs) if state.joins and not work.refusal.refused else None
        limit = None if state.time_limit is None else time.monotonic() + state.time_limit
        late = deadline_exceeded
        if limit is not None and (deadline is None or limit < deadline):
            deadline, late = limit, state.limit_exceeded
        lane = state.lane
        request = Request(
            loop.create_future(), inputs, rows or 1, deadline, read_priority(priority, lane.terms.priority), observed
        )
        lane.admit(request, state.cost(inputs).seconds)
        key: Key = ()
        queue = timer = None
        try:
            if rows is not None:
                key = (id(handle.servable), work.outputs, *join_key(inputs, pad=state.pads))
                queue = state.queues.get(key)
                # What is known of rows that have the shapes of the signature may not hold for others.
                if queue is None and (state.parameters is not None or fit(inputs, signature)):
                    queue = state.queues[key] = self._new_queue(work, inputs, key)
            if deadline is not None:
                timer = loop.call_later(deadline - time.monotonic(), lambda: request.settle(late()))
            if queue is not None:
                queue.add(request, handle)
            else:
                parts = request.split([request.rows], handle)
                self._submit(state, state.threads, work.batch(parts, None), lambda: None)
            return await request.future
        finally:
            if observed is not None:
                observed.end()
            lane.leave(request)
            if timer is not None:
                timer.cancel()
            if queue is not None:
                queue.discard(request)
                state.forget_if_idle(key, queue)

    def _new_queue(self, work: "_Work", inputs: Inputs, key: Key) -> BatchQueue | AutomaticQueue:
        state = work.state
        parameters = state.parameters
        if parameters is not None:

            def release() -> None:
                by_parameters.release()
                state.forget_if_idle(key, by_parameters)

            def start(parts: list[Part]) -> None:
                self._observe_waits(BATCH_THREADS, waits(parts))
                self._submit(state, self._batch_threads, work.batch(parts, parameters), release)

            by_parameters = BatchQueue(parameters, self._batch_slots, start)
            return by_parameters

        def start_automatic(parts: list[Part], on_done: Callable[[], None]) -> None:
            waited = waits(parts)

            def done() -> None:
                on_done()
                state.forget_if_idle(key, automatic)

            self._submit(state, state.threads, work.batch(parts, None), done)
            self._observe_waits(ENGINE_THREADS, waited)  # while the thread wakes up

        automatic = AutomaticQueue(state.batch_size(work.outputs, inputs), start_automatic)
        return automatic

    def _submit(
        self, state: "_SignatureState", threads: Executor | None, batch: BatchRun, on_done: Callable[[], None]
    ) -> None:
        """Runs a batch on one of ``threads``, or of those that models share; releases its handles and calls ``on_done``
        on the event loop."""
        loop = asyncio.get_running_loop()
        lane = state.lane
        requests = [part.request for part in batch.parts]

        def call_soon(callback: Callable[..., None], *arguments: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped, nobody waits
                loop.call_soon_threadsafe(callback, *arguments)

        def job() -> None:
            began = lane.begin(requests)
            batch.run(partial(call_soon, _settle))
            lane.end(requests, began)
            end()

        def end() -> None:
            for part in batch.parts:
                part.handle.release()
            call_soon(on_done)

        def stopped() -> None:
            error = _stopping()
            call_soon(_settle, [(part.settle, error) for part in batch.parts])
            end()

        try:
            if threads is None:
                self._threads.submit(state.share, min(request.priority for request in requests), job, stopped)
            else:
                threads.submit(job).add_done_callback(lambda done: stopped() if done.cancelled() else None)
        except RuntimeError:
            stopped()

    def stop(self) -> None:
        """Takes no more work; what runs goes on to its end, on its own, and what waits is answered UNAVAILABLE."""
        self._threads.stop()
        self._batch_threads.shutdown(wait=False, cancel_futures=True)


class _SignatureState:
    """What is learned about a signature, and what waits for it. It must not refer to the signature: see its holder."""

    __slots__ = (
        *("_batch_sizes", "_costs", "_label", "_refusals"),
        *("joins", "lane", "pads", "parameters", "queues", "share", "threads", "time_limit"),
    )

    def __init__(self, signature: Signature, handle: ServableHandle, policy: Policy, lane: Lane, share: Share) -> None:
        model: Model = handle.servable
        self.lane = lane
        self.share = share
        own = model if isinstance(model, ThreadedModel) else None
        self.threads = None if own is None else own.threads
        """None: those that models share."""
        self.time_limit = None if own is None else own.time_limit
        # Batches by parameters share a number of threads, and a run that waits for another model's could take the last.
        self.parameters = policy if isinstance(policy, BatchingParameters) and own is None else None
        automatic = policy is Batching.AUTOMATIC or signature.row_wise_promised
        self.joins = self.parameters is not None or (automatic and signature.row_wise)
        """Whether requests may be joined, until a batch shows that they cannot."""
        self.pads = self.parameters is not None and self.parameters.pad_variable_length_inputs
        self.queues: dict[Key, BatchQueue | AutomaticQueue] = {}
        """By outputs and shapes, those in use."""
        self._costs: dict[int, CostEstimate] = {}
        self._batch_sizes: dict[Key, BatchSize] = {}
        self._refusals: dict[tuple[str, ...], Refusal] = {}
        self._label = f"signature {signature.name} of {handle.id}"

    def cost(self, inputs: Inputs) -> CostEstimate:
        elements = 0
        for array in inputs.values():  # for a few, a loop is quicker than what makes a frame of its own
            elements += array.size
        size = elements.bit_length()
        cost = self._costs.get(size)
        if cost is None:
            cost = self._costs[size] = CostEstimate(INLINE_SECONDS)
        return cost

    def observe(self, inputs: Inputs, seconds: float) -> None:
        self.cost(inputs).add(seconds)

    def batch_size(self, outputs: tuple[str, ...], inputs: Inputs) -> BatchSize:
        """For these outputs, and inputs with rows of this size (in powers of two)."""
        key = (outputs, sum([array.size // len(array) for array in inputs.values()]).bit_length())
        size = self._batch_sizes.get(key)
        if size is None:
            size = self._batch_sizes[key] = BatchSize()
        return size

    def refusal(self, outputs: tuple[str, ...]) -> Refusal:
        refusal = self._refusals.get(outputs)
        if refusal is None:
            refusal = self._refusals[outputs] = Refusal(self._label)
        return refusal

    def limit_exceeded(self) -> ServingError:
        logger.warning("A run of %s takes longer than its time limit of %g s", self._label, self.time_limit)
        return ServingError(
            Code.DEADLINE_EXCEEDED, f"the model took longer than its time limit of {self.time_limit:g} s"
        )

    def forget_if_idle(self, key: Key, queue: BatchQueue | AutomaticQueue) -> None:
        if queue.idle and self.queues.get(key) is queue:
            del self.queues[key]


class _Work:
    """What the requests of one batch have in common."""

    __slots__ = ("outputs", "refusal", "signature", "state")

    def __init__(self, state: _SignatureState, signature: Signature, outputs: tuple[str, ...]) -> None:
        self.state = state
        self.signature = signature
        self.outputs = outputs
        self.refusal = state.refusal(outputs)

    def batch(self, parts: list[Part], parameters: BatchingParameters | None) -> BatchRun:
        state = self.state
        return BatchRun(self.signature, self.outputs, parts, self.refusal, parameters, state.observe, state.lane)


def _stopping() -> ServingError:
    return ServingError(Code.UNAVAILABLE, "the server is stopping")


def _settle(outcomes: Sequence[tuple[Callable[[Outcome], None], Outcome]]) -> None:
    for settle, outcome in outcomes:
        settle(outcome)
