"""``AsyncClient``: asks model servers, on the event loop of its caller."""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from google.protobuf import text_format

from pyserving.client.address import Address
from pyserving.client.answers import Class, ModelMetadata, Prediction, SignatureSpec, VersionStatus
from pyserving.client.arrays import to_array
from pyserving.client.call import ModelSpec, Task
from pyserving.client.errors import NotOffered, Unreachable
from pyserving.client.examples import to_examples
from pyserving.client.peers import Make, Peer, Peers
from pyserving.client.tls import StrPath, Tls
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.model import Array
from pyserving.protos.messages import POOL, ModelServerConfig

T = TypeVar("T")

DEFAULT_SIGNATURE = "serving_default"
_HIGHEST_VERSION = (1 << 63) - 1
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_SHORT_LOOK = 1.0
"""Seconds within which a server that is well may not answer on a busy machine."""
_STALE = frozenset((Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.INTERNAL))
"""What a server, or the reading of its answer, says where the signature is no longer what it was."""


class AsyncClient:
    """Asks PyServing or TensorFlow Serving over REST or gRPC. To be used on one event loop.

    ``addresses``: where servers are that have the same models, such as ``localhost``, ``host:8500``,
    ``http://host:8501``, ``grpcs://host`` or ``unix:/run/serving.sock``. Without a scheme, which protocol answers there
    is found out at the first call; without a port too, 8500 (gRPC) is taken before 8501 (REST).

    ``timeout``: seconds that a call may take, with all its repetitions. ``retries``: how often a call is repeated that
    ends with UNAVAILABLE, after pauses that grow; 0 for models whose state a request changes. ``hedge_after``: seconds
    after which another server is asked as well, and the first good answer is taken. ``token``: sent as
    ``Authorization: Bearer TOKEN``. ``ca``, ``cert``, ``key``: PEM files, see ``Tls``; with any of them an address
    without a scheme is asked by TLS. ``tls``: the same with the system's authorities.

    All methods raise ServingError: its code and message are the server's. Unreachable is the kind of it that says that
    no server answered.
    """

    def __init__(
        self,
        *addresses: str,
        timeout: float = 30.0,
        retries: int = 5,
        hedge_after: float | None = None,
        token: str | None = None,
        tls: bool = False,
        ca: StrPath | None = None,
        cert: StrPath | None = None,
        key: StrPath | None = None,
    ) -> None:
        if timeout <= 0 or retries < 0 or (hedge_after is not None and hedge_after < 0):
            raise invalid_argument(f"expected a positive timeout and no negative numbers, got {timeout}, {retries}")
        secured = Tls(ca, cert, key) if tls or ca is not None or cert is not None or key is not None else None
        if secured is not None:
            secured.context()
        headers = [] if token is None else [("Authorization", f"Bearer {_checked(token)}")]
        self._peers = Peers(addresses or ("localhost",), secured, headers)
        self._timeout = timeout
        self._retries = retries
        self._hedge_after = hedge_after
        self._known: dict[ModelSpec, ModelMetadata] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections."""
        await self._peers.close()

    async def predict(
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
        """The outputs of a signature, by name; of ``outputs`` alone, where any are named.

        ``inputs``: values by name, or the value of the only input: numpy arrays, lists, numbers, strings, bytes. They
        get the signature's dtypes, see ``to_array``. What the signature is, is asked once, and again where a request
        does not fit any more.
        """
        spec = spec_of(model, version, label)
        return await self._predict(spec, inputs, signature, outputs, self._end(timeout), self._retries)

    async def _predict(
        self, spec: ModelSpec, inputs: Any, signature: str, outputs: Sequence[str], end: float, retries: int
    ) -> Prediction:
        async def predict(described: SignatureSpec, arrays: Mapping[str, Array]) -> Prediction:
            return await self._ask(lambda codec: codec.predict(spec, described, arrays, outputs), end, retries=retries)

        known = self._known.get(spec)
        while True:
            metadata = known or await self._learn(spec, end)
            try:
                described = _signature(metadata, signature)
                return await predict(described, _arrays(described, inputs))
            except ServingError as error:
                if known is None or error.code not in _STALE:
                    raise
                if await self._learn(spec, end) == known:
                    raise
                known = None

    def known(self, spec: ModelSpec) -> ModelMetadata | None:
        """What the client heard of the signatures. Any thread may call."""
        return self._known.get(spec)

    def predict_here(
        self,
        spec: ModelSpec,
        known: ModelMetadata | None,
        inputs: Any,
        signature: str,
        outputs: Sequence[str],
        timeout: float,
    ) -> Prediction | None:
        """``predict`` on the calling thread, once, where all is known that it takes: one server, its gRPC port, the
        signature. None where it is not. Any thread but the event loop's may call."""
        peer = self._peers.only()
        if peer is None or peer.here is None or known is None:
            return None
        codec, connection = peer.here
        try:
            described = _signature(known, signature)
            arrays = _arrays(described, inputs)
        except ServingError:  # the signature may be another one by now
            return None
        return connection.ask_here(codec.predict(spec, described, arrays, outputs), timeout)

    async def predict_again(
        self,
        spec: ModelSpec,
        known: ModelMetadata | None,
        inputs: Any,
        signature: str,
        outputs: Sequence[str],
        timeout: float,
        error: ServingError | None,
    ) -> Prediction:
        """What is left to do after ``predict_here`` gave None, or this error.

        ``known``: as then; another thread may have heard of another signature since.
        """
        end = self._end(timeout)
        if error is None:
            return await self._predict(spec, inputs, signature, outputs, end, self._retries)
        if error.code is Code.UNAVAILABLE and self._retries:
            return await self._predict(spec, inputs, signature, outputs, end, self._retries - 1)
        if error.code not in _STALE or await self._learn(spec, end) == known:
            raise error
        return await self._predict(spec, inputs, signature, outputs, end, self._retries)

    async def predict_streamed(
        self,
        model: str,
        inputs: Any,
        *,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> AsyncGenerator[Prediction, None]:
        """The pieces of an answer that comes in pieces, each with all outputs. Only PyServing has such signatures.

        Takes what ``predict`` does. Closing the generator tells the server that nobody waits any more.
        """
        spec = spec_of(model, version, label)
        end = self._end(timeout)
        metadata = self._known.get(spec) or await self._learn(spec, end)
        if signature not in metadata.signatures:
            metadata = await self._learn(spec, end)
        described = _signature(metadata, signature)
        arrays = _arrays(described, inputs)
        pieces = self._stream(lambda codec: codec.predict(spec, described, arrays, outputs, streamed=True), end)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def classify(
        self,
        model: str,
        examples: Iterable[Any],
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> list[list[Class]]:
        """For each example its classes, as (label, score). ``examples``: see ``to_examples``."""
        spec, made = spec_of(model, version, label), to_examples(examples)
        return await self._ask(lambda codec: codec.classify(spec, signature, made), self._end(timeout))

    async def regress(
        self,
        model: str,
        examples: Iterable[Any],
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Array:
        """A float32 for each example. ``examples``: see ``to_examples``."""
        spec, made = spec_of(model, version, label), to_examples(examples)
        return await self._ask(lambda codec: codec.regress(spec, signature, made), self._end(timeout))

    async def multi_inference(
        self,
        model: str,
        tasks: Iterable[tuple[str, str]],
        examples: Iterable[Any],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> list[list[list[Class]] | Array]:
        """What ``classify`` and ``regress`` return, for several signatures of one version at once; over gRPC only.

        ``tasks``: ``("classify" or "regress", signature)``.
        """
        spec, made = spec_of(model, version, label), to_examples(examples)
        asked = [Task(*task) for task in tasks]
        for task in asked:
            if task.method not in ("classify", "regress"):
                raise invalid_argument(f"a task is to classify or to regress, got {task.method!r}")
        return await self._ask(lambda codec: codec.multi_inference(spec, asked, made), self._end(timeout))

    async def metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> ModelMetadata:
        """The signatures of a version, asked anew."""
        return await self._learn(spec_of(model, version, label), self._end(timeout))

    async def status(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> list[VersionStatus]:
        """The states of the versions of a model, highest first. Raises NOT_FOUND for a model that is not served."""
        spec = spec_of(model, version, label)
        return await self._ask(lambda codec: codec.status(spec), self._end(timeout))

    async def models(self, *, timeout: float | None = None) -> dict[str, list[VersionStatus]]:
        """All models with the states of their versions; from PyServing's REST port only. Else raises NotOffered."""
        try:
            return await self._ask(lambda codec: codec.models(), self._end(timeout))
        except ServingError as error:
            if error.code not in (Code.NOT_FOUND, Code.INVALID_ARGUMENT):
                raise
            raise NotOffered("this server does not list its models, as TensorFlow Serving does not") from None

    async def ready(self, *, timeout: float | None = None) -> bool:
        """Whether the server should get requests. TensorFlow Serving cannot tell, and answers once it has its models:
        it is ready if it answers."""
        try:
            return await self._ask(lambda codec: codec.ready(), self._end(timeout), retries=0)
        except Unreachable:
            raise
        except ServingError as error:
            if error.code is Code.UNAVAILABLE:
                return False
            if error.code in (Code.NOT_FOUND, Code.UNIMPLEMENTED, Code.INVALID_ARGUMENT):
                return True
            raise

    async def wait_until_ready(self, *models: str, timeout: float = 60.0) -> None:
        """Waits until each of ``models`` has a version that serves; without any, until the server is ready.

        Raises DEADLINE_EXCEEDED with what was missing, Unreachable where no server answered at the end, and at once
        what waiting cannot mend (no permission).
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        pause, missing, unreachable = _FIRST_PAUSE, "", False
        while True:
            look = max(min(end - loop.time(), 5.0), 0.01)
            try:
                missing, unreachable = await self._missing(models, look), False
            except ServingError as error:
                if error.code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                    raise
                # The last look may get no time: what was missing before it says more than that no answer came.
                if not missing or look > _SHORT_LOOK or error.code is not Code.DEADLINE_EXCEEDED:
                    missing, unreachable = error.message, isinstance(error, Unreachable)
            if not missing:
                return
            left = end - loop.time()
            if left <= 0:
                text = f"not ready after {timeout:g} s: {missing}"
                raise Unreachable(text) if unreachable else ServingError(Code.DEADLINE_EXCEEDED, text)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, 1.0)

    async def reload(self, config: ModelServerConfig | str | os.PathLike[str], *, timeout: float | None = None) -> None:
        """Makes the server serve exactly the models of ``config``, and waits for the versions it finds; over gRPC only.

        ``config``: a ModelServerConfig, its text, or the path of a file with that text. Each of several servers would
        have to be told: a client of one address does that. Repeated only where no server was reached.
        """
        if len(self._peers) > 1:
            raise invalid_argument("a reload is for one server; make a client for each of them")
        message = read_config(config)
        await self._ask(lambda codec: codec.reload(message), self._end(timeout), retries=0)

    async def protocols(self, *, timeout: float | None = None) -> list[Address]:
        """Where and how requests go: of the server that comes next, in the order in which its ports are used."""
        return await self._peers.pick().protocols(self.limit(timeout))

    async def _missing(self, models: Sequence[str], timeout: float) -> str:
        """What is not ready, in words; empty if all is."""
        if not models:
            return "" if await self.ready(timeout=timeout) else "the server says that it is not ready"
        for model in models:
            try:
                make: Make[list[VersionStatus]] = _status_of(model)
                states = await self._ask(make, self._end(timeout), retries=0)
            except ServingError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
                return error.message
            if not any(state.state == "AVAILABLE" for state in states):
                return f"model {model} has " + (", ".join(map(_told, states)) or "no version")
        return ""

    async def _learn(self, spec: ModelSpec, end: float) -> ModelMetadata:
        self._known.pop(spec, None)
        learned = await self._ask(lambda codec: codec.metadata(spec), end)
        self._known[spec] = learned
        return learned

    def limit(self, timeout: float | None) -> float:
        """Seconds that a call may take. Raises INVALID_ARGUMENT."""
        limit = self._timeout if timeout is None else timeout
        if not limit > 0:  # nor nan
            raise invalid_argument(f"expected a positive timeout, got {limit}")
        return limit

    def _end(self, timeout: float | None) -> float:
        return asyncio.get_running_loop().time() + self.limit(timeout)

    async def _ask(self, make: Make[T], end: float, *, retries: int | None = None) -> T:
        """One call, repeated while servers are unavailable, tries are left, and there is time."""
        asked: list[Peer] = []
        for attempt in range((self._retries if retries is None else retries) + 1):
            try:
                return await self._try(make, end, asked)
            except ServingError as error:
                last = error
            if not await self._may_repeat(last, attempt, asked, end):
                break
        raise last

    async def _stream(self, make: Make[T], end: float) -> AsyncGenerator[T, None]:
        """As ``_ask``, but once a piece has come nothing is repeated."""
        asked: list[Peer] = []
        for attempt in range(self._retries + 1):
            peer = self._peers.pick(asked)
            asked.append(peer)
            begun = False
            try:
                async with aclosing(peer.stream(make, self._left(end))) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except ServingError as error:
                if begun:
                    raise
                last = error
            if not await self._may_repeat(last, attempt, asked, end):
                break
        raise last

    async def _may_repeat(self, error: ServingError, attempt: int, asked: list[Peer], end: float) -> bool:
        """Whether to repeat; waits before it where no other server can be asked."""
        if error.code is not Code.UNAVAILABLE:
            return False
        if self._peers.others(asked):
            return True
        asked.clear()
        # A random part of it, that clients which failed together do not come back together.
        pause = random.uniform(0.5, 1.0) * min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)
        if pause >= self._left(end):
            return False
        await asyncio.sleep(pause)
        return True

    async def _try(self, make: Make[T], end: float, asked: list[Peer]) -> T:
        """One server, or two: the second if the first takes long."""
        peer = self._peers.pick(asked)
        asked.append(peer)
        if self._hedge_after is None or not self._peers.others(asked):
            return await peer.ask(make, self._left(end))
        first = asyncio.create_task(peer.ask(make, self._left(end)))
        tasks = {first}
        try:
            await asyncio.wait(tasks, timeout=self._hedge_after)
            if not first.done():
                second = self._peers.pick(asked)
                asked.append(second)
                tasks.add(asyncio.create_task(second.ask(make, self._left(end))))
            answer = await _first_good(tasks)
            if not first.done():
                peer.was_late()
            return answer
        finally:
            for task in tasks:
                task.cancel()

    def _left(self, end: float) -> float:
        return max(end - asyncio.get_running_loop().time(), 0.001)


async def _first_good(tasks: set["asyncio.Task[T]"]) -> T:
    """The first result; if all fail, the last error."""
    waiting = set(tasks)
    while True:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        good = [task for task in done if task.exception() is None]
        if good or not waiting:
            return (good or list(done))[0].result()


def _status_of(model: str) -> Make[list[VersionStatus]]:
    return lambda codec: codec.status(ModelSpec(model))


def _told(state: VersionStatus) -> str:
    text = f"version {state.version} in state {state.state}"
    return f"{text} ({state.error_message})" if state.error_message else text


def spec_of(model: str, version: int | None, label: str | None) -> ModelSpec:
    if not model:
        raise invalid_argument("expected the name of a model, got an empty text")
    if version is not None and label is not None:
        raise invalid_argument(f"expected a version or a label, got both: {version} and {label}")
    if version is not None and not (isinstance(version, int | np.integer) and 0 <= version <= _HIGHEST_VERSION):
        raise invalid_argument(f"expected a version's number, from 0 to {_HIGHEST_VERSION}, got {version!r}")
    return ModelSpec(model, version, label)


def _signature(metadata: ModelMetadata, name: str) -> SignatureSpec:
    name = name or DEFAULT_SIGNATURE
    found = metadata.signatures.get(name)
    if found is None:
        known = ", ".join(metadata.signatures) or "none"
        raise invalid_argument(f"model {metadata.name} has no signature {name}; its signatures: {known}")
    return found


def _arrays(signature: SignatureSpec, inputs: Any) -> dict[str, Array]:
    if not isinstance(inputs, Mapping):
        if len(signature.inputs) != 1:
            names = ", ".join(signature.inputs) or "none"
            raise invalid_argument(f"signature {signature.name} has the inputs {names}; give a dict of them")
        inputs = {next(iter(signature.inputs)): inputs}
    arrays = {}
    for name, value in inputs.items():
        spec = signature.inputs.get(name)
        if spec is None:
            names = ", ".join(f"{each.name} ({each.dtype.text})" for each in signature.inputs.values()) or "none"
            raise invalid_argument(f"signature {signature.name} has no input {name}; its inputs: {names}")
        arrays[name] = to_array(name, value, spec.dtype)
    return arrays


def read_config(config: ModelServerConfig | str | os.PathLike[str]) -> ModelServerConfig:
    """The message, from its text or from a file with that. Raises INVALID_ARGUMENT, and NOT_FOUND for the file."""
    if not isinstance(config, str | os.PathLike):
        return config
    text, source = (config, "the config") if isinstance(config, str) and "{" in config else (None, str(config))
    try:
        text = Path(config).read_text() if text is None else text
        made = ModelServerConfig()
        text_format.Parse(text, made, descriptor_pool=POOL)
    except OSError as error:
        raise ServingError(Code.NOT_FOUND, f"{source} cannot be read: {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid_argument(f"{source} is no ModelServerConfig: {error}") from None
    return made


def _checked(token: str) -> str:
    if not token.isascii() or not token.isprintable() or not token:
        raise invalid_argument("a token is printable ASCII, and not empty")
    return token
