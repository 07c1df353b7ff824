"""Looks for the fastest engine for each signature of one version: what is worth trying, and what came of it."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from pyserving.acceleration.engines import ENGINES, CompiledSignature
from pyserving.acceleration.trial_inputs import (
    FLOAT_KINDS,
    InputMaker,
    Inputs,
    fits,
    objection,
    rows_of,
    tails,
    whole_shapes,
)
from pyserving.acceleration.trials import Finding, TrialFailed
from pyserving.acceleration.verdict import best
from pyserving.core.errors import ServingError
from pyserving.platforms.model import Array, Signature

_WORTH_SECONDS = 100e-6
"""Runs that take less are not worth the memory of a second engine."""
_LONG_RUN_SECONDS = 2e-3

logger = logging.getLogger("pyserving.acceleration")


class TensorFlow(Protocol):
    """What is asked of the model: ``TensorFlowModel`` has it."""

    @property
    def signatures(self) -> Mapping[str, Signature]: ...

    def run(
        self, signature: Signature, inputs: Mapping[str, Array], outputs: Sequence[str], *, inline: bool = False
    ) -> list[Array]:
        """See ``Model.run``."""
        ...


class Search:
    """Of one version. The caller runs the trials, for he knows how to end them."""

    def __init__(
        self, model: TensorFlow, engines: Sequence[str], samples: Mapping[str, Sequence[Inputs]], num_threads: int
    ) -> None:
        """Runs each signature a few times. ``samples``: inputs of requests. ``num_threads``: as for ``Engine.open``."""
        self._signatures = model.signatures
        self._num_threads = num_threads
        self.samples = samples
        self.findings: dict[str, list[Finding]] = {}
        """Of each signature that was tried, one for each engine."""
        self.reasons: dict[str, dict[str, str]] = {}
        """Of each signature that clients call, why it is not on an engine."""
        self.worthwhile: list[str] = []
        """The signatures to try."""
        for name in served_signatures(model):
            signature = model.signatures[name]
            reason = objection(signature) or _too_cheap(model, signature, samples.get(name, []))
            self.reasons[name] = dict.fromkeys(engines, reason) if reason else {}
            self.findings[name] = []
            if not reason:
                self.worthwhile.append(name)

    def take(self, findings: Sequence[Finding]) -> None:
        """What a trial of an engine on the signatures that are worthwhile has found."""
        for finding in findings:
            self.findings[finding.signature].append(finding)
            self.reasons[finding.signature][finding.verdict.engine] = finding.verdict.objection

    def failed(self, engine: str, error: TrialFailed) -> None:
        """The trial of an engine came to no end."""
        for name in self.worthwhile:
            self.reasons[name][engine] = f"the trial failed: {error}"

    def open_best(self, name: str) -> tuple[Finding, CompiledSignature] | None:
        """The fastest engine that there is for a signature, ready to run; None where it stays on TensorFlow.

        ``reasons`` then says why not another one.
        """
        signature, reasons = self._signatures[name], self.reasons[name]
        left = list(self.findings[name])
        while (verdict := best([finding.verdict for finding in left])) is not None:
            finding = next(each for each in left if each.verdict is verdict)
            left.remove(finding)
            try:
                compiled = self._open(finding, signature)
            except ServingError as error:
                reasons[verdict.engine] = f"what was compiled cannot be used: {error.message}"
                logger.warning("signature %s, %s: %s", name, verdict.engine, reasons[verdict.engine])
                continue
            for other in left:
                if not other.verdict.objection:
                    reasons[other.verdict.engine] = (
                        f"{other.verdict.gain:.2f} x as fast as TensorFlow, and {verdict.engine} {verdict.gain:.2f} x"
                    )
            reasons.pop(verdict.engine, None)
            return finding, compiled
        return None

    def _open(self, finding: Finding, signature: Signature) -> CompiledSignature:
        compiled = ENGINES[finding.verdict.engine].open(finding.artefact, signature, self._num_threads)
        shapes = _ordinary_shapes(signature)
        if shapes is not None:
            # The first run takes many times as long as the next.
            compiled.run(InputMaker(signature).make(shapes, FLOAT_KINDS[0]), tuple(signature.outputs))
        return compiled


def served_signatures(model: TensorFlow) -> list[str]:
    """Those that clients call."""
    return sorted(name for name in model.signatures if not name.startswith("__saved_model_"))


def _too_cheap(model: TensorFlow, signature: Signature, samples: Sequence[Inputs]) -> str:
    """Why no engine is worth trying; empty where one may be."""
    shapes = _ordinary_shapes(signature)
    if shapes is not None:
        inputs = InputMaker(signature).make(shapes, FLOAT_KINDS[0])
    elif samples:
        inputs = samples[0]
    else:
        return "the shapes of its inputs are not known, and no recorded request shows them"
    outputs = tuple(signature.outputs)
    try:
        start = time.perf_counter()
        model.run(signature, inputs, outputs)
        seconds = time.perf_counter() - start
        for _ in range(5):
            if seconds > _LONG_RUN_SECONDS:
                break
            start = time.perf_counter()
            model.run(signature, inputs, outputs, inline=True)
            seconds = min(seconds, time.perf_counter() - start)
    except ServingError as error:
        return f"TensorFlow refuses a run on zeros: {error.message}"
    if seconds < _WORTH_SECONDS:
        return f"a run takes TensorFlow but {seconds * 1e6:.0f} us"
    return ""


def _ordinary_shapes(signature: Signature) -> dict[str, tuple[int, ...]] | None:
    """Those of one row, or of whole inputs; None where they are not known, or large."""
    rows = tails(signature)
    shapes = rows_of(rows, 1) if rows is not None else whole_shapes(signature)
    return shapes if shapes is not None and fits(shapes, signature) else None
