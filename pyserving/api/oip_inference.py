"""An inference request of the Open Inference Protocol, from its tensors to the answer's."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import TypeVar

from pyserving.api.long_work import LONG_TENSORS, on_thread, size_of
from pyserving.api.models import Models, ModelSpec
from pyserving.api.oip_models import check_inputs, find_signature
from pyserving.api.oip_statistics import OipStatistics, Watch
from pyserving.api.predict import Engine, check_predict_method_name, predict, select_outputs
from pyserving.api.request_log import LogType
from pyserving.api.rest_messages import predict_messages
from pyserving.api.status_name import status_name
from pyserving.api.streaming import predict_streamed
from pyserving.api.tap import Tap
from pyserving.api.traffic import Headers
from pyserving.batching.executor import EngineExecutor
from pyserving.core.servable import ServableId
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.model import Array
from pyserving.wire.oip_request import InferRequest

T = TypeVar("T")

Results = Mapping[str, Array]


class OipInference:
    """The way of all requests for inference, whichever port they came to."""

    def __init__(
        self,
        models: Models,
        executor: EngineExecutor,
        metrics: ServingMetrics,
        taps: Mapping[str, Tap],
        statistics: OipStatistics,
        *,
        check_method_names: bool = False,
    ) -> None:
        """``taps``: what looks on at the answers, by model. ``check_method_names``: see Engine."""
        self._models = models
        self._metrics = metrics
        self._taps = taps
        self._statistics = statistics
        self._engine = Engine(executor, metrics, "ModelInfer", check_method_names=check_method_names)
        self._stream_engine = Engine(executor, metrics, "ModelStreamInfer", check_method_names=check_method_names)

    async def infer(
        self,
        spec: ModelSpec,
        request: InferRequest,
        headers: Headers,
        deadline: float | None,
        priority: str,
        write: Callable[[ServableId, Results], T],
        read_seconds: float,
    ) -> T:
        """What ``write`` makes of the results; it took ``read_seconds`` to read the request. Raises ServingError."""
        deadline = earlier(deadline, request.timeout)
        with await self._models.acquired(spec, deadline, headers) as handle:
            signature = find_signature(handle.servable, request.signature_name)
            check_predict_method_name(self._engine, signature)
            check_inputs(signature, request.inputs)
            outputs = select_outputs(signature, [output.name for output in request.outputs])
            start = time.perf_counter()
            try:
                results = await predict(self._engine, handle, signature, request.inputs, outputs, deadline, priority)
                computed = time.perf_counter()
                long = size_of(results) >= LONG_TENSORS
                answer = await on_thread(write, handle.id, results) if long else write(handle.id, results)
            except BaseException:
                self._statistics.failed(handle.id, read_seconds + time.perf_counter() - start)
                raise
            watch = Watch(read_seconds, computed - start, time.perf_counter() - computed)
            self._statistics.succeeded(handle.id, watch)
            if tap := self._taps.get(handle.id.name):
                tap.add(
                    LogType.PREDICT,
                    handle.id,
                    signature.name,
                    partial(predict_messages, spec, signature.name, request.inputs, handle.id, results),
                )
            return answer

    async def stream(
        self, spec: ModelSpec, request: InferRequest, headers: Headers, deadline: float | None, priority: str
    ) -> AsyncGenerator[tuple[ServableId, Results], None]:
        """The pieces of an answer; that of a signature that does not stream is one piece."""
        deadline = earlier(deadline, request.timeout)
        with await self._models.acquired(spec, deadline, headers) as handle:
            signature = find_signature(handle.servable, request.signature_name)
            check_predict_method_name(self._stream_engine, signature)
            check_inputs(signature, request.inputs)
            outputs = select_outputs(signature, [output.name for output in request.outputs])
            tap = self._taps.get(handle.id.name)
            log = tap.stream(handle.id, signature.name) if tap else None
            pieces = predict_streamed(
                self._stream_engine, handle, signature, request.inputs, outputs, deadline, priority
            )
            start = time.perf_counter()
            try:
                async with aclosing(pieces):
                    async for piece in pieces:
                        if log:
                            log.add(partial(predict_messages, spec, signature.name, request.inputs, handle.id, piece))
                        yield handle.id, piece
            except BaseException:
                self._statistics.failed(handle.id, time.perf_counter() - start)
                raise
            self._statistics.succeeded(handle.id, Watch(infer=time.perf_counter() - start))
            if log:
                log.end()

    def failed(self, name: str, error: BaseException) -> None:
        """A request for this model did not end well."""
        self._metrics.request_failed(name, status_name(error))


def earlier(deadline: float | None, timeout: float | None) -> float | None:
    """``deadline``, or the end of ``timeout`` seconds from now where that comes first."""
    if timeout is None:
        return deadline
    end = time.monotonic() + timeout
    return end if deadline is None else min(deadline, end)
