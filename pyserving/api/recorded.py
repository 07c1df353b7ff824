"""Requests that were recorded, answered as clients' requests are, by a version that is held."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from pyserving.api.predict_call import predict_call
from pyserving.api.prediction_methods import PredictionMethods
from pyserving.core.handle import ServableHandle
from pyserving.validation.samples import Method

MAX_PIECES = 100
"""Of an answer that streams no more are waited for: it may have no end."""


async def answer_recorded(
    prediction: PredictionMethods, handle: ServableHandle, method: Method, request: Any, deadline: float | None = None
) -> Sequence[bytes]:
    """The serialized response, whatever model the request names; of an answer that streams, its pieces.

    ``request``: a message of the method. ``deadline``: on the clock of ``time.monotonic``. Raises ServingError.
    """
    match method:
        case Method.PREDICT:
            return [await prediction.predict(handle, predict_call(request), deadline)]
        case Method.CLASSIFY:
            return [await prediction.classify(handle, request, deadline)]
        case Method.REGRESS:
            return [await prediction.regress(handle, request, deadline)]
        case Method.MULTI_INFERENCE:
            return [await prediction.multi_inference(handle, request, deadline)]
        case Method.PREDICT_STREAMED:
            pieces = []
            async with aclosing(prediction.predict_streamed(handle, request, deadline)) as answer:
                async for piece in answer:
                    pieces.append(piece)
                    if len(pieces) == MAX_PIECES:
                        break
            return pieces
