"""How model code asks other models."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pyserving.authoring import ModelClient
from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Array


@dataclass(frozen=True, slots=True)
class Target:
    """The model that is asked: its latest version, one by number, or one by label."""

    name: str
    version: int | None = None
    label: str | None = None


class Session(Protocol):
    """What one request may ask of other models. All methods may be called from any thread."""

    def call(
        self, target: Target, signature: str, inputs: Mapping[str, Array], deadline: float | None
    ) -> "Future[dict[str, Array]]":
        """All outputs of a signature (empty: the default one). ``deadline`` is on the clock of ``time.monotonic``.

        The version that answered stays loaded until the session is closed, and answers the next call of the same
        target. The future raises ServingError.
        """
        ...

    def stream(self, target: Target, signature: str, inputs: Mapping[str, Array], deadline: float | None) -> "Pieces":
        """The same, piece by piece."""
        ...

    def close(self) -> None:
        """Ends the request: versions are let go, streams stopped."""
        ...


class Pieces(Protocol):
    """A streamed answer. All methods may be called from any thread, ``next`` once the last future is done."""

    def next(self) -> "Future[dict[str, Array] | None]":
        """The next piece, None after the last. The future raises ServingError."""
        ...

    def close(self) -> None:
        """Nobody wants the rest."""
        ...


OpenSession = Callable[[ServableId], Session]
"""Begins a request of the servable that asks."""


def no_session(servable: ServableId) -> Session:
    """An ``OpenSession`` where there is no server: every call fails."""
    return _NoSession(servable)


class _NoSession:
    def __init__(self, servable: ServableId) -> None:
        self._servable = servable

    def call(self, target: Target, *_: object) -> "Future[dict[str, Array]]":
        raise self._alone(target)

    def stream(self, target: Target, *_: object) -> Pieces:
        raise self._alone(target)

    def _alone(self, target: Target) -> ServingError:
        return ServingError(
            Code.FAILED_PRECONDITION, f"{self._servable} asks model {target.name}, but there are no other models here"
        )

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Request:
    session: Session
    deadline: float | None


_request: ContextVar[_Request | None] = ContextVar("pyserving_request", default=None)


@contextmanager
def request_of(servable: ServableId, open_session: OpenSession, timeout: float | None) -> Iterator[None]:
    """Within it, code on this thread may ask other models, for ``timeout`` seconds."""
    session = open_session(servable)
    token = _request.set(_Request(session, None if timeout is None else time.monotonic() + timeout))
    try:
        yield
    finally:
        _request.reset(token)
        session.close()


class ServedModels:
    """What model code has as ``self.models``."""

    def __getitem__(self, name: str | tuple[str, int | str]) -> ModelClient:
        match name:
            case str():
                return _Client(Target(name))
            case (str() as model, int() as version):
                return _Client(Target(model, version=version))
            case (str() as model, str() as label):
                return _Client(Target(model, label=label))
        raise TypeError(f"expected the name of a model, or a name and a version or label, got {name!r}")


class _Client:
    def __init__(self, target: Target) -> None:
        self._target = target

    def predict(
        self, inputs: Mapping[str, Any] | None = None, /, *, signature: str = "", **named: Any
    ) -> dict[str, Array]:
        _check_thread("predict", "await ... .predict_async()")
        session, arguments = self._begin(inputs, signature, named)
        return session.call(*arguments).result()

    async def predict_async(
        self, inputs: Mapping[str, Any] | None = None, /, *, signature: str = "", **named: Any
    ) -> dict[str, Array]:
        session, arguments = self._begin(inputs, signature, named)
        return await asyncio.wrap_future(session.call(*arguments))

    def stream(
        self, inputs: Mapping[str, Any] | None = None, /, *, signature: str = "", **named: Any
    ) -> Generator[dict[str, Array], None, None]:
        _check_thread("stream", "async for ... in ... .stream_async()")
        session, arguments = self._begin(inputs, signature, named)
        pieces = session.stream(*arguments)
        try:
            while (piece := pieces.next().result()) is not None:
                yield piece
        finally:
            pieces.close()

    async def stream_async(
        self, inputs: Mapping[str, Any] | None = None, /, *, signature: str = "", **named: Any
    ) -> AsyncGenerator[dict[str, Array], None]:
        session, arguments = self._begin(inputs, signature, named)
        pieces = session.stream(*arguments)
        try:
            while (piece := await asyncio.wrap_future(pieces.next())) is not None:
                yield piece
        finally:
            pieces.close()

    def _begin(
        self, inputs: Mapping[str, Any] | None, signature: str, named: Mapping[str, Any]
    ) -> tuple[Session, tuple[Target, str, dict[str, Array], float | None]]:
        request = _request.get()
        if request is None:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"model {self._target.name} was called by code that runs for no request, such as a thread of its own",
            )
        arrays = {name: _plain_array(value) for name, value in {**(inputs or {}), **named}.items()}
        return request.session, (self._target, signature, arrays, request.deadline)


def _check_thread(method: str, instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{method}() would hold up all other requests here: use {instead}")


def _plain_array(value: Any) -> Array:
    """An array of a type that can be sent; of which one the model wants is looked at later."""
    array = np.asarray(value)
    return np.array(value, dtype=object) if array.dtype.kind in "US" else array
