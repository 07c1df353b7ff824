"""Tensors of the Open Inference Protocol: what is written is read again, and damage is refused, not crashed on."""

import json
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.wire import oip_json, oip_messages
from pyserving.wire.oip_request import InferRequest, WantedOutput
from pyserving.wire.oip_tensors import DATATYPES, output_datatype, read_raw, tensor_head, write_raw

SERVABLE = ServableId("m", 3)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    dtype = NUMPY_OF[draw(st.sampled_from(sorted(DATATYPES)))]
    shape = draw(SHAPES)
    count = int(np.prod(shape))
    if dtype.kind == "O":
        array = np.empty(count, object)
        array[:] = draw(st.lists(st.text().map(str.encode), min_size=count, max_size=count))
        return array.reshape(shape)
    raw = bytearray(draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize)))
    if dtype == np.bool_:
        raw = bytearray(byte & 1 for byte in raw)
    return np.frombuffer(bytes(raw), dtype).reshape(shape)


def same(one: Array, other: Array) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


def head_of(array: Array) -> Any:
    return tensor_head("x", DATATYPES[DTYPE_OF[array.dtype]], array.shape)


@given(arrays())
def test_raw_bytes(array: Array) -> None:
    assert same(read_raw(head_of(array), write_raw(array)), array)


def test_every_byte_but_0_is_true() -> None:
    read = read_raw(tensor_head("x", "BOOL", [4]), b"\0\1\2\xff")
    assert bytes(write_raw(read)) == b"\0\1\1\1"


@given(arrays(), st.binary(max_size=8))
def test_raw_bytes_that_are_too_many(array: Array, more: bytes) -> None:
    if more:
        with pytest.raises(ServingError, match=r"expected .* got"):
            read_raw(head_of(array), bytes(write_raw(array)) + more)


@given(arrays())
def test_raw_bytes_that_are_too_few(array: Array) -> None:
    raw = bytes(write_raw(array))
    for size in {0, len(raw) // 2, len(raw) - 1} & set(range(len(raw))):
        with pytest.raises(ServingError, match=r"expected .* got"):
            read_raw(head_of(array), raw[:size])


@given(st.dictionaries(st.text(min_size=1), arrays(), max_size=3), st.sets(st.integers(0, 2)), st.text(max_size=3))
def test_json_there_and_back(tensors: dict[str, Array], binary: set[int], identity: str) -> None:
    """What we answer has the form of what is asked: each tensor as raw bytes or as JSON."""
    wanted = [WantedOutput(name, position in binary) for position, name in enumerate(tensors)]
    finite = {
        name: array
        if one.binary or array.dtype == object
        else np.where(np.isfinite(array), array, 0).astype(array.dtype)
        for one, (name, array) in zip(wanted, tensors.items(), strict=True)
    }
    body = oip_json.write_infer(SERVABLE, InferRequest(identity, {}, {}, wanted), finite)
    text = b"".join(body.parts)
    answer = json.loads(text[: body.json_size])
    assert (answer["model_name"], answer["model_version"], answer.get("id", "")) == ("m", "3", identity)
    asked = json.dumps({"id": identity, "inputs": answer["outputs"]}).encode()
    request = oip_json.parse_infer(asked + text[body.json_size :], len(asked))
    assert request.id == identity
    assert request.inputs.keys() == finite.keys()
    for name, array in finite.items():
        assert same(request.inputs[name], array), (name, array, request.inputs[name])


@given(st.lists(arrays(), max_size=3), st.booleans(), st.text(max_size=3))
def test_messages_there_and_back(tensors: list[Array], typed: bool, identity: str) -> None:
    named = {f"t{position}": array for position, array in enumerate(tensors)}
    parts = oip_messages.write_infer(SERVABLE, InferRequest(identity, {}, {}, (), typed=typed), named)
    response = messages.ModelInferResponse.FromString(b"".join(parts))
    request = messages.ModelInferRequest(id=identity, raw_input_contents=response.raw_output_contents)
    for output in response.outputs:
        request.inputs.add().ParseFromString(output.SerializeToString())
    read = oip_messages.read_infer(request)
    assert read.id == response.id == identity
    assert read.inputs.keys() == named.keys()
    for name, array in named.items():
        assert same(read.inputs[name], array) or np.array_equal(read.inputs[name], array, equal_nan=True)


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=3), st.binary(max_size=20))
def test_lifted_raw_contents(values: list[bytes], junk: bytes) -> None:
    """A long message means the same to protobuf, and with its raw values taken out."""
    request = messages.ModelInferRequest(model_name="m", id="i", raw_input_contents=[bytes(70_000), *values])
    data = request.SerializeToString()
    lifted = oip_messages.lift_raw_contents(data)
    assert [bytes(raw) for raw in lifted.raw] == [bytes(70_000), *values]
    assert messages.ModelInferRequest.FromString(lifted.rest) == messages.ModelInferRequest(model_name="m", id="i")
    damaged = data + junk
    try:
        expected = messages.ModelInferRequest.FromString(damaged)
    except DecodeError:
        return
    lifted = oip_messages.lift_raw_contents(damaged)
    again = messages.ModelInferRequest.FromString(lifted.rest)
    again.raw_input_contents.extend(map(bytes, lifted.raw))
    assert again == expected


