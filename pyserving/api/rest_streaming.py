"""Predict over REST whose answer comes piece by piece, where the client's Accept header asks for that.

Each piece is what the body of a predict answer would be: a line of NDJSON, or a server-sent event. What goes wrong
before the first piece is an ordinary error; after it, the last piece is ``{"error": ...}``.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter

from pyserving.api.exchange import HttpRequest, StreamedResponse
from pyserving.api.long_work import LONG_BODY, on_thread
from pyserving.api.models import Models, ModelSpec
from pyserving.api.predict import Engine, check_predict_method_name, find_rest_signature
from pyserving.api.rest_messages import predict_messages
from pyserving.api.status_name import status_name
from pyserving.api.streaming import predict_streamed
from pyserving.api.tap import Tap
from pyserving.api.traffic import Headers
from pyserving.core.errors import ServingError
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.model import Array
from pyserving.wire.json_request import PredictBody, parse_predict
from pyserving.wire.json_writer import write_error, write_predict

logger = logging.getLogger("pyserving.api")


@dataclass(frozen=True, slots=True)
class Framing:
    """How pieces stand in the body."""

    content_type: str
    piece: Callable[[bytes], bytes]
    error: Callable[[bytes], bytes]


_FRAMINGS: Mapping[str, Framing] = {
    "text/event-stream": Framing(
        "text/event-stream", lambda text: b"data: %b\n\n" % text, lambda text: b"event: error\ndata: %b\n\n" % text
    ),
    "application/x-ndjson": Framing("application/x-ndjson", lambda text: text + b"\n", lambda text: text + b"\n"),
}


def framing_of(accept: str) -> Framing | None:
    """The first of the media types in an Accept header that asks for a stream; None where none does."""
    if accept == "*/*":
        return None
    kinds = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return next((_FRAMINGS[kind] for kind in kinds if kind in _FRAMINGS), None)


class RestStreaming:
    """Answers predict requests with streams."""

    def __init__(
        self,
        models: Models,
        engine: Engine,
        metrics: ServingMetrics,
        timeout: float,
        headers: Sequence[tuple[str, str]],
        taps: Mapping[str, Tap],
    ) -> None:
        """``timeout``: seconds that each piece may take. ``taps``: see RestApi."""
        self._taps = taps
        self._models = models
        self._engine = engine
        self._metrics = metrics
        self._answers = metrics.answers("PredictStreamed", "REST")
        self._timeout = timeout
        # The second is for nginx, which would hold pieces back.
        self._headers = (*headers, ("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))

    async def answer(self, spec: ModelSpec, request: HttpRequest, framing: Framing) -> StreamedResponse:
        """Raises ServingError where there is no first piece."""
        body = request.body
        parsed = await on_thread(parse_predict, body) if len(body) >= LONG_BODY else parse_predict(body)
        pieces = self._framed(spec, parsed, request.headers, framing)
        await anext(pieces)
        return StreamedResponse(pieces, framing.content_type, self._headers)

    async def _texts(self, spec: ModelSpec, body: PredictBody, headers: Headers) -> AsyncGenerator[bytes, None]:
        """The JSON text of each piece."""
        start = perf_counter()
        deadline = monotonic() + self._timeout
        try:
            acquired = self._models.acquire(spec, headers)
        except ServingError as error:
            await on_thread(body.check)
            acquired = await self._models.loaded(spec, deadline, headers, error)
        with acquired as handle:
            try:
                signature = find_rest_signature(handle.servable, body.signature_name)
            except ServingError:
                await on_thread(body.check)
                raise
            inputs, row = await on_thread(body.tensors, signature.inputs)
            check_predict_method_name(self._engine, signature)
            outputs = tuple(signature.outputs)
            tap = self._taps.get(handle.id.name)
            log = tap.stream(handle.id, signature.name) if tap else None
            pieces: AsyncGenerator[dict[str, Array], None] = predict_streamed(
                self._engine, handle, signature, inputs, outputs, None, wait=self._timeout
            )
            async with aclosing(pieces):
                async for piece in pieces:
                    if log:
                        log.add(partial(predict_messages, spec, signature.name, inputs, handle.id, piece))
                    yield write_predict(piece, row)
            if log:
                log.end()
        self._answers.add(spec.name, perf_counter() - start)

    async def _framed(
        self, spec: ModelSpec, body: PredictBody, headers: Headers, framing: Framing
    ) -> AsyncGenerator[bytes, None]:
        """First an empty piece, once it is sure that there is no error before the first one."""
        begun = False
        async with aclosing(self._texts(spec, body, headers)) as texts:
            try:
                async for text in texts:
                    if not begun:
                        begun = True
                        yield b""
                    yield framing.piece(text)
            except Exception as error:
                if not begun:
                    raise
                self._metrics.request_failed(spec.name, status_name(error))
                if not isinstance(error, ServingError):
                    logger.error("A streamed answer broke off", exc_info=error)
                yield framing.error(write_error(error.message if isinstance(error, ServingError) else "internal error"))
        if not begun:
            yield b""
