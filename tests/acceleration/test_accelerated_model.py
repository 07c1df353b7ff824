"""What runs on a version's TensorFlow without a handle, while the version is unloaded."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from pyserving.acceleration.gate import Gate
from pyserving.acceleration.model import Accelerated, AcceleratedModel, Disagreement
from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Array, Signature
from pyserving.platforms.tensorflow.loader import TensorFlowLoader
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions

pytestmark = pytest.mark.tensorflow
WAIT = 20.0
"""Seconds after which a test that waits has failed."""


class _Gated:
    """A TensorFlowModel whose runs wait for ``gate``."""

    def __init__(self, model: TensorFlowModel) -> None:
        self._model = model
        self.signatures = model.signatures
        self.begun, self.gate = threading.Event(), threading.Event()

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        inline: bool = False,
    ) -> list[Array]:
        self.begun.set()
        assert self.gate.wait(WAIT)
        return self._model.run(signature, inputs, outputs, inline=inline)


def test_an_unload_waits_for_a_run_and_then_there_is_none(model_dir: Callable[[str], Path]) -> None:
    loader = TensorFlowLoader(ServableId("m", 1), str(model_dir("half_plus_two_tf2") / "1"), SessionOptions())
    loaded = loader.load()
    assert isinstance(loaded, TensorFlowModel)
    signature, inputs = loaded.signatures["serving_default"], {"x": np.array([2.0], np.float32)}
    gated = _Gated(loaded)
    model = AcceleratedModel(gated, "m", lambda *_: False, 0)  # type: ignore[arg-type]
    found: list[Array] = []
    runs = threading.Thread(target=lambda: found.extend(model.tensorflow.run(signature, inputs, ["y"])))
    unloads = threading.Thread(target=lambda: (model.close(), loader.unload()))
    runs.start()
    assert gated.begun.wait(WAIT)
    unloads.start()
    unloads.join(0.1)
    assert unloads.is_alive()
    gated.gate.set()
    runs.join(WAIT)
    unloads.join(WAIT)
    assert found[0].tolist() == [3.0]
    with pytest.raises(ServingError) as raised:
        model.tensorflow.run(signature, inputs, ["y"])
    assert raised.value.code is Code.UNAVAILABLE


class _Compiled:
    """An engine whose answers are those of TensorFlow."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_an_unload_waits_for_a_comparison_and_then_there_is_none(model_dir: Callable[[str], Path]) -> None:
    loader = TensorFlowLoader(ServableId("m", 1), str(model_dir("half_plus_two_tf2") / "1"), SessionOptions())
    loaded = loader.load()
    assert isinstance(loaded, TensorFlowModel)
    signature, inputs = loaded.signatures["serving_default"], {"x": np.array([2.0], np.float32)}
    gated, compiled = _Gated(loaded), _Compiled()
    model = AcceleratedModel(gated, "m", lambda *_: False, 0)  # type: ignore[arg-type]
    gate = Gate(("x",), frozenset({((),)}), rows_are_free=True, ranges=(None,))
    assert model.accelerate(signature.name, Accelerated("engine", compiled, gate, "artefact"))  # type: ignore[arg-type]
    wrong = [np.array([4.0], np.float32)]
    found: list[Disagreement | None] = []
    compares = threading.Thread(target=lambda: found.append(model.compare(signature, inputs, ["y"], wrong)))
    unloads = threading.Thread(target=lambda: (model.close(), loader.unload()))
    compares.start()
    assert gated.begun.wait(WAIT)
    unloads.start()
    unloads.join(0.1)
    assert unloads.is_alive()
    assert not compiled.closed
    gated.gate.set()
    compares.join(WAIT)
    unloads.join(WAIT)
    assert found == [Disagreement("engine", "artefact", 1.0)]
    assert model.compare(signature, inputs, ["y"], wrong) is None
    assert model.engine(signature.name) == "tensorflow"