@given(st.binary(max_size=64), st.integers(0, 64) | st.none())
def test_any_body(body: bytes, size: int | None) -> None:
    with pytest.raises(ServingError):
        oip_json.parse_infer(body, size)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "b64"]), inner, max_size=2),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.just("x") | JSON,
            "datatype": st.sampled_from(sorted(DATATYPES.values())) | JSON,
            "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
            "data": st.lists(JSON, max_size=4) | JSON,
            "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "a"]), JSON, max_size=2) | JSON,
        },
    ),
    st.binary(max_size=16),
)
def test_any_input(item: dict[str, Any], raw: bytes) -> None:
    """Read or refused, whatever it says of itself."""
    head = json.dumps({"inputs": [item]}).encode()
    try:
        request = oip_json.parse_infer(head + raw, len(head))
    except ServingError:
        return
    assert list(request.inputs) == [item["name"]]


def test_numbers_that_do_not_fit() -> None:
    for datatype, value in (("INT8", 128), ("UINT8", -1), ("UINT64", -1), ("INT64", 1 << 63)):
        # Beside one that is larger and fits, where there is room for one.
        data = [value, 100] if value < 0 else [value, -100]
        body = json.dumps({"inputs": [{"name": "x", "datatype": datatype, "shape": [2], "data": data}]}).encode()
        with pytest.raises(ServingError, match=f"expected values of {datatype}, of which {value} is out of range"):
            oip_json.parse_infer(body, None)


def test_values_may_be_flat_or_nested() -> None:
    def parsed(data: Any) -> Array:
        body = {"inputs": [{"name": "x", "datatype": "INT32", "shape": [2, 2], "data": data}]}
        return oip_json.parse_infer(json.dumps(body).encode(), None).inputs["x"]

    assert parsed([1, 2, 3, 4]).tolist() == parsed([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ServingError, match=r"expected 4 values for shape \[2, 2\], got 4 of shape \[4, 1\]"):
        parsed([[1], [2], [3], [4]])


def test_numbers_that_are_not_finite() -> None:
    array = np.array([np.nan, np.inf, -np.inf], np.float32)
    for dtype in (np.float16, np.float32, np.float64, NUMPY_OF[DType.BFLOAT16]):
        body = oip_json.write_infer(SERVABLE, InferRequest("", {}, {}, ()), {"y": array.astype(dtype)})
        assert b'"data":[NaN,Infinity,-Infinity]' in b"".join(body.parts)
    body = {"inputs": [{"name": "x", "datatype": "FP16", "shape": [3], "data": array.tolist()}]}
    read = oip_json.parse_infer(json.dumps(body).encode(), None).inputs["x"]
    assert same(read, array.astype(np.float16))


def test_null_is_what_was_left_out() -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1], "parameters": None}
    y = {"name": "y", "parameters": {"binary_data": None}}
    body = {"id": None, "parameters": {"content_type": None}, "inputs": [x], "outputs": [y]}
    request = oip_json.parse_infer(json.dumps(body).encode(), None)
    assert (request.id, request.parameters, request.outputs) == ("", {}, [WantedOutput("y")])
    assert not oip_json.parse_infer(json.dumps(body | {"outputs": None}).encode(), None).outputs
    for absent in ("name", "datatype", "shape", "data"):
        with pytest.raises(ServingError, match=absent):
            oip_json.parse_infer(json.dumps({"inputs": [x | {absent: None}]}).encode(), None)


def test_names_that_are_no_text() -> None:
    """An answer has to tell them again, in UTF-8."""
    x = b'{"name": "%s", "datatype": "FP32", "shape": [1], "data": [1]}'
    for id_, name in ((b"\xff", b"x"), (b"", b"\xff"), (b"\\ud800", b"x")):
        body = b'{"id": "%s", "inputs": [%s]}' % (id_, x % name)
        with pytest.raises(ServingError) as refused:
            oip_json.parse_infer(body, None)
        assert refused.value.code is Code.INVALID_ARGUMENT
        refused.value.message.encode()


def test_strings_that_are_no_text() -> None:
    array = np.array([b"\xff"], object)
    with pytest.raises(ServingError, match=r"output y has a string that is not UTF-8.*binary_data"):
        oip_json.write_infer(SERVABLE, InferRequest("", {}, {}, ()), {"y": array})


def test_what_the_protocol_cannot_carry() -> None:
    with pytest.raises(ServingError, match="output y is of dtype complex64"):
        output_datatype("y", np.zeros(1, np.complex64))
