"""What Ray Serve runs besides the ingress: the replicas of models, and what keeps them in step."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ray import serve

from pyserving.api.exchange import HttpRequest
from pyserving.core.errors import ServingError
from pyserving.core.state import ServableState
from pyserving.platforms.registry import find_platforms
from pyserving.protos import messages
from pyserving.ray import answers
from pyserving.ray.answers import HttpAnswer, Metadata, RpcAnswer
from pyserving.ray.barrier import Barrier, Picture, Report
from pyserving.ray.options import check_models
from pyserving.ray.replica import Replica, read_models
from pyserving.server.settings import Settings
from pyserving.sources.model_config import config_of, models_from_config
from pyserving.sources.text_proto import read_text_proto

_LEAVE_SECONDS = 1.0
"""What the barrier may take to hear of a replica's end: it would notice by itself."""

logger = logging.getLogger("pyserving.ray")


class Barriers:
    """The deployment that keeps the replicas of each model in step. It has one replica, and may be replaced: what it
    knows it hears again from the others. It reads the models' config file, too, for all of them."""

    async def __init__(self, config: bytes, config_file: str, poll_wait: float) -> None:  # type: ignore[misc]  # Ray awaits it
        """``config``: as deployed; ``config_file`` is read again every ``poll_wait`` seconds, unless one is empty."""
        self._running = read_models(config)
        self._barriers: dict[tuple[str, str], Barrier] = {}
        """By model and base path: while an application is deployed anew there may be replicas with another one, whose
        versions are others."""
        self._configs: dict[str, bytes] = {}
        """What the file says now, by model."""
        self._applied: messages.ModelServerConfig | None = None
        self._failure = ""
        if config_file and poll_wait:
            # Before the first report comes: who starts now has to know what the file says.
            await self._read(config_file)
            self._following = asyncio.ensure_future(self._follow(config_file, poll_wait))

    async def sync(self, model: str, base_path: str, replica: str, report: Report, known: Picture | None) -> Picture:
        """See ``Barrier.sync``. ``base_path``: with which the replica was deployed."""
        return await self._barrier(model, base_path).sync(replica, report, known)

    async def leave(self, model: str, base_path: str, replica: str) -> None:
        """See ``Barrier.leave``."""
        self._barrier(model, base_path).leave(replica)

    def _barrier(self, model: str, base_path: str) -> Barrier:
        found = self._barriers.get((model, base_path))
        if found is None:
            found = self._barriers[model, base_path] = Barrier()
            found.config = self._configs.get(model, b"")
        return found

    async def _follow(self, path: str, wait: float) -> None:
        while True:
            await asyncio.sleep(wait)
            await self._read(path)

    async def _read(self, path: str) -> None:
        try:
            config = await asyncio.to_thread(read_text_proto, path, messages.ModelServerConfig)
            if config != self._applied:
                self._apply(config)
                self._applied, self._failure = config, ""
        except Exception as error:
            if repr(error) != self._failure:
                bug = None if isinstance(error, ServingError) else error
                logger.error("Could not apply %s: %s", path, error, exc_info=bug)
                self._failure = repr(error)

    def _apply(self, config: messages.ModelServerConfig) -> None:
        """Raises INVALID_ARGUMENT, and nothing has changed."""
        models = models_from_config(config, running=self._running, platforms=find_platforms()) or []
        check_models(models)
        if {model.name for model in models} != {model.name for model in self._running}:
            logger.warning("Models that are new in the config file, or gone from it, have to be deployed")
        self._configs |= {model.name: config_of([model]).SerializeToString(deterministic=True) for model in models}
        for (name, _), barrier in self._barriers.items():
            if name in self._configs:
                barrier.config = self._configs[name]


class ModelReplica:
    """A replica of a model's deployment."""

    async def __init__(self, settings: Settings, config: bytes, barriers: Any) -> None:  # type: ignore[misc]  # Ray awaits it
        """``config``: of this model alone (ModelServerConfig); ``barriers``: the handle of Barriers."""
        (model,) = read_models(config)
        number = serve.get_replica_context().replica_id.unique_id
        self._leave = partial(barriers.leave.remote, model.name, model.base_path, number)

        async def sync(report: Report, known: Picture | None) -> Picture:
            picture: Picture = await barriers.sync.remote(model.name, model.base_path, number, report, known)
            return picture

        self._replica = Replica(replace(settings, models=[model]), model, sync)
        try:
            await self._replica.start()
        except ServingError as error:
            # Ray shows the text, and would show a traceback of ours before it.
            raise RuntimeError(error.message) from None

    async def http(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> HttpAnswer:
        return await answers.answer_http(self._replica.handlers.http, HttpRequest(method, target, headers, body))

    async def stream_http(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[HttpAnswer | bytes]:
        async for piece in answers.stream_http(self._replica.handlers.http, HttpRequest(method, target, headers, body)):
            yield piece

    async def rpc(self, path: str, message: bytes, metadata: Metadata) -> RpcAnswer:
        return await answers.call(self._replica.handlers.methods[path], message, metadata)

    async def rpc_stream(self, path: str, message: bytes, metadata: Metadata) -> AsyncIterator[RpcAnswer]:
        async for answer in answers.stream(self._replica.handlers.streaming[path], message, metadata):
            yield answer

    async def states(self) -> Sequence[ServableState]:
        """Of all versions."""
        directory = self._replica.directory
        return [state for model in directory.models for state in directory.monitor.states(model.name)]

    async def __del__(self) -> None:
        """Ray Serve calls this when no request is left."""
        self._replica.leave()
        with contextlib.suppress(Exception):  # the barrier may have gone before
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._leave()
        await self._replica.stop()
