"""Tensors that are filled again for the next run."""

import numpy as np
import pytest
from tensorflow_models import floats, texts

from pyserving.platforms.model import Array
from pyserving.platforms.tensorflow.fed_tensor import FedTensor
from pyserving.platforms.tensorflow.library import TensorFlow, tensorflow
from pyserving.platforms.tensorflow.tensors import COPIED_BYTES, take_tensor

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def tf() -> TensorFlow:
    return tensorflow()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (floats(1, 2, 3), floats(4, 5, 6)),
        (np.array(7, np.int64), np.array(-(2**63), np.int64)),
        (np.zeros((2, 3), bool), np.ones((2, 3), bool)),
        (np.zeros((2, 3)), np.arange(6.0).reshape(3, 2).T),  # not contiguous
    ],
)
def test_it_takes_values_of_the_same_type_and_shape(tf: TensorFlow, first: Array, second: Array) -> None:
    fed = FedTensor(tf, first)
    for values in (second, first, second):
        assert fed.refill(values)
        assert fed.released() is fed
    np.testing.assert_array_equal(take_tensor(tf, fed.address, copy=True), second)


@pytest.mark.parametrize("other", [floats(1, 2), floats(1, 2, 3).reshape(3, 1), np.array([1, 2, 3], np.int32)])
def test_it_takes_no_others(tf: TensorFlow, other: Array) -> None:
    fed = FedTensor(tf, floats(4, 5, 6))
    assert not fed.refill(other)
    assert take_tensor(tf, fed.address, copy=True).tolist() == [4, 5, 6]


@pytest.mark.parametrize("values", [texts(b"a"), floats(), np.zeros(COPIED_BYTES // 8 + 1)])
def test_what_is_no_gain_is_not_kept(tf: TensorFlow, values: Array) -> None:
    assert FedTensor(tf, values).released() is None
