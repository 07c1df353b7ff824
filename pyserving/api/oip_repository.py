"""Loads and unloads models by name, as clients of the Open Inference Protocol do.

Here a config says which models there are. To unload a model is to take it out of the config, to load it is to put it
back: what was taken out is remembered until then. A config that comes from elsewhere (a file that is read again, a
reload) says what holds from then on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

from pyserving.api.health import Health
from pyserving.api.status import StatusApi
from pyserving.core.errors import Code, ServingError
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig, config_of

SETTLE_SECONDS = 10.0
"""How long a load waits for the first version."""

Reload = Callable[[messages.ModelServerConfig], Awaitable[None]]
"""Makes a config true; raises ServingError."""


class OipRepository:
    """Used on one event loop."""

    def __init__(
        self,
        configured: Callable[[], Sequence[ModelConfig]],
        reload: Reload,
        status: StatusApi,
        health: Health,
        *,
        workers: int,
    ) -> None:
        """``configured``: the models that there should be now. ``workers``: processes that answer."""
        self._configured = configured
        self._reload = reload
        self._status = status
        self._health = health
        self._workers = workers
        self._unloaded: dict[str, ModelConfig] = {}
        self._changing = asyncio.Lock()

    def models(self) -> list[ModelConfig]:
        """Those that are configured, and those that were unloaded."""
        there = self._configured()
        names = {model.name for model in there}
        return [*there, *(model for name, model in self._unloaded.items() if name not in names)]

    async def load(self, name: str, parameters: Collection[str]) -> None:
        """Returns when requests can ask the model, at once if they can already. One that could not be loaded is tried
        again. Raises ServingError."""
        self._check_parameters(parameters)
        async with self._changing:
            model = self._find(name)
            if self._health.available(name):
                return
            self._check_workers()
            began = time.time()
            others = [other for other in self._configured() if other.name != name]
            if len(others) < len(self._configured()):
                await self._reload(config_of(others))
            await self._reload(config_of([*others, model]))
            self._unloaded.pop(name, None)
            # A task of its own, for time-outs need one.
            await asyncio.ensure_future(self._settled(model, began))

    async def unload(self, name: str, parameters: Collection[str]) -> None:
        """Returns when requests cannot ask the model any more. Raises ServingError."""
        self._check_parameters(parameters)
        async with self._changing:
            model = self._find(name)
            self._check_workers()
            self._unloaded[name] = model
            await self._reload(config_of([other for other in self._configured() if other.name != name]))
            while self._health.available(name):
                await self._health.changed()

    async def _settled(self, model: ModelConfig, began: float) -> None:
        """Waits for a version, as one that was just copied into its folder is held back until the folder is quiet."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while not self._health.available(model.name):
                    for state in self._status.known_states(model.name):
                        if state.error is not None and state.when >= began:
                            raise state.error
                    await self._health.changed()
        except TimeoutError:
            raise ServingError(
                Code.FAILED_PRECONDITION, f"Expected a version of model {model.name} in {model.base_path}, found none"
            ) from None

    def _find(self, name: str) -> ModelConfig:
        for model in self.models():
            if model.name == name:
                return model
        raise ServingError(
            Code.NOT_FOUND,
            f"Expected a model that the server's config lists, got {name!r}; HandleReloadConfigRequest adds models",
        )

    def _check_workers(self) -> None:
        if self._workers > 1:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"Expected one process to load and unload models, got {self._workers} workers; change the config "
                "instead (HandleReloadConfigRequest, pyserving reload)",
            )

    @staticmethod
    def _check_parameters(parameters: Collection[str]) -> None:
        known = {"unload_dependents"}  # what clients send in any case; models here have no dependents
        if unknown := sorted(set(parameters) - known):
            raise ServingError(
                Code.UNIMPLEMENTED, f"Expected no parameters, for the config says how; got {', '.join(unknown)}"
            )
