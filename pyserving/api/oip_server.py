"""What the Open Inference Protocol tells of a server and its models, besides inference."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyserving
from pyserving.api.health import Health
from pyserving.api.models import Models, ModelSpec
from pyserving.api.oip_models import find_signature, shape_of
from pyserving.api.oip_statistics import OipStatistics, Statistics
from pyserving.api.status import StatusApi
from pyserving.core.errors import ServingError
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState, State
from pyserving.platforms.model import Signature, TensorSpec
from pyserving.sources.model_config import ModelConfig
from pyserving.wire.oip_tensors import DATATYPES

NAME = "pyserving"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")

_STATES = {
    State.START: "UNAVAILABLE",
    State.LOADING: "LOADING",
    State.AVAILABLE: "READY",
    State.UNLOADING: "UNLOADING",
    State.END: "UNAVAILABLE",
}


class Indexed(NamedTuple):
    """One line of a repository's index."""

    name: str
    version: str
    """Empty where no version was ever found."""
    state: str
    reason: str
    """Why it is not ready, if that is known."""


class ModelFacts(NamedTuple):
    """What there is to say of a version."""

    id: ServableId
    versions: Sequence[str]
    """All that are available."""
    platform: str
    signature: Signature


class OipServer:
    """Tells what it is asked; changes nothing."""

    def __init__(
        self,
        models: Models,
        status: StatusApi,
        health: Health,
        statistics: OipStatistics,
        known: Callable[[], Sequence[ModelConfig]],
    ) -> None:
        """``known``: the models that there should be now, and those that could be loaded."""
        self._models = models
        self._status = status
        self._health = health
        self._statistics = statistics
        self._known = known

    @property
    def version(self) -> str:
        return pyserving.__version__

    @property
    def live(self) -> bool:
        return True

    @property
    def ready(self) -> bool:
        return self._health.ready

    def model_ready(self, spec: ModelSpec) -> bool:
        """Whether requests for it are answered; False, too, where there is no such model."""
        if self._health.draining:
            return False
        try:
            return bool(self._answering(spec))
        except ServingError:
            return False

    async def facts(self, spec: ModelSpec, deadline: float | None) -> ModelFacts:
        """Of the version that answers, which is loaded if it is not, and its default signature. Raises ServingError.

        ``deadline`` is on the clock of ``time.monotonic``.
        """
        with await self._models.acquired(spec, deadline) as handle:
            versions = [
                str(state.id.version)
                for state in self._status.known_states(spec.name)
                if state.state is State.AVAILABLE
            ]
            platform = next((model.platform for model in self._known() if model.name == spec.name), "")
            return ModelFacts(handle.id, versions, platform, find_signature(handle.servable, ""))

    def index(self, *, ready: bool) -> list[Indexed]:
        """All versions of all models, those that could not be loaded included; with ``ready``, those that are."""
        lines = []
        for model in self._known():
            states = self._status.known_states(model.name)
            found = [_indexed(state) for state in states] or [
                Indexed(model.name, "", "UNAVAILABLE", "no version found")
            ]
            lines += [line for line in found if not ready or line.state == "READY"]
        return lines

    async def statistics(self, spec: ModelSpec | None) -> dict[ServableId, Statistics]:
        """Of the versions of a model that answer requests, or the one that it names; None: of all models.

        Raises ServingError where there is none.
        """
        if spec is None:
            states = [state for model in self._known() for state in self._status.known_states(model.name)]
        elif spec.version is not None or spec.label is not None:
            return await self._statistics.of(self._answering(spec))
        else:
            states = list(self._status.states(spec))
        return await self._statistics.of([state.id for state in states if _can_answer(state)])

    def _answering(self, spec: ModelSpec) -> list[ServableId]:
        """The version that answers such a request, or those of a model that one has loaded. Raises ServingError where
        there is none."""
        try:
            with self._models.acquire(spec) as handle:
                return [handle.id]
        except ServingError:
            version = self._models.version(spec)
            states = self._status.known_states(spec.name)
            dormant = [state.id for state in states if state.dormant and version in (None, state.id.version)]
            if not dormant:
                raise
            return dormant


def config_of(facts: ModelFacts) -> dict[str, Any]:
    """What Triton would call the model's configuration, as JSON has it, and the fields of a ModelConfig."""
    signature = facts.signature
    return {
        "name": facts.id.name,
        "platform": facts.platform,
        "backend": NAME,
        "max_batch_size": 0,
        "input": [
            {**_config(spec), **({"optional": True} if name in signature.defaults else {})}
            for name, spec in signature.inputs.items()
        ],
        "output": [_config(spec) for spec in signature.outputs.values()],
        "model_transaction_policy": {"decoupled": signature.streams},
    }


def _config(spec: TensorSpec) -> dict[str, object]:
    datatype = DATATYPES.get(spec.dtype, "INVALID")
    return {
        "name": spec.name,
        "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}",
        "dims": shape_of(spec),
    }


def _can_answer(state: ServableState) -> bool:
    """Where a version is dormant, the next request has it loaded."""
    return state.state is State.AVAILABLE or state.dormant


def _indexed(state: ServableState) -> Indexed:
    if state.dormant and not state.error:
        return Indexed(state.id.name, str(state.id.version), "READY", "loaded when a request needs it")
    reason = state.error.message if state.error else "unloaded" if state.state is State.END else ""
    return Indexed(state.id.name, str(state.id.version), _STATES[state.state], reason)
