"""What passes between the server and a model's process arrives as it was sent."""

import socket
import threading

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pyserving.platforms.process.frames import Message, encode, receive, send

NUMBERS = [np.float32, np.float64, np.int8, np.int64, np.uint16, np.bool_, np.complex64, ml_dtypes.bfloat16]


@st.composite
def arrays(draw):
    shape = draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    if draw(st.booleans()):
        strings = np.empty(shape, object)
        for index in np.ndindex(shape):
            strings[index] = draw(st.binary(max_size=20))
        return strings
    dtype = draw(st.sampled_from(NUMBERS))
    data = draw(st.binary(min_size=1, max_size=64))
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    array = np.frombuffer((data * count)[:count], np.uint8).copy()
    if dtype is np.bool_:
        array &= 1
    array = array.view(dtype).reshape(shape)
    return array.T if draw(st.booleans()) else array


def round_trip(message: Message) -> Message:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        threading.Thread(target=send, args=(ours, encode(message))).start()
        received = receive(theirs)
    assert received is not None
    return received


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), arrays(), max_size=4), st.integers(0, 2**53 - 1))
def test_what_is_sent_arrives(tensors, number):
    received = round_trip(Message("run", number, {"timeout": 0.5, "outputs": ["é"]}, tensors))
    assert (received.kind, received.id, received.fields) == ("run", number, {"timeout": 0.5, "outputs": ["é"]})
    assert list(received.tensors) == list(tensors)
    for name, sent in tensors.items():
        got = received.tensors[name]
        assert (got.dtype, got.shape) == (sent.dtype, sent.shape)
        assert got.tolist() == sent.tolist() if sent.dtype == object else got.tobytes() == sent.tobytes()


def test_many_large_tensors_go_in_several_writes():
    tensors = {str(index): np.full(1000, index, np.float32) for index in range(2000)}
    received = round_trip(Message("run", 1, {}, tensors))
    assert all((received.tensors[name] == array).all() for name, array in tensors.items())


def test_the_end_of_the_other_side_is_no_message():
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(b"\x05\0\0\0")
        ours.close()
        assert receive(theirs) is None


def test_an_array_of_another_type_is_refused():
    with pytest.raises(ValueError, match="datetime64"):
        encode(Message("run", 1, {}, {"x": np.zeros(1, "datetime64[s]")}))
