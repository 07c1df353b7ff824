import json
import math
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyserving.core.errors import Code, ServingError
from pyserving.wire.json_reader import MAX_DEPTH, JsonObject, read_json


def error_of(body: bytes) -> str:
    with pytest.raises(ServingError) as caught:
        read_json(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message.removeprefix("JSON Parse error: ")


def json_values() -> st.SearchStrategy[object]:
    numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    leaves = st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=("Cs",)))
    return st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=30
    )


@given(json_values(), st.sampled_from([None, 2, "\t"]), st.booleans())
def test_reads_what_the_standard_library_writes(value: object, indent: int | str | None, ascii_only: bool) -> None:
    read = read_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
    # repr() tells 1 from 1.0 and from True, and shows -0.0.
    assert repr(read) == repr(value)


@given(st.binary(max_size=40) | st.text('{}[],:"\\ntfu0eE+-.19 \n\x00NaInfity', max_size=40).map(str.encode))
@example(b'{"a":[1,2,3,-')
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(ServingError):
        read_json(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 1} trailing', {"a": 1}),
        (b"[1]]", [1]),
        (b"[1]\x00\xff", [1]),
        (b"\xef\xbb\xbf[1]", [1]),
        (b"\xbb\xbf[1]", [1]),
        (b" \t\r\n[ ]", []),
        (b"{ }", {}),
        (b"1", 1),
        (b'"a"', "a"),
        (b"-0", 0),
        (b"0e999", 0.0),
        (b"1e-400", 0.0),
        (b"1E+2", 100.0),
        (b"9223372036854775808", 2**63),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 2.0**64),
        (b"-9223372036854775808", -(2**63)),
        (b"-9223372036854775809", -(2.0**63)),
        (b"1" + b"0" * 300, 1e300),
        (b"[Infinity, -Infinity, Inf, -Inf, Inf]", [math.inf, -math.inf, math.inf, -math.inf, math.inf]),
        (b"[" + b" " * 80 + b"1, 2," + b" " * 80 + b"3, 4]", [1, 2, 3, 4]),
        (rb'"\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00"', '"\\/\b\f\n\r\tAé😀'),
        (b'"\\u0000"', "\0"),
        (b'"a\xff\xfeb"', "a\udcff\udcfeb"),
        (b'"\xed\xa0\x80"', "\udced\udca0\udc80"),
    ],
)
def test_accepted(body: bytes, value: object) -> None:
    assert repr(read_json(body)) == repr(value)


@pytest.mark.parametrize("body", [b"NaN", b"-NaN", b"[NaN,-NaN,NaN]"])
def test_nan(body: bytes) -> None:
    value = read_json(body)
    assert all(math.isnan(item) for item in (value if isinstance(value, list) else [value]))


def test_the_first_of_equal_keys_wins_and_all_are_kept() -> None:
    value = read_json(b'{"a": 1, "b": 2, "a": 3}')
    assert isinstance(value, JsonObject)
    assert value == {"a": 1, "b": 2}
    assert value.members == [("a", 1), ("b", 2), ("a", 3)]


