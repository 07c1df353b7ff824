"""The rules of a predict body, on both ways of reading it, and that both ways agree."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array, TensorSpec
from pyserving.wire import json_request
from pyserving.wire.json_request import parse_object, parse_predict, read_object, signature_name_of
from pyserving.wire.json_tensors import fill_inputs

Specs = Mapping[str, TensorSpec]
LONG = b" " * 5000  # makes a body long enough for the way of long arrays


def specs_of(**dtypes: DType) -> Specs:
    return {name: TensorSpec(name, f"{name}:0", dtype, None) for name, dtype in dtypes.items()}


def decode(body: str | bytes, specs: Specs) -> tuple[dict[str, Array], bool]:
    return parse_predict(body if isinstance(body, bytes) else body.encode()).tensors(specs)


def error_of(body: str | bytes, specs: Specs) -> tuple[Code, str]:
    with pytest.raises(ServingError) as caught:
        decode(body, specs)
    return caught.value.code, caught.value.message


def show(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Everything about arrays that could differ, in a form that compares."""
    return {
        name: (str(array.dtype), array.shape, array.tolist() if array.dtype == object else array.tobytes())
        for name, array in arrays.items()
    }


def outcome(read: Any, body: bytes, specs: Specs) -> Any:
    try:
        name, (arrays, row) = read(body, specs)
    except ServingError as error:
        return error.code, error.message
    for array in arrays.values():
        assert array.flags.c_contiguous
    return name, show(arrays), row


def by_any_way(body: bytes, specs: Specs) -> Any:
    parsed = parse_predict(body)
    return parsed.signature_name, parsed.tensors(specs)


def by_the_slow_way(body: bytes, specs: Specs) -> Any:
    document = read_object(body)
    return signature_name_of(document), fill_inputs(document, specs)


X = specs_of(x=DType.FLOAT)
TWO = specs_of(a=DType.INT32, b=DType.INT64)
TEXT = specs_of(x=DType.STRING)


# --- the two ways agree --------------------------------------------------------------------------------------

_EDGES = """
0 -0 1 1.0 -1 2.5 1e2 1E-3 127 128 -129 255 256 32768 2147483647 2147483648 -2147483649 4294967296 1e39 -1e39 1e-45
9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615
18446744073709551616 1e308 5e-324 -5e-324 0e999 1e309 NaN -Infinity Inf 01 .5 1. -
"""
NUMBERS = st.sampled_from(_EDGES.split())
STRINGS = st.sampled_from(
    [
        r'""',
        r'"abc"',
        r'"é😀"',
        r'"\u00e9\ud83d\ude00"',
        r'"\ud83d"',
        r'"a:b"',
        r'"\":"',
        r'":"',
        r'"[1,2]"',
        '"\xa0"',
        r'"\u0000"',
    ]
)
BYTES = st.sampled_from(
    ['{"b64":"AQI="}', '{"b64": " AQI "}', '{"b64":"%"}', '{"b64":1}', '{"b64":"AQI=","b64":""}', '{"b64":"","c":1}']
)
OTHER = st.sampled_from(["true", "false", "null", "nul", "{}", "[]"])
SCALARS = NUMBERS | STRINGS | BYTES | OTHER
KEYS = st.sampled_from(['"a"', '"b"', '"x"', r'"\u0078"', '"b64"', '"other"', '"x:y"'])
BLANKS = st.sampled_from(["", "", "", " ", "\n\t "])


@st.composite
def lists(draw: st.DrawFn, items: st.SearchStrategy[str]) -> str:
    blank = draw(BLANKS)
    return (
        "["
        + f"{blank},{blank}".join(draw(st.lists(items, max_size=4)))
        + draw(st.sampled_from(["]"] * 20 + [",]", "}", ""]))
    )


