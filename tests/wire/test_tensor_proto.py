"""TensorProto against arrays: every dtype both ways, and what a message may get wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.protos.messages import TensorProto
from pyserving.wire.tensor_proto import read_tensor, varint, write_tensor

NUMERIC = [dtype for dtype in NUMPY_OF if dtype != DType.STRING]


def message(dtype: int, shape: list[int], **values: object) -> TensorProto:
    proto = TensorProto(dtype=dtype, **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def error_of(proto: TensorProto) -> ServingError:
    with pytest.raises(ServingError) as caught:
        read_tensor(proto, "x")
    assert "x" in caught.value.message
    return caught.value


def raw_bytes(dtype: DType) -> st.SearchStrategy[np.ndarray]:
    """Arrays of any bit pattern: NaNs with payload too."""
    numpy_dtype = NUMPY_OF[dtype]
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    if dtype in (DType.BOOL, DType.INT4, DType.UINT4):
        low, high = {DType.BOOL: (0, 1), DType.INT4: (-8, 7), DType.UINT4: (0, 15)}[dtype]
        return shapes.flatmap(lambda s: hnp.arrays(np.int8, s, elements=st.integers(low, high))).map(
            lambda a: a.astype(numpy_dtype)
        )
    return shapes.flatmap(
        lambda shape: st.binary(
            min_size=int(np.prod(shape)) * numpy_dtype.itemsize, max_size=int(np.prod(shape)) * numpy_dtype.itemsize
        ).map(lambda data: np.frombuffer(data, numpy_dtype).reshape(shape))
    )


@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda d: d.name)
@pytest.mark.parametrize("as_content", [False, True], ids=["val", "content"])
def test_what_is_written_reads_back(dtype: DType, as_content: bool) -> None:
    @given(raw_bytes(dtype))
    def check(array: np.ndarray) -> None:
        proto = TensorProto.FromString(write_tensor(array, as_content=as_content))
        assert proto.dtype == dtype
        assert proto.HasField("tensor_shape")
        assert bool(proto.tensor_content) == (as_content and array.size > 0)
        back = read_tensor(proto, "x")
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        if (
            array.dtype in (np.float32, np.float64, np.complex64, np.complex128) and not as_content
        ):  # as Python floats, NaNs lose their payload
            np.testing.assert_array_equal(back, array)
        else:
            assert back.tobytes() == array.tobytes()

    check()


@pytest.mark.parametrize("as_content", [False, True], ids=["val", "content"])
@given(values=st.lists(st.binary(max_size=300), max_size=6))
def test_strings_read_back(values: list[bytes], as_content: bool) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    back = read_tensor(TensorProto.FromString(write_tensor(array, as_content=as_content)), "x")
    assert back.dtype == object
    assert back.tolist() == values


def test_a_protobuf_library_reads_what_we_write_by_hand() -> None:
    proto = TensorProto.FromString(write_tensor(np.array([[1.5, -2.0]], np.float32)))
    assert list(proto.float_val) == [1.5, -2.0]
    assert [dim.size for dim in proto.tensor_shape.dim] == [1, 2]
    proto = TensorProto.FromString(write_tensor(np.array([True, False])))
    assert list(proto.bool_val) == [True, False]
    proto = TensorProto.FromString(write_tensor(np.array([1 + 2j], np.complex64)))
    assert list(proto.scomplex_val) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("values", "shape", "expected"),
    [([4.0], [3], [4, 4, 4]), ([1.0, 2.0], [4], [1, 2, 2, 2]), ([], [2], [0, 0]), ([1.0, 2.0, 3.0], [2], [1, 2])],
    ids=["one for all", "last repeated", "none is zeros", "too many are dropped"],
)
def test_a_list_of_another_length_than_the_shape(values: list[float], shape: list[int], expected: list[float]) -> None:
    assert read_tensor(message(1, shape, float_val=values), "x").tolist() == expected


@pytest.mark.parametrize(("dtype", "field"), [(1, "float_val"), (2, "double_val"), (8, "scomplex_val")])
def test_many_values(dtype: int, field: str) -> None:
    values = [float(i) for i in range(4000)]
    flat = read_tensor(message(dtype, [2000], **{field: values}), "x")
    assert flat.view(flat.real.dtype).tolist() == (values if dtype == 8 else values[:2000])


def test_a_short_list_of_strings_repeats_its_last() -> None:
    assert read_tensor(message(7, [3], string_val=[b"a", b"b"]), "x").tolist() == [b"a", b"b", b"b"]
    assert read_tensor(message(7, [2]), "x").tolist() == [b"", b""]


def test_tensor_content_wins_over_values() -> None:
    proto = message(1, [1], tensor_content=np.float32(1).tobytes(), float_val=[5.0])
    assert read_tensor(proto, "x").tolist() == [1.0]


@pytest.mark.parametrize(
    "proto",
    [
        message(0, [1], float_val=[1.0]),
        message(101, [1], float_val=[1.0]),
        message(21, [1]),
        message(9999, [1]),
        message(1, [-1], float_val=[1.0]),
        message(1, [2], tensor_content=b"\0" * 7),
        message(1, [2], tensor_content=b"\0" * 12),
        message(8, [1], scomplex_val=[1.0]),
        message(7, [2], tensor_content=b"\x01"),
        message(7, [2], tensor_content=b"\x01\x05abcd"),
        message(7, [1], tensor_content=b"\xff" * 12),
        message(1, [1] * 65, float_val=[1.0]),
    ],
    ids=[
        "no dtype", "reference", "variant", "unknown dtype", "negative size", "content short", "content long",
        "half a complex", "strings cut off", "strings lie", "endless length", "65 dimensions",
    ],
)  # fmt: skip
def test_what_describes_no_tensor_is_an_invalid_argument(proto: TensorProto) -> None:
    error = error_of(proto)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.startswith("tensor parsing error: x")


def test_unknown_rank_and_resource_are_invalid_arguments() -> None:
    proto = TensorProto(dtype=1)
    proto.tensor_shape.unknown_rank = True
    assert error_of(proto).code is Code.INVALID_ARGUMENT
    assert error_of(message(20, [1])).code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("dtype", "value", "limits"),
    [(6, 300, "-128 to 127"), (4, -1, "0 to 255"), (5, 1 << 20, "-32768 to 32767"), (17, 65536, "0 to 65535"),
     (29, 8, "-8 to 7"), (11, 128, "-128 to 127")],
)  # fmt: skip
def test_an_integer_that_does_not_fit_is_refused_not_wrapped(dtype: int, value: int, limits: str) -> None:
    error = error_of(message(dtype, [1], int_val=[value]))
    assert error.code is Code.INVALID_ARGUMENT
    assert str(value) in error.message
    assert limits in error.message


@pytest.mark.parametrize("dtype", [1, 7])
@pytest.mark.parametrize("shape", [[1 << 40], [1 << 31, 1 << 31, 1 << 31], [0, 1 << 62]])
def test_a_huge_shape_in_a_small_message_takes_no_memory(dtype: int, shape: list[int]) -> None:
    assert error_of(message(dtype, shape)).code is Code.RESOURCE_EXHAUSTED


@given(st.integers(0, (1 << 64) - 1))
def test_varint_is_protobufs(value: int) -> None:
    proto = TensorProto(uint64_val=[value])
    assert proto.SerializeToString().endswith(varint(value))


def test_every_dtype_has_one_numpy_type() -> None:
    assert len(DTYPE_OF) == len(NUMPY_OF)
