"""Records how loads end and how long they take."""

from time import perf_counter

from pyserving.core.loader import Loader
from pyserving.core.resources import Resources
from pyserving.core.servable import Servable
from pyserving.monitoring.serving_metrics import ServingMetrics


class MeasuredLoader:
    """A ``Loader`` that hands everything on to another one, which loads the folder ``path``."""

    def __init__(self, loader: Loader, path: str, metrics: ServingMetrics) -> None:
        self._loader = loader
        self._path = path
        self._metrics = metrics

    def estimate_resources(self) -> Resources:
        return self._loader.estimate_resources()

    def load(self) -> Servable:
        start = perf_counter()
        loaded = False
        try:
            servable = self._loader.load()
            loaded = True
            return servable
        finally:
            self._metrics.load_ended(self._path, perf_counter() - start, loaded=loaded)

    def unload(self) -> None:
        self._loader.unload()