@st.composite
def objects(draw: st.DrawFn, keys: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> str:
    blank = draw(BLANKS)
    members = draw(st.lists(st.tuples(keys, values), max_size=3))
    return "{" + blank + ",".join(f"{key}{blank}:{value}" for key, value in members) + blank + "}"


# Lists of one kind of value come up often, else hardly any array would be right.
REGULAR = st.tuples(
    st.sampled_from([st.integers(-3, 300).map(str), st.floats(width=32).map(json.dumps), STRINGS, BYTES]),
    npst.array_shapes(max_dims=3, max_side=3, min_side=0),
).flatmap(
    lambda drawn: st.lists(drawn[0], min_size=int(np.prod(drawn[1])), max_size=int(np.prod(drawn[1]))).map(
        lambda texts: "".join(_nest(texts, drawn[1]))
    )
)


def _nest(texts: list[str], shape: tuple[int, ...]) -> str:
    if not shape:
        return texts[0]
    step = len(texts) // shape[0] if shape[0] else 0
    return "[" + ", ".join(_nest(texts[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])) + "]"


VALUES = st.recursive(SCALARS | REGULAR, lambda inner: lists(inner) | objects(KEYS, inner), max_leaves=8)
ROWS = lists(objects(st.sampled_from(['"a"', '"b"', '"x"']), SCALARS | REGULAR))
MEMBERS = st.one_of(
    st.tuples(st.sampled_from(['"instances"', '"inputs"', r'"\u0069nputs"']), VALUES | REGULAR | ROWS),
    st.tuples(st.just('"signature_name"'), STRINGS | SCALARS),
    st.tuples(KEYS, VALUES),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    members = draw(st.lists(MEMBERS, min_size=1, max_size=3))
    blank = draw(BLANKS)
    text = "{" + ",".join(f"{key}{blank}:{blank}{value}" for key, value in members) + "}"
    before = draw(st.sampled_from([b""] * 8 + [b"\xef\xbb\xbf", b" "]))
    after = draw(st.sampled_from([b""] * 8 + [b" ", b"\n}", b"\x00", b"x", b"]}"]))
    return before + text.encode() + after


SOME_SPECS = st.sampled_from([X, TWO, TEXT, specs_of(b64=DType.STRING)]) | st.sampled_from(list(NUMPY_OF)).map(
    lambda dtype: specs_of(x=dtype)
)


@settings(max_examples=1500, deadline=None)
@given(bodies(), SOME_SPECS)
@example(b'{"instances":[{"b64":"AQ=="}]}', specs_of(b64=DType.STRING))
@example(b'{"instances":[{"b64":["a"]},{"b64":"a"}]}', specs_of(b64=DType.STRING))
@example(b'{"instances" :[1],"instances":[2]}', X)
@example(b'{"inputs":{"x" :[1],"x":[2]}}', X)
@example(b'{"instances":[{"x" :1,"x":2,"y":":"}]}', X)
@example(b'{"instances":[{"x":{"b64":"AQ==","b64":"Ag=="}}]}', TEXT)
@example(b'{"signature_name":"a","signature_name":"b","instances":[1]}', X)
@example(b'{"signature_name":"a","instances":[1],"signature_name":"b"}', X)
@example(b'{"signature_name":"a","instances":[1],"inputs":[1]}', X)
@example(b'{"signature_name":"","instances":[1],"signature_name":"b"}', X)
@example(b'{"instances":[{"b64":{"b64":"AQ=="}},{"b64":"AQ=="}]}', specs_of(b64=DType.STRING))
@example(b'{"instances":[[1],[]]}', X)
@example(b'{"instances":[[],[1]]}', X)
@example(b'{"instances":[[1,2],[]]}', X)
@example(b'{"instances":[]}', X)
@example(b'{"inputs":[[[]]]}', X)
@example(b'{"inputs":["]"]}', TEXT)
def test_fast_and_slow_reading_agree(body: bytes, specs: Specs) -> None:
    assert outcome(by_any_way, body, specs) == outcome(by_the_slow_way, body, specs)
    if body:
        # The same in front of blanks, on the way of long bodies; nothing else may change.
        assert outcome(by_any_way, body + LONG, specs) == outcome(by_the_slow_way, body + LONG, specs)


@given(bodies())
def test_objects_are_read_alike(body: bytes) -> None:
    try:
        want: Any = dict(read_object(body))
    except ServingError as error:
        want = error.message
    try:
        got: Any = parse_object(body)
    except ServingError as error:
        got = error.message
    assert repr(got) == repr(want)


# --- values --------------------------------------------------------------------------------------------------

ARRAYS = st.sampled_from(
    [
        DType.FLOAT,
        DType.DOUBLE,
        DType.INT8,
        DType.INT16,
        DType.INT32,
        DType.INT64,
        DType.UINT8,
        DType.UINT32,
        DType.UINT64,
        DType.BOOL,
    ]
).flatmap(
    lambda dtype: st.tuples(
        st.just(dtype),
        npst.arrays(
            NUMPY_OF[dtype],
            npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
            elements={"allow_subnormal": False, "allow_nan": False} if dtype <= DType.DOUBLE else None,
        ),
    )
)


@given(ARRAYS, st.booleans(), st.sampled_from([b"", LONG]))
def test_columns_come_back(drawn: tuple[DType, Array], named: bool, padding: bytes) -> None:
    dtype, array = drawn
    inputs = {"x": array.tolist()} if named else array.tolist()
    arrays, row = decode(json.dumps({"inputs": inputs}).encode() + padding, specs_of(x=dtype))
    assert not row
    # An empty list has no lists in it: what lies below it is not on the wire.
    shape = array.shape[: array.shape.index(0) + 1] if 0 in array.shape else array.shape
    assert show(arrays) == show({"x": array.reshape(shape)})


@given(
    ARRAYS.filter(lambda drawn: drawn[1].ndim > 0 and drawn[1].size > 0), st.sampled_from(["bare", "named", "beside"])
)
def test_rows_come_back(drawn: tuple[DType, Array], form: str) -> None:
    dtype, array = drawn
    specs = specs_of(x=dtype, y=DType.STRING) if form == "beside" else specs_of(x=dtype)
    rows = array.tolist()
    if form != "bare":
        rows = [{"x": row, "y": "é"} if form == "beside" else {"x": row} for row in rows]
    arrays, row = decode(json.dumps({"signature_name": "s", "instances": rows}).encode(), specs)
    assert row
    assert show(arrays)["x"] == show({"x": array})["x"]
    if form == "beside":
        assert arrays["y"].tolist() == ["é".encode()] * len(rows)


@pytest.mark.parametrize("padding", [b"", LONG])
@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (DType.INT64, [-(2**63), 2**63 - 1, 2**53 + 1, -(2**53) - 1]),
        (DType.UINT64, [0, 2**64 - 1, 2**63, 2**53 + 1]),
    ],
)
def test_integers_keep_all_bits(dtype: DType, values: list[int], padding: bytes) -> None:
    arrays, _ = decode(json.dumps({"inputs": values}).encode() + padding, specs_of(x=dtype))
    assert arrays["x"].tolist() == values


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("padding", [b"", LONG])
@pytest.mark.parametrize("more", ["", ", NaN", ', "signature_name"'])
def test_floats_at_the_ends_of_their_range(more: str, padding: bytes) -> None:
    if more.startswith(', "'):
        body = '{"inputs": [1e39, -1e39, 1e-45, -1e-45, 3.4028235e38], "signature_name": ""}'
    else:
        body = f'{{"inputs": [1e39, -1e39, 1e-45, -1e-45, 3.4028235e38{more}]}}'
    arrays, _ = decode(body.encode() + padding, X)
    assert repr(arrays["x"][:5].tolist()) == "[inf, -inf, 0.0, -0.0, 3.4028234663852886e+38]"
    doubles, _ = decode(b'{"inputs": [5e-324, -5e-324, 2.2250738585072014e-308]}' + padding, specs_of(x=DType.DOUBLE))
    assert repr(doubles["x"].tolist()) == "[0.0, -0.0, 2.2250738585072014e-308]"


