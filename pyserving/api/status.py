"""GetModelStatus: the versions of a model and what has become of them."""

from collections.abc import Sequence

from pyserving.api.models import Models, ModelSpec
from pyserving.core.errors import Code, ServingError
from pyserving.core.monitor import ServableStateMonitor
from pyserving.core.state import ServableState


class StatusApi:
    """Answers from what the monitor saw, so that versions that ended are known too."""

    def __init__(self, monitor: ServableStateMonitor, models: Models, *, resolve_labels: bool) -> None:
        """``resolve_labels``: a label names its version; else, as in the real server, it is passed over."""
        self._monitor = monitor
        self._models = models
        self._resolve_labels = resolve_labels

    def known_states(self, name: str) -> Sequence[ServableState]:
        """The states of all known versions of a model, highest first; none for a model never seen."""
        return self._monitor.states(name)

    def states(self, spec: ModelSpec) -> Sequence[ServableState]:
        """The states of one version or of all known ones, highest version first. Raises NOT_FOUND."""
        states = self.known_states(spec.name)
        version = self._models.version(spec) if self._resolve_labels or spec.label is None else None
        if version is not None:
            states = [state for state in states if state.id.version == version]
            if not states:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {spec.name}")
        if not states:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        return states
