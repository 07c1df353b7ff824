"""The process of a model hosts any platform's, not Python's alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pyserving.core.servable import ServableId
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.process.model import ProcessModel
from pyserving.platforms.process.spec import ProcessSpec


def test_a_saved_model(model_dir: Callable[[str], Path]) -> None:
    folder = str(model_dir("half_plus_two_tf2") / "1")
    spec = ProcessSpec(ServableId("half", 1), "tensorflow", folder, PlatformContext(), load_time_limit=120.0)
    model = ProcessModel(spec)
    try:
        signature = model.signatures["serving_default"]
        (name,) = signature.inputs
        (output,) = signature.outputs
        inputs = {name: np.array([1.0, 2.0, 5.0], np.float32)}
        (answer,) = model.run(signature, inputs, [output])
        assert answer.tolist() == [2.5, 3.0, 4.5]
        assert model.signature_defs["serving_default"].method_name == "tensorflow/serving/predict"
        assert model.time_limit is None
    finally:
        model.close()
