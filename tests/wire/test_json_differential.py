"""Predict bodies, right and wrong, read by us and by the oracle: the same bits, or the same error."""

import base64
import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st
from json_oracle import INTEGERS, Answer, Refusal, read_predict

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import TensorSpec
from pyserving.wire import json_long_values, json_numbers, json_request
from pyserving.wire.json_request import parse_predict

LONG = b" " * 5000  # makes a body long enough for the way of long arrays; what follows the object is ignored


def ours(body: bytes, dtypes: Mapping[str, DType]) -> Any:
    specs = {name: TensorSpec(name, f"{name}:0", dtype, None) for name, dtype in dtypes.items()}
    try:
        parsed = parse_predict(body)
        arrays, rows = parsed.tensors(specs)
    except ServingError as error:
        return error.code, error.message
    name = parsed.signature_name.encode("utf-8", "surrogateescape")
    for input_name, array in arrays.items():
        assert array.dtype == NUMPY_OF[dtypes[input_name]]
        assert array.flags.c_contiguous
    return name, rows, {name: (array.shape, bits_of(array)) for name, array in arrays.items()}


def lifted(body: bytes, dtypes: Mapping[str, DType]) -> Any:
    """As ours, but every value counts as a long one and long ones are read in many pieces."""
    with ExitStack() as stack:
        for module, name, size in SMALL:
            stack.enter_context(patch.object(module, name, size))
        return ours(body, dtypes)


SMALL = [
    (json_request, "_LONG", 0),
    (json_long_values, "_LONG_ARRAY", 1),
    (json_long_values, "_LONG_BASE64", 1),
    (json_long_values, "_PIECE", 4),
    (json_numbers, "_PIECE", 24),
    (json_numbers, "_SHORT", 8),
]


def bits_of(array: np.ndarray) -> list[bytes] | bytes:
    return list(array.reshape(-1)) if array.dtype == object else array.tobytes()


def the_oracles(body: bytes, dtypes: Mapping[str, DType]) -> Any:
    try:
        answer: Answer = read_predict(body, dtypes)
    except Refusal as refusal:
        return refusal.code, refusal.text
    tensors = {
        name: (tensor.shape, tensor.leaves if dtypes[name] == DType.STRING else b"".join(tensor.leaves))
        for name, tensor in answer.tensors.items()
    }
    return answer.signature_name, answer.rows, tensors


def check(body: bytes, dtypes: Mapping[str, DType]) -> None:
    for sent in (body, body + LONG) if body else (body,):
        want = the_oracles(sent, dtypes)
        for way in (ours, lifted):
            got = way(sent, dtypes)
            if want[0] in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED) and want[1] is None:
                assert got[0] is want[0]
            else:
                assert got == want
    event("refused" if isinstance(want[0], Code) else "read")


# --- bodies ----------------------------------------------------------------------------------------------------------

