"""The slow reader of JSON: it takes what TensorFlow Serving takes and words errors as TensorFlow Serving does.

The rules are those of rapidjson's iterative parser with NaN and infinity allowed, which stops behind the first
value: text after it is ignored, a byte order mark is skipped, a NUL byte ends the text, strings may hold bytes
that are not UTF-8. It does not recurse; that it refuses absurdly deep nesting is our own rule, for the real server
crashes there.
"""

import math
import re
from typing import Any, NoReturn

from pyserving.core.errors import invalid_argument

MAX_DEPTH = 10_000
"""Levels of lists and objects that are read: far more than any fast parser takes."""

JsonValue = Any
"""None, bool, int (of -2**63 to 2**64-1), float (integers beyond those too), str, list or JsonObject.

Bytes of a str that are not UTF-8 are there as lone surrogates (``surrogateescape``)."""


class JsonObject(dict[str, JsonValue]):
    """An object as a mapping in which the first of several equal keys wins."""

    __slots__ = ("members",)

    def __init__(self) -> None:
        super().__init__()
        self.members: list[tuple[str, JsonValue]] = []
        """All members as they came, also those whose key was there before."""

    def add(self, key: str, value: JsonValue) -> None:
        self.members.append((key, value))
        self.setdefault(key, value)


_BLANKS = re.compile(rb"[ \t\r\n]*+")
_PLAIN_TEXT = re.compile(rb'[^"\\\x00-\x1f]*+')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(\.[0-9]++)?+([eE][-+]?[0-9]++)?+")
_INFINITE = re.compile(rb"-?(?:NaN|Inf(?:inity|(?!i)))")
# Many elements of a list at once, which makes long lists of numbers several times as fast. A run ends at a comma,
# so that nothing in it can be the beginning of something longer.
_RUN = re.compile(
    rb"(?:[ \t\r\n]*+-?(?:(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+|NaN|Inf(?:inity)?+)"
    rb"[ \t\r\n]*+,){2,999}+"
)
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
_ESCAPES = {
    ord('"'): b'"',
    ord("\\"): b"\\",
    ord("/"): b"/",
    ord("b"): b"\b",
    ord("f"): b"\f",
    ord("n"): b"\n",
    ord("r"): b"\r",
    ord("t"): b"\t",
}
_LITERALS: dict[int, tuple[bytes, bool | None]] = {
    ord("n"): (b"null", None),
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
}

# What the parser may expect next, by the error that anything else is.
_DOCUMENT = "The document is empty."
_VALUE = "Invalid value."
_NAME = "Missing a name for object member."
_COLON = "Missing a colon after a name of object member."
_AFTER_ELEMENT = "Missing a comma or ']' after an array element."
_AFTER_MEMBER = "Missing a comma or '}' after an object member."

_END = 0
_QUOTE, _COMMA, _COLON_SIGN, _MINUS = ord('"'), ord(","), ord(":"), ord("-")
_OPEN_LIST, _CLOSE_LIST, _OPEN_OBJECT, _CLOSE_OBJECT = ord("["), ord("]"), ord("{"), ord("}")
_NO_VALUE = frozenset((_END, _COMMA, _COLON_SIGN, _CLOSE_LIST, _CLOSE_OBJECT))


def read_json(body: bytes) -> JsonValue:
    """The first value in ``body``. Raises INVALID_ARGUMENT, with the offset (in bytes) of what is wrong."""
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    return _Reader(body).read()


