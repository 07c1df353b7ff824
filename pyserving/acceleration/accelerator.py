"""Looks for a faster engine for each version that was loaded, in the background."""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from pyserving.acceleration.cache import default_root, refuse
from pyserving.acceleration.engines import ENGINES
from pyserving.acceleration.model import TENSORFLOW, Accelerated, AcceleratedModel
from pyserving.acceleration.search import Search, served_signatures
from pyserving.acceleration.trial_inputs import Inputs
from pyserving.acceleration.trial_process import Job
from pyserving.acceleration.trials import Finding, TrialFailed, TrialProcess
from pyserving.core.background import work_in_background
from pyserving.core.errors import ServingError
from pyserving.core.loader import Loader
from pyserving.core.resources import Resources
from pyserving.core.servable import Servable, ServableId
from pyserving.platforms.model import Array, Signature
from pyserving.platforms.tensorflow.model import TensorFlowModel

_PATIENCE_SECONDS = 30.0
"""How long requests are waited for that were asked for as samples."""
_WARMUP_SAMPLES = 8
_LAST_SECONDS = 5.0

logger = logging.getLogger("pyserving.acceleration")


class Acceleration(Enum):
    """Which engines may take over from TensorFlow."""

    AUTO = "auto"
    OFF = "off"
    OPENVINO = "openvino"
    TFLITE = "tflite"

    @property
    def engines(self) -> list[str]:
        """Of those that are installed."""
        wanted = [name for name in ENGINES if self in (Acceleration.AUTO, Acceleration(name))]
        return [name for name in wanted if ENGINES[name].is_installed()]


@dataclass(frozen=True, slots=True)
class AccelerationOptions:
    """What a server was told of acceleration."""

    choice: Acceleration = Acceleration.OFF
    cache: str = field(default_factory=default_root)
    """Where compiled signatures lie."""
    num_requests: int = 0
    """How many requests of clients are compared too, before an engine takes over; 0: none is kept."""
    tags: Sequence[str] = ("serve",)
    num_threads: int = 0
    """That share one operation; 0: as many as there are cores."""

    @property
    def num_samples(self) -> int:
        """How many inputs of each signature are kept until engines are tried: those of the warmup, and of clients."""
        return max(_WARMUP_SAMPLES, self.num_requests)

    def job(self, engine: str, folder: str, signatures: Sequence[str]) -> Job:
        """What a trial of an engine on a version is told."""
        return Job(engine, folder, tuple(self.tags), tuple(signatures), self.num_threads, self.cache)


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """Which engine serves a signature, and why the others do not."""

    engine: str
    others: Mapping[str, str]


