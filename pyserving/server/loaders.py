"""From a version folder to the Loader that fits it."""

import os
from dataclasses import replace

from pyserving.acceleration.accelerator import Acceleration, AccelerationOptions, Accelerator
from pyserving.batching.parameters import BatchingPolicies, PerModelBatchingLoader
from pyserving.core.loader import Loader
from pyserving.core.servable import ServableId
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.python.composition import OpenSession, no_session
from pyserving.platforms.registry import Platforms
from pyserving.server.folder import Folder
from pyserving.server.measured_loader import MeasuredLoader
from pyserving.server.settings import Settings
from pyserving.server.stateless_loader import StatelessLoader
from pyserving.server.warmup import WarmedLoader, Warmup


def platforms_of(settings: Settings, open_session: OpenSession = no_session) -> Platforms:
    """The platforms, set up as the settings say. ``open_session``: how a model asks other models."""
    context = PlatformContext(
        num_threads=settings.session_options.intra_op_parallelism,
        parallel_runs=settings.engine_threads,
        session_options=settings.session_options,
        tflite_options=settings.tflite_options,
        python_options=settings.python_options,
        open_session=open_session,
        op_libraries=settings.op_libraries,
    )
    return Platforms(context, prefer="tflite" if settings.prefer_tflite else "")


def accelerator_of(settings: Settings) -> Accelerator:
    """The accelerator, set up as the settings say."""
    options = settings.acceleration
    session = settings.session_options
    changes_variables = settings.session_service
    # A trial knows neither the config of sessions nor how to share a GPU.
    other_kernels = session.bfloat16 or session.config_file or session.config or _has_gpu()
    # Who limits the memory of models without a word on acceleration has not reckoned with a second engine for each.
    bounded = settings.model_memory_limit is not None or settings.model_memory_budget is not None
    limited = bounded and options.choice is Acceleration.AUTO
    if changes_variables or other_kernels or limited:
        return Accelerator(AccelerationOptions(Acceleration.OFF))
    return Accelerator(replace(options, tags=tuple(session.tags), num_threads=session.intra_op_parallelism))


def _has_gpu() -> bool:
    """Whether TensorFlow may compute on an NVIDIA GPU."""
    return os.path.exists("/proc/driver/nvidia/version") and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")


class Loaders:
    """Makes loaders: the platform's own, and around it what the settings ask for."""

    def __init__(
        self,
        settings: Settings,
        policies: BatchingPolicies,
        metrics: ServingMetrics,
        warmup: Warmup,
        open_session: OpenSession,
        accelerator: Accelerator,
    ) -> None:
        self._settings = settings
        self._policies = policies
        self._metrics = metrics
        self._warmup = warmup
        self._platforms = platforms_of(settings, open_session)
        self._accelerator = accelerator

    def loader(self, servable: ServableId, folder: Folder) -> Loader:
        """The loader of the version in ``folder``. Nothing is loaded yet."""
        path = folder.path
        loader = self._platforms.loader(servable, path, folder.platform, folder.isolation)
        if self._settings.workers > 1 or self._settings.replicas > 1:
            loader = StatelessLoader(loader, servable, "worker" if self._settings.workers > 1 else "replica")
        accelerated = self._accelerator.wrap(loader, servable, path) if self._accelerator.enabled else None
        loader = MeasuredLoader(accelerated or loader, path, self._metrics)
        if self._settings.per_model_batching:
            loader = PerModelBatchingLoader(loader, path, self._policies)
        if self._settings.warmup_iterations:
            loader = WarmedLoader(loader, servable, path, self._warmup)
        return loader if accelerated is None else accelerated.started_by(loader)
