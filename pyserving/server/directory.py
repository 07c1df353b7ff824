"""What requests are answered from."""

import threading
from collections.abc import Callable, Mapping, Sequence

from pyserving.core.events import EventBus
from pyserving.core.labels import VersionLabels
from pyserving.core.monitor import ServableStateMonitor
from pyserving.core.servable import ServableId
from pyserving.core.serving_map import ServingMap
from pyserving.server.gate_report import GateReport, GateReports, with_report
from pyserving.sources.model_config import ModelConfig


class Directory:
    """The models that are configured, the states of their versions, their labels, and the versions that serve.

    It is kept by a Catalog in the same process, or, in a worker, by what the supervisor tells. Whoever answers requests
    only reads it.
    """

    def __init__(self, models: Sequence[ModelConfig]) -> None:
        self.models: Sequence[ModelConfig] = tuple(models)
        self.bus = EventBus()
        """Tells of states that hold for the whole server."""
        self.monitor = ServableStateMonitor(self.bus)
        self.serving = ServingMap()
        self.labels = VersionLabels()
        self.defaults: Mapping[str, int] = {}
        """The version that requests get which name none, where that need not be the highest: by model."""
        self.gate_reports: GateReports = {}
        """What the gate found of versions, or has found so far."""
        self._listeners: list[Callable[[], None]] = []
        self._default_listeners: list[Callable[[], object]] = []
        self._directing = threading.Lock()
        self._reporting = threading.Lock()
        self._report_listeners: list[Callable[[ServableId, GateReport], object]] = []

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Calls ``listener`` after each change of models and labels."""
        self._listeners.append(listener)

    def subscribe_to_defaults(self, listener: Callable[[], object]) -> None:
        """Calls ``listener`` after each change of ``defaults``, on the thread that makes it."""
        self._default_listeners.append(listener)

    def subscribe_to_gate_reports(self, listener: Callable[[ServableId, GateReport], object]) -> None:
        """Calls ``listener`` with each report of a version, on the thread that makes it."""
        self._report_listeners.append(listener)

    def configure(self, models: Sequence[ModelConfig]) -> None:
        """These are the models that there should be."""
        self.models = tuple(models)
        self._tell()

    def assign_labels(
        self,
        labels: Mapping[str, Mapping[str, int]],
        is_available: Callable[[ServableId], bool],
        *,
        allow_unavailable: bool = False,
    ) -> None:
        """See ``VersionLabels.update``."""
        self.labels.update(labels, is_available, allow_unavailable=allow_unavailable)
        self._tell()

    def direct(self, name: str, version: int | None) -> None:
        """See ``ServingMap.direct``. Any thread may call."""
        with self._directing:
            others = {other: default for other, default in self.defaults.items() if other != name}
            self.defaults = others if version is None else {**others, name: version}
            self.serving.direct(name, version)
        for listener in self._default_listeners:
            listener()

    def direct_all(self, defaults: Mapping[str, int]) -> None:
        """Makes ``defaults`` all that there are."""
        for name in self.defaults.keys() | defaults.keys():
            if self.defaults.get(name) != defaults.get(name):
                self.direct(name, defaults.get(name))

    def examined(self, servable: ServableId, report: GateReport) -> None:
        """The gate has found so much of a version. Any thread may call."""
        with self._reporting:
            self.gate_reports = with_report(self.gate_reports, servable, report)
        for listener in self._report_listeners:
            listener(servable, report)

    def has_model(self, name: str) -> bool:
        """Whether a model of this name is configured, or was and had versions."""
        return bool(self.monitor.states(name)) or any(model.name == name for model in self.models)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
