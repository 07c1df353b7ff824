from collections.abc import Callable, Iterator
from typing import Any

import pytest
from running_server import RunningServer

from pyserving.sources.model_config import ModelConfig

Start = Callable[..., RunningServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """``start([ModelConfig(...)], **settings)``: a server that stops after the test."""
    running = []

    def start_one(models: list[ModelConfig], **settings: Any) -> RunningServer:
        running.append(RunningServer(models, **settings))
        return running[-1]

    yield start_one
    for server in running:
        server.stop()
