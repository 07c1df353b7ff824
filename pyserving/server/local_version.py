"""One version without a server: loaded for a command, and asked the way that clients ask."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from pyserving.api.predict import Engine, check_input_names, find_signature, select_outputs
from pyserving.api.prediction_methods import PredictionMethods
from pyserving.api.recorded import MAX_PIECES, answer_recorded
from pyserving.api.streaming import predict_streamed
from pyserving.batching.executor import EngineExecutor
from pyserving.core.handle import ServableHandle, ServedVersion
from pyserving.core.loader import Loader
from pyserving.core.servable import ServableId
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.model import Array, Model
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.process.isolation import Isolation
from pyserving.platforms.registry import Platforms
from pyserving.sources.model_config import TENSORFLOW_PLATFORM
from pyserving.validation.samples import Method


class LocalVersion:
    """A context manager; to be used by one thread."""

    def __init__(self, loader: Loader, servable: ServableId) -> None:
        """Loads. Raises ServingError."""
        self._loader = loader
        self.model = cast("Model", loader.load())
        self._version = ServedVersion(servable, self.model, lambda: None)
        self._runner = asyncio.Runner()
        metrics = ServingMetrics(lambda _: True)
        self._executor = EngineExecutor(1)
        self._methods = PredictionMethods(self._executor, metrics)
        self._engine = Engine(self._executor, metrics, "Predict")

    def __enter__(self) -> "LocalVersion":
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.stop()
        self._runner.close()
        self._loader.unload()

    def predict(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> list[dict[str, Array]]:
        """The outputs; of a signature that streams, those of each piece, ``MAX_PIECES`` at most. Raises ServingError.

        ``timeout`` is in seconds.
        """
        signature = find_signature(self.model, signature_name)
        check_input_names(signature, inputs.keys())
        known = {name: array for name, array in inputs.items() if name in signature.inputs}
        outputs = select_outputs(signature, output_filter)

        async def collect(handle: ServableHandle) -> list[dict[str, Array]]:
            pieces: list[dict[str, Array]] = []
            stream = predict_streamed(self._engine, handle, signature, known, outputs, _deadline(timeout))
            async with aclosing(stream):
                async for piece in stream:
                    pieces.append(piece)
                    if len(pieces) == MAX_PIECES:
                        break
            return pieces

        with self._version.hold() as handle:  # type: ignore[union-attr]  # it is never closed
            return self._runner.run(collect(handle))

    def answer(self, method: Method, request: Any, timeout: float | None = None) -> list[bytes]:
        """The serialized answers to a request message, of which there is one unless it streams. Raises ServingError."""
        with self._version.hold() as handle:  # type: ignore[union-attr]
            return list(self._runner.run(answer_recorded(self._methods, handle, method, request, _deadline(timeout))))


def load_here(folder: str, servable: ServableId, context: PlatformContext) -> LocalVersion:
    """The version in ``folder``, in this process. Raises ServingError."""
    return LocalVersion(Platforms(context).loader(servable, folder, TENSORFLOW_PLATFORM), servable)


def load_in_process(
    folder: str,
    servable: ServableId,
    context: PlatformContext,
    *,
    load_time_limit: float,
    memory_limit: int | None = None,
) -> LocalVersion:
    """The version in ``folder``, in a process of its own, which may crash, hang or run out of memory.

    ``load_time_limit`` is in seconds, ``memory_limit`` in bytes. Raises ServingError.
    """
    isolation = Isolation(load_time_limit, memory_limit)
    return LocalVersion(Platforms(context).loader(servable, folder, TENSORFLOW_PLATFORM, isolation), servable)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout
