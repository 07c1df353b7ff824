"""An oracle for predict bodies: slow, plain, and without any part of ``pyserving.wire``.

It is written from the rules of the interface and from recorded answers, character by character and leaf by leaf, so
that a fault of the fast ways (orjson, simdjson, numpy's conversions) cannot be a fault of the oracle too. What
``docs/deviations.md`` says is part of the rules: integers that do not fit are refused, and so is nesting of more
than 10,000 levels.
"""

import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

from pyserving.core.errors import Code
from pyserving.platforms.dtypes import DType

DEEPEST = 10_000
HIGHEST_RANK = 32
LONGEST_DESCRIPTION = 256
"""From here on the original cuts texts short by a rule of its own, which the oracle does not know."""


@dataclass
class Refusal(Exception):  # noqa: N818 - what a client gets, not a fault
    """The expected error; ``text`` is None where the rules do not say how it is worded."""

    code: Code
    text: str | None


@dataclass
class Tensor:
    shape: tuple[int, ...]
    leaves: list[bytes]
    """One a value: its memory, or the string itself."""


@dataclass
class Answer:
    signature_name: bytes
    rows: bool
    tensors: dict[str, Tensor]


# --- JSON values -----------------------------------------------------------------------------------------------------


@dataclass
class Literal:
    text: str


@dataclass
class Integer:
    value: int


@dataclass
class Double:
    value: float


@dataclass
class String:
    value: bytes


@dataclass
class List:
    items: list["Value"] = field(default_factory=list)


@dataclass
class Object:
    members: list[tuple[bytes, "Value"]] = field(default_factory=list)

    def get(self, name: bytes) -> "Value | None":
        for key, value in self.members:
            if key == name:
                return value
        return None

    def first_members(self) -> list[tuple[bytes, "Value"]]:
        seen: list[tuple[bytes, Value]] = []
        for key, value in self.members:
            if all(key != other for other, _ in seen):
                seen.append((key, value))
        return seen


Value = Literal | Integer | Double | String | List | Object