class Accelerator:
    """Tries engines for one version after the other, on a thread of its own. Any thread may call its methods."""

    def __init__(self, options: AccelerationOptions) -> None:
        self.options = options
        self._engines = options.choice.engines
        self._jobs: queue.Queue[_Work | None] = queue.Queue()
        self._shadows: queue.Queue[_Shadow | None] = queue.Queue(maxsize=1)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stopping = False
        self._running: dict[ServableId, TrialProcess] = {}
        self._models: dict[ServableId, AcceleratedModel] = {}
        self._reasons: dict[ServableId, dict[str, dict[str, str]]] = {}
        self.compared: Counter[str] = Counter()
        """Answers of another engine that were compared with TensorFlow's, by model."""
        self.disagreed: Counter[str] = Counter()
        """Those that differed."""

    @property
    def enabled(self) -> bool:
        return bool(self._engines)

    def wrap(self, loader: Loader, servable: ServableId, folder: str) -> "AcceleratedLoader":
        """A ``Loader`` whose models can be accelerated: ``start`` begins with it."""
        return AcceleratedLoader(self, loader, servable, folder)

    def report(self, servable: ServableId) -> dict[str, SignatureReport]:
        """Of each signature of a version; empty for models that are not TensorFlow's."""
        model = self._models.get(servable)
        if model is None:
            return {}
        reasons = self._reasons.get(servable, {})
        return {name: SignatureReport(model.engine(name), reasons.get(name, {})) for name in served_signatures(model)}

    def servables(self) -> list[ServableId]:
        """The versions that there is something to say of."""
        return list(self._models)

    def stop(self) -> None:
        """Ends what is going on; nothing is waited for. Nothing starts any more."""
        with self._lock:
            self._stopping = True
        for servable in list(self._models):
            self.forget(servable)
        self._jobs.put(None)
        with suppress(queue.Full):  # then its thread is awake, and sees that it is over
            self._shadows.put_nowait(None)

    def join(self) -> None:
        """After ``stop``: waits until the threads have cleared away what they were at, for a few seconds at most."""
        end = time.monotonic() + _LAST_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    # For its loaders

    def start(self, servable: ServableId, model: AcceleratedModel, folder: str) -> None:
        """The version is loaded and warm."""
        if not self.options.num_requests:
            model.keeps_samples = False
        with self._lock:
            if self._stopping:
                return
            self._models[servable] = model
            self._reasons[servable] = {}
            if not self._threads:
                self._threads = [
                    threading.Thread(target=target, name=f"pyserving-{name}", daemon=True)
                    for name, target in (("acceleration", self._work), ("shadow", self._compare))
                ]
                for thread in self._threads:
                    thread.start()
        self._jobs.put(_Work(servable, model, folder))

    def forget(self, servable: ServableId) -> None:
        """The version is about to be unloaded."""
        self._models.pop(servable, None)
        self._reasons.pop(servable, None)
        with self._lock:
            process = self._running.get(servable)
        if process is not None:
            process.cancel()

    def shadow(
        self,
        model: AcceleratedModel,
        signature: Signature,
        inputs: Inputs,
        outputs: Sequence[str],
        found: Sequence[Array],
    ) -> bool:
        """See ``model.Shadow``."""
        try:
            self._shadows.put_nowait(_Shadow(model, signature, inputs, tuple(outputs), list(found)))
        except queue.Full:
            return False
        return True

    # On its threads

    def _is_loaded(self, work: "_Work") -> bool:
        """Whether it is still the same one: a version may be unloaded, and loaded again."""
        return self._models.get(work.servable) is work.model

    def _work(self) -> None:
        work_in_background()
        while (work := self._jobs.get()) is not None:
            try:
                self._accelerate(work)
            except Exception:
                logger.exception("The acceleration of %s has failed", work.servable)
            del work  # the model would be kept until the next one is loaded

    def _accelerate(self, work: "_Work") -> None:
        servable, model = work.servable, work.model
        samples = self._samples(work)
        if not self._is_loaded(work):
            return
        search = Search(model.tensorflow, self._engines, samples, self.options.num_threads)
        for engine in self._engines if search.worthwhile else ():
            try:
                search.take(self._try(work, engine, search))
            except TrialFailed as error:
                if not self._is_loaded(work):
                    return
                logger.warning("%s was not tried on %s: %s", engine, servable, error)
                search.failed(engine, error)
        for name in search.worthwhile:
            self._switch(work, name, search)
        if self._is_loaded(work):
            self._reasons[servable] = search.reasons
            for name, of_engines in search.reasons.items():
                if model.engine(name) == TENSORFLOW:
                    told = "; ".join(f"{engine}: {why}" for engine, why in of_engines.items())
                    level = logging.INFO if name in search.worthwhile else logging.DEBUG
                    logger.log(level, "%s, signature %s stays on TensorFlow (%s)", servable, name, told)

    def _samples(self, work: "_Work") -> Mapping[str, list[Inputs]]:
        wanted = self.options.num_requests
        end = time.monotonic() + _PATIENCE_SECONDS
        while wanted and time.monotonic() < end and self._is_loaded(work):
            if any(len(kept) >= wanted for kept in work.model.samples.values()):
                break
            time.sleep(0.1)
        return work.model.stop_keeping_samples()

    def _try(self, work: "_Work", engine: str, search: Search) -> list[Finding]:
        process = TrialProcess(self.options.job(engine, work.folder, search.worthwhile))
        with self._lock:
            if self._stopping or not self._is_loaded(work):
                raise TrialFailed("it was cancelled")
            self._running[work.servable] = process
        try:
            return process.run({name: search.samples.get(name, []) for name in search.worthwhile})
        finally:
            with self._lock:
                self._running.pop(work.servable, None)

    def _switch(self, work: "_Work", name: str, search: Search) -> None:
        """Opens the best engine that there is, and lets it serve the signature."""
        opened = search.open_best(name)
        if opened is None:
            return
        finding, compiled = opened
        verdict = finding.verdict
        assert verdict.gate is not None
        if not work.model.accelerate(name, Accelerated(verdict.engine, compiled, verdict.gate, finding.artefact)):
            compiled.close()
            return
        times = ", ".join(f"{timing.gain:.1f} x with {timing.rows}" for timing in verdict.timings)
        logger.info(
            "%s, signature %s goes to %s, which is faster than TensorFlow (%s; largest difference %.2g)",
            work.servable,
            name,
            verdict.engine,
            times,
            verdict.largest_difference,
            extra={
                "fields": {
                    "event": "accelerated",
                    "model": work.servable.name,
                    "version": work.servable.version,
                    "signature": name,
                    "engine": verdict.engine,
                    "gain": round(verdict.gain, 2),
                }
            },
        )

    def _compare(self) -> None:
        work_in_background()
        while not self._stopping and (shadow := self._shadows.get()) is not None:
            self._compare_one(shadow)
            del shadow  # the model would be kept until the next comparison

    def _compare_one(self, shadow: "_Shadow") -> None:
        servable = next((each for each, model in list(self._models.items()) if model is shadow.model), None)
        if servable is None:
            return
        try:
            disagreement = shadow.model.compare(shadow.signature, shadow.inputs, shadow.outputs, shadow.found)
        except Exception:
            logger.exception("A comparison of %s with TensorFlow has failed", servable)
            return
        self.compared[servable.name] += 1
        if disagreement is None:
            return
        self.disagreed[servable.name] += 1
        reason = f"it answered a request otherwise: by {disagreement.difference:.3g}"
        reasons = self._reasons.get(servable)
        if reasons is not None:
            reasons.setdefault(shadow.signature.name, {})[disagreement.engine] = reason
        try:
            refuse(disagreement.artefact, reason)
        except (OSError, ServingError) as error:
            logger.warning(
                "It could not be written that %s must not serve %s: %s", disagreement.engine, servable, error
            )


