import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from threading import Thread
from typing import Any

import pytest
from ray_nodes import SETTINGS, RayCluster, Served

from benchmarks.running import free_port
from pyserving.server.server import Server
from pyserving.sources.model_config import ModelConfig
from pyserving.transport.loop import new_event_loop


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    pytest.importorskip("ray.serve", reason="needs the group cluster (make test-cluster)")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Workers of the cluster import what the tests import.
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    cluster = RayCluster(free_port(), free_port())
    cluster.add_node(8)
    yield cluster
    cluster.stop()


@pytest.fixture
def application(ray_cluster: RayCluster) -> Iterator[Callable[..., Served]]:
    """``application(*models)`` serves them until the end of the test."""
    yield ray_cluster.run
    ray_cluster.delete()


@pytest.fixture
def direct() -> Iterator[Callable[..., Served]]:
    """``direct(models)``: a server in this process, with the settings of the replicas."""
    loop = new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    started: list[Server] = []

    def on_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    async def start(models: Sequence[ModelConfig]) -> Served:
        server = Server(
            replace(
                SETTINGS,
                models=models,
                host="127.0.0.1",
                rest_port=0,
                grpc_port=0,
                open_inference_protocol=True,
                metrics_path="",
            )
        )
        started.append(server)
        await server.start()
        await server.catalog.wait_until_settled()
        ports = server.ports
        assert ports is not None
        return Served(int(str(ports.rest_address).rpartition(":")[2]), int(ports.grpc_addresses[0].rpartition(":")[2]))

    yield lambda models: on_loop(start(models))
    for server in started:
        on_loop(server.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()
