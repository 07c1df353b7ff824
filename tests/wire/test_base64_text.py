import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.core.errors import Code, ServingError
from pyserving.wire.base64_text import decode_base64, encode_base64


@given(st.binary())
def test_round_trip(value: bytes) -> None:
    assert encode_base64(value) == base64.b64encode(value).decode()
    assert decode_base64(encode_base64(value)) == value


@given(st.binary(), st.data())
def test_blanks_and_missing_padding_do_not_matter(value: bytes, data: st.DataObject) -> None:
    text = encode_base64(value)
    if data.draw(st.booleans()):
        text = text.rstrip("=")
    if data.draw(st.booleans()):
        text = text.replace("=", ".")
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(" \t\n\v\f\r")) + text[at:]
    assert decode_base64(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("", b""), (" \n", b""), ("YQ", b"a"), ("YQ==", b"a"), ("YR==", b"a"), ("YQ=.", b"a"), ("YWI", b"ab")],
)
def test_accepted(text: str, value: bytes) -> None:
    assert decode_base64(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "%%%",
        "Y",
        "YQ=",
        "YQ===",
        "YWI==",
        "=",
        "YWJj=",
        "YWJj====",
        "YQ====",
        "YQ==YQ==",
        "Y-_a",
        "YQ\0=",
        "aé==",
        "\ud800",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ServingError) as caught:
        decode_base64(text)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == "Unable to base64 decode"