class Reader:
    """One character at a time; behind the end, and at a NUL, there is only NUL."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0
        self.depth = 0

    def peek(self) -> str:
        return chr(self.body[self.at]) if self.at < len(self.body) else "\0"

    def take(self) -> str:
        character = self.peek()
        self.at += 1
        return character

    def fail(self, text: str, at: int | None = None) -> Refusal:
        return refuse(f"JSON Parse error: {text} at offset: {self.at if at is None else at}")

    def skip_blanks(self) -> None:
        while self.peek() in " \t\r\n":
            self.at += 1

    def document(self) -> Value:
        for character in "\xef\xbb\xbf":  # the byte order mark
            if self.peek() == character:
                self.at += 1
        self.skip_blanks()
        if self.peek() in "\0,:]}":
            raise self.fail("The document is empty.")
        return self.value()

    def value(self) -> Value:
        self.skip_blanks()
        first = self.peek()
        if first in "\0,:]}":
            raise self.fail("Invalid value.")
        if first == "{":
            return self.object()
        if first == "[":
            return self.list()
        if first == '"':
            return String(self.string())
        for word in ("null", "true", "false"):
            if first == word[0]:
                self.word(word)
                return Literal(word)
        return self.number()

    def word(self, word: str) -> None:
        for character in word:
            if self.peek() != character:
                raise self.fail("Invalid value.")
            self.at += 1

    def enter(self) -> None:
        self.at += 1
        self.depth += 1
        if self.depth > DEEPEST:
            raise Refusal(Code.INVALID_ARGUMENT, None)

    def list(self) -> List:
        result = List()
        self.enter()
        self.skip_blanks()
        if self.peek() != "]":
            while True:
                result.items.append(self.value())
                self.skip_blanks()
                if self.peek() == "]":
                    break
                if self.peek() != ",":
                    raise self.fail("Missing a comma or ']' after an array element.")
                self.at += 1
        self.at += 1
        self.depth -= 1
        return result

    def object(self) -> Object:
        result = Object()
        self.enter()
        self.skip_blanks()
        if self.peek() != "}":
            while True:
                self.skip_blanks()
                if self.peek() != '"':
                    raise self.fail("Missing a name for object member.")
                name = self.string()
                self.skip_blanks()
                if self.peek() != ":":
                    raise self.fail("Missing a colon after a name of object member.")
                self.at += 1
                result.members.append((name, self.value()))
                self.skip_blanks()
                if self.peek() == "}":
                    break
                if self.peek() != ",":
                    raise self.fail("Missing a comma or '}' after an object member.")
                self.at += 1
        self.at += 1
        self.depth -= 1
        return result

    def string(self) -> bytes:
        self.at += 1
        result = b""
        while True:
            character = self.peek()
            if character == '"':
                self.at += 1
                return result
            if character == "\\":
                result += self.escape()
            elif character == "\0":
                raise self.fail("Missing a closing quotation mark in string.")
            elif character < " ":
                raise self.fail("Invalid encoding in string.")
            else:
                result += bytes([ord(character)])
                self.at += 1

    def escape(self) -> bytes:
        start = self.at
        self.at += 1
        letter = self.take()
        for name, meaning in zip('"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True):
            if letter == name:
                return bytes([meaning])
        if letter != "u":
            raise self.fail("Invalid escape character in string.", start)
        unit = self.hex4(start)
        if 0xDC00 <= unit <= 0xDFFF:
            raise self.fail("The surrogate pair in string is invalid.", start)
        if 0xD800 <= unit <= 0xDBFF:
            if self.take() != "\\" or self.take() != "u":
                raise self.fail("The surrogate pair in string is invalid.", start)
            low = self.hex4(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise self.fail("The surrogate pair in string is invalid.", start)
            return chr(0x10000 + (unit - 0xD800) * 0x400 + (low - 0xDC00)).encode()
        return chr(unit).encode()

    def hex4(self, start: int) -> int:
        unit = 0
        for _ in range(4):
            digit = "0123456789abcdef".find(self.take().lower())
            if digit < 0:
                raise self.fail("Incorrect hex digit after \\u escape in string.", start)
            unit = unit * 16 + digit
        return unit

    def digits(self) -> str:
        found = ""
        while self.peek() in "0123456789":
            found += self.take()
        return found

    def number(self) -> Integer | Double:
        start = self.at
        minus = self.peek() == "-"
        if minus:
            self.at += 1
        if self.peek() == "N":
            self.word("NaN")
            return Double(float("nan"))
        if self.peek() == "I":
            self.word("Inf")
            if self.peek() == "i":
                self.word("inity")
            return Double(float("-inf") if minus else float("inf"))
        if self.peek() == "0":
            whole = self.take()
        else:
            whole = self.digits()
            if not whole:
                raise self.fail("Invalid value.")
        fraction = ""
        exponent = 0
        plain = True
        if self.peek() == ".":
            plain = False
            self.at += 1
            fraction = self.digits()
            if not fraction:
                raise self.fail("Miss fraction part in number.")
        if self.peek() in "eE":
            plain = False
            self.at += 1
            sign = -1 if self.peek() == "-" else 1
            if self.peek() in "+-":
                self.at += 1
            power = self.digits()
            if not power:
                raise self.fail("Miss exponent in number.")
            exponent = sign * to_integer(power)
        magnitude = to_integer(whole + fraction)
        if plain and (magnitude <= 2**63 if minus else magnitude < 2**64):
            return Integer(-magnitude if minus else magnitude)
        double = to_double(magnitude, exponent - len(fraction))
        if double is None:
            raise self.fail("Number too big to be stored in double.", start)
        return Double(-double if minus else double)


def to_integer(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 10 + "0123456789".index(digit)
    return value


def to_double(digits: int, exponent: int) -> float | None:
    """The double nearest to digits x 10**exponent; None if that is beyond the largest."""
    if digits == 0:
        return 0.0
    size = len(f"{digits:x}") * 1.2041 + exponent  # about the power of ten; hex, as Python limits decimal digits
    if size > 400:
        return None
    if size < -400:
        return 0.0
    try:
        return float(digits * Fraction(10) ** exponent)  # division of integers rounds correctly
    except OverflowError:
        return None


def refuse(text: str | None) -> Refusal:
    return Refusal(Code.INVALID_ARGUMENT, text)


# --- values as error texts show them ---------------------------------------------------------------------------------


def type_of(value: Value) -> str:
    match value:
        case Literal():
            return value.text.capitalize()
        case Integer() | Double():
            return "Number"
        case List():
            return "Array"
        case _:
            return type(value).__name__


def show_double(value: float) -> str:
    """The shortest digits; as decimals for 1e-6 <= value < 1e21, else with an exponent."""
    sign = "-" if str(value).startswith("-") else ""
    mantissa, _, power = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(power or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0.0"
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits)) + ".0"
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    return sign + digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + f"e{point - 1}"


def show_string(value: bytes) -> str:
    text = ""
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    for character in value.decode("utf-8", "surrogateescape"):
        code = ord(character)
        text += short.get(code) or (f"\\u{code:04X}" if code < 32 else character)
    return f'"{text}"'


def describe(value: Value) -> str | None:
    """None where the oracle does not know: long texts, and NaN or infinity inside of lists and objects."""
    if isinstance(value, Double) and (value.value != value.value or abs(value.value) == float("inf")):
        return ""
    text = _describe(value, "")
    return text if text is not None and len(text.encode("utf-8", "surrogateescape")) < LONGEST_DESCRIPTION else None


def _describe(value: Value, indent: str) -> str | None:
    match value:
        case Literal():
            return value.text
        case Integer():
            return str(value.value)
        case Double():
            unknown = value.value != value.value or abs(value.value) == float("inf")
            return None if unknown else show_double(value.value)
        case String():
            return show_string(value.value)
        case List():
            if len(value.items) > LONGEST_DESCRIPTION:
                return None
            items = [_describe(item, indent + "    ") for item in value.items]  # a list is a level, though on one line
            return None if None in items else f"[{', '.join(map(str, items))}]"
        case Object():
            if not value.members:
                return "{}"
            lines = []
            for name, member in value.members:
                text = _describe(member, indent + "    ")
                if text is None:
                    return None
                lines.append(f"\n{indent}    {show_string(name)}: {text}")
            return "{" + ",".join(lines) + f"\n{indent}}}"


def about(value: Value, before: str, after: str) -> Refusal:
    text = describe(value)
    return refuse(None if text is None else before + text + after)


# --- values to tensors -----------------------------------------------------------------------------------------------

INTEGERS = {
    # the integers that the original takes, the integers that fit, how they lie in memory
    DType.INT8: (-(2**31), 2**31 - 1, "b"),
    DType.INT16: (-(2**31), 2**31 - 1, "h"),
    DType.INT32: (-(2**31), 2**31 - 1, "i"),
    DType.UINT8: (-(2**31), 2**31 - 1, "B"),
    DType.INT64: (-(2**63), 2**63 - 1, "q"),
    DType.UINT32: (0, 2**32 - 1, "I"),
    DType.UINT64: (0, 2**64 - 1, "Q"),
}


def is_base64(value: Value) -> bool:
    """``{"b64": "..."}`` and nothing else."""
    return (
        isinstance(value, Object)
        and len(value.members) == 1
        and value.members[0][0] == b"b64"
        and isinstance(value.members[0][1], String)
    )


def from_base64(text: bytes) -> bytes:
    """Blanks may stand anywhere; padding, by = or by a point, is complete or left out; spare bits do not count."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bits, count, padding = 0, 0, 0
    for byte in text:
        if byte in b" \t\n\v\f\r":
            continue
        if byte in b"=.":
            padding += 1
        elif byte in alphabet and not padding:
            bits = bits * 64 + alphabet.index(byte)
            count += 1
        else:
            raise refuse("Unable to base64 decode")
    missing = {0: 0, 2: 2, 3: 1}.get(count % 4)
    if missing is None or padding not in (0, missing):
        raise refuse("Unable to base64 decode")
    size = count * 6 // 8
    return (bits >> (count * 6 - size * 8)).to_bytes(size, "big")


