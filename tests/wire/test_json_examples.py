"""Examples in JSON: what the fuzzer found."""

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.wire.json_examples import parse_examples


@pytest.mark.parametrize(
    "body", [b'{"examples": [{"\xff\xc0": 1}]}', b'{"context": {"\xff": 1}, "examples": [{"a": 1}]}']
)
def test_a_name_that_is_not_utf8_is_refused(body: bytes) -> None:
    with pytest.raises(ServingError, match="names of features in UTF-8") as caught:
        parse_examples(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    caught.value.message.encode()
