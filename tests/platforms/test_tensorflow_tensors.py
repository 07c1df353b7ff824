"""What is fed comes back as it was, whatever its element type and shape."""

import gc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_models import Load, texts

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.platforms.tensorflow.library import tensorflow
from pyserving.platforms.tensorflow.tensors import COPIED_BYTES, new_tensor, take_tensor

pytestmark = pytest.mark.tensorflow

NUMBERS = sorted(set(NUMPY_OF) - {DType.STRING})
ECHOED = [
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "bool", "complex64", "complex128", "qint8", "quint8", "qint16", "quint16", "qint32", "float8_e5m2",
    "float8_e4m3fn", "int4", "uint4",
]  # fmt: skip


def round_trip(array: Array, *, copy: bool = False) -> Array:
    tf = tensorflow()
    return take_tensor(tf, new_tensor(tf, array), copy=copy)


def some_values(dtype: np.dtype, shape: tuple[int, ...]) -> Array:
    """Zeros and ones, which every element type has, and which tell a shuffled array."""
    bits = np.random.default_rng(0).integers(0, 2, shape)
    if dtype.names:
        return bits.astype(dtype[0]).view(dtype)
    return bits.astype(dtype)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4), (COPIED_BYTES + 5, 2)], ids=str)
@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.name)
def test_numbers_come_back(dtype: DType, shape: tuple[int, ...]) -> None:
    array = some_values(NUMPY_OF[dtype], shape)
    back = round_trip(array)
    assert back.dtype == array.dtype
    assert back.shape == shape
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("name", ECHOED)
def test_a_model_gets_and_gives_each_element_type(load: Load, name: str) -> None:
    model = load("dtypes")
    signature = model.signatures[f"echo_{name}"]
    array = some_values(NUMPY_OF[signature.inputs["x"].dtype], (2, 3))
    back = model(signature.name, x=array)["y"]
    assert DTYPE_OF[back.dtype] == signature.outputs["y"].dtype
    np.testing.assert_array_equal(back, array)


def test_extreme_numbers_come_back() -> None:
    for array in (
        np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324], np.float64),
        np.array([2**63 - 1, -(2**63)], np.int64),
        np.array([2**64 - 1], np.uint64),
        np.array([1e30, -1e-30], ml_dtypes.bfloat16),
    ):
        assert round_trip(array).tobytes() == array.tobytes()


def test_an_array_in_another_order_comes_back_as_it_reads() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    np.testing.assert_array_equal(round_trip(array.T), array.T)
    large = np.arange(COPIED_BYTES, dtype=np.int32).reshape(4, -1)
    np.testing.assert_array_equal(round_trip(large.T), large.T)


def test_an_array_that_tensorflow_has_no_type_for_is_refused() -> None:
    with pytest.raises(ServingError, match="datetime64") as caught:
        round_trip(np.array(["2020-01-01"], "datetime64[D]"))
    assert caught.value.code == Code.INVALID_ARGUMENT
    with pytest.raises(ServingError, match="not all bytes"):
        round_trip(texts("text"))  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_strings_come_back(strings: list[bytes]) -> None:
    back = round_trip(texts(*strings))
    assert back.dtype == object
    assert back.tolist() == strings


@pytest.mark.parametrize("size", [0, 1, 21, 22, 23, 24, 25, 63, 64, 255, 256, 100_000])
def test_strings_of_each_kind_come_back_through_a_model(load: Load, size: int) -> None:
    strings = [b"a" * size, b"\0" * size, b"\xff" * size]
    answer = load("strings")(text=texts(*strings))
    assert answer["copy_bytes"].tolist() == strings
    assert answer["upper"].tolist() == [b"A" * size, b"\0" * size, b"\xff" * size]
    assert answer["length"].tolist() == [size] * 3


def test_many_strings_come_back(load: Load) -> None:
    strings = [b"%d" % number * (1 + number % 7) for number in range(100_000)]
    answer = load("strings")(text=texts(*strings))
    assert answer["copy_bytes"].tolist() == strings
    assert answer["upper"].tolist() == strings
    assert answer["length"].tolist() == list(map(len, strings))


def test_strings_keep_their_shape(load: Load) -> None:
    pairs = texts(b"a", b"b", b"c", b"d" * 30).reshape(2, 2)
    assert load("strings")("join", pair=pairs)["joined"].tolist() == [b"a-b", b"c-" + b"d" * 30]
    scalar = np.array(b"one", object)
    shout = load("scalars")("text", s=scalar)["shout"]
    assert shout.shape == ()
    assert shout.item() == b"ONE"
    assert round_trip(np.empty((0, 3), object)).shape == (0, 3)


@pytest.mark.parametrize("size", [8, COPIED_BYTES + 8])
def test_an_output_lives_as_long_as_it_is_used_and_cannot_be_written_to(size: int) -> None:
    array = np.arange(size // 8, dtype=np.int64)
    part = round_trip(array)[-1:]
    gc.collect()
    others = [round_trip(np.zeros_like(array)) for _ in range(20)]  # would take over freed memory
    assert part.item() == size // 8 - 1
    assert len(others) == 20
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 0


def test_a_copied_output_owns_its_memory() -> None:
    array = np.arange(COPIED_BYTES, dtype=np.int64)
    assert round_trip(array, copy=True).flags.owndata
    assert not round_trip(array).flags.owndata


def test_an_output_of_handles_is_refused() -> None:
    tf = tensorflow()
    handle = tf.allocate_tensor(DType.RESOURCE, None, 0, 0)
    with pytest.raises(ServingError, match="resource") as caught:
        take_tensor(tf, handle, copy=False)
    assert caught.value.code == Code.UNIMPLEMENTED