def leaf(value: Value, dtype: DType) -> bytes:
    def wrong_type() -> Refusal:
        return about(value, "JSON Value: ", f" Type: {type_of(value)} is not of expected type: {dtype.text}")

    if isinstance(value, Object):
        if dtype != DType.STRING:
            raise wrong_type()
        if not is_base64(value):
            raise about(value, "JSON Value: ", " not formatted correctly for base64 data")
        text = value.members[0][1]
        assert isinstance(text, String)
        return from_base64(text.value)
    if dtype == DType.STRING:
        if not isinstance(value, String):
            raise wrong_type()
        return value.value
    if dtype == DType.BOOL:
        if not isinstance(value, Literal) or value.text == "null":
            raise wrong_type()
        return b"\1" if value.text == "true" else b"\0"
    if dtype in INTEGERS:
        low, high, code = INTEGERS[dtype]
        if not isinstance(value, Integer) or not low <= value.value <= high:
            raise wrong_type()
        try:
            return struct.pack(code, value.value)
        except struct.error:
            raise refuse(None) from None  # the original wraps it around; our text is our own
    if dtype in (DType.FLOAT, DType.DOUBLE):
        if not isinstance(value, Integer | Double):
            raise wrong_type()
        return real(float(value.value), dtype)
    refusal = about(value, "Conversion of JSON Value: ", f" to type: {dtype.text}")
    raise Refusal(Code.UNIMPLEMENTED, refusal.text)


