"""From the ModelSpec of a request to a handle on the version that answers it."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyserving.api.cold_start import ColdStart
from pyserving.api.traffic import Headers, Split
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.handle import ServableHandle
from pyserving.core.labels import VersionLabels
from pyserving.core.servable import ServableId
from pyserving.core.serving_map import ServingMap
from pyserving.protos import messages

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which version of which model: by number, by label, or the latest."""

    name: str
    version: int | None = None
    label: str | None = None


def read_model_spec(spec: messages.ModelSpec) -> ModelSpec:
    choice = spec.WhichOneof("version_choice")
    return ModelSpec(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


class Models:
    """The models that requests can ask for."""

    def __init__(self, serving: ServingMap, labels: VersionLabels) -> None:
        self._serving = serving
        self._labels = labels
        self.splits: Mapping[str, Split] = {}
        """Of the models whose traffic is divided, by name."""
        self.cold_start: ColdStart | None = None
        """Loads models for requests; None where all that are to be there are loaded anyway."""

    def acquire(self, spec: ModelSpec, headers: Headers = ()) -> ServableHandle:
        """A handle, to be released by the caller. Raises NOT_FOUND; INVALID_ARGUMENT for an unknown label.

        ``headers``: of the request; they may decide which version it gets if it names none.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        if self.splits and spec.version is None and spec.label is None and (split := self.splits.get(spec.name)):
            return split.acquire(headers)
        return self._serving.acquire(spec.name, self.version(spec))

    async def acquired(self, spec: ModelSpec, deadline: float | None, headers: Headers = ()) -> ServableHandle:
        """As ``acquire``; a model that is not loaded is loaded first.

        ``deadline`` is on the clock of ``time.monotonic``. Raises what ``acquire`` raises, and what ``loaded`` does.
        """
        try:
            return self.acquire(spec, headers)
        except ServingError as error:
            return await self.loaded(spec, deadline, headers, error)

    async def loaded(
        self, spec: ModelSpec, deadline: float | None, headers: Headers, error: ServingError
    ) -> ServableHandle:
        """What to do where ``acquire`` raised ``error``: a handle, if the model only has to be loaded.

        Raises ``error`` where that is not so; DEADLINE_EXCEEDED; UNAVAILABLE or RESOURCE_EXHAUSTED where the model
        could not be loaded.
        """
        cold_start = self.cold_start
        if cold_start is None or error.code is not Code.NOT_FOUND:
            raise error
        while True:
            # Before it is looked for: it may be available, and no more unloaded, at any time.
            unloaded = cold_start.is_unloaded(spec.name)
            try:
                return self.acquire(spec, headers)
            except ServingError as missing:
                if missing.code is not Code.NOT_FOUND or not (unloaded or cold_start.is_unloaded(spec.name)):
                    raise
            await cold_start.wait(spec.name, self.version(spec), deadline)

    def is_available(self, servable: ServableId) -> bool:
        """Whether the version takes requests."""
        return self._serving.is_available(servable)

    def version(self, spec: ModelSpec) -> int | None:
        """The version number that ``spec`` names, None for the latest. Raises INVALID_ARGUMENT."""
        if spec.label is not None:
            return self._labels.resolve(spec.name, spec.label)
        return spec.version