_NUMBERS = """
    0 -0 1 -1 2 3 7 100 127 128 -128 -129 255 256 300 32767 32768 -32768 -32769 65535 65536 2147483647 2147483648
    -2147483648 -2147483649 4294967295 4294967296 16777217 9007199254740993 9223372036854775807 9223372036854775808
    -9223372036854775808 -9223372036854775809 18446744073709551615 18446744073709551616 123456789012345678901234567890
    0.0 -0.0 1.0 0.5 -2.5 0.1 1e2 1E-3 1e+5 3.4028235e38 3.4028235677973366e38 1e39 -1e39 1.17549435e-38 1e-45 -1e-45
    1.1754942e-38 1e308 1.7976931348623157e308 1.7976931348623159e308 -1e309 2.2250738585072014e-308
    2.2250738585072011e-308 5e-324 -5e-324 1e-400 0e0 0e400 1e-99999 NaN -NaN Infinity -Infinity Inf -Inf
    0.1000000000000000055511151231257827021181583404541015625 1.00000000000000011102230246251565404 0.30000001192092896
"""
NUMBERS = st.sampled_from(_NUMBERS.split())
DIGITS = st.text("0123456789", min_size=1, max_size=25)
ANY_NUMBERS = st.one_of(
    NUMBERS,
    st.integers(-(2**65), 2**65).map(str),
    st.integers(-300, 300).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.tuples(st.sampled_from(["", "-"]), DIGITS, DIGITS, st.sampled_from(["", "e5", "E-30", "e+38", "e-310"])).map(
        lambda parts: f"{parts[0]}{parts[1].lstrip('0') or 0}.{parts[2]}{parts[3]}"
    ),
)
STRINGS = st.sampled_from(
    [
        *('""', '"a"', '"b64"', '"a:b"', '"[1,2]"', '"]"', '"é😀"', '"\ufeff"', '"\x7f"', r'"\":"', r'"\\"', r'"\/"'),
        *(r'"\b\f\n\r\t"', r'"\u0041\u00e9"', r'"\u0000"', r'"\ud83d\ude00"', r'"\uD800\uDFFF"', r'"\uffff"'),
        *(r'"\ud83d"', r'"\ude00"', r'"\ud83d\u0041"', r'"\u12"', r'"\u12g4"', r'"\x41"', '"\t"', r'"\ud83dx"', '"a'),
    ]
).map(str.encode)
BAD_UTF8 = st.sampled_from([b'"\xff"', b'"\xc3"', b'"a\xed\xa0\x80"', b'"\xf8\x88\x80\x80\x80"', b'"\xc0\x80"'])
BASE64_TEXTS = st.text("AQIz+/=.", max_size=9) | st.sampled_from(
    ["AQ==", "AQI=", "AQ ==", "A Q\\n=\\t=", "AQ", "%", "é"]
)
BASE64 = BASE64_TEXTS.map(lambda text: f'{{"b64": "{text}"}}'.encode()) | st.sampled_from(
    [
        b'{"b64":1}',
        b'{"b64":"AQ==","b64":"Ag=="}',
        b'{"b64":"AQ==","x":1}',
        b'{"B64":"AQ=="}',
        rb'{"\u0062\u00364":"AQ"}',
    ]
)
OTHER = st.sampled_from([b"true", b"false", b"null", b"{}", b"[]", b"nul", b"True", b"01", b".5", b"1.", b"1e", b"-"])
ODD_NUMBERS = ANY_NUMBERS.map(str.encode)
LEAVES = st.sampled_from([ODD_NUMBERS, st.integers(-3, 300).map(b"%d".__mod__), STRINGS, BASE64, BAD_UTF8, OTHER])
BLANKS = st.sampled_from([b""] * 6 + [b" ", b"\n\t\r "])
NAMES = st.sampled_from([b'"a"', b'"b"', b'"x"', rb'"\u0078"', b'"b64"', b'"\xff"', '"ü"'.encode()])
BRACKETS = b'[]{},:"\\ \x00'

# Values that are right for a type, though some at the edge of it.
RIGHT_NUMBERS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**63), 2**64 - 1).map(str),
    NUMBERS.filter(lambda text: text not in ("-1e309", "1.7976931348623159e308")),
).map(str.encode)
RIGHT_STRINGS = st.one_of(
    st.sampled_from(
        [
            *(
                '"a"',
                '""',
                '"a:b"',
                '"é😀"',
                '"]"',
                r'"\":"',
                r'"\u0041\u00e9\u0000"',
                r'"\ud83d\ude00"',
                r'"\b\f\n\r\t\/"',
            ),
            *(
                '{"b64": "AQ=="}',
                '{"b64":"AQI"}',
                '{"b64" : "A QI\\n="}',
                '{"b64":""}',
                '{"b64":"AQIz"}',
                '{"b64":"AR.."}',
            ),
        ]
    ).map(str.encode),
    st.text(max_size=5).map(lambda text: json.dumps(text, ensure_ascii=len(text) % 2 == 0).encode("utf-8", "replace")),
    st.binary(max_size=5).map(lambda data: b'{"b64":"%b"}' % base64.b64encode(data)),
    BAD_UTF8,
)


def right(dtype: DType) -> st.SearchStrategy[bytes]:
    if dtype == DType.STRING:
        return RIGHT_STRINGS
    if dtype == DType.BOOL:
        return st.sampled_from([b"true", b"false"])
    if NUMPY_OF[dtype].kind in "iu" and dtype in INTEGERS:
        limits = np.iinfo(NUMPY_OF[dtype])
        edges = st.sampled_from([limits.min, limits.max, 0])
        return (st.integers(limits.min, limits.max) | st.integers(0, 9) | edges).map(b"%d".__mod__)
    return RIGHT_NUMBERS


RIGHT = {dtype: right(dtype) for dtype in NUMPY_OF}
SHAPES = st.lists(st.sampled_from([0, 1, 1, 2, 2, 3]), max_size=3)


