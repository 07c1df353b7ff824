"""From annotations to signatures, and values to arrays and back."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TypedDict

import numpy as np
import pytest

from pyserving import Model, Tensor, signature
from pyserving.core.errors import ServingError
from pyserving.platforms.dtypes import DType
from pyserving.platforms.python.signatures import read_signatures
from pyserving.platforms.python.values import as_array


class Answer(TypedDict):
    scores: Tensor[np.float32, None, 3]
    label: Tensor[str, None]


class Everything(Model):
    def predict(
        self,
        text: Tensor[str, None],
        image: Tensor["bytes", None],
        half: Tensor["bfloat16", ...],  # noqa: F821
        top: Tensor[np.int32] = 3,
    ) -> Answer: ...

    @signature(name="other", row_wise=True)
    async def method(self, x: "Tensor[float, None, 2]") -> Tensor[bool, None]: ...

    @signature
    def words(self, x: Tensor[bytes]) -> Iterator[{"word": Tensor[str]}]:  # noqa: F821
        yield {"word": ""}

    @signature
    async def slowly(self, x: Tensor[bytes]) -> AsyncIterator[Tensor[str]]:
        yield ""

    def helper(self, anything):
        pass


def test_signatures_are_read_from_annotations():
    found = {name: bound.signature for name, bound in read_signatures(Everything).items()}
    assert sorted(found) == ["other", "serving_default", "slowly", "words"]
    default = found["serving_default"]
    assert [(spec.dtype, spec.shape) for spec in default.inputs.values()] == [
        (DType.STRING, (None,)),
        (DType.STRING, (None,)),
        (DType.BFLOAT16, None),
        (DType.INT32, ()),
    ]
    assert {name: (spec.dtype, spec.shape) for name, spec in default.outputs.items()} == {
        "scores": (DType.FLOAT, (None, 3)),
        "label": (DType.STRING, (None,)),
    }
    assert default.defaults["top"] == np.int32(3)
    other = found["other"]
    assert (other.row_wise, other.stateless, other.streams) == (True, True, False)
    assert other.inputs["x"].dtype is DType.DOUBLE
    assert list(other.outputs) == ["output_0"]
    assert found["words"].streams
    assert found["slowly"].streams


@pytest.mark.parametrize(
    ("annotation", "message"),
    [((np.datetime64, None), "element type"), ((np.float32, -1), "not negative"), ((np.float32, 2.0), "got 2.0")],
)
def test_a_tensor_that_cannot_be(annotation, message):
    with pytest.raises(TypeError, match=message):
        Tensor[annotation]


def a_class(**methods):
    return type("Wrong", (Model,), methods)


def test_wrong_signatures_say_what_is_wrong():
    def nothing(self): ...

    def no_return(self, x: Tensor[np.float32]): ...

    def star(self, *x: Tensor[np.float32]) -> Tensor[np.float32]: ...

    def default(self, x: Tensor[np.int32] = "a") -> Tensor[np.float32]: ...

    @signature(row_wise=True)
    def rows(self, x: Tensor[np.int32]) -> Tensor[np.float32, None]: ...

    def unknown(self, x: "Tensr[np.int32]") -> Tensor[np.float32, None]: ...  # noqa: F821

    for method, message in (
        (nothing, "what is returned must be annotated"),
        (no_return, "what is returned must be annotated"),
        (star, "cannot be an input"),
        (default, "the default of x"),
        (rows, "row_wise needs tensors whose first size is None, which x has not"),
        (unknown, "NameError"),
    ):
        with pytest.raises(ServingError, match=message):
            read_signatures(a_class(predict=method))
    with pytest.raises(ServingError, match="expected a method predict"):
        read_signatures(a_class())


def test_values_are_converted_where_nothing_is_lost():
    assert as_array([1, 2], DType.FLOAT).dtype == np.float32
    assert as_array(np.array([1.5]), DType.FLOAT).dtype == np.float32
    assert as_array(np.array([5]), DType.INT32).dtype == np.int32
    assert as_array(1.5, DType.BFLOAT16).shape == ()
    assert as_array([["a", b"\xff"]], DType.STRING).tolist() == [[b"a", b"\xff"]]
    assert as_array(np.array(["ab"]), DType.STRING).tolist() == [b"ab"]
    for value, dtype in (
        ([1.5], DType.INT32),
        ([1 << 40], DType.INT32),
        ([-1], DType.UINT8),
        ([True], DType.STRING),
        (["1"], DType.FLOAT),
        ([None], DType.FLOAT),
        ([[1], [2, 3]], DType.FLOAT),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - each has its own text
            as_array(value, dtype)


def test_the_import_for_authors_is_small():
    code = "import sys, pyserving; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in modules
    ours = {name for name in modules if name.startswith("pyserving")}
    assert ours == {"pyserving", "pyserving.authoring", "pyserving.core", "pyserving.core.errors"}
    assert not {"tensorflow", "google.protobuf", "uvloop"} & set(modules)
