"""Bodies in pieces: plain, and gzip of which all but the beginning is decompressed at the end."""

import gzip
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.transport.body import BodyTooLarge, GzipBody, PlainBody
from pyserving.transport.limits import HttpLimits
from pyserving.wire.byte_buffer import ByteBuffer

NOISE = np.random.default_rng(0).bytes(3_000_000)
ZEROS = bytes(3_000_000)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("announced", [0, 10, 2_900_000, 3_000_000, 4_000_000])
@pytest.mark.parametrize("size", [1000, 100_000, 5_000_000])
def test_plain_bodies_come_back(announced: int, size: int) -> None:
    body = PlainBody(HttpLimits(), announced)
    for piece in pieces(NOISE, size):
        body.add(piece)
    assert not body.deferred
    assert body.finish() == NOISE


@given(st.integers(0, 3_000_000), st.lists(st.binary(max_size=100), max_size=5))
def test_buffers_give_away_what_was_written(announced: int, written: list[bytes]) -> None:
    buffer = ByteBuffer(announced)
    for piece in written:
        buffer.write(piece)
    assert len(buffer) == sum(map(len, written))
    assert buffer.take() == b"".join(written)
    assert buffer.take() == b""


@pytest.mark.parametrize("plain", [b"", NOISE[:1000], NOISE, ZEROS, NOISE[:300_000] + ZEROS, ZEROS[:300_000] + NOISE])
@pytest.mark.parametrize("size", [1000, 65_536, 5_000_000])
def test_gzip_bodies_are_decompressed(plain: bytes, size: int) -> None:
    body = GzipBody(HttpLimits())
    for piece in pieces(gzip.compress(plain), size):
        body.add(piece)
    assert body.finish() == plain


def test_no_more_than_a_little_is_decompressed_as_it_comes_in() -> None:
    body = GzipBody(HttpLimits())
    for piece in pieces(gzip.compress(NOISE), 65_536):
        body.add(piece)
    assert body.deferred
    assert body.finish() == NOISE


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:-8] + bytes(8)]
)
@pytest.mark.parametrize("plain", [b"abc", NOISE])
def test_what_is_no_whole_gzip_member_is_an_empty_body(plain: bytes, damage: Callable[[bytes], bytes]) -> None:
    body = GzipBody(HttpLimits())
    for piece in pieces(damage(gzip.compress(plain)), 65_536):
        body.add(piece)
    assert body.finish() == b""


@pytest.mark.parametrize("plain", [NOISE[:1_000_000] + ZEROS[:2_000_000], ZEROS])
def test_the_limit_holds_for_what_is_decompressed_at_the_end(plain: bytes) -> None:
    for limit in (3_100_000, 2_999_999):
        body = GzipBody(HttpLimits(max_body=limit))
        for piece in pieces(gzip.compress(plain), 1000):
            body.add(piece)
        if limit > len(plain):
            assert body.finish() == plain
        else:
            with pytest.raises(BodyTooLarge, match="2999999 bytes after decompression"):
                body.finish()


def test_a_bomb_is_found_at_the_end() -> None:
    body = GzipBody(HttpLimits(gzip_ratio_from=1_000_000, max_gzip_ratio=100))
    for piece in pieces(gzip.compress(NOISE[:1_000] + ZEROS), 100):
        body.add(piece)
    with pytest.raises(BodyTooLarge, match="at most 100 times"):
        body.finish()
