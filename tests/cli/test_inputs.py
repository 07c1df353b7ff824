"""Inputs as they are written on a command line."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from pyserving.cli.expression import ExpressionError, evaluate
from pyserving.cli.images import ImageOptions
from pyserving.cli.inputs import read_inputs
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import TensorSpec


def spec(dtype: DType, shape: tuple[int | None, ...] | None = None) -> dict[str, TensorSpec]:
    return {"x": TensorSpec("x", "x:0", dtype, shape)}


FLOATS = spec(DType.FLOAT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=[1, 2.5]", [1, 2.5]),
        ("x=3", 3),
        ("x=np.ones((2, 3))", np.ones((2, 3))),
        ("x=numpy.arange(6).reshape(2, 3) / 2", np.arange(6).reshape(2, 3) / 2),
        ("x=np.full((2,), -1.5, dtype=np.float32)", [-1.5, -1.5]),
        ("x=[np.zeros(2), np.ones(2)]", [[0, 0], [1, 1]]),
        ("x=[1e3, -2, float]", None),
        ("[4]", [4]),
    ],
)
def test_numbers_get_the_dtype_of_the_signature(text: str, expected: object) -> None:
    if expected is None:
        with pytest.raises(ServingError, match="x"):
            read_inputs([text], FLOATS)
        return
    (array,) = read_inputs([text], FLOATS).values()
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.asarray(expected, np.float32))


def test_without_a_signature_numpy_chooses() -> None:
    inputs = read_inputs(["a=[1]", "b=[1.5]", 'c=["é"]', "d=true"])
    assert [array.dtype.name for array in inputs.values()] == ["int64", "float64", "object", "bool"]
    assert inputs["c"].tolist() == ["é".encode()]


def test_random_numbers_have_the_shape_asked_for() -> None:
    inputs = read_inputs(["a=np.random.rand(1, 100)", "b=np.random.randint(0, 10, size=(2, 3))"])
    assert inputs["a"].shape == (1, 100)
    assert 0 <= inputs["a"].min() <= inputs["a"].max() < 1
    assert inputs["b"].shape == (2, 3)
    assert inputs["b"].dtype.kind == "i"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "np.load('x.npy')",
        "np.fromfile('x')",
        "np.zeros.__globals__",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "np.array([1]).tofile('x')",
        "[0] * 1000000000",
        "'a' * 1000000000",
        "9 ** 9 ** 9",
        "np.zeros(10 ** 9)",
        "open('x')",
        "f'{1}'",
        "np.zeros(**{})",
        "np.random.seed(1)",
        "(" * 300 + ")" * 300,
        "-" * 5000 + "1",
    ],
)
def test_nothing_but_the_list_is_computed(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text)


def test_too_large_an_array_is_refused_not_made() -> None:
    with pytest.raises(ExpressionError):
        evaluate("np.zeros((1000000000, 1000000000, 1000))")


def test_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3.0))
    np.savez(tmp_path / "both.npz", p=np.arange(2), q=np.ones(2))
    (tmp_path / "rows.json").write_text('[["x", {"b64": "AP8="}]]')
    (tmp_path / "all.json").write_text('{"m": [1], "n": [2.5]}')
    (tmp_path / "raw.bin").write_bytes(b"\0\1")
    read = lambda *texts: read_inputs([text.replace("DIR", str(tmp_path)) for text in texts])  # noqa: E731
    np.testing.assert_array_equal(read("x=DIR/a.npy")["x"], np.arange(3.0))
    np.testing.assert_array_equal(read("x=DIR/both.npz[q]")["x"], np.ones(2))
    assert read("DIR/both.npz").keys() == {"p", "q"}
    assert read("x=DIR/rows.json")["x"].tolist() == [[b"x", b"\x00\xff"]]
    assert {name: array.tolist() for name, array in read("DIR/all.json").items()} == {"m": [1], "n": [2.5]}
    assert read("n=DIR/all.json")["n"].tolist() == [2.5]
    assert read("x=@DIR/raw.bin")["x"].tolist() == [b"\0\1"]


def test_a_pickle_in_a_file_is_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ServingError, match=r"a\.npy"):
        read_inputs([f"x={tmp_path}/a.npy"])


@pytest.mark.parametrize(
    ("texts", "code", "message"),
    [
        (["x=nothing.npy"], Code.NOT_FOUND, "there is no file nothing.npy"),
        (["x=nothing.png"], Code.NOT_FOUND, "there is no file nothing.png"),
        (["x=@nothing"], Code.NOT_FOUND, "nothing"),
        (["x=hello"], Code.INVALID_ARGUMENT, "a text is written in quotes"),
        (["x="], Code.INVALID_ARGUMENT, "neither JSON"),
        (["x=[1, [2]]"], Code.INVALID_ARGUMENT, "no tensor can be made of it"),
        (["x=[null]"], Code.INVALID_ARGUMENT, "NoneType"),
        (["x=[1]", "x=[2]"], Code.INVALID_ARGUMENT, "given twice"),
        (['x=["a"]'], Code.INVALID_ARGUMENT, "expected values of type float, got string"),
        (['x={"b64": "%"}'], Code.INVALID_ARGUMENT, "base64"),
    ],
)
def test_what_cannot_be_read_is_said(texts: list[str], code: Code, message: str) -> None:
    with pytest.raises(ServingError, match=message) as caught:
        read_inputs(texts, FLOATS)
    assert caught.value.code == code


def test_what_is_no_usable_picture(tmp_path: Path) -> None:
    """A text that is called a picture, one that breaks off, and one of 3.6 thousand million pixels in 45 bytes."""
    pytest.importorskip("PIL")
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + bytes(12)
    for content in (b"no picture", huge[:20], huge):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(ServingError, match="is no picture that can be read") as caught:
            read_inputs([f"x={tmp_path}/x.png"])
        assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_picture_with_a_broken_chunk(tmp_path: Path) -> None:
    """Pillow raises a SyntaxError for it."""
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "x.png"
    image.fromarray(np.random.default_rng(1).integers(0, 255, (400, 400, 3), np.uint8)).save(path)
    content = path.read_bytes()
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    path.write_bytes(content[:second] + b"\x01\x02\x03\x04" + content[second + 4 :])
    with pytest.raises(ServingError, match="is no picture that can be read"):
        read_inputs([f"x={path}"])


def test_values_longer_than_a_file_s_name() -> None:
    """A picture's pixels, for example: the system refuses to look for a file of that name."""
    numbers = [float(number) for number in range(784)]
    np.testing.assert_array_equal(read_inputs([f"x={numbers}"], FLOATS)["x"], np.float32(numbers))
    np.testing.assert_array_equal(read_inputs([str(numbers)], FLOATS)["x"], np.float32(numbers))
    for text in (f"x={'a' * 5000}.npy", f"x={'a' * 5000}.png", f"x=@{'a' * 5000}"):
        with pytest.raises(ServingError) as caught:
            read_inputs([text], FLOATS)
        assert len(caught.value.message) < 500