@st.composite
def arrays(draw: st.DrawFn, values_of: st.SearchStrategy[bytes], shape: list[int]) -> bytes:
    """Lists of one shape; seldom something in them is of another kind."""
    size = int(np.prod(shape))
    values = draw(st.lists(values_of, min_size=size, max_size=size))
    if values and draw(st.integers(0, 19)) == 0:
        values[draw(st.integers(0, size - 1))] = draw(draw(LEAVES))
    blank = draw(BLANKS)

    def nest(values: list[bytes], shape: list[int]) -> bytes:
        if not shape:
            return values[0]
        step = int(np.prod(shape[1:]))
        parts = [values[i * step : (i + 1) * step] for i in range(shape[0])]
        return b"[" + (b"," + blank).join(nest(part, shape[1:]) for part in parts) + blank + b"]"

    return nest(values, shape)


ANY_ARRAYS = st.tuples(LEAVES, SHAPES).flatmap(lambda drawn: arrays(*drawn))


def objects_of(names: st.SearchStrategy[bytes], values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    members = st.tuples(names, BLANKS, values).map(lambda parts: parts[0] + parts[1] + b":" + parts[2])
    return st.lists(members, max_size=3).map(lambda texts: b"{" + b", ".join(texts) + b"}")


DEEP = st.sampled_from([5, 31, 32, 33, 64, 1030, 9_998, 9_999, 10_000, 10_001]).map(
    lambda n: b"[" * n + b"1" + b"]" * n
)
MESSES = st.recursive(
    LEAVES.flatmap(lambda kind: kind),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda texts: b"[" + b",".join(texts) + b"]") | objects_of(NAMES, inner)
    ),
    max_leaves=6,
)
CONTENTS = st.one_of(
    ANY_ARRAYS,
    ANY_ARRAYS,
    objects_of(NAMES, ANY_ARRAYS),
    MESSES,
    st.integers(0, 4).flatmap(lambda n: DEEP if n == 0 else ANY_ARRAYS),
)
KEYS = st.sampled_from(
    [b'"instances"', b'"inputs"', b'"signature_name"', rb'"\u0069nputs"', b'"Instances"', b'"other"', b'"x"']
)


@st.composite
def row_lists(draw: st.DrawFn, dtypes: Mapping[str, DType]) -> bytes:
    """Rows as objects, mostly complete and of equal shape."""
    columns = {name: arrays(RIGHT[dtype], draw(SHAPES)) for name, dtype in dtypes.items()}
    texts = []
    for _ in range(draw(st.integers(1, 3))):
        row = [b'"%b":%b' % (name.encode(), draw(values)) for name, values in columns.items()]
        if draw(st.integers(0, 19)) == 0:
            match draw(st.sampled_from(["drop", "more", "again", "base64", "reverse", "value"])):
                case "drop":
                    row.pop()
                case "more":
                    row.append(b'"c":%b' % draw(ANY_ARRAYS))
                case "again":
                    row.append(b'"%b":%b' % (next(iter(dtypes)).encode(), draw(ANY_ARRAYS)))
                case "base64":
                    row = [b'"b64":"AQ=="']
                case "reverse":
                    row.reverse()
                case _:
                    texts.append(draw(ANY_ARRAYS))
        texts.append(b"{" + b",".join(row) + b"}")
    return b"[" + b",".join(texts) + b"]"


@st.composite
def members(draw: st.DrawFn, dtypes: Mapping[str, DType]) -> bytes:
    """The member of a body that holds the inputs."""
    blank = draw(BLANKS)
    form = draw(st.sampled_from(["rows", "columns"] * 4 + ["any"]))
    if form == "any":
        return draw(KEYS) + blank + b":" + blank + draw(CONTENTS)
    bare = len(dtypes) == 1 and draw(st.booleans())
    if form == "rows":
        if bare:
            (dtype,) = dtypes.values()
            rows = draw(arrays(RIGHT[dtype], [draw(st.integers(1, 3)), *draw(SHAPES)]))
        else:
            rows = draw(row_lists(dtypes))
        return b'"instances"' + blank + b":" + rows
    columns = [(name.encode(), draw(arrays(RIGHT[dtype], draw(SHAPES)))) for name, dtype in dtypes.items()]
    if bare:
        return b'"inputs"' + blank + b":" + columns[0][1]
    named = [b'"%b"%b:%b' % (name, blank, text) for name, text in columns]
    if draw(st.integers(0, 7)) == 0:
        extra = b"%b:%b" % (draw(NAMES), draw(ANY_ARRAYS))
        named.insert(draw(st.integers(0, len(named))), extra)
    return b'"inputs":{' + b",".join(named) + blank + b"}"