@dataclass(frozen=True, slots=True)
class _Work:
    servable: ServableId
    model: AcceleratedModel
    folder: str


@dataclass(frozen=True, slots=True)
class _Shadow:
    model: AcceleratedModel
    signature: Signature
    inputs: Inputs
    outputs: Sequence[str]
    found: Sequence[Array]


class AcceleratedLoader:
    """A ``Loader`` that loads by another one, and lets TensorFlow's models be accelerated."""

    def __init__(self, accelerator: Accelerator, loader: Loader, servable: ServableId, folder: str) -> None:
        self._accelerator = accelerator
        self._loader = loader
        self._id = servable
        self._folder = folder
        self._model: AcceleratedModel | None = None

    def estimate_resources(self) -> Resources:
        """With as much again for a second engine: weights laid out anew, and activations."""
        return Resources(2 * self._loader.estimate_resources().ram_bytes)

    def load(self) -> Servable:
        loaded = self._loader.load()
        if not isinstance(loaded, TensorFlowModel):
            return loaded
        accelerator = self._accelerator
        self._model = AcceleratedModel(loaded, str(self._id), accelerator.shadow, accelerator.options.num_samples)
        return self._model

    def unload(self) -> None:
        self._accelerator.forget(self._id)
        if self._model is not None:
            self._model.close()
            self._model = None
        self._loader.unload()

    def started_by(self, loader: Loader) -> "StartingLoader":
        """``loader`` goes around this one, and does what else there is to do before requests come."""
        return StartingLoader(loader, self)

    def start(self) -> None:
        """From now on engines are tried."""
        if self._model is not None:
            self._accelerator.start(self._id, self._model, self._folder)


class StartingLoader:
    """A ``Loader`` that loads by another one, and then has faster engines looked for."""

    def __init__(self, loader: Loader, accelerated: AcceleratedLoader) -> None:
        self._loader = loader
        self._accelerated = accelerated

    def estimate_resources(self) -> Resources:
        return self._loader.estimate_resources()

    def load(self) -> Servable:
        servable = self._loader.load()
        self._accelerated.start()
        return servable

    def unload(self) -> None:
        self._loader.unload()
