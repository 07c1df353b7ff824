"""Requests that are read by a template, against what protobuf makes of the same bytes."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pyserving.core.errors import ServingError
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.protos.messages import ModelSpec, PredictRequest, TensorProto
from pyserving.wire.predict_templates import PredictTemplates, Template, find_holes
from pyserving.wire.tensor_proto import read_tensor, varint, write_tensor


def entry(name: str, tensor: bytes) -> bytes:
    """A field ``inputs``."""
    key = name.encode()
    body = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(tensor)) + tensor
    return b"\x12" + varint(len(body)) + body


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


SPEC = PredictRequest(model_spec=ModelSpec(name="m")).SerializeToString()
X = entry("x", write_tensor(floats(1, 2, 3)))
HEAD = b"\x08\x01\x12\x04\x12\x02\x08\x03"  # a tensor of three floats, without its values
VALUES = floats(1, 2, 3).tobytes()


def template_of(data: bytes) -> Template[PredictRequest] | None:
    """What is learned from ``data``; its head is the message."""
    request = PredictRequest.FromString(data)
    templates: PredictTemplates[PredictRequest] = PredictTemplates()
    for _ in range(2):
        assert templates.find(data) is None
        templates.learn(data, request, request)
    return templates.find(data)


def assert_same(template: Template[PredictRequest], data: bytes) -> None:
    """The template says of ``data`` what protobuf says."""
    request = PredictRequest.FromString(data)
    arrays = template.values(data)
    assert arrays.keys() == set(request.inputs)
    for name, array in arrays.items():
        expected = read_tensor(request.inputs[name], name)
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
        assert array.tobytes() == expected.tobytes()
    head = PredictRequest()
    head.CopyFrom(template.head)
    for message in (head, request):
        message.ClearField("inputs")
    assert head == request


raw_dtypes = st.sampled_from([dtype for dtype in NUMPY_OF if dtype is not DType.STRING])
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
names = st.sampled_from(["x", "y", "input_1", "ß"])


@st.composite
def tensors(draw: st.DrawFn) -> bytes:
    """Tensors as clients write them, and as none should."""
    dtype, shape = draw(raw_dtypes), draw(shapes)
    itemsize = NUMPY_OF[dtype].itemsize
    size = int(np.prod(shape)) * itemsize
    values = draw(st.binary(min_size=size, max_size=size))
    if dtype not in (DType.INT4, DType.UINT4, DType.BOOL) and draw(st.booleans()):
        return write_tensor(np.frombuffer(values, NUMPY_OF[dtype]).reshape(shape), as_content=draw(st.booleans()))
    shape_field = write_tensor(np.zeros(shape, np.bool_))[2:]
    pieces = [
        b"\x08" + varint(int(dtype)),
        shape_field[: 2 + shape_field[1]],
        b"\x22" + varint(len(values)) + values,
        *draw(
            st.lists(
                st.sampled_from(
                    [
                        *(
                            b"\x18\x01",
                            b"\x22\x00",
                            b"\x2a\x04\0\0\x80\x3f",
                            b"\x2d\0\0\x80\x3f",
                            b"\x32\x08" + bytes(8),
                        ),
                        *(b"\x2a\x0c" + bytes(12), b"\x3a\x01\x07", b"\x42\x01a", b"\x92\x01\x01\x3f", b"\xfa\x07\x00"),
                        *(b"\x08\x01", b"\x88\x00\x01", b"\x12\x04\x12\x02\x08\x01", b"\x12\x02\x18\x01"),
                    ]
                ),
                max_size=2,
            )
        ),
    ]
    kept = draw(st.permutations(pieces))
    return b"".join(kept[: draw(st.integers(2, len(kept)))])


others = st.sampled_from(
    [
        SPEC,
        b"\x1a\x01y",
        b"\x32\x02id",
        b"\xfa\x07\x01?",
        b"\x10\x01",
        b"\x12\x00",
        b"\x0a\x02\x1a\x00",
        entry("x", b""),
    ]
)
requests = st.builds(
    lambda parts, odd: b"".join([*parts, *odd]),
    st.lists(st.builds(entry, names, tensors()), min_size=1, max_size=3),
    st.lists(others, max_size=1),
)


@settings(max_examples=400)
@given(requests, st.data())
def test_what_a_template_fits_means_what_protobuf_says(message: bytes, data: st.DataObject) -> None:
    try:
        template = template_of(message)
    except DecodeError:
        return
    event("learned" if template else "parsed")
    if template is None:
        return
    assert_same(template, message)
    other = bytearray(message)
    holes = find_holes(message, template.head)
    places = [place for hole in holes for place in range(hole.start, hole.end)]
    anywhere = data.draw(st.integers(0, 3)) == 0
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(other) - 1) if anywhere else st.sampled_from(places))
        other[place] = data.draw(st.integers(0, 255))
    if template.fits(bytes(other)):
        event("fits another")
        assert_same(template, bytes(other))


@given(st.lists(st.tuples(names, raw_dtypes, shapes), min_size=1, max_size=3, unique_by=lambda x: x[0]), st.data())
def test_it_is_found_for_all_values(inputs: list[tuple[str, DType, tuple[int, ...]]], data: st.DataObject) -> None:
    def message() -> bytes:
        parts = [SPEC]
        for name, dtype, shape in inputs:
            size = int(np.prod(shape)) * NUMPY_OF[dtype].itemsize
            values = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), NUMPY_OF[dtype])
            parts.append(entry(name, write_tensor(values.reshape(shape), as_content=True)))
        return b"".join(parts)

    first, second = message(), message()
    template = template_of(first)
    if any(0 in shape for _, _, shape in inputs):
        assert template is None
    else:
        assert template is not None
        assert template.fits(second)
        assert_same(template, second)


@pytest.mark.parametrize(
    ("dtype", "field"),
    [
        (np.float32, 0x2A),
        (np.float64, 0x32),
        (np.complex64, 0x4A),
        (np.complex128, 0x62),
    ],
)
def test_packed_fields_of_floats_are_found(dtype: type, field: int) -> None:
    values = np.array([1, 2], dtype)
    data = SPEC + entry("x", write_tensor(values))
    assert bytes([field, values.nbytes]) in data
    template = template_of(data)
    assert template is not None
    assert_same(template, data)


@pytest.mark.parametrize(
    "data",
    [
        SPEC,
        X + entry("x", write_tensor(floats(4, 5, 6))),  # the last of equal keys counts
        entry("x", b"\x08\x03\x12\x04\x12\x02\x08\x03\x2a\x0c" + bytes(12)),  # int32, and zeros in float_val
        entry("x", HEAD + b"\x2a\x08" + VALUES[:8]),  # the last value is repeated
        entry("x", HEAD + b"\x2a\x10" + VALUES + bytes(4)),  # one too many
        entry("x", HEAD + b"\x2a\x04" + VALUES[:4] + b"\x2a\x08" + VALUES[4:]),
        entry("x", HEAD + b"".join(b"\x2d" + VALUES[at : at + 4] for at in (0, 4, 8))),  # not packed
        entry("x", HEAD + b"\x2a\x0c" + VALUES + b"\x22\x0c" + VALUES[::-1]),  # tensor_content goes first
        entry("x", HEAD + b"\x2a\x0c" + VALUES + b"\xfa\x07\x00"),  # a field that nobody knows
        entry("x", write_tensor(np.array([b"a"], object), as_content=True)),
        entry("x", write_tensor(np.array([1, 2, 3]))),
        X + entry("s", write_tensor(np.array([1, 2, 3]))),  # one that is learned, one that is not
        b"\x12\x13\x0a\x01x\x12\x0e" + HEAD + b"\x2a\x04" + VALUES[:4],
        b"\x13\x14" + X,  # a group
        b"\xfa\x3f" + varint(5000) + bytes(5000) + X,  # too much to be kept
    ],
)
def test_unusual_messages_are_left_to_protobuf(data: bytes) -> None:
    assert template_of(data) is None


def test_a_length_is_learned_when_it_comes_twice_and_not_for_ever() -> None:
    templates: PredictTemplates[int] = PredictTemplates()
    for number in range(20):
        data = entry("x", write_tensor(floats(1, 2, 3))) + b"\x1a\x02%02d" % number
        request = PredictRequest.FromString(data)
        templates.learn(data, request, number)
        found = templates.find(data)
        assert (None if found is None else found.head) == (number if 1 <= number <= 4 else None)
        for known in range(1, min(number, 4) + 1):
            again = templates.find(entry("x", write_tensor(floats(7, 8, 9))) + b"\x1a\x02%02d" % known)
            assert again is not None
            assert again.head == known


def test_what_is_learned_has_a_bound() -> None:
    templates: PredictTemplates[int] = PredictTemplates()
    for size in range(1, 3000):
        data = entry("x", write_tensor(np.zeros(size, np.float32)))
        for _ in range(2):
            templates.learn(data, PredictRequest.FromString(data), size)
        assert templates.find(data) is not None
    first = entry("x", write_tensor(floats(1)))
    assert templates.find(first) is None


def test_holes_are_in_the_order_of_their_place() -> None:
    data = entry("z", write_tensor(floats(1))) + entry("a", write_tensor(floats(2, 3)))
    holes = find_holes(data, PredictRequest.FromString(data))
    assert [(hole.name, data[hole.start : hole.end]) for hole in holes] == [
        ("z", floats(1).tobytes()),
        ("a", floats(2, 3).tobytes()),
    ]


def test_a_tensor_that_cannot_be_read_is_left_to_protobuf() -> None:
    data = entry("x", b"\x08\x63\x12\x04\x12\x02\x08\x03\x22\x0c" + VALUES)
    with pytest.raises(ServingError):
        read_tensor(TensorProto.FromString(b"\x08\x63"), "x")
    assert template_of(data) is None