def real(value: float, dtype: DType) -> bytes:
    """The nearest float of the type, infinite if it is too big; too small to be normal: zero, with its sign."""
    code, smallest = ("f", 2.0**-126) if dtype == DType.FLOAT else ("d", 2.0**-1022)
    try:
        packed = struct.pack(code, value)
    except OverflowError:
        packed = struct.pack(code, float("-inf") if value < 0 else float("inf"))
    (stored,) = struct.unpack(code, packed)
    if 0 < abs(stored) < smallest:
        packed = struct.pack(code, -0.0 if value < 0 else 0.0)
    return packed


def shape_of(value: Value) -> tuple[int, ...]:
    if not isinstance(value, List):
        return ()
    return (len(value.items), *shape_of(value.items[0])) if value.items else (0,)


def leaves(value: Value, level: int, shape: tuple[int, ...], dtype: DType) -> list[bytes]:
    rank = len(shape)
    if not isinstance(value, List):
        if level != rank:
            where = f" found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}"
            raise about(value, "JSON Value: ", where)
        return [leaf(value, dtype)]
    if level >= rank:
        raise refuse(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value.items) != shape[level]:
        raise refuse(
            f"Encountered list at unexpected size: {len(value.items)} at level: {level} expected size: {shape[level]}"
        )
    found = []
    for item in value.items:
        found += leaves(item, level + 1, shape, dtype)
    return found


def tensor(value: Value, dtype: DType) -> Tensor:
    shape = shape_of(value)
    return Tensor(shape, leaves(value, 0, shape, dtype))


def check_rank(tensors: Mapping[str, Tensor]) -> None:
    if any(len(tensor.shape) > HIGHEST_RANK for tensor in tensors.values()):
        raise refuse(None)


