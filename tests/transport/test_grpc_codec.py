import gzip
import time
import urllib.parse
import zlib
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving.core.errors import Code, ServingError
from pyserving.transport import grpc_codec
from pyserving.transport.grpc_codec import MAX_GRPC_MESSAGE, MessageBuffer, decompress, encode_message, parse_timeout


@given(
    st.lists(st.tuples(st.booleans(), st.binary(max_size=40)), max_size=6),
    st.lists(st.integers(1, 30), max_size=30),
    st.integers(1, 50),
    st.sampled_from([0, 10, 1000]),
)
def test_any_split_of_the_bytes_gives_the_same_messages(
    messages: list[tuple[bool, bytes]], sizes: list[int], last: int, large: int
) -> None:
    stream = b"".join(bytes([flag]) + len(body).to_bytes(4, "big") + body for flag, body in messages)
    announced: list[int] = []
    buffer = MessageBuffer(announced.append)
    got = []
    with patch.object(grpc_codec, "_LARGE", large):
        while stream:
            size = sizes.pop() if sizes else last
            buffer.add(stream[:size])
            while (message := buffer.take()) is not None:
                got.append(message)
            stream = stream[size:]
    assert got == [(body, flag) for flag, body in messages]
    assert announced == [len(body) for _, body in messages]
    assert not buffer.inside
    assert len(buffer) == 0


@given(st.binary(max_size=40), st.data())
def test_a_message_cut_off_is_seen(body: bytes, data: st.DataObject) -> None:
    whole = b"\0" + len(body).to_bytes(4, "big") + body
    cut = data.draw(st.integers(1, len(whole) - 1))
    buffer = MessageBuffer(lambda _: None)
    buffer.add(whole[:cut])
    assert buffer.take() is None
    assert buffer.inside


def test_a_message_is_refused_by_its_announcement() -> None:
    def refuse(length: int) -> None:
        raise ServingError(Code.RESOURCE_EXHAUSTED, str(length))

    buffer = MessageBuffer(refuse)
    buffer.add(b"\0\xff\xff\xff\xff")
    with pytest.raises(ServingError, match="4294967295"):
        buffer.take()


def test_reading_many_pieces_is_linear() -> None:
    size = 32 * 1024 * 1024
    buffer = MessageBuffer(lambda _: None)
    piece = bytes(16 * 1024)
    started = time.process_time()
    buffer.add(b"\0" + size.to_bytes(4, "big"))
    for _ in range(size // len(piece)):
        assert buffer.take() is None
        buffer.add(piece)
    message = buffer.take()
    assert message is not None
    assert len(message[0]) == size
    # Copying what came so far with every piece would move 32 GB: tens of seconds.
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"30S", 30),
        (b"100m", 0.1),
        (b"5u", 5e-6),
        (b"7n", 7e-9),
        (b"0n", 0),
        (b"99999999H", 99999999 * 3600),
        (b"00000001S", 1),
    ],
)
def test_timeouts(value: bytes, seconds: float) -> None:
    assert parse_timeout(value) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "value", [b"", b"S", b"1", b"1s", b"1h", b"-1S", b"+1S", b" 1S", b"1.5S", b"123456789S", b"1_0S", "١S".encode()]
)
def test_malformed_timeouts(value: bytes) -> None:
    with pytest.raises(ServingError) as caught:
        parse_timeout(value)
    assert caught.value.code is Code.INTERNAL


@given(st.text(max_size=500))
def test_grpc_message_is_printable_ascii_and_decodes_to_the_text(text: str) -> None:
    encoded = encode_message(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert urllib.parse.unquote(encoded.decode()) == text


def test_a_lone_surrogate_is_replaced() -> None:
    assert encode_message("a\ud800b") == b"a?b"


@settings(max_examples=20)
@given(st.text(min_size=3000, max_size=4000).map(lambda text: text + "é" * 3000))
def test_a_long_grpc_message_is_cut_between_characters(text: str) -> None:
    encoded = encode_message(text)
    assert MAX_GRPC_MESSAGE - 20 < len(encoded) <= MAX_GRPC_MESSAGE
    assert encoded.endswith(b"...")
    assert text.startswith(urllib.parse.unquote(encoded[:-3].decode(), errors="strict"))


@given(st.binary(max_size=2000))
def test_decompression(data: bytes) -> None:
    assert decompress(gzip.compress(data, mtime=0), 31, len(data)) == data
    assert decompress(zlib.compress(data), 15, 2000) == data


def test_decompression_stops_at_the_limit() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    with pytest.raises(ServingError, match="larger than max") as caught:
        decompress(bomb, 31, 1000)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


GZIPPED = gzip.compress(b"abc", mtime=0)


@pytest.mark.parametrize("bad", [b"", b"plain", GZIPPED[:-1], GZIPPED + b"x"])
def test_what_is_no_whole_gzip_stream_is_refused(bad: bytes) -> None:
    with pytest.raises(ServingError, match="cannot be decompressed") as caught:
        decompress(bad, 31, 1000)
    assert caught.value.code is Code.INTERNAL
