"""Predict whose answer comes piece by piece."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from time import perf_counter

from pyserving.api.predict import Engine, predict
from pyserving.batching.stream import run_stream
from pyserving.core.handle import ServableHandle
from pyserving.platforms.model import Array, Signature


async def predict_streamed(
    engine: Engine,
    handle: ServableHandle,
    signature: Signature,
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    deadline: float | None,
    priority: str = "",
    *,
    wait: float | None = None,
) -> AsyncGenerator[dict[str, Array], None]:
    """As ``api.predict.predict``, with a piece at a time; a signature that does not stream answers with one piece.

    ``wait``: seconds that each piece may take, where that is less than the model's own limit.
    """
    if not signature.streams:
        yield await predict(engine, handle, signature, inputs, outputs, deadline, priority)
        return
    if len(inputs) != len(signature.inputs):
        inputs = {**signature.defaults, **inputs}
    start = perf_counter()
    with engine.executor.streaming(handle):
        pieces = run_stream(handle, signature, inputs, outputs, deadline, wait=wait)
        try:
            async for piece in pieces:
                yield dict(zip(outputs, piece, strict=True))
        finally:
            await pieces.aclose()
    engine.runs.add(handle.id.name, perf_counter() - start)
