"""The Open Inference Protocol v2 (KServe, Triton) of a server: its parts put together."""

from collections.abc import Callable, Mapping, Sequence

from pyserving.api.health import Health
from pyserving.api.models import Models
from pyserving.api.oip_inference import OipInference
from pyserving.api.oip_repository import OipRepository, Reload
from pyserving.api.oip_rest import OipRest
from pyserving.api.oip_rpc import OipRpc
from pyserving.api.oip_server import OipServer
from pyserving.api.oip_statistics import Collect, OipStatistics
from pyserving.api.status import StatusApi
from pyserving.api.tap import Tap
from pyserving.batching.executor import EngineExecutor
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.sources.model_config import ModelConfig


class OpenInference:
    """Makes the two fronts, over REST and over gRPC, of one interface."""

    def __init__(
        self,
        models: Models,
        status: StatusApi,
        health: Health,
        executor: EngineExecutor,
        metrics: ServingMetrics,
        reload: Reload,
        collect: Collect,
        configured: Callable[[], Sequence[ModelConfig]],
        *,
        taps: Mapping[str, Tap],
        check_method_names: bool,
        workers: int,
    ) -> None:
        """``collect``: the metrics of all processes. ``configured``: the models that there should be now. ``taps``:
        what looks on at the answers. ``check_method_names``: see Engine. ``workers``: processes that answer."""
        self._metrics = metrics
        statistics = OipStatistics(metrics.registry, collect)
        self._inference = OipInference(
            models, executor, metrics, taps, statistics, check_method_names=check_method_names
        )
        self._repository = OipRepository(configured, reload, status, health, workers=workers)
        self._server = OipServer(models, status, health, statistics, self._repository.models)

    def rest(self, timeout: float) -> OipRest:
        """``timeout``: the most that a request may take, in seconds."""
        return OipRest(self._server, self._inference, self._repository, self._metrics, timeout=timeout)

    def rpc(self) -> OipRpc:
        return OipRpc(self._server, self._inference, self._repository, self._metrics)