@st.composite
def bodies(draw: st.DrawFn, dtypes: Mapping[str, DType]) -> bytes:
    blank = draw(BLANKS)
    parts = [draw(members(dtypes))]
    if draw(st.booleans()):
        name = draw(STRINGS if draw(st.integers(0, 5)) == 0 else st.just(b'"serving_default"'))
        parts.insert(draw(st.integers(0, 1)), b'"signature_name"' + blank + b":" + name)
    if draw(st.integers(0, 9)) == 0:
        more = draw(members(dtypes)) if draw(st.booleans()) else draw(KEYS) + b":" + draw(CONTENTS)
        parts.insert(draw(st.integers(0, len(parts))), more)
    body = b"{" + blank + b",".join(parts) + blank + b"}"
    if draw(st.integers(0, 9)) == 0:
        body = draw(st.sampled_from([b"\xef\xbb\xbf", b" \n", b"\xef", b"\xbb", b"\0", b"//"])) + body
    if draw(st.integers(0, 9)) == 0:
        body += draw(st.sampled_from([b"}", b"]", b"x", b"\0", b' {"instances": [1]}', b"\xff"]))
    if draw(st.integers(0, 3)) == 0:
        for _ in range(draw(st.integers(1, 3))):
            body = mutated(draw, body)
    return body


def mutated(draw: st.DrawFn, body: bytes) -> bytes:
    if not body:
        return body
    position = draw(st.integers(0, len(body) - 1))
    structure = [index for index, byte in enumerate(body) if byte in BRACKETS]
    spot = structure[position % len(structure)] if structure else position
    match draw(st.integers(0, 6)):
        case 0:  # a bit flips
            return body[:position] + bytes([body[position] ^ 1 << draw(st.integers(0, 7))]) + body[position + 1 :]
        case 1:  # a bracket, comma, colon or quotation mark is lost
            return body[:spot] + body[spot + 1 :]
        case 2:  # or becomes another
            return body[:spot] + BRACKETS[position % len(BRACKETS) :][:1] + body[spot + 1 :]
        case 3:  # or comes twice
            return body[:spot] + body[spot : spot + 1] + body[spot:]
        case 4:  # something strange comes in
            return (
                body[:position]
                + draw(st.sampled_from([b"\xff", b"\0", b"\\u", b"-", b"e", b".", b"0", b"NaN"]))
                + body[position:]
            )
        case 5:  # a part comes twice
            end = position + draw(st.integers(1, 12))
            return body[:end] + body[position:end] + body[end:]
        case _:  # the end is lost
            return body[:position]


# Types that JSON can carry come up more often than those it cannot.
ANY_DTYPES = st.sampled_from([*NUMPY_OF, *[*INTEGERS, DType.FLOAT, DType.DOUBLE, DType.STRING, DType.BOOL] * 6])
DTYPES = st.one_of(
    ANY_DTYPES.map(lambda dtype: {"x": dtype}),
    st.sampled_from([{"x": DType.FLOAT}, {"x": DType.STRING}, {"b64": DType.STRING}]),
    st.tuples(ANY_DTYPES, ANY_DTYPES).map(lambda two: {"a": two[0], "b": two[1]}),
)
CASES = DTYPES.flatmap(lambda dtypes: st.tuples(bodies(dtypes), st.just(dtypes)))

LENIENT = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=2000, deadline=None, suppress_health_check=LENIENT)
@given(CASES)
@example((b"", {"x": DType.FLOAT}))
@example((b'{"inputs": [NaN, 1e-45]}', {"x": DType.FLOAT}))
@example((b'{"inputs": [-NaN]}', {"x": DType.FLOAT}))
def test_we_read_as_the_oracle_does(case: tuple[bytes, dict[str, DType]]) -> None:
    check(*case)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None, suppress_health_check=LENIENT, phases=[Phase.generate, Phase.shrink])
@given(CASES)
def test_we_read_as_the_oracle_does_for_long(case: tuple[bytes, dict[str, DType]]) -> None:
    check(*case)