@pytest.mark.parametrize("padding", [b"", LONG])
def test_not_a_number_and_infinity(padding: bytes) -> None:
    arrays, row = decode(b'{"instances": [[NaN, Infinity], [-Inf, -NaN]]}' + padding, X)
    assert row
    np.testing.assert_array_equal(arrays["x"], np.array([[np.nan, np.inf], [-np.inf, np.nan]], np.float32))


@pytest.mark.parametrize("padding", [b"", LONG])
def test_tensors_can_be_asked_for_again(padding: bytes) -> None:
    parsed = parse_predict(b'{"instances": [1, 2]}' + padding)
    assert show(parsed.tensors(X)[0]) == show(parsed.tensors(X)[0])
    assert parsed.tensors(specs_of(x=DType.INT8))[0]["x"].tolist() == [1, 2]


def test_strings() -> None:
    arrays, _ = decode(b'{"instances": ["a", {"b64": "AP8="}, "\xc3\xa9", "\\u00e9", "http://a:b"]}', TEXT)
    assert arrays["x"].tolist() == [b"a", b"\0\xff", b"\xc3\xa9", b"\xc3\xa9", b"http://a:b"]
    assert arrays["x"].dtype == object


def test_bytes_that_are_not_utf8_are_taken_as_they_are() -> None:
    arrays, _ = decode(b'{"instances": ["a\xff\xfeb", "\xed\xa0\x80"]}', TEXT)
    assert arrays["x"].tolist() == [b"a\xff\xfeb", b"\xed\xa0\x80"]


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ('{"inputs": "a"}', ()),
        ('{"inputs": {"b64": "YQ=="}}', ()),
        ('{"inputs": {"x": "a"}}', ()),
        ('{"inputs": {"x": {"b64": "YQ"}}}', ()),
        ('{"inputs": ["a"]}', (1,)),
        ('{"inputs": [["a"], [{"b64": "YQ=="}]]}', (2, 1)),
        ('{"instances": [{"b64": "YQ=="}, "a"]}', (2,)),
        ('{"instances": [{"x": {"b64": "YQ=="}}, {"x": "a"}]}', (2,)),
        ('{"instances": [{"x": ["a", "a"]}]}', (1, 2)),
    ],
)
def test_where_strings_and_bytes_may_stand(body: str, shape: tuple[int, ...]) -> None:
    arrays, _ = decode(body, TEXT)
    assert arrays["x"].shape == shape
    assert set(arrays["x"].ravel().tolist()) == {b"a"}


