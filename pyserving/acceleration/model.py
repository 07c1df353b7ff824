"""A SavedModel whose signatures may run on other engines than TensorFlow."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pyserving.acceleration.agreement import disagreement, largest_difference, nudged
from pyserving.acceleration.engines import CompiledSignature
from pyserving.acceleration.gate import Gate
from pyserving.acceleration.trial_inputs import Inputs
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.model import Array, Signature
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.protos.messages import SignatureDef

TENSORFLOW = "tensorflow"
_SHADOW_SECONDS = 1.0
"""Between two comparisons of an answer with TensorFlow's, at least."""
_SHADOW_SHARE = 200
"""TensorFlow's run for a comparison takes at most this part of the time: one second in so many."""

logger = logging.getLogger("pyserving.acceleration")


class Accelerated:
    """A signature on its other engine."""

    __slots__ = ("artefact", "compiled", "engine", "gate", "next_shadow")

    def __init__(self, engine: str, compiled: CompiledSignature, gate: Gate, artefact: str) -> None:
        self.engine = engine
        self.compiled = compiled
        self.gate = gate
        self.artefact = artefact
        """The folder in the cache that ``compiled`` was read from."""
        self.next_shadow = 0.0
        """On the clock of ``time.monotonic``."""


class Disagreement(NamedTuple):
    """An answer that is too far from TensorFlow's."""

    engine: str
    artefact: str
    """The folder in the cache that the engine was read from."""
    difference: float
    """The largest of any element."""


Shadow = Callable[["AcceleratedModel", Signature, Inputs, Sequence[str], Sequence[Array]], bool]
"""Takes an answer to compare it later; False where it has no time."""


class AcceleratedModel:
    """A ``Model``: TensorFlow's, until another engine has been shown to be as right, and faster.

    What was not checked, or what the other engine cannot compute, TensorFlow does. So its errors are what clients see.
    """

    def __init__(self, model: TensorFlowModel, name: str, shadow: Shadow, num_samples: int) -> None:
        """``name``: of the version, for the log. ``num_samples``: how many inputs of each signature are kept."""
        self._model = model
        self._name = name
        self._shadow = shadow
        self._num_samples = num_samples
        self._accelerated: dict[str, Accelerated] = {}
        self.samples: dict[str, list[Inputs]] = {}
        """The last inputs of each signature, as long as they are kept."""
        self.keeps_samples = num_samples > 0
        self._closed = False
        self._comparing = threading.Lock()

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._model.signatures

    @property
    def signature_defs(self) -> Mapping[str, SignatureDef]:
        return self._model.signature_defs

    @property
    def tensorflow(self) -> "TensorFlowWhileLoaded":
        """For threads that hold no handle of the version."""
        return TensorFlowWhileLoaded(self._model, self._name, self._comparing, lambda: self._closed)

    def engine(self, signature: str) -> str:
        """The name of the engine that computes what it was checked for."""
        accelerated = self._accelerated.get(signature)
        return TENSORFLOW if accelerated is None else accelerated.engine

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        inline: bool = False,
    ) -> list[Array]:
        """See ``Model.run``."""
        if self.keeps_samples:
            self._keep(signature, inputs)
        accelerated = self._accelerated.get(signature.name)
        if accelerated is not None and accelerated.gate.admits(inputs):
            try:
                results = accelerated.compiled.run(inputs, outputs, timeout=timeout, inline=inline)
            except ServingError:
                logger.debug("%s refuses inputs of %s %s", accelerated.engine, self._name, signature.name)
            else:
                now = time.monotonic()
                if now >= accelerated.next_shadow:
                    accelerated.next_shadow = now + _SHADOW_SECONDS
                    copies = {name: array.copy() for name, array in inputs.items()}
                    self._shadow(self, signature, copies, outputs, results)
                return results
        return self._model.run(signature, inputs, outputs, timeout=timeout, inline=inline)

    def run_graph(
        self,
        feeds: Mapping[str, Array],
        fetches: Sequence[str],
        targets: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> list[Array]:
        """See ``GraphModel.run_graph``."""
        return self._model.run_graph(feeds, fetches, targets, timeout=timeout)

    def accelerate(self, signature: str, accelerated: Accelerated) -> bool:
        """From now on runs of the signature go there; False, and nothing happens, where the model is closed."""
        with self._comparing:
            if self._closed:
                return False
            self._accelerated[signature] = accelerated
            return True

    def compare(
        self, signature: Signature, inputs: Inputs, outputs: Sequence[str], found: Sequence[Array]
    ) -> Disagreement | None:
        """Whether an answer of another engine is as good as TensorFlow's; that engine goes where it is not.

        None where they agree. Takes as long as two runs; not to be called on the event loop.
        """
        with self._comparing:
            accelerated = self._accelerated.get(signature.name)
            if self._closed or accelerated is None:
                return None
            start = time.monotonic()
            try:
                expected = self._model.run(signature, inputs, outputs)
                moved = self._model.run(signature, nudged(inputs), outputs)
            except ServingError as error:
                difference: float = float("inf")
                reason = f"TensorFlow refuses: {error.message}"
            else:
                if disagreement(expected, moved, found) <= 1:
                    now = time.monotonic()
                    accelerated.next_shadow = now + max(_SHADOW_SECONDS, _SHADOW_SHARE * (now - start))
                    return None
                difference = largest_difference(expected, found)
                reason = f"answers differ by {difference:.3g}"
            # Runs that are going on keep what was compiled until they end.
            del self._accelerated[signature.name]
            shown = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            logger.warning(
                "%s, signature %s: back to TensorFlow, for of a request with %s %s: %s",
                self._name,
                signature.name,
                shown,
                accelerated.engine,
                reason,
            )
            return Disagreement(accelerated.engine, accelerated.artefact, difference)

    def close(self) -> None:
        """Gives back the memory of the other engines; TensorFlow's belongs to its loader. No run may be going on."""
        with self._comparing:
            self._closed = True
            for accelerated in self._accelerated.values():
                accelerated.compiled.close()
            self._accelerated.clear()

    def stop_keeping_samples(self) -> dict[str, list[Inputs]]:
        """Returns what was kept."""
        self.keeps_samples = False
        samples, self.samples = self.samples, {}
        return samples

    def _keep(self, signature: Signature, inputs: Mapping[str, Array]) -> None:
        kept = self.samples.setdefault(signature.name, [])
        if len(kept) < self._num_samples:
            kept.append({name: array.copy() for name, array in inputs.items()})


class TensorFlowWhileLoaded:
    """TensorFlow's side of an ``AcceleratedModel``, which may be closed at any time: not while a run goes on."""

    def __init__(self, model: TensorFlowModel, name: str, lock: threading.Lock, is_closed: Callable[[], bool]) -> None:
        self.signatures: Mapping[str, Signature] = model.signatures
        self._model = model
        self._name = name
        self._lock = lock
        self._is_closed = is_closed

    def run(
        self, signature: Signature, inputs: Mapping[str, Array], outputs: Sequence[str], *, inline: bool = False
    ) -> list[Array]:
        """See ``Model.run``. Raises UNAVAILABLE, too, where the version has been unloaded meanwhile."""
        with self._lock:
            if self._is_closed():
                raise ServingError(Code.UNAVAILABLE, f"{self._name} has been unloaded")
            return self._model.run(signature, inputs, outputs, inline=inline)
