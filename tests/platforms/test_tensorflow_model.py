"""Loading SavedModels of all kinds and running their signatures."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tensorflow_models import CallableModel, Load, ModelDir, floats, texts

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Model, Signature, TensorSpec
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session import RunPlan
from pyserving.platforms.tensorflow.session_config import SessionOptions

pytestmark = pytest.mark.tensorflow


def test_a_tf2_model_computes(load: Load) -> None:
    model = load("half_plus_two_tf2")
    for inline in (False, True):
        np.testing.assert_array_equal(model(x=floats(1, 2, 5), inline=inline)["y"], floats(2.5, 3, 4.5))


def test_a_tf1_model_computes(load: Load) -> None:
    model = load("half_plus_two")
    np.testing.assert_array_equal(model(x=floats(1, 2)[:, None])["y"], floats(2.5, 3)[:, None])
    x_of_6 = b"\n\x0f\n\r\n\x01x\x12\x08\x12\x06\n\x04" + floats(6).tobytes()  # a tf.Example
    np.testing.assert_array_equal(model("regress_x_to_y", inputs=texts(x_of_6))["outputs"], floats(5)[:, None])


def test_signatures_are_read(load: Load) -> None:
    model: Model = load("half_plus_two_tf2")
    signature = model.signatures["serving_default"]
    assert signature.inputs == {"x": TensorSpec("x", "serving_default_x:0", DType.FLOAT, (None,))}
    assert [(spec.name, spec.dtype, spec.shape) for spec in signature.outputs.values()] == [("y", DType.FLOAT, (None,))]
    assert signature.method_name == "tensorflow/serving/predict"
    assert set(model.signatures) == set(model.signature_defs) == {"serving_default", "__saved_model_init_op"}
    assert model.signature_defs["serving_default"].inputs["x"].name == "serving_default_x:0"
    assert load("unknown_rank").signatures["serving_default"].inputs["x"].shape is None
    assert load("scalars").signatures["serving_default"].inputs["x"].shape == ()
    assert load("half_plus_two").signatures["regress_x_to_y"].method_name == "tensorflow/serving/regress"


def test_defaults_are_read(load: Load) -> None:
    model = load("with_defaults")
    defaults = model.signatures["serving_default"].defaults
    assert {name: value.item() for name, value in defaults.items()} == {"scale": 10.0}
    np.testing.assert_array_equal(model(x=floats(1, 2), **defaults)["y"], floats(10, 20))


def test_outputs_come_in_the_order_asked_for(load: Load) -> None:
    model = load("dims")
    signature = model.signatures["serving_default"]
    x = np.ones((1, 2, 3), np.float32)
    total, doubled = model.run(signature, {"x": x}, ["total", "doubled"])
    np.testing.assert_array_equal(doubled, 2 * x)
    np.testing.assert_array_equal(total, floats(6))
    (only,) = model.run(signature, {"x": x}, ("total",))
    np.testing.assert_array_equal(only, floats(6))


def test_odd_ranks(load: Load) -> None:
    assert load("scalars")(x=np.float32(3).reshape(()))["y"].shape == ()
    assert load("scalars")("no_inputs")["answer"].tolist() == [42]
    for shape in ((), (0,), (2, 3), (1, 1, 1, 1, 1)):
        x = np.ones(shape, np.float32)
        np.testing.assert_array_equal(load("unknown_rank")(x=x)["y"], 2 * x)


def test_assets_are_found(load: Load) -> None:
    words = texts("naïve".encode(), b"bad", b"missing")
    assert load("vocabulary")(word=words)["id"].tolist() == [2, 0, 3]


def test_tags_choose_the_graph(model_dir: ModelDir) -> None:
    for tags, factor in ((("serve",), 2), (("serve", "gpu"), 3), (("gpu", "serve"), 3)):
        model = CallableModel(model_dir("two_tags"), SessionOptions(tags=tags))
        np.testing.assert_array_equal(model(x=floats(1))["y"], floats(factor))
        model.close()


def test_tags_that_no_graph_has(model_dir: ModelDir) -> None:
    with pytest.raises(ServingError, match="Could not find meta graph def matching supplied tags") as caught:
        CallableModel(model_dir("two_tags"), SessionOptions(tags=("serve", "tpu")))
    assert caught.value.code == Code.NOT_FOUND


def load_from(folder: Path) -> ServingError:
    with pytest.raises(ServingError) as caught:
        TensorFlowModel(str(folder), SessionOptions())
    return caught.value


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    error = load_from(tmp_path)
    assert error.code == Code.NOT_FOUND
    assert error.message == (
        "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
        f"`saved_model.pb`)\nSpecified file path: {tmp_path}"
    )


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"this is not a SavedModel")
    error = load_from(tmp_path)
    assert error.code == Code.DATA_LOSS
    assert error.message == f"Can't parse {tmp_path}/saved_model.pb as binary proto"


def test_a_model_whose_variables_are_missing(tmp_path: Path, model_dir: ModelDir) -> None:
    folder = tmp_path / "1"
    shutil.copytree(model_dir("half_plus_two_tf2") / "1", folder)
    (folder / "variables" / "variables.data-00000-of-00001").unlink()
    error = load_from(folder)
    assert error.code == Code.NOT_FOUND
    assert "variables.data-00000-of-00001" in error.message
    # What was wrong is over, and the same folder loads.
    shutil.copy(model_dir("half_plus_two_tf2") / "1/variables/variables.data-00000-of-00001", folder / "variables")
    TensorFlowModel(str(folder), SessionOptions()).close()


def failure(model: CallableModel, name: str = "serving_default", **inputs: np.ndarray) -> ServingError:
    """The same on both ways to run."""
    errors = []
    for inline in (False, True):
        with pytest.raises(ServingError) as caught:
            model(name, inline=inline, **inputs)
        errors.append(caught.value)
    assert str(errors[0]) == str(errors[1])
    return errors[0]


def test_failures_have_tensorflows_code_and_text(load: Load) -> None:
    model = load("failing")
    error = failure(model, "divide", a=np.array([1], np.int32), b=np.array([0], np.int32))
    assert error.code == Code.INVALID_ARGUMENT
    assert error.message.startswith("Integer division by zero\n\t [[{{function_node __inference_")
    assert error.message.endswith("}}{{node floordiv}}]]")
    error = failure(model, x=floats(1, -4))
    assert error.message.startswith(
        "assertion failed: [x must be positive.  ] [Condition x > 0 did not hold element-wise:] [x (x:0) = ] [1 -4]"
    )
    error = failure(model, "fold", x=floats(1))
    assert error.message.startswith(
        "Input to reshape is a tensor with 1 values, but the requested shape requires a multiple of 3"
    )
    error = failure(load("dims"), "two", a=np.zeros((2, 2), np.float32), b=np.zeros((3, 2), np.float32))
    assert error.message.startswith("Incompatible shapes: [2,2] vs. [3,2]")
    # And the model goes on to work.
    np.testing.assert_array_equal(model(x=floats(4))["root"], floats(2))


def test_a_failure_that_quotes_bytes_that_are_no_text(load: Load) -> None:
    error = failure(load("half_plus_two"), "regress_x_to_y", inputs=texts(b"\xff\xff"))
    assert error.message.startswith("Could not parse example input, value: 'ÿÿ'")


def test_a_wrong_element_type(load: Load) -> None:
    error = failure(load("half_plus_two_tf2"), x=np.array([1], np.int32))
    assert (error.code, error.message) == (
        Code.INVALID_ARGUMENT,
        "Expects arg[0] to be float but int32 is provided",
    )
    error = failure(load("strings"), text=floats(1))
    assert error.message == "Expects arg[0] to be string but float is provided"


def test_a_signature_of_no_tensor(load: Load) -> None:
    error = failure(load("half_plus_two_tf2"), "__saved_model_init_op")
    assert error.code == Code.INVALID_ARGUMENT


def test_a_tensor_that_the_graph_does_not_have(load: Load) -> None:
    model = load("half_plus_two_tf2")
    for tensor_name, message in (
        ("nothing:0", "Tensor nothing:0 is not in the graph"),
        ("serving_default_x:7", "is no output of its operation"),
        ("", "sparse or composite"),
    ):
        signature = Signature(f"odd {tensor_name}", {}, {"y": TensorSpec("y", tensor_name, DType.FLOAT, None)})
        with pytest.raises(ServingError, match=message):
            model.run(signature, {}, ["y"])


def test_a_run_ends_when_its_time_is_up(load: Load) -> None:
    model = load("slow")
    with pytest.raises(ServingError) as caught:
        model(steps=np.array(10**12), timeout=0.05)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert model(steps=np.array(3), timeout=60)["steps"] == 3
    # Inline there is no time-out: the caller has promised that the run is short.
    assert model(steps=np.array(3), timeout=1e-9, inline=True)["steps"] == 3


def test_many_threads_run_one_model(load: Load) -> None:
    model = load("half_plus_two_tf2")

    def compare(number: int) -> None:
        x = np.full(1 + number % 5, number, np.float32)
        for inline in (False, True):
            np.testing.assert_array_equal(model(x=x, inline=inline)["y"], x / 2 + 2)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(compare, range(2000)))


def test_many_threads_run_several_models_while_others_load(load: Load, model_dir: ModelDir) -> None:
    half, text, failing = load("half_plus_two_tf2"), load("strings"), load("failing")

    def compare(number: int) -> None:
        kind = number % 4
        if kind == 0:
            assert half(x=floats(number))["y"].item() == np.float32(number) / 2 + 2
        elif kind == 1:
            word = b"%d" % number * 10
            assert text(text=texts(word))["copy_bytes"].tolist() == [word]
        elif kind == 2:
            with pytest.raises(ServingError, match="division by zero"):
                failing("divide", a=np.array([number], np.int32), b=np.array([0], np.int32))
        elif number % 100 == 3:
            CallableModel(model_dir("half_plus_three")).close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(compare, range(1000)))


def test_a_signature_with_a_loop_is_not_steady(load: Load) -> None:
    looping = load("slow").signatures["wait"]
    assert not looping.steady
    assert load("half_plus_two").signatures["serving_default"].steady
    assert load("half_plus_two_tf2").signatures["serving_default"].steady


def test_priming_changes_nothing(load_own: Load, load: Load) -> None:
    model = load_own("counter")
    assert model(x=floats(0))["count"].tolist() == [0]
    first = model("random", x=np.zeros(8, np.float32))["y"]
    assert first.tolist() == load_own("counter")("random", x=np.zeros(8, np.float32))["y"].tolist()
    assert load("reference_variable")("read")["y"].max() == 0


@pytest.mark.parametrize("version", ["1", "2"], ids=["main_op", "legacy_init_op"])
def test_the_init_op_of_a_tf1_model_is_run(model_dir: ModelDir, version: str) -> None:
    """Without it the table is empty, and the number is 0 as it was saved."""
    model = TensorFlowModel(str(model_dir("initialised") / version), SessionOptions())
    try:
        signature = model.signatures["serving_default"]
        (ids,) = model.run(signature, {"word": texts(b"one", b"two", b"three")}, ("id",))
        assert ids.tolist() == [11, 12, 9]
    finally:
        model.close()


@pytest.mark.parametrize("dimensions", [0, 1, 2, 3, 5])
def test_a_convolution_is_fed_no_other_rank(row_models_folder: Path, dimensions: int) -> None:
    # TensorFlow's own check of such an input ends the process.
    model = TensorFlowModel(str(row_models_folder / "cnn" / "1"), SessionOptions())
    signature = model.signatures["serving_default"]
    (spec,) = signature.inputs.values()
    with pytest.raises(ServingError, match=f"must have 4 dimensions, .*; got {dimensions}: ") as raised:
        model.run(signature, {spec.name: np.ones((1,) * dimensions, np.float32)}, tuple(signature.outputs))
    assert raised.value.code is Code.INVALID_ARGUMENT
    model.close()


def test_what_is_quick_runs_on_the_caller_s_thread_and_what_is_not_on_tensorflow_s() -> None:
    plan = RunPlan([], [])
    assert not plan.is_quick(3)  # nothing is known of it
    plan.took(3, 0.3)
    assert not plan.is_quick(3)
    plan.took(3, 0.001)
    assert plan.is_quick(3)
    assert not plan.is_quick(9)
    plan.took(3, 0.3)  # it may have waited for a CPU
    assert plan.is_quick(3)
    for _ in range(20):
        plan.took(3, 0.3)
    assert not plan.is_quick(3)
