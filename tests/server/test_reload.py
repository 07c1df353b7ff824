"""A reload of the config with models that fail: it waits for what may come, and for nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from model_files import write_model
from running_server import RunningServer

from pyserving.core.state import ServableState, State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig

Start = Callable[..., RunningServer]
OPTIONS = PythonOptions(PythonModels.ON)
BROKEN = 'raise ValueError("out of order")'
DOUBLE = """
    import numpy as np
    from pyserving import Model, Tensor

    class Double(Model):
        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return 2 * x
    """
WAITING = """
    import os
    import time
    import numpy as np
    from pyserving import Model, Tensor

    class Waiting(Model):
        def load(self, folder):
            while not os.path.exists(os.path.join(folder, "go")):
                time.sleep(0.01)

        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return x
    """


def entry(model: ModelConfig, **fields: Any) -> messages.ModelConfig:
    return messages.ModelConfig(name=model.name, base_path=model.base_path, model_platform="tensorflow", **fields)


@pytest.fixture
def broken(start: Start, tmp_path: Path) -> tuple[RunningServer, ModelConfig]:
    model = write_model(tmp_path / "bad", "m", BROKEN)
    server = start([model], python_options=OPTIONS)
    assert server.settled("m").error is not None
    return server, model


def test_who_changes_the_policy_of_a_failed_model_is_told_so(
    broken: tuple[RunningServer, ModelConfig],
) -> None:
    server, model = broken
    changed = entry(model)
    changed.model_version_policy.specific.versions.append(1)
    for policy in ("specific", "all"):
        with pytest.raises(grpc.RpcError, match="1 model\\(s\\) did not become available") as caught:
            server.reload([changed])
        assert caught.value.code() is grpc.StatusCode.UNKNOWN, policy
        assert "{name: m version: 1} due to error" in caught.value.details()
        assert "out of order" in caught.value.details()
        changed.model_version_policy.all.SetInParent()


def test_a_version_that_has_failed_is_tried_where_the_config_says_it_is_now(
    broken: tuple[RunningServer, ModelConfig], tmp_path: Path
) -> None:
    server, _ = broken
    good = write_model(tmp_path / "good", "m", DOUBLE)
    server.reload([entry(good)])
    assert server.post("m:predict", {"instances": [1, 2]}) == {"predictions": [2, 4]}


def test_a_version_that_serves_stays_where_it_is(start: Start, tmp_path: Path) -> None:
    server = start([write_model(tmp_path / "good", "m", DOUBLE)], python_options=OPTIONS)
    server.settled("m")
    server.reload([entry(write_model(tmp_path / "bad", "m", BROKEN))])
    assert server.post("m:predict", {"instances": [1, 2]}) == {"predictions": [2, 4]}


def test_a_label_that_may_point_to_what_is_not_available_is_not_waited_for(start: Start, tmp_path: Path) -> None:
    model = write_model(tmp_path, "m", DOUBLE)
    server = start([model], python_options=OPTIONS, allow_labels_for_unavailable=True)
    server.settled("m", 1)
    write_model(tmp_path, "m", WAITING, version=2)
    changed = entry(model, version_labels={"next": 2})
    changed.model_version_policy.all.SetInParent()
    try:
        server.reload([changed])
        assert server.server.directory.labels.of("m") == {"next": 2}
    finally:
        (tmp_path / "m" / "2" / "go").touch()
    server.settled("m", 2)


def test_who_hears_of_a_version_may_have_others_loaded(start: Start, tmp_path: Path) -> None:
    model, other = write_model(tmp_path, "m", DOUBLE), write_model(tmp_path, "other", DOUBLE)
    write_model(tmp_path, "m", DOUBLE, version=2)
    server = start([model], python_options=OPTIONS)
    server.settled("m", 2)

    def keep(event: ServableState) -> None:
        if event.id.name == "other":
            server.server.catalog.keep("m", {1})

    server.server.directory.bus.subscribe(keep)
    server.reload([entry(model), entry(other)])
    assert server.settled("m", 1).state is State.AVAILABLE
