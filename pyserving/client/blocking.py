"""``Client``: ``AsyncClient`` for code that waits, on an event loop of its own."""

import asyncio
import os
import time
import weakref
from collections.abc import Coroutine, Generator, Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from pyserving.client.address import Address
from pyserving.client.aio import DEFAULT_SIGNATURE, AsyncClient, spec_of
from pyserving.client.answers import Class, ModelMetadata, Prediction, VersionStatus
from pyserving.client.errors import CLOSED
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.model import Array
from pyserving.protos.messages import ModelServerConfig

T = TypeVar("T")


class Client:
    """Asks PyServing or TensorFlow Serving over REST or gRPC. May be used from any threads, also inside event loops.

    Takes what ``AsyncClient`` takes, and has its methods, which wait here. One thread does the work of all calls;
    only ``predict`` over gRPC, of one server, is done by the caller's. A process that was forked gets connections of
    its own.
    """

    def __init__(self, *addresses: str, **options: Any) -> None:
        self._made = (addresses, options)
        self._lock = Lock()
        self._closed = False
        self._runner: _Runner | None = None
        AsyncClient(*addresses, **options)  # what is wrong with them is said here

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections; calls that run in other threads end with CANCELLED. May be called twice."""
        with self._lock:
            self._closed = True
            runner, self._runner = self._runner, None
        if runner is not None and runner.pid == os.getpid():
            runner.run(runner.client.close())
            runner.stop()

    def predict(
        self,
        model: str,
        inputs: Any,
        *,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Prediction:
        """See ``AsyncClient.predict``."""
        runner = self._running()
        client = runner.client
        spec, seconds, begun = spec_of(model, version, label), client.limit(timeout), time.monotonic()
        known = client.known(spec)
        failure: ServingError | None = None
        try:
            answer = client.predict_here(spec, known, inputs, signature, outputs, seconds)
            if answer is not None:
                return answer
        except ServingError as error:
            failure = error
        left = max(seconds - (time.monotonic() - begun), 0.001)
        return runner.run(client.predict_again(spec, known, inputs, signature, outputs, left, failure))

    def predict_streamed(
        self,
        model: str,
        inputs: Any,
        *,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Generator[Prediction, None, None]:
        """See ``AsyncClient.predict_streamed``."""
        runner = self._running()
        pieces = runner.client.predict_streamed(
            model, inputs, signature=signature, version=version, label=label, outputs=outputs, timeout=timeout
        )
        try:
            while True:
                try:
                    yield runner.run(anext(pieces))
                except StopAsyncIteration:
                    return
        finally:
            with suppress(ServingError):  # the client may be closed by now
                runner.run(pieces.aclose())

    def classify(
        self,
        model: str,
        examples: Iterable[Any],
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> list[list[Class]]:
        """See ``AsyncClient.classify``."""
        runner = self._running()
        return runner.run(
            runner.client.classify(model, examples, signature=signature, version=version, label=label, timeout=timeout)
        )

    def regress(
        self,
        model: str,
        examples: Iterable[Any],
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Array:
        """See ``AsyncClient.regress``."""
        runner = self._running()
        return runner.run(
            runner.client.regress(model, examples, signature=signature, version=version, label=label, timeout=timeout)
        )

    def multi_inference(
        self,
        model: str,
        tasks: Iterable[tuple[str, str]],
        examples: Iterable[Any],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> list[list[list[Class]] | Array]:
        """See ``AsyncClient.multi_inference``."""
        runner = self._running()
        return runner.run(
            runner.client.multi_inference(model, tasks, examples, version=version, label=label, timeout=timeout)
        )

    def metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> ModelMetadata:
        """See ``AsyncClient.metadata``."""
        runner = self._running()
        return runner.run(runner.client.metadata(model, version=version, label=label, timeout=timeout))

    def status(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> list[VersionStatus]:
        """See ``AsyncClient.status``."""
        runner = self._running()
        return runner.run(runner.client.status(model, version=version, label=label, timeout=timeout))

    def models(self, *, timeout: float | None = None) -> dict[str, list[VersionStatus]]:
        """See ``AsyncClient.models``."""
        runner = self._running()
        return runner.run(runner.client.models(timeout=timeout))

    def ready(self, *, timeout: float | None = None) -> bool:
        """See ``AsyncClient.ready``."""
        runner = self._running()
        return runner.run(runner.client.ready(timeout=timeout))

    def wait_until_ready(self, *models: str, timeout: float = 60.0) -> None:
        """See ``AsyncClient.wait_until_ready``."""
        runner = self._running()
        runner.run(runner.client.wait_until_ready(*models, timeout=timeout))

    def reload(self, config: ModelServerConfig | str | os.PathLike[str], *, timeout: float | None = None) -> None:
        """See ``AsyncClient.reload``."""
        runner = self._running()
        runner.run(runner.client.reload(config, timeout=timeout))

    def protocols(self, *, timeout: float | None = None) -> list[Address]:
        """See ``AsyncClient.protocols``."""
        runner = self._running()
        return runner.run(runner.client.protocols(timeout=timeout))

    def _running(self) -> "_Runner":
        runner = self._runner
        if runner is not None and runner.pid == os.getpid():
            return runner
        with self._lock:
            if self._closed:
                raise _closed()
            if self._runner is None or self._runner.pid != os.getpid():
                addresses, options = self._made
                self._runner = _Runner(AsyncClient(*addresses, **options))
                weakref.finalize(self, self._runner.stop)
            return self._runner


class _Runner:
    """A thread with an event loop, and what runs there."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._lock = Lock()
        self._stopped = False
        self._thread = Thread(target=self._run, name="pyserving-client", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Waits for the coroutine; an interrupt cancels it. Raises CANCELLED if the client is closed meanwhile."""
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise _closed()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """May be called twice, and in a process that was forked."""
        if self.pid != os.getpid():
            return
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(_end_tasks(asyncio.all_tasks(self._loop)))
        finally:
            self._loop.close()


async def _end_tasks(left: "set[asyncio.Task[Any]]") -> None:
    """Callers wait for the end of each task; those whose task ended as the loop stopped hear of it in here, too."""
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)
    await asyncio.sleep(0)


def _closed() -> ServingError:
    return ServingError(Code.CANCELLED, CLOSED)