class _Reader:
    def __init__(self, body: bytes) -> None:
        self._body = body
        # Each byte of the mark is skipped on its own, so a broken mark is forgiven as well.
        self._position = 0
        for byte in b"\xef\xbb\xbf":
            if self._peek() == byte:
                self._position += 1

    def read(self) -> JsonValue:
        containers: list[JsonObject | list[JsonValue]] = []
        name = ""
        expected = _DOCUMENT
        may_close = False
        while True:
            byte = self._skip_blanks()
            if expected is _NAME:
                if byte == _QUOTE:
                    name = self._string()
                    if self._skip_blanks() != _COLON_SIGN:
                        self._fail(_COLON)
                    self._position += 1
                    expected = _VALUE
                    may_close = False
                    continue
                if byte != _CLOSE_OBJECT or not may_close:
                    self._fail(_NAME)
                value = containers.pop()
                self._position += 1
            elif expected is _VALUE or expected is _DOCUMENT:
                if byte in (_OPEN_LIST, _OPEN_OBJECT):
                    self._position += 1
                    child: JsonObject | list[JsonValue] = [] if byte == _OPEN_LIST else JsonObject()
                    if containers:
                        _add(containers[-1], name, child)
                    containers.append(child)
                    if len(containers) > MAX_DEPTH:
                        self._fail(f"Nested more than {MAX_DEPTH} levels deep.")
                    expected = _VALUE if byte == _OPEN_LIST else _NAME
                    may_close = True
                    continue
                if byte == _CLOSE_LIST and may_close:
                    value = containers.pop()
                    self._position += 1
                elif byte in _NO_VALUE:
                    self._fail(expected)
                elif containers and self._run(containers[-1]):
                    expected = _VALUE
                    may_close = False
                    continue
                else:
                    value = self._scalar(byte)
                    if containers:
                        _add(containers[-1], name, value)
            elif byte == _COMMA:
                self._position += 1
                expected = _VALUE if expected is _AFTER_ELEMENT else _NAME
                may_close = False
                continue
            elif byte == (_CLOSE_LIST if expected is _AFTER_ELEMENT else _CLOSE_OBJECT):
                value = containers.pop()
                self._position += 1
            else:
                self._fail(expected)
            # A value is complete.
            if not containers:
                return value
            expected = _AFTER_ELEMENT if isinstance(containers[-1], list) else _AFTER_MEMBER

    def _peek(self) -> int:
        return self._body[self._position] if self._position < len(self._body) else _END

    def _skip_blanks(self) -> int:
        match = _BLANKS.match(self._body, self._position)
        assert match
        self._position = match.end()
        return self._peek()

    def _fail(self, text: str, offset: int | None = None) -> NoReturn:
        raise invalid_argument(f"JSON Parse error: {text} at offset: {self._position if offset is None else offset}")

    def _scalar(self, byte: int) -> JsonValue:
        if byte == _QUOTE:
            return self._string()
        if byte in _LITERALS:
            text, value = _LITERALS[byte]
            self._consume(text)
            return value
        return self._number()

    def _consume(self, text: bytes) -> None:
        """Steps over ``text``, or fails at the first byte that differs."""
        for byte in text:
            if self._peek() != byte:
                self._fail(_VALUE)
            self._position += 1

    def _run(self, container: JsonObject | list[JsonValue]) -> bool:
        """Adds a run of numbers to a list, and steps behind the comma at its end. False if there is none."""
        if not isinstance(container, list):
            return False
        match = _RUN.match(self._body, self._position)
        if not match:
            return False
        numbers: list[int | float] = []
        for text in match[0].split(b",")[:-1]:
            number = _to_number(text)
            if number is None:  # too big: _number() finds its offset
                return False
            numbers.append(number)
        container += numbers
        self._position = match.end()
        return True

    def _number(self) -> int | float:
        start = self._position
        match = _NUMBER.match(self._body, start)
        if not match:
            infinite = _INFINITE.match(self._body, start)
            if infinite:
                self._position = infinite.end()
                number = _to_number(infinite[0])
                assert number is not None
                return number
            if self._peek() == _MINUS:
                self._position += 1
            first = self._peek()
            self._consume(b"NaN" if first == ord("N") else b"Inf")
            self._consume(b"inity")
            raise AssertionError("unreachable: the whole word would have matched")
        self._position = match.end()
        following = self._peek()
        if following in b".eE" and match[2] is None:
            if following != ord("."):
                self._position += 1
                if self._peek() in b"+-":
                    self._position += 1
                self._fail("Miss exponent in number.")
            if match[1] is None:
                self._fail("Miss fraction part in number.", match.end() + 1)
        number = _to_number(match[0])
        if number is None:
            self._fail("Number too big to be stored in double.", start)
        return number

    def _string(self) -> str:
        self._position += 1
        pieces: list[bytes] = []
        while True:
            plain = _PLAIN_TEXT.match(self._body, self._position)
            assert plain
            pieces.append(plain[0])
            self._position = plain.end()
            byte = self._peek()
            if byte == _QUOTE:
                self._position += 1
                return b"".join(pieces).decode("utf-8", "surrogateescape")
            if byte == _END:
                self._fail("Missing a closing quotation mark in string.")
            if byte < 0x20:
                self._fail("Invalid encoding in string.")
            pieces.append(self._escape())

    def _escape(self) -> bytes:
        start = self._position
        self._position += 1
        byte = self._peek()
        self._position += 1
        if byte in _ESCAPES:
            return _ESCAPES[byte]
        if byte != ord("u"):
            self._fail("Invalid escape character in string.", start)
        code = self._hex4(start)
        if 0xD800 <= code <= 0xDFFF:
            low = 0
            if code <= 0xDBFF and self._body.startswith(b"\\u", self._position):
                self._position += 2
                low = self._hex4(start)
            if not 0xDC00 <= low <= 0xDFFF:
                self._fail("The surrogate pair in string is invalid.", start)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return chr(code).encode()

    def _hex4(self, start: int) -> int:
        match = _HEX4.match(self._body, self._position)
        if not match:
            self._fail("Incorrect hex digit after \\u escape in string.", start)
        self._position += 4
        return int(match[0], 16)


def _add(container: JsonObject | list[JsonValue], name: str, value: JsonValue) -> None:
    if isinstance(container, list):
        container.append(value)
    else:
        container.add(name, value)


def _to_number(text: bytes) -> int | float | None:
    """The int or float that a token stands for, None for a number beyond a double's range.

    An integer is a float where it needs more than 64 bits. ``-0`` is the integer 0. NaN has no sign.
    """
    if text.translate(None, _INTEGER_CHARACTERS):
        if b"N" in text:
            return math.nan
        number = float(text)
        return None if math.isinf(number) and b"n" not in text else number
    text = text.strip()
    if len(text) <= 20:  # as many characters as the largest has; int() would refuse thousands of digits
        integer = int(text)
        if -(2**63) <= integer < 2**64:
            return integer
    number = float(text)
    return None if math.isinf(number) else number


_INTEGER_CHARACTERS = b"0123456789- \t\r\n"
