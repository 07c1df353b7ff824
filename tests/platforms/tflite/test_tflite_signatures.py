"""Where signatures come from, and what metadata shows of them."""

import pytest
from google.protobuf import text_format
from tflite_running import LoadTFLite, floats, scalar

from pyserving.core.errors import Code, ServingError
from pyserving.protos.messages import SignatureDef


def test_converter_signatures_are_shown_as_tensorflow_shows_them(load_tflite: LoadTFLite) -> None:
    shown = load_tflite("linear").signature_defs
    assert shown["serving_default"] == text_format.Parse(
        """
        inputs { key: "x" value { name: "serving_default_x:0" dtype: DT_FLOAT
            tensor_shape { dim { size: -1 } dim { size: 3 } } } }
        outputs { key: "y" value { name: "PartitionedCall_1:0" dtype: DT_FLOAT
            tensor_shape { dim { size: -1 } dim { size: 2 } } } }
        method_name: "tensorflow/serving/predict"
        """,
        SignatureDef(),
    )
    k = shown["scale"].inputs["k"]
    assert k.HasField("tensor_shape")
    assert (len(k.tensor_shape.dim), k.tensor_shape.unknown_rank) == (0, False)


def test_unknown_rank_is_shown(load_tflite: LoadTFLite) -> None:
    assert load_tflite("any_rank").signature_defs["serving_default"].inputs["x"].tensor_shape.unknown_rank


def test_a_file_without_signatures_has_one_of_its_tensors(load_tflite: LoadTFLite) -> None:
    model = load_tflite("tensors_only")
    assert list(model.signatures) == ["serving_default"]
    got = model(x=floats(2, 3), k=scalar(3))
    assert got["Identity"].tolist() == (floats(2, 3) * 3).tolist()
    assert got["Identity_1"].tolist() == floats(2, 3).sum()
    assert model.signature_defs["serving_default"].method_name == "tensorflow/serving/predict"


def test_tensor_names_can_be_asked_for(load_tflite: LoadTFLite) -> None:
    # What clients of TensorFlow Serving send: it knows nothing of the converter's signatures.
    model = load_tflite("linear", tensor_names=True)
    got = model(scale_x=floats(2, 3), scale_k=scalar(3))
    # Without ":0" both would have one name.
    assert got["PartitionedCall:0"].tolist() == (floats(2, 3) * 3).tolist()
    assert got["PartitionedCall:1"].tolist() == floats(2, 3).sum()
    assert model.signature_defs["serving_default"].inputs["scale_x"].name == "scale_x:0"


@pytest.mark.parametrize("tensor_names", [False, True])
def test_signatures_in_the_metadata_come_first(load_tflite: LoadTFLite, tensor_names: bool) -> None:
    model = load_tflite("metadata", tensor_names=tensor_names)
    assert list(model.signatures) == ["serving_default", "total"]
    inputs = {"a": floats(2, 3), "b": scalar(2)}
    assert model(**inputs)["c"].tolist() == (floats(2, 3) * 2).tolist()
    assert model("total", **inputs)["d"].tolist() == floats(2, 3).sum()
    assert model.signature_defs["total"].outputs["d"].name == "PartitionedCall:1"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata_unknown_tensor", "signature serving_default: input a is tensor nosuch:0, the model has"),
        ("metadata_input_left_out", r"gives no value to the model's inputs \['scale_k:0'\]"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(load_tflite: LoadTFLite, name: str, text: str) -> None:
    with pytest.raises(ServingError, match=text) as caught:
        load_tflite(name)
    assert caught.value.code is Code.INVALID_ARGUMENT
