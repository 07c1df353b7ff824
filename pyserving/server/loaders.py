"""From a version folder to the Loader that fits it."""

import os

from pyserving.batching.parameters import BatchingPolicies, PerModelBatchingLoader
from pyserving.core.loader import Loader
from pyserving.core.servable import ServableId
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.tensorflow.loader import TensorFlowLoader
from pyserving.platforms.tensorflow.saved_model import is_saved_model
from pyserving.platforms.tflite.loader import TFLiteLoader
from pyserving.platforms.tflite.model_file import FILE_NAME
from pyserving.server.measured_loader import MeasuredLoader
from pyserving.server.settings import Settings
from pyserving.server.warmup import WarmedLoader, Warmup


class Loaders:
    """Makes loaders: the platform's own, and around it what the settings ask for."""

    def __init__(self, settings: Settings, policies: BatchingPolicies, metrics: ServingMetrics, warmup: Warmup) -> None:
        self._settings = settings
        self._policies = policies
        self._metrics = metrics
        self._warmup = warmup

    def loader(self, servable: ServableId, path: str) -> Loader:
        """The loader of the version in the folder ``path``; nothing is loaded yet."""
        loader: Loader = MeasuredLoader(self._platform_loader(servable, path), path, self._metrics)
        if self._settings.per_model_batching:
            loader = PerModelBatchingLoader(loader, path, self._policies)
        if self._settings.warmup_iterations:
            loader = WarmedLoader(loader, servable, path, self._warmup)
        return loader

    def _platform_loader(self, servable: ServableId, path: str) -> Loader:
        has_tflite = os.path.isfile(os.path.join(path, FILE_NAME))
        if has_tflite and (self._settings.prefer_tflite or not is_saved_model(path)):
            return TFLiteLoader(servable, path, self._settings.tflite_options)
        return TensorFlowLoader(servable, path, self._settings.session_options)
