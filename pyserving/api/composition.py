"""Models that ask other models: their requests take the way of clients' requests, but for the wire."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import aclosing, contextmanager

from pyserving.api.models import Models, ModelSpec
from pyserving.api.predict import Engine, check_input_names, find_signature, predict
from pyserving.api.streaming import predict_streamed
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.handle import ServableHandle
from pyserving.core.servable import ServableId
from pyserving.monitoring.observation import current
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.model import Array, Signature
from pyserving.platforms.python.composition import Pieces, Session, Target
from pyserving.platforms.python.values import as_array

_MAX_EDGES = 1024
"""Versions come and go: from so many on it is looked for those that are gone."""

logger = logging.getLogger("pyserving.api")


class Composition:
    """Opens sessions; to be made on the event loop that answers requests."""

    def __init__(self, executor: EngineExecutor, metrics: ServingMetrics, models: Models) -> None:
        self.engine = Engine(executor, metrics, "Predict")
        self.models = models
        self.loop = asyncio.get_running_loop()
        self.edges = CallGraph(models.is_available)

    def open_session(self, servable: ServableId) -> Session:
        """A ``platforms.python.composition.OpenSession``."""
        return _Session(self, servable)


class CallGraph:
    """Which versions asked which others. Two that ask each other could wait for each other without end."""

    def __init__(self, is_available: Callable[[ServableId], bool]) -> None:
        """``is_available``: versions that are gone, and what they asked, count no more."""
        self._is_available = is_available
        self._asked: dict[ServableId, set[ServableId]] = {}
        self._edges = 0

    def add(self, asking: ServableId, asked: ServableId) -> None:
        """Raises FAILED_PRECONDITION if ``asked`` asks, by itself or through others, for ``asking``."""
        if asked in self._asked.get(asking, ()):
            return
        if self._edges >= _MAX_EDGES or self._way(asked, asking):
            self._forget_the_gone()
        if way := self._way(asked, asking):
            circle = " asks ".join(one.name for one in (asking, *way))
            raise ServingError(Code.FAILED_PRECONDITION, f"models ask each other in a circle: {circle}")
        self._asked.setdefault(asking, set()).add(asked)
        self._edges += 1

    def _way(self, start: ServableId, end: ServableId, seen: frozenset[ServableId] = frozenset()) -> list[ServableId]:
        if start == end:
            return [start]
        for following in self._asked.get(start, ()):
            if following not in seen and (way := self._way(following, end, seen | {start})):
                return [start, *way]
        return []

    def _forget_the_gone(self) -> None:
        self._asked = {
            asking: {one for one in asked if self._is_available(one)}
            for asking, asked in self._asked.items()
            if self._is_available(asking)
        }
        self._edges = sum(map(len, self._asked.values()))


class _Session:
    """A ``Session``. The handles belong to the event loop's thread until it is closed."""

    def __init__(self, composition: Composition, servable: ServableId) -> None:
        self._composition = composition
        self._servable = servable
        self._observation = current.get()
        self._handles: dict[Target, ServableHandle] = {}
        self._streams: list[_Pieces] = []
        self._closed = False

    def call(
        self, target: Target, signature: str, inputs: Mapping[str, Array], deadline: float | None
    ) -> "Future[dict[str, Array]]":
        work = self._call(target, signature, inputs, deadline)
        return asyncio.run_coroutine_threadsafe(work, self._composition.loop)

    def stream(self, target: Target, signature: str, inputs: Mapping[str, Array], deadline: float | None) -> Pieces:
        pieces = _Pieces(self._pieces(target, signature, inputs, deadline), self._composition.loop)
        self._streams.append(pieces)
        return pieces

    def close(self) -> None:
        self._closed = True
        for pieces in self._streams:
            pieces.close()
        if self._handles:
            self._composition.loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        for handle in self._handles.values():
            handle.release()
        self._handles.clear()

    async def _call(
        self, target: Target, signature_name: str, inputs: Mapping[str, Array], deadline: float | None
    ) -> dict[str, Array]:
        with self._asking(target) as engine:
            handle, signature, arrays = await self._prepare(target, signature_name, inputs, deadline)
            with handle.share() as held:
                return await predict(engine, held, signature, arrays, tuple(signature.outputs), deadline)

    async def _pieces(
        self, target: Target, signature_name: str, inputs: Mapping[str, Array], deadline: float | None
    ) -> AsyncGenerator[dict[str, Array], None]:
        with self._asking(target) as engine:
            handle, signature, arrays = await self._prepare(target, signature_name, inputs, deadline)
            outputs = tuple(signature.outputs)
            with handle.share() as held:
                async with aclosing(predict_streamed(engine, held, signature, arrays, outputs, deadline)) as pieces:
                    async for piece in pieces:
                        yield piece

    @contextmanager
    def _asking(self, target: Target) -> Iterator[Engine]:
        """Within it, what goes wrong is told as an error of the model that was asked."""
        asked = f"model {target.name}, asked by {self._servable.name}"
        try:
            if self._observation is None:
                yield self._composition.engine
            else:
                with self._observation.child(f"model {target.name}"):
                    yield self._composition.engine
        except ServingError as error:
            # Not found is what the client asked for, and that was found.
            code = Code.FAILED_PRECONDITION if error.code is Code.NOT_FOUND else error.code
            raise ServingError(code, f"{asked}: {error.message}") from None
        except Exception as error:
            logger.error("A call of %s failed", asked, exc_info=error)
            raise ServingError(Code.INTERNAL, f"{asked}: internal error") from None
        finally:
            if self._closed:
                self._release()

    async def _prepare(
        self, target: Target, signature_name: str, inputs: Mapping[str, Array], deadline: float | None
    ) -> tuple[ServableHandle, Signature, dict[str, Array]]:
        handle = await self._handle(target, deadline)
        self._composition.edges.add(self._servable, handle.id)
        signature = find_signature(handle.servable, signature_name)
        check_input_names(signature, inputs.keys())
        arrays = {}
        for name, spec in signature.inputs.items():
            if name in inputs:
                try:
                    arrays[name] = as_array(inputs[name], spec.dtype)
                except ValueError as error:
                    raise invalid_argument(f"input {name}: {error}") from None
        return handle, signature, arrays

    async def _handle(self, target: Target, deadline: float | None) -> ServableHandle:
        handle = self._handles.get(target)
        if handle is None:
            spec = ModelSpec(target.name, target.version, target.label)
            acquired = await self._composition.models.acquired(spec, deadline)
            # Where it had to be loaded, another call of this session may have come first: all see one version.
            handle = self._handles.setdefault(target, acquired)
            if handle is not acquired:
                acquired.release()
        return handle


class _Pieces:
    """``Pieces`` of an async generator on the event loop."""

    def __init__(self, pieces: AsyncGenerator[dict[str, Array], None], loop: asyncio.AbstractEventLoop) -> None:
        self._pieces = pieces
        self._loop = loop
        self._waiting: Future[dict[str, Array] | None] | None = None
        self._running: asyncio.Task[object] | None = None
        self._closed = False

    def next(self) -> "Future[dict[str, Array] | None]":
        self._waiting = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        return self._waiting

    def close(self) -> None:
        """May be called twice."""
        if not self._closed:
            self._closed = True
            if self._waiting is not None:
                self._waiting.cancel()
            asyncio.run_coroutine_threadsafe(self._close(), self._loop)

    async def _next(self) -> dict[str, Array] | None:
        self._running = asyncio.current_task()
        return await anext(self._pieces, None)

    async def _close(self) -> None:
        if self._running is not None:  # a cancelled one is still on its way out
            await asyncio.wait([self._running])
        await self._pieces.aclose()
