"""Looks for faster engines for a version without serving it, and leaves what it finds where servers look."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyserving.acceleration.accelerator import AccelerationOptions
from pyserving.acceleration.model import TENSORFLOW, AcceleratedModel
from pyserving.acceleration.search import Search
from pyserving.acceleration.trial_inputs import Inputs
from pyserving.acceleration.trials import Finding, TrialFailed, TrialProcess
from pyserving.api.prediction_methods import PredictionMethods
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServedVersion
from pyserving.core.servable import ServableId
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.server.warmup import Warmup


@dataclass(frozen=True, slots=True)
class OptimizedSignature:
    """What came of one signature."""

    engine: str
    """That servers will use."""
    findings: Mapping[str, Finding]
    """By engine; without those that were not tried."""
    reasons: Mapping[str, str]
    """Of the other engines, why not."""


def optimize(folder: str, options: AccelerationOptions, tell: Callable[[str], None]) -> dict[str, OptimizedSignature]:
    """What a server with these options would find for the version in ``folder``, by signature. Takes minutes.

    ``tell`` hears of each step. Raises ServingError where the version cannot be loaded or warmed up, or where none of
    the engines is installed.
    """
    engines = options.choice.engines
    if not engines:
        wanted = options.choice.value if options.choice.value != "auto" else "openvino,tflite"
        raise ServingError(Code.FAILED_PRECONDITION, f"no engine is installed: pip install 'pyserving[{wanted}]'")
    tell("loading")
    session_options = SessionOptions(tags=tuple(options.tags), intra_op_parallelism=options.num_threads)
    model = TensorFlowModel(folder, session_options)
    try:
        samples = asyncio.run(_samples(folder, model, options.num_samples))
        search = Search(model, engines, samples, options.num_threads)
        for engine in engines if search.worthwhile else ():
            tell(f"trying {engine} on {', '.join(search.worthwhile)}")
            process = TrialProcess(options.job(engine, folder, search.worthwhile))
            try:
                search.take(process.run({name: search.samples.get(name, []) for name in search.worthwhile}))
            except TrialFailed as error:
                search.failed(engine, error)
        return {name: _chosen(search, name) for name in search.reasons}
    finally:
        model.close()


async def _samples(folder: str, model: TensorFlowModel, most: int) -> Mapping[str, Sequence[Inputs]]:
    """The inputs of the version's warmup requests, kept on the way on which a server meets them."""
    keeping = AcceleratedModel(model, folder, _no_shadow, most)
    metrics = ServingMetrics(lambda _: True)
    executor = EngineExecutor(1, in_background=True)
    try:
        warmup = Warmup(PredictionMethods(executor, metrics), metrics)
        version = ServedVersion(ServableId("model", 1), keeping, lambda: None)
        with version.hold() as handle:  # type: ignore[union-attr]  # None only once it is closed
            await asyncio.to_thread(warmup.run, folder, handle)
    finally:
        executor.stop()
    return keeping.stop_keeping_samples()


def _no_shadow(*_: Any) -> bool:
    return False


def _chosen(search: Search, name: str) -> OptimizedSignature:
    opened = search.open_best(name)
    findings = {finding.verdict.engine: finding for finding in search.findings[name]}
    if opened is None:
        return OptimizedSignature(TENSORFLOW, findings, search.reasons[name])
    chosen, compiled = opened
    compiled.close()
    return OptimizedSignature(chosen.verdict.engine, findings, search.reasons[name])
