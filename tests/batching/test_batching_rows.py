"""Joining and splitting rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.batching.rows import can_split, count_rows, join, join_key, split
from pyserving.platforms.model import Array


def texts(*values: bytes) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [
        ([], None),
        ([()], None),
        ([(3,)], 3),
        ([(3, 2), (3,)], 3),
        ([(3, 2), (2, 2)], None),
        ([(3,), ()], None),
        ([(0, 2)], None),
        ([(2, 0)], None),
    ],
)
def test_only_requests_whose_inputs_all_have_the_same_rows_can_be_joined(
    shapes: list[tuple[int, ...]], rows: int | None
) -> None:
    assert count_rows({str(index): np.zeros(shape) for index, shape in enumerate(shapes)}) == rows


def test_the_key_tells_what_cannot_be_joined() -> None:
    def key(*shape: int, dtype: type = np.float32, pad: bool = False) -> object:
        return join_key({"x": np.zeros(shape, dtype)}, pad=pad)

    assert key(1, 2) == key(5, 2)
    assert key(1, 2) != key(1, 3)
    assert key(1, 2) != key(1, 2, 1)
    assert key(1, 2) != key(1, 2, dtype=np.int32)
    assert key(1, 2, pad=True) == key(1, 3, pad=True)
    assert key(1, 2, pad=True) != key(1, 2, 1, pad=True)
    assert key(1, 1, 1, 1, 1, 1, 2, pad=True) != key(1, 1, 1, 1, 1, 1, 3, pad=True), "none pads so many dimensions"


requests = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=5)


@given(requests, st.integers(0, 5))
def test_what_was_joined_and_is_split_comes_back(shapes: list[tuple[int, int, int]], padding: int) -> None:
    width = shapes[0][1:]
    random = np.random.default_rng(0)
    parts = [{"a": random.random((rows, *width)), "b": random.integers(0, 9, rows)} for rows, *_ in shapes]
    sizes = [rows for rows, *_ in shapes]
    rows = sum(sizes) + padding
    joined = join(parts, rows)
    assert can_split(list(joined.values()), rows)
    for part, (a, b) in zip(parts, split(list(joined.values()), sizes, rows), strict=True):
        np.testing.assert_array_equal(a, part["a"])
        np.testing.assert_array_equal(b, part["b"])
    for row in joined["a"][sum(sizes) :]:
        np.testing.assert_array_equal(row, parts[-1]["a"][0])


@given(requests)
def test_shorter_rows_are_filled_with_their_first_element(shapes: list[tuple[int, int, int]]) -> None:
    random = np.random.default_rng(1)
    parts = [{"x": random.random(shape)} for shape in shapes]
    joined = join(parts, sum(rows for rows, *_ in shapes))["x"]
    assert joined.shape[1:] == (max(s[1] for s in shapes), max(s[2] for s in shapes))
    start = 0
    for part in parts:
        x = part["x"]
        rows = joined[start : start + len(x)]
        np.testing.assert_array_equal(rows[:, : x.shape[1], : x.shape[2]], x)
        outside = np.ones(rows.shape, bool)
        outside[:, : x.shape[1], : x.shape[2]] = False
        assert (rows[outside] == x.flat[0]).all()
        start += len(x)


def test_strings_are_joined_and_padded_too() -> None:
    parts = [{"s": texts(b"a", b"b")[:, None]}, {"s": texts(b"c", b"d").reshape(1, 2)}]
    assert join(parts, 4)["s"].tolist() == [[b"a", b"a"], [b"b", b"a"], [b"c", b"d"], [b"c", b"d"]]


def test_outputs_without_a_row_for_each_row_cannot_be_split() -> None:
    assert can_split([np.zeros((4, 2)), np.zeros(4)], 4)
    assert not can_split([np.zeros((4, 2)), np.zeros(())], 4)
    assert not can_split([np.zeros(3)], 4)
