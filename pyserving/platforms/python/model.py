"""A servable that is Python code, in this process."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from pyserving.authoring import Model
from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Array, Outlet, Signature, StreamCancelled
from pyserving.platforms.python.composition import OpenSession, request_of
from pyserving.platforms.python.signatures import ONLY_OUTPUT, BoundSignature, read_signatures
from pyserving.platforms.python.source_file import forget
from pyserving.platforms.python.time_limit import within
from pyserving.platforms.python.values import from_author, to_author
from pyserving.platforms.signature_def import signature_defs
from pyserving.protos.messages import SignatureDef

logger = logging.getLogger("pyserving.python")


class PythonModel:
    """A ``StreamingModel`` whose signatures are methods of an author's object."""

    def __init__(self, servable: ServableId, module: ModuleType, author: Model, open_session: OpenSession) -> None:
        """``author`` was loaded; its class is of ``module``. Raises ServingError for settings that cannot be."""
        cls = type(author)
        for name in ("concurrency", "time_limit"):
            value = getattr(cls, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ServingError(Code.FAILED_PRECONDITION, f"{cls.__name__}.{name} must be above 0, not {value!r}")
        self._id = servable
        self._module = module
        self._author = author
        self._open_session = open_session
        self._bound = read_signatures(cls)
        self.signatures: Mapping[str, Signature] = {name: bound.signature for name, bound in self._bound.items()}
        self.signature_defs: Mapping[str, SignatureDef] = signature_defs(self.signatures)
        self.time_limit = float(cls.time_limit)
        self.concurrency = int(cls.concurrency)
        self.threads = ThreadPoolExecutor(self.concurrency, thread_name_prefix=f"python-{servable.name}")
        self._loop = _LoopThread() if any(bound.is_async for bound in self._bound.values()) else None

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        inline: bool = False,  # noqa: ARG002 - no signature of this platform is steady
    ) -> list[Array]:
        """See ``Model.run``. ``timeout`` bounds what the code asks of other models, and code that is ``async``."""
        bound = self._bound[signature.name]
        if signature.streams:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"signature {signature.name} streams its answer: ask for it by PredictStreamed, or over REST with "
                "Accept: text/event-stream or application/x-ndjson",
            )
        limit = self._limit(timeout)
        with self._guard(limit):
            answer = self._method(bound)(**_arguments(bound, inputs))
            if isinstance(answer, Coroutine):
                answer = self._wait(answer, limit)
            return _values(bound, answer, outputs)

    def stream(self, signature: Signature, inputs: Mapping[str, Array], outputs: Sequence[str], outlet: Outlet) -> None:
        """See ``StreamingModel.stream``. A plain generator is closed where it yields, an async one where it waits."""
        bound = self._bound[signature.name]
        with self._guard(None):
            pieces = self._method(bound)(**_arguments(bound, inputs))
            if bound.is_async:
                pieces = _Pull(pieces, self._async_loop, outlet)
            try:
                for piece in pieces:
                    outlet.put(_values(bound, piece, outputs))
            finally:
                pieces.close()

    def close(self) -> None:
        """Lets the author's object give back what it holds. No run may be going on."""
        try:
            within(type(self._author).load_time_limit, self._author.unload, late=lambda _: None)
        except TimeoutError:
            logger.error("unload() of %s did not return in time", self._id)
        except BaseException:
            logger.exception("unload() of %s failed", self._id)
        self.threads.shutdown(wait=False, cancel_futures=True)
        if self._loop is not None:
            self._loop.stop()
        vars(self._author).clear()  # it may refer to itself, and what it holds is not to wait for the garbage collector
        forget(self._module)

    def _method(self, bound: BoundSignature) -> Any:
        return getattr(self._author, bound.method)

    @property
    def _async_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop.loop

    def _limit(self, timeout: float | None) -> float:
        return self.time_limit if timeout is None else min(timeout, self.time_limit)

    def _wait(self, coroutine: Coroutine[Any, Any, Any], limit: float) -> Any:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._async_loop)
        try:
            return future.result(limit)
        except TimeoutError:
            if future.done():
                raise  # it was the code's own
            future.cancel()
            raise ServingError(Code.DEADLINE_EXCEEDED, f"model code took longer than {limit:g} s") from None

    @contextmanager
    def _guard(self, timeout: float | None) -> Iterator[None]:
        """Around the author's code: what it raises becomes an error that may be told."""
        try:
            with request_of(self._id, self._open_session, timeout):
                yield
        except (ServingError, StreamCancelled):
            raise
        except BaseException as error:
            raise told(self._id, error) from None


def told(servable: ServableId, error: BaseException) -> ServingError:
    """What clients hear of an exception in model code; the log gets all of it."""
    logger.error("Model code of %s failed", servable, exc_info=error)
    if isinstance(error, MemoryError):
        return ServingError(Code.RESOURCE_EXHAUSTED, "model code ran out of memory")
    return ServingError(Code.INTERNAL, f"model code raised {type(error).__name__}")


def _arguments(bound: BoundSignature, inputs: Mapping[str, Array]) -> dict[str, Array]:
    specs = bound.signature.inputs
    return {name: to_author(specs[name], kind, inputs[name]) for name, kind in bound.inputs.items()}


def _values(bound: BoundSignature, answer: Any, outputs: Sequence[str]) -> list[Array]:
    """The named outputs of what a method returned. Raises INTERNAL where it is not what its annotation says."""
    specs = bound.signature.outputs
    if bound.bare:
        answer = {ONLY_OUTPUT: answer}
    elif not isinstance(answer, Mapping) or answer.keys() != specs.keys():
        given = sorted(map(str, answer)) if isinstance(answer, Mapping) else type(answer).__name__
        raise ServingError(
            Code.INTERNAL, f"model code returned the wrong outputs: expected {sorted(specs)}, got {given}"
        )
    values = []
    for name in outputs:
        try:
            values.append(from_author(specs[name], answer[name]))
        except ValueError as error:
            raise ServingError(Code.INTERNAL, f"model code returned a wrong output {name}: {error}") from None
    return values


class _Pull:
    """Fetches the pieces of an async generator from another thread than its loop's."""

    def __init__(self, pieces: AsyncGenerator[Any, None], loop: asyncio.AbstractEventLoop, outlet: Outlet) -> None:
        """Who cancels ``outlet`` ends the generator where it waits."""
        self._pieces = pieces
        self._loop = loop
        self._waiting: Future[Any] | None = None
        self._running: asyncio.Task[Any] | None = None
        self._cancelled = False
        outlet.on_cancel(self._cancel)

    def __iter__(self) -> "_Pull":
        return self

    def __next__(self) -> Any:
        self._waiting = future = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        if self._cancelled:
            future.cancel()
        try:
            piece = future.result()
        except CancelledError:
            if self._cancelled:
                raise StreamCancelled from None
            raise
        if piece is _END:
            raise StopIteration
        return piece

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    async def _next(self) -> Any:
        self._running = asyncio.current_task()
        return await anext(self._pieces, _END)

    async def _close(self) -> None:
        if self._running is not None:  # a cancelled one is still on its way out
            await asyncio.wait([self._running])
        await self._pieces.aclose()

    def _cancel(self) -> None:
        self._cancelled = True
        if self._waiting is not None:
            self._waiting.cancel()


_END = object()


class _LoopThread:
    """The event loop of one model's ``async`` methods: one that stands still holds up that model alone."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="python-async", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