def columns(inputs: Value, dtypes: Mapping[str, DType]) -> dict[str, Tensor]:
    tensors = {}
    if not isinstance(inputs, Object) or is_base64(inputs):
        if len(dtypes) > 1:
            raise refuse(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        for name, dtype in dtypes.items():
            tensors[name] = tensor(inputs, dtype)
    else:
        for name in sorted(dtypes):
            value = inputs.get(name.encode())
            if value is None:
                raise refuse(f"Missing named input: {name} in 'inputs' object.")
            tensors[name] = tensor(value, dtypes[name])
            check_rank(tensors)
    check_rank(tensors)
    return tensors


def rows(instances: list[Value], dtypes: Mapping[str, DType]) -> dict[str, Tensor]:
    def is_row_object(value: Value) -> bool:
        return isinstance(value, Object) and not is_base64(value)

    if not isinstance(instances[0], Object) and len(dtypes) > 1:
        raise refuse(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    collected: dict[str, list[Tensor]] = {}

    def add(name: str, value: Value) -> None:
        if name not in dtypes:
            raise refuse(f"JSON object: does not have named input: {name}")
        new = tensor(value, dtypes[name])
        earlier = collected.setdefault(name, [])
        if earlier:
            first = earlier[0]
            if len(first.leaves) != len(new.leaves):
                raise refuse(f"Expecting tensor size: {len(first.leaves)} but got: {len(new.leaves)}")
            if first.shape != new.shape:
                shapes = [f"[{','.join(map(str, shape))}]" for shape in (first.shape, new.shape)]
                raise refuse(f"Expecting shape {shapes[0]} but got: {shapes[1]}")
        earlier.append(new)

    def within(name: str, value: Value, where: str) -> None:
        try:
            add(name, value)
        except Refusal as refusal:
            if refusal.text is None:
                raise refuse(None) from None
            text = f"Failed to process element: {where} of 'instances' list. Error: {refusal.code.name}: {refusal.text}"
            raise refuse(text) from None

    objects = is_row_object(instances[0])
    for index, row in enumerate(instances):
        if objects:
            if not is_row_object(row):
                raise refuse(f"Expecting object but got list at item {index} of input list")
            assert isinstance(row, Object)
            members = row.first_members()
            for key, value in members:
                name = key.decode("utf-8", "surrogateescape")
                within(name, value, f"{index} key: {name}")
            if len(members) != len(dtypes):
                keys = f" keys must be equal to: {','.join(sorted(dtypes))}"
                raise about(row, f"Failed to process element: {index} of 'instances' list. JSON object: ", keys)
        else:
            if is_row_object(row):
                raise refuse(f"Expecting value/list but got object at item {index} of input list")
            if len(dtypes) > 1:
                try:  # which of the inputs is meant, the original leaves to chance
                    within(next(iter(dtypes)), row, f"{index}")
                except Refusal:
                    raise refuse(None) from None
            else:
                within(next(iter(dtypes)), row, f"{index}")
    tensors = {
        name: Tensor((len(instances), *parts[0].shape), [item for part in parts for item in part.leaves])
        for name, parts in collected.items()
    }
    check_rank(tensors)
    return tensors


@contextmanager
def _deep_recursion() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * DEEPEST)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def read_predict(body: bytes, dtypes: Mapping[str, DType]) -> Answer:
    """What a predict body means for a signature with inputs of these types. Raises Refusal."""
    with _deep_recursion():
        return _read_predict(body, dtypes)


def _read_predict(body: bytes, dtypes: Mapping[str, DType]) -> Answer:
    if not body:
        raise refuse("JSON Parse error: The document is empty")
    document = Reader(body).document()
    if not isinstance(document, Object):
        raise about(document, "JSON Value: ", " Is not object")
    name = document.get(b"signature_name")
    if name is not None and not isinstance(name, String):
        raise about(document, "JSON Value: ", " not formatted correctly. 'signature_name' key must be a string value.")
    signature_name = name.value if name is not None else b""
    instances, inputs = document.get(b"instances"), document.get(b"inputs")
    if instances is not None and inputs is not None:
        only = " Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        raise about(document, "JSON Value: ", only)
    if instances is not None:
        if not isinstance(instances, List):
            raise about(document, "JSON Value: ", " Expecting 'instances' to be an list/array")
        if not instances.items:
            raise about(document, "JSON Value: ", " No values in 'instances' array")
        return Answer(signature_name, True, rows(instances.items, dtypes))
    if inputs is not None:
        return Answer(signature_name, False, columns(inputs, dtypes))
    raise refuse("Missing 'inputs' or 'instances' key")