@pytest.mark.parametrize(
    "dtype", [DType.UINT16, DType.HALF, DType.BFLOAT16, DType.COMPLEX64, DType.INT32, DType.STRING]
)
def test_any_dtype_can_be_empty(dtype: DType) -> None:
    arrays, _ = decode('{"inputs": [[], []]}', specs_of(x=dtype))
    assert arrays["x"].shape == (2, 0)
    assert arrays["x"].dtype == NUMPY_OF[dtype]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ('{"instances": [1], "instances": [2, 3]}', [1]),
        ('{"inputs": {"x": [1], "x": [2, 3]}}', [1]),
        ('{"instances": [{"x": 1, "x": 2}]}', [1]),
        ('{"inputs": {"x": [1], "z": "not looked at"}}', [1]),
        ('{"instances": [1], "other": {"a": [1, "b"]}}', [1]),
        ('\ufeff{"instances": [1]} // behind the end', [1]),
    ],
)
def test_which_values_count(body: str, value: list[float]) -> None:
    assert decode(body, X)[0]["x"].tolist() == value


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"instances": [1]}', ""),
        ('{"signature_name": "s", "instances": [1]}', "s"),
        ('{"signature_name": "s\\u00ef:", "instances": [1]}', "sï:"),
        ('{"inputs": 1, "signature_name": "sï"}', "sï"),
        ('{"signature_name": "first", "inputs": [1], "signature_name": "second"}', "first"),
    ],
)
@pytest.mark.parametrize("padding", [b"", LONG])
def test_signature_name(body: str, name: str, padding: bytes) -> None:
    assert parse_predict(body.encode() + padding).signature_name == name