@pytest.mark.parametrize(
    ("body", "text", "offset"),
    [
        (b"   ", "The document is empty.", 3),
        (b"\x00", "The document is empty.", 0),
        (b"\xef\xbb\xbf", "The document is empty.", 3),
        (b"]", "The document is empty.", 0),
        (b"\xff\xfe[", "Invalid value.", 0),
        (b"[1,]", "Invalid value.", 3),
        (b"[1,2,3,]", "Invalid value.", 7),
        (b"[,1]", "Invalid value.", 1),
        (b"[", "Invalid value.", 1),
        (b"[}", "Invalid value.", 1),
        (b'{"a":}', "Invalid value.", 5),
        (b'{"a":\x00 1}', "Invalid value.", 5),
        (b"[nul]", "Invalid value.", 4),
        (b"[nan]", "Invalid value.", 2),
        (b"[truE]", "Invalid value.", 4),
        (b"[-]", "Invalid value.", 2),
        (b"[+1]", "Invalid value.", 1),
        (b"[.5]", "Invalid value.", 1),
        (b"[Nan]", "Invalid value.", 3),
        (b"[-Na]", "Invalid value.", 4),
        (b"[Infinit]", "Invalid value.", 8),
        (b"[In", "Invalid value.", 3),
        (b"['a']", "Invalid value.", 1),
        (b"[1.]", "Miss fraction part in number.", 3),
        (b"[1.e5]", "Miss fraction part in number.", 3),
        (b"[1e]", "Miss exponent in number.", 3),
        (b"[1.5E-]", "Miss exponent in number.", 6),
        (b"[0, 1e309]", "Number too big to be stored in double.", 4),
        (b"[1, 2, -1e309, 3]", "Number too big to be stored in double.", 7),
        (b"[" + b"9" * 5000 + b"]", "Number too big to be stored in double.", 1),
        (b"[01]", "Missing a comma or ']' after an array element.", 2),
        (b"[0x10]", "Missing a comma or ']' after an array element.", 2),
        (b"[1 2]", "Missing a comma or ']' after an array element.", 3),
        (b"[1", "Missing a comma or ']' after an array element.", 2),
        (b"[Infinityx]", "Missing a comma or ']' after an array element.", 9),
        (b"[1}", "Missing a comma or ']' after an array element.", 2),
        (b"{", "Missing a name for object member.", 1),
        (b"{a", "Missing a name for object member.", 1),
        (b'{"a":1,}', "Missing a name for object member.", 7),
        (b"{1:2}", "Missing a name for object member.", 1),
        (b"{]", "Missing a name for object member.", 1),
        (b'{"a" 1}', "Missing a colon after a name of object member.", 5),
        (b'{"a"', "Missing a colon after a name of object member.", 4),
        (b'{"a":1', "Missing a comma or '}' after an object member.", 6),
        (b'{"a":1]', "Missing a comma or '}' after an object member.", 6),
        (b'{"a":{}"b":1}', "Missing a comma or '}' after an object member.", 7),
        (b'["a', "Missing a closing quotation mark in string.", 3),
        (b'["a\x00"]', "Missing a closing quotation mark in string.", 3),
        (b'["a\n"]', "Invalid encoding in string.", 3),
        (b'["a\\x"]', "Invalid escape character in string.", 3),
        (b'["a\\', "Invalid escape character in string.", 3),
        (b'["a\\u12g4"]', "Incorrect hex digit after \\u escape in string.", 3),
        (b'["a\\ud83d"]', "The surrogate pair in string is invalid.", 3),
        (b'["a\\ud83d\\n"]', "The surrogate pair in string is invalid.", 3),
        (b'["a\\ud83d\\u0041"]', "The surrogate pair in string is invalid.", 3),
        (b'["a\\ud83d\\u00"]', "Incorrect hex digit after \\u escape in string.", 3),
        (b'["a\\ude00"]', "The surrogate pair in string is invalid.", 3),
    ],
)
def test_refused(body: bytes, text: str, offset: int) -> None:
    assert error_of(body) == f"{text} at offset: {offset}"


def test_no_bytes_at_all() -> None:
    assert error_of(b"") == "The document is empty"


@given(st.lists(st.sampled_from(["1", "2.5", "-3e2", "NaN", "-Inf", "Infinity", "null", '"s"', "[1,2,3]", "{}"])))
def test_runs_of_numbers_are_read_like_single_ones(tokens: list[str]) -> None:
    one_by_one = [read_json(token.encode()) for token in tokens]
    assert repr(read_json(f"[{' , '.join(tokens)}]".encode())) == repr(one_by_one)


@pytest.mark.parametrize(
    ("opening", "closing", "lists"), [(b"[", b"]", 1), (b'{"a":', b"}", 1), (b'[{"a":[1,2,3,', b"]}]", 3)]
)
def test_deep_nesting_needs_no_stack(opening: bytes, closing: bytes, lists: int) -> None:
    deepest = MAX_DEPTH // lists
    assert read_json(opening * deepest + b"0" + closing * deepest)
    error = f"Nested more than {MAX_DEPTH} levels deep. at offset: "
    assert error_of(opening * 1_000_000).startswith(error)
    assert error_of(opening * 1_000_000 + b"0" + closing * 1_000_000).startswith(error)


def test_long_texts_take_time_in_proportion() -> None:
    # Each of these would take hours if any step looked at all that came before.
    assert len(read_json(b'"' + b"x" * 10_000_000 + b'"')) == 10_000_000
    assert len(read_json(b'"' + rb"\n" * 200_000 + b'"')) == 200_000
    keys = read_json(b"{" + b",".join(b'"%d":%d' % (i, i) for i in range(100_000)) + b"}")
    assert keys["99999"] == 99999
    assert len(read_json(b"[" + b"1.5,NaN," * 100_000 + b"2]")) == 200_001