def test_a_value_without_a_name_needs_a_single_input() -> None:
    with pytest.raises(ServingError, match="expected NAME=VALUE"):
        read_inputs(["[1]"])


def test_integers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ServingError, match="300 is out of range for int8"):
        read_inputs(["x=[300]"], spec(DType.INT8))
    with pytest.raises(ServingError, match="expected values of type int32, got double"):
        read_inputs(["x=[1.5]"], spec(DType.INT32))


class TestImages:
    @pytest.fixture
    def picture(self, tmp_path: Path) -> Path:
        image = pytest.importorskip("PIL.Image")
        pixels = np.zeros((4, 6, 3), np.uint8)
        pixels[:, :, 0] = 255
        image.fromarray(pixels).save(tmp_path / "red.png")
        return tmp_path / "red.png"

    @pytest.mark.parametrize(
        ("dtype", "shape", "expected"),
        [
            (DType.FLOAT, (None, None, None, 3), (1, 4, 6, 3)),
            (DType.FLOAT, (None, 8, 5, 3), (1, 8, 5, 3)),
            (DType.FLOAT, (None, 28, 28, 1), (1, 28, 28, 1)),
            (DType.FLOAT, (None, 28, 28), (1, 28, 28)),
            (DType.FLOAT, (8, 8, 3), (8, 8, 3)),
            (DType.UINT8, (None, None, None, 3), (1, 4, 6, 3)),
            (DType.FLOAT, None, (1, 4, 6, 3)),
        ],
    )
    def test_has_the_shape_of_the_signature(
        self, picture: Path, dtype: DType, shape: tuple[int | None, ...] | None, expected: tuple[int, ...]
    ) -> None:
        array = read_inputs([f"x={picture}"], spec(dtype, shape))["x"]
        assert array.shape == expected
        if expected[-1] == 3:
            assert array.max() == (255 if dtype is DType.UINT8 else 1)

    @pytest.mark.parametrize(("scale", "low", "high"), [("0..255", 0, 255), ("0..1", 0, 1), ("-1..1", -1, 1)])
    def test_has_the_range_asked_for(self, picture: Path, scale: str, low: float, high: float) -> None:
        array = read_inputs([f"x={picture}"], FLOATS, ImageOptions(size=(2, 2), scale=scale))["x"]
        assert array.shape == (1, 2, 2, 3)
        assert (array.min(), array.max()) == (low, high)

    def test_is_sent_as_it_is_to_an_input_of_strings(self, picture: Path) -> None:
        array = read_inputs([f"x={picture}"], spec(DType.STRING, (None,)))["x"]
        assert array.tolist() == [picture.read_bytes()]

    def test_a_file_that_is_none_is_refused(self, tmp_path: Path) -> None:
        pytest.importorskip("PIL.Image")
        (tmp_path / "no.png").write_bytes(b"text")
        with pytest.raises(ServingError, match=r"no\.png is no picture"):
            read_inputs([f"x={tmp_path}/no.png"], FLOATS)