# --- errors --------------------------------------------------------------------------------------------------

ROW = "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "


@pytest.mark.parametrize("padding", [b"", LONG])
@pytest.mark.parametrize(
    ("body", "specs", "text"),
    [
        ("[1.0]", X, "JSON Value: [1.0] Is not object"),
        ("null", X, "JSON Value: null Is not object"),
        ("{}", X, "Missing 'inputs' or 'instances' key"),
        (
            '{"signature_name": 1, "instances": [1.0]}',
            X,
            'JSON Value: {\n    "signature_name": 1,\n    "instances": [1.0]\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        (
            '{"instances": [1], "inputs": 1}',
            X,
            'JSON Value: {\n    "instances": [1],\n    "inputs": 1\n} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist ",
        ),
        ('{"instances": []}', X, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ('{"instances": {}}', X, "JSON Value: {\n    \"instances\": {}\n} Expecting 'instances' to be an list/array"),
        ('{"inputs": {}}', X, "Missing named input: x in 'inputs' object."),
        ('{"inputs": {"a": [1]}}', TWO, "Missing named input: b in 'inputs' object."),
        (
            '{"inputs": [1]}',
            TWO,
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            '{"instances": [1]}',
            TWO,
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            '{"instances": [{"b64": "AA=="}]}',
            TWO,
            ROW + 'JSON Value: {\n    "b64": "AA=="\n} Type: Object is not of expected type: int32',
        ),
        ('{"instances": [{"x": 1}, 2]}', X, "Expecting object but got list at item 1 of input list"),
        ('{"instances": [{"x": 1}, {"b64": "AA=="}]}', X, "Expecting object but got list at item 1 of input list"),
        ('{"instances": [1, {"x": 2}]}', X, "Expecting value/list but got object at item 1 of input list"),
        (
            '{"instances": [{"a": 1, "b": 2}, {"a": 1}]}',
            TWO,
            "Failed to process element: 1 of 'instances' list. JSON object: {\n    \"a\": 1\n} keys must be equal to: "
            "a,b",
        ),
        (
            '{"instances": [{}]}',
            X,
            "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal to: x",
        ),
        (
            '{"instances": [{"x": 1, "z": 1}]}',
            X,
            "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not "
            "have named input: z",
        ),
        (
            '{"instances": [{"x": "a"}]}',
            X,
            "Failed to process element: 0 key: x of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type: "
            "String is not of expected type: float",
        ),
        ('{"instances": [null]}', X, ROW + "JSON Value: null Type: Null is not of expected type: float"),
        ('{"instances": [true]}', X, ROW + "JSON Value: true Type: True is not of expected type: float"),
        (
            '{"instances": [NaN]}',
            specs_of(x=DType.INT32),
            ROW + "JSON Value:  Type: Number is not of expected type: int32",
        ),
        ('{"inputs": [1.0]}', specs_of(x=DType.INT32), "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        (
            '{"inputs": [1, 2.5]}',
            specs_of(x=DType.INT64),
            "JSON Value: 2.5 Type: Number is not of expected type: int64",
        ),
        ('{"inputs": [1, true]}', specs_of(x=DType.INT8), "JSON Value: true Type: True is not of expected type: int8"),
        ('{"inputs": [1]}', specs_of(x=DType.BOOL), "JSON Value: 1 Type: Number is not of expected type: bool"),
        ('{"inputs": [1]}', TEXT, "JSON Value: 1 Type: Number is not of expected type: string"),
        ('{"inputs": [{"a": 1}]}', TEXT, 'JSON Value: {\n    "a": 1\n} not formatted correctly for base64 data'),
        (
            '{"inputs": {"x": {"b64": 1}}}',
            TEXT,
            'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data',
        ),
        ('{"instances": [{"b64": "%"}]}', TEXT, ROW + "Unable to base64 decode"),
        # Beyond what rapidjson's Int, Int64 or Uint hold, the type is wrong; what only the dtype cannot hold is ours.
        (
            '{"inputs": [2147483648]}',
            specs_of(x=DType.INT8),
            "JSON Value: 2147483648 Type: Number is not of expected type: int8",
        ),
        (
            '{"inputs": [300]}',
            specs_of(x=DType.INT8),
            "JSON Value: 300 is out of range for type: int8, expected -128 to 127",
        ),
        (
            '{"inputs": [-1]}',
            specs_of(x=DType.UINT8),
            "JSON Value: -1 is out of range for type: uint8, expected 0 to 255",
        ),
        (
            '{"inputs": [-32769]}',
            specs_of(x=DType.INT16),
            "JSON Value: -32769 is out of range for type: int16, expected -32768 to 32767",
        ),
        (
            '{"inputs": [9223372036854775808]}',
            specs_of(x=DType.INT64),
            "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64",
        ),
        ('{"inputs": [-1]}', specs_of(x=DType.UINT64), "JSON Value: -1 Type: Number is not of expected type: uint64"),
        (
            '{"inputs": [4294967296]}',
            specs_of(x=DType.UINT32),
            "JSON Value: 4294967296 Type: Number is not of expected type: uint32",
        ),
        # Raggedness, inside of a value and between rows.
        ('{"inputs": [[1, 2], [3]]}', X, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ('{"inputs": [1, [2]]}', X, "Encountered list at unexpected level: 1 expected < 1"),
        ('{"inputs": [[1], 2]}', X, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        (
            '{"instances": [[1, 2], [3]]}',
            X,
            ROW.replace("element: 0", "element: 1") + "Expecting tensor size: 2 but got: 1",
        ),
        (
            '{"instances": [[[1, 2]], [[1], [2]]]}',
            X,
            ROW.replace("element: 0", "element: 1") + "Expecting shape [1,2] but got: [2,1]",
        ),
        (
            '{"instances": [[[1], [2, 3]]]}',
            X,
            ROW + "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        ('{"inputs": ' + "[" * 33 + "1" + "]" * 33 + "}", X, "Lists are nested 33 levels deep, expected at most 32"),
        ('{"instances": [1, 2}', X, "JSON Parse error: Missing a comma or ']' after an array element. at offset: 19"),
    ],
)
def test_error_texts(body: str, specs: Specs, text: str, padding: bytes) -> None:
    assert error_of(body.encode() + padding, specs) == (Code.INVALID_ARGUMENT, text)


def test_dtypes_that_json_cannot_carry() -> None:
    half = specs_of(x=DType.HALF)
    assert error_of('{"inputs": [1]}', half) == (Code.UNIMPLEMENTED, "Conversion of JSON Value: 1 to type: half")
    assert error_of('{"instances": [1]}', half) == (
        Code.INVALID_ARGUMENT,
        "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: "
        "half",
    )


@given(st.data(), st.sampled_from([b"", LONG]), st.sampled_from(["inputs", "instances"]))
def test_raggedness_is_found_at_any_depth(data: st.DataObject, padding: bytes, key: str) -> None:
    shape = data.draw(npst.array_shapes(min_dims=2, max_dims=5, min_side=2, max_side=4))
    value = np.ones(shape).tolist()
    broken = value
    for _ in range(data.draw(st.integers(1, len(shape) - 1))):
        broken = broken[data.draw(st.integers(0, len(broken) - 1))]
    match data.draw(st.sampled_from(["less", "more", "deeper", "flatter"])):
        case "less":
            broken.pop()
        case "more":
            broken.append(broken[0])
        case "deeper":
            broken[-1] = [broken[-1]]
        case "flatter":
            broken[-1] = broken[-1][0] if isinstance(broken[-1], list) else "x"
    code, text = error_of(json.dumps({key: value}).encode() + padding, X)
    assert code is Code.INVALID_ARGUMENT
    assert any(word in text for word in ("unexpected", "incorrect level", "Expecting", "not of expected type"))


@pytest.mark.parametrize(
    ("head", "tail"),
    [('{"instances":', "}"), ('{"inputs":{"x":', "}}"), ('{"inputs":[{"a":', "}]}"), ('{"other":', "}")],
)
@pytest.mark.parametrize("depth", [33, 500, 2_000, 1_000_000])
def test_deep_nesting_is_an_error_and_no_crash(head: str, tail: str, depth: int) -> None:
    code, text = error_of(head + "[" * depth, X)
    assert code is Code.INVALID_ARGUMENT
    assert text.startswith("JSON Parse error: ")
    code, text = error_of(head + "[" * depth + "1" + "]" * depth + tail, X)
    assert code is Code.INVALID_ARGUMENT
    if depth > 10_000:
        assert text.startswith("JSON Parse error: Nested more than 10000 levels deep.")


def test_many_members_and_many_rows_take_time_in_proportion() -> None:
    keys = ",".join(f'"k{i}":[{i}]' for i in range(100_000))
    for end in ("", " x"):  # the second goes the slow way
        assert decode(f'{{"inputs": {{{keys}, "x": [1.0]}}}}{end}', X)[0]["x"].tolist() == [1.0]
        rows = ",".join(['{"x": 1.0}'] * 100_000)
        assert decode(f'{{"instances": [{rows}]}}{end}', X)[0]["x"].shape == (100_000,)


IMAGE = np.random.default_rng(0).random((30, 40, 3)).astype(np.float32)
JPEG = base64.b64encode(IMAGE.tobytes() * 10).decode()


@pytest.mark.parametrize(
    ("document", "specs"),
    [
        ({"instances": [IMAGE.tolist()] * 2}, {"image": DType.FLOAT}),
        ({"signature_name": "s", "inputs": [IMAGE.tolist()] * 2}, {"image": DType.FLOAT}),
        ({"inputs": [IMAGE.tolist()] * 2, "signature_name": "s"}, {"image": DType.FLOAT}),
        ({"instances": [{"image": IMAGE.tolist()}] * 2}, {"image": DType.FLOAT}),
        ({"instances": [{"image": IMAGE.tolist(), "k": [1]}] * 2}, {"image": DType.FLOAT, "k": DType.INT32}),
        ({"instances": [{"k": 1, "image": IMAGE.tolist()}] * 2}, {"image": DType.FLOAT, "k": DType.INT32}),
        ({"inputs": {"image": [IMAGE.tolist()] * 2}}, {"image": DType.FLOAT}),
        ({"inputs": {"image": [IMAGE.tolist()] * 2, "k": [1, 2]}}, {"image": DType.FLOAT, "k": DType.INT32}),
        ({"inputs": {"k": [1, 2], "image": [IMAGE.tolist()] * 2}}, {"image": DType.FLOAT, "k": DType.INT32}),
        ({"instances": [{"b64": JPEG}] * 2}, {"image": DType.STRING}),
        ({"instances": [{"image": {"b64": JPEG}}] * 2}, {"image": DType.STRING}),
        ({"inputs": [{"b64": JPEG}, {"b64": "AQ=="}]}, {"image": DType.STRING}),
        ({"inputs": {"image": [{"b64": JPEG}] * 2, "k": ["a", "b"]}}, {"image": DType.STRING, "k": DType.STRING}),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_long_values_are_read_at_full_speed(
    document: Any, specs: dict[str, DType], indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_request, "_read_whole", None)  # the way back
    body = json.dumps(document, indent=indent).encode()
    arrays, _ = parse_predict(body).tensors(specs_of(**specs))
    if specs["image"] is DType.FLOAT:
        assert arrays["image"].tobytes() == IMAGE.tobytes() * 2
        assert arrays["image"].shape == (2, *IMAGE.shape)
    else:
        assert arrays["image"].reshape(-1)[0] == IMAGE.tobytes() * 10
