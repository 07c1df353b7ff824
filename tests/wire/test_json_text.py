import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.wire.json_reader import read_json
from pyserving.wire.json_text import describe, type_name


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("[]", "[]"),
        ("{}", "{}"),
        ("[1.0, [2, []], {}]", "[1.0, [2, []], {}]"),
        (
            '{"a": 1, "a": [true], "c": {"d": null}}',
            '{\n    "a": 1,\n    "a": [true],\n    "c": {\n        "d": null\n    }\n}',
        ),
        # A list counts as a level, though it does not begin a line.
        ('[{"a": false}, 1]', '[{\n        "a": false\n    }, 1]'),
        (r'"\"\\\/\b\f\n\r\t\u001a\u007fé"', '"\\"\\\\/\\b\\f\\n\\r\\t\\u001A\x7fé"'),
        ("1e0", "1.0"),
        ("1e3", "1000.0"),
        ("-9223372036854775809", "-9223372036854776000.0"),
        ("18446744073709551615", "18446744073709551615"),
        ("1e20", "100000000000000000000.0"),
        ("1e21", "1e21"),
        ("1.5e300", "1.5e300"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("-1.25e-7", "-1.25e-7"),
        ("-0.0", "-0.0"),
        ("12.5", "12.5"),
        # The real server stops where a number is not finite.
        ("NaN", ""),
        ("[1, Infinity, 2]", "[1, "),
        ('{"a": [NaN]}', '{\n    "a": ['),
    ],
)
def test_describe(body: str, text: str) -> None:
    assert describe(read_json(body.encode())) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back(value: float) -> None:
    text = describe(value)
    assert repr(float(text)) == repr(value)
    assert "." in text or "e" in text


@given(
    st.recursive(st.integers() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_short_texts_are_whole(value: object) -> None:
    body = json.dumps(value).encode()
    text = describe(read_json(body))
    if len(text) < 256:
        assert json.loads(text) == json.loads(body)


def test_nothing_is_begun_after_256_characters() -> None:
    numbers = describe(read_json(b"[" + b",".join(b"%d" % i for i in range(1000)) + b"]"))
    assert 256 <= len(numbers) < 262
    assert numbers[-1].isdigit()
    assert describe("y" * 600) == '"' + "y" * 600 + '"'
    assert describe(read_json(b'{"a": "' + b"y" * 600 + b'"}')) == '{\n    "a": "' + "y" * 600 + '"'


def test_deep_values_are_cut_too() -> None:
    assert describe(read_json(b"[" * 5_000 + b"]" * 5_000)) == "[" * 256


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("null", "Null"),
        ("true", "True"),
        ("false", "False"),
        ("{}", "Object"),
        ("[]", "Array"),
        ('""', "String"),
        ("0", "Number"),
        ("1.5", "Number"),
    ],
)
def test_type_name(body: str, name: str) -> None:
    assert type_name(read_json(body.encode())) == name
