"""LiteRT's answers through ``TFLiteModel``, against TensorFlow's own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tflite_running import LoadTFLite, answers, floats, scalar

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.dtypes import DType

DTYPES = [
    "float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
    "uint64", "bool", "complex64", "complex128", "int4", "uint4", "float8_e4m3fn", "float8_e5m2", "string",
]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["linear", "fixed_batch", "any_rank", "together", "string_scalar", *(f"dtype_{name}" for name in DTYPES)]
)
def test_answers_are_tensorflows(load_tflite: LoadTFLite, tflite_folder: Path, name: str) -> None:
    model = load_tflite(name, num_pools=1)
    recorded = answers(tflite_folder, name)
    for signature, inputs, outputs in recorded:
        got = model(signature, **inputs)
        assert got.keys() == outputs.keys()
        for alias, array in got.items():
            assert array.dtype == outputs[alias].dtype
            assert array.shape == outputs[alias].shape
            assert array.tolist() == outputs[alias].tolist()


@pytest.mark.parametrize(("name", "tolerance"), [("cnn", 1e-5), ("quantised", 1)])
def test_networks_agree_with_tensorflow(
    load_tflite: LoadTFLite, tflite_folder: Path, name: str, tolerance: float
) -> None:
    model = load_tflite(name, num_pools=1)
    for signature, inputs, outputs in answers(tflite_folder, name):
        got = model(signature, **inputs)["output_0"]
        assert got.dtype == outputs["output_0"].dtype
        np.testing.assert_allclose(got.astype(float), outputs["output_0"].astype(float), rtol=0, atol=tolerance)


def test_outputs_come_in_the_order_asked_for(load_tflite: LoadTFLite) -> None:
    model = load_tflite("linear")
    inputs = {"x": floats(2, 3), "k": scalar(2)}
    total, scaled = model.run(model.signatures["scale"], inputs, ["total", "scaled"])
    assert total.tolist() == floats(2, 3).sum()
    assert scaled.tolist() == (floats(2, 3) * 2).tolist()
    assert [array.shape for array in model.run(model.signatures["scale"], inputs, ["total"])] == [()]


def test_answers_outlive_the_next_run_and_the_model(load_tflite: LoadTFLite) -> None:
    model = load_tflite("linear", num_pools=1)
    x = floats(2, 3)
    first = model(x=x)["y"]
    kept = first.copy()
    x[:] = 100
    model(x=x)
    model.close()
    assert first.tolist() == kept.tolist()


def test_a_file_of_one_batch_size_takes_others(load_tflite: LoadTFLite) -> None:
    # As TensorFlow Serving resizes it.
    model = load_tflite("fixed_batch")
    assert model.signatures["serving_default"].inputs["x"].shape == (1, 3)
    rows = [model(x=row[None])["y"][0].tolist() for row in floats(4, 3)]
    assert model(x=floats(4, 3))["y"].tolist() == rows


def test_a_sequence_starts_anew_with_each_run(load_tflite: LoadTFLite) -> None:
    # Its state is a variable tensor, in which LiteRT would leave what the request before has put there.
    model = load_tflite("recurrent", num_pools=1)
    x = np.array([[1, 2]], np.float32)
    assert [model(input=x)["output"].tolist() for _ in range(3)] == [[[1, 2]]] * 3


def test_a_model_that_counts_has_one_count(load_tflite: LoadTFLite) -> None:
    model = load_tflite("counter", num_pools=4)
    assert not model.signatures["serving_default"].stateless
    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(lambda _: model(by=scalar(1))["n"].item(), range(100)))
    assert sorted(counts) == list(range(1, 101))


def test_runs_on_many_threads_do_not_mix(load_tflite: LoadTFLite) -> None:
    model = load_tflite("linear", num_pools=3)
    x = floats(40, 3)
    expected = model(x=x)["y"]
    start = threading.Barrier(8)

    def work(worker: int) -> None:
        start.wait()
        for turn in range(60):
            first = (worker * 5 + turn) % 30
            rows = slice(first, first + 1 + (worker + turn) % 8)
            assert model(x=x[rows])["y"].tolist() == expected[rows].tolist()
            k = scalar(worker)
            assert model("scale", x=x[rows], k=k)["scaled"].tolist() == (x[rows] * k).tolist()

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, worker) for worker in range(8)]:
            done.result()


WRONG_INPUTS: list[tuple[str, Callable[[], dict[str, np.ndarray]], str]] = [
    ("linear", lambda: {"x": floats(2, 4)}, r"input x must have shape \[-1, 3\], got \[2, 4\]"),
    ("linear", lambda: {"x": floats(2, 3, 3)}, r"input x must have shape \[-1, 3\], got \[2, 3, 3\]"),
    ("linear", lambda: {"x": floats(3)}, r"input x must have shape \[-1, 3\], got \[3\]"),
    ("linear", lambda: {"x": floats(2, 3).astype(np.int32)}, "input x must be a float tensor, got int32"),
    ("linear", lambda: {"x": np.array([[b"a"] * 3], object)}, "input x must be a float tensor, got string"),
    ("fixed_batch", lambda: {"x": floats(1, 4)}, r"input x must have shape \[1, 3\], got \[1, 4\]"),
    ("fixed_batch", lambda: {"x": floats(1, 3, 1)}, r"input x must have shape \[1, 3\], got \[1, 3, 1\]"),
    ("dtype_int4", lambda: {"x": np.ones((1, 2), np.int8)}, "input x must be a int4 tensor, got int8"),
    ("dtype_string", lambda: {"s": floats(2)}, "input s must be a string tensor, got float"),
    ("dtype_string", lambda: {"s": np.empty((1 << 40, 0), object)}, r"input s has shape \[1099511627776, 0\]"),
]


@pytest.mark.parametrize(("name", "inputs", "text"), WRONG_INPUTS)
def test_wrong_inputs_are_the_clients_fault(
    load_tflite: LoadTFLite, name: str, inputs: Callable[[], dict[str, np.ndarray]], text: str
) -> None:
    model = load_tflite(name)
    with pytest.raises(ServingError, match=text) as caught:
        model(**inputs())
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_inputs_that_do_not_go_together_fail_alone(load_tflite: LoadTFLite) -> None:
    model = load_tflite("together", num_pools=1)
    i = np.array([1], np.int32)
    with pytest.raises(ServingError, match=r"cannot take inputs of shapes i \[1\], x \[4\], z \[3\]") as caught:
        model(x=floats(4), z=floats(3), i=i)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert model(x=floats(4), z=floats(4), i=i)["sum"].tolist() == (floats(4) * 2).tolist()


def test_an_error_in_a_run_tells_of_itself_alone(load_tflite: LoadTFLite) -> None:
    model = load_tflite("together", num_pools=1)
    inputs = {"x": floats(4), "z": floats(4)}
    messages = set()
    for _ in range(400):  # LiteRT keeps the texts of all errors: enough of them to wear an interpreter out
        with pytest.raises(ServingError, match="gather index out of bounds") as caught:
            model(**inputs, i=np.array([9], np.int32))
        assert caught.value.code is Code.INTERNAL
        messages.add(caught.value.message)
    assert len(messages) == 1
    assert model(**inputs, i=np.array([2], np.int32))["taken"].tolist() == [floats(4)[2]]


def test_what_is_known_of_signatures(load_tflite: LoadTFLite) -> None:
    model = load_tflite("linear")
    assert list(model.signatures) == ["scale", "serving_default"]
    dense, scale = model.signatures["serving_default"], model.signatures["scale"]
    assert dense.inputs["x"].dtype is DType.FLOAT
    assert dense.inputs["x"].shape == (None, 3)
    assert (dense.stateless, dense.row_wise) == (True, False)
    assert (scale.stateless, scale.row_wise) == (True, False)
    assert scale.inputs["k"].shape == ()
    assert load_tflite("any_rank").signatures["serving_default"].inputs["x"].shape is None


def test_a_loop_is_known_to_take_as_long_as_its_values_say(load_tflite: LoadTFLite) -> None:
    assert load_tflite("linear").signatures["serving_default"].steady
    looping = load_tflite("loop").signatures["serving_default"]
    assert (looping.steady, looping.row_wise) == (False, False)
