"""A model made of Python functions, under real handles; tests hold its runs up with a gate and see what was run."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pyserving.batching.executor import EngineExecutor
from pyserving.core.handle import ServableHandle, ServedVersion
from pyserving.core.servable import ServableId
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Array, Signature, TensorSpec

Compute = Callable[[Mapping[str, Array]], dict[str, Array]]


def signature(
    name: str = "serving_default",
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
    *,
    stateless: bool = True,
    row_wise: bool = True,
) -> Signature:
    def specs(names: Sequence[str]) -> dict[str, TensorSpec]:
        return {name: TensorSpec(name, f"{name}:0", DType.FLOAT, (None,)) for name in names}

    return Signature(name, specs(inputs), specs(outputs), stateless=stateless, row_wise=row_wise)


class FunctionModel:
    """Each signature is a function. Only while ``gate`` is set do runs come to their end."""

    signature_defs: Mapping[str, object] = {}

    def __init__(self, functions: Mapping[Signature, Compute]) -> None:
        self.signatures = {signature.name: signature for signature in functions}
        self._functions = dict(functions)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        """Released once a run."""
        self.runs: list[tuple[Signature, dict[str, Array]]] = []
        self.timeouts: list[float | None] = []

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        inline: bool = False,
    ) -> list[Array]:
        assert not inline
        self.runs.append((signature, dict(inputs)))
        self.timeouts.append(timeout)
        self.entered.release()
        assert self.gate.wait(10)
        results = self._functions[signature](inputs)
        return [results[name] for name in outputs]

    def sizes(self) -> list[int]:
        """How many rows each run had."""
        return [len(next(iter(inputs.values()))) for _, inputs in self.runs]


class FakeVersion:
    """A model that serves."""

    def __init__(self, functions: Mapping[Signature, Compute], number: int = 1, *, name: str = "m") -> None:
        self.model = FunctionModel(functions)
        self.drained = threading.Event()
        self._served = ServedVersion(ServableId(name, number), self.model, self.drained.set)

    def hold(self) -> ServableHandle:
        handle = self._served.hold()
        assert handle is not None
        return handle

    def close(self) -> None:
        if self._served.close():
            self.drained.set()


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def doubled(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {"y": inputs["x"] * 2}


async def ask(
    executor: EngineExecutor,
    version: FakeVersion,
    signature: Signature,
    inputs: Mapping[str, Array],
    outputs: Sequence[str] = ("y",),
    deadline: float | None = None,
) -> list[Array]:
    with version.hold() as handle:
        return await executor.run(handle, signature, inputs, outputs, deadline)


async def entered(model: FunctionModel, runs: int = 1) -> None:
    """Waits until so many more runs have begun."""
    for _ in range(runs):
        assert await asyncio.to_thread(model.entered.acquire, timeout=10)


async def idle(executor: EngineExecutor) -> None:
    """Waits until nothing runs any more: a batch may do so after all its requests are answered."""
    while any(state.queues for state in executor._states.values()):
        await asyncio.sleep(0)


class Crowd:
    """Requests that all arrive while ``busy`` runs are held up, so that what they are joined to is certain."""

    def __init__(
        self, executor: EngineExecutor, version: FakeVersion, signature: Signature, busy: int, x: Array | None = None
    ) -> None:
        self._x = floats(0.5) if x is None else x
        self._executor = executor
        self._version = version
        self._signature = signature
        self._busy = busy
        self._tasks: list[asyncio.Task[list[Array]]] = []

    async def __aenter__(self) -> "Crowd":
        await idle(self._executor)
        self.model = self._version.model
        self.model.gate.clear()
        self.model.entered = threading.Semaphore(0)
        inputs = dict.fromkeys(self._signature.inputs, self._x)
        outputs = tuple(self._signature.outputs)
        self._blockers = []
        for _ in range(self._busy):
            self._blockers.append(
                asyncio.ensure_future(ask(self._executor, self._version, self._signature, inputs, outputs))
            )
            await entered(self.model)
        self.model.runs.clear()
        self.model.timeouts.clear()
        return self

    async def add(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] = ("y",), deadline: float | None = None
    ) -> "asyncio.Task[list[Array]]":
        task = asyncio.ensure_future(ask(self._executor, self._version, self._signature, inputs, outputs, deadline))
        await asyncio.sleep(0)
        self._tasks.append(task)
        return task

    async def answers(self) -> list[list[Array] | BaseException]:
        """Lets all run to the end."""
        self.model.gate.set()
        await asyncio.gather(*self._blockers)
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        await idle(self._executor)
        return outcomes

    async def __aexit__(self, *_: object) -> None:
        await self.answers()
