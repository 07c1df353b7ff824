"""A PredictRequest of which long values are lifted is read as protobuf reads it whole."""

from typing import Any
from unittest.mock import patch

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from pyserving.core.errors import ServingError
from pyserving.platforms.dtypes import DType
from pyserving.protos import messages
from pyserving.wire import long_contents
from pyserving.wire.long_contents import lift_contents
from pyserving.wire.tensor_proto import read_tensor


def read(data: bytes, *, lift: bool) -> Any:
    """The request's tensors and all else that it says; or that it is no request."""
    with patch.object(long_contents, "_LONG", 0):
        rest, contents = lift_contents(data) if lift else (data, {})
    try:
        request = messages.PredictRequest.FromString(rest)
    except DecodeError:
        return "no request"
    tensors = {}
    for name, proto in request.inputs.items():
        try:
            array = read_tensor(proto, name, contents.get(name))
            values = array.tolist() if array.dtype == object else array.tobytes()
            tensors[name] = (array.dtype, array.shape, values)
        except ServingError as error:
            tensors[name] = (error.code, error.message)
    request.inputs.clear()
    return tensors, request.SerializeToString(deterministic=True)


TENSORS = st.builds(
    messages.TensorProto,
    dtype=st.sampled_from([DType.FLOAT, DType.DOUBLE, DType.STRING, DType.INT32, DType.HALF, DType.INVALID]).map(int),
    tensor_shape=st.lists(st.integers(-1, 3), max_size=2).map(
        lambda sizes: messages.TensorShapeProto(dim=[messages.TensorShapeProto.Dim(size=size) for size in sizes])
    ),
    version_number=st.integers(0, 1),
    tensor_content=st.just(b"") | st.integers(0, 9).map(lambda count: bytes(range(4 * count))),
    float_val=st.just([]) | st.lists(st.floats(width=32, allow_nan=False), max_size=9),
    double_val=st.just([]) | st.lists(st.floats(allow_nan=False), max_size=9),
    string_val=st.just([]) | st.lists(st.binary(max_size=5), max_size=9),
    int_val=st.just([]) | st.lists(st.integers(0, 5), max_size=3),
)
REQUESTS = st.builds(
    messages.PredictRequest,
    model_spec=st.builds(messages.ModelSpec, name=st.text(max_size=3), signature_name=st.text(max_size=3)),
    inputs=st.dictionaries(st.sampled_from("abc"), TENSORS, max_size=3),
    output_filter=st.lists(st.text(max_size=2), max_size=2),
)


@given(REQUESTS)
def test_lifting_changes_nothing(request: messages.PredictRequest) -> None:
    data = request.SerializeToString()
    assert read(data, lift=True) == read(data, lift=False)


@given(REQUESTS, REQUESTS)
def test_messages_that_are_merged(first: messages.PredictRequest, second: messages.PredictRequest) -> None:
    data = first.SerializeToString() + second.SerializeToString()
    assert read(data, lift=True) == read(data, lift=False)


@given(REQUESTS, st.data())
@example(messages.PredictRequest(), None)
def test_damaged_messages(request: messages.PredictRequest, data: st.DataObject | None) -> None:
    serialized = bytearray(request.SerializeToString())
    if data is not None and serialized:
        at = data.draw(st.integers(0, len(serialized) - 1))
        match data.draw(st.sampled_from(["cut", "change", "double"])):
            case "cut":
                del serialized[at:]
            case "change":
                serialized[at] = data.draw(st.integers(0, 255))
            case _:
                serialized[at:at] = serialized[at : at + data.draw(st.integers(1, 9))]
    assert read(bytes(serialized), lift=True) == read(bytes(serialized), lift=False)


def test_long_values_are_not_copied() -> None:
    values = np.arange(100_000, dtype=np.float32)
    shape = messages.TensorShapeProto(dim=[messages.TensorShapeProto.Dim(size=values.size)])
    request = messages.PredictRequest()
    request.inputs["a"].CopyFrom(messages.TensorProto(dtype=1, tensor_shape=shape, tensor_content=values.tobytes()))
    request.inputs["b"].CopyFrom(messages.TensorProto(dtype=1, tensor_shape=shape, float_val=values.tolist()))
    request.inputs["c"].CopyFrom(messages.TensorProto(dtype=7, string_val=[values.tobytes()]))
    request.inputs["d"].CopyFrom(messages.TensorProto(dtype=7, string_val=[b"short"]))
    data = request.SerializeToString()
    rest, contents = lift_contents(data)
    assert len(rest) < 200
    small = messages.PredictRequest.FromString(rest)
    whole = np.frombuffer(data, np.uint8)
    for name in "ab":
        array = read_tensor(small.inputs[name], name, contents[name])
        assert np.shares_memory(array, whole)
        assert array.tobytes() == values.tobytes()
    assert contents["c"].strings == [values.tobytes()]
    assert "d" not in contents
