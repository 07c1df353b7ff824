"""Lifts long values out of the text of a JSON document, which is then short, to be read in ways of their own.

What is lifted is the value of a member: an array, or the text of a ``"b64"``. In its place stands a string with a word
that no client can know. The text that is left is valid JSON if and only if the document is, as far as the values
themselves are what they seem:

- An array is taken from behind a quotation mark and a colon. Were these inside of a string, the quotation mark of the
  word would end it, and the word itself would be left standing where no value may be.
- The text of a b64 has neither quotation mark nor backslash, and nor has the word for it.

Whether the values are what they seem is seen when they are taken. So nothing is proved before all of them were.
"""

import binascii
import re
import secrets

from pyserving.wire.base64_text import decode_base64
from pyserving.wire.breath import breathe
from pyserving.wire.byte_buffer import ByteBuffer
from pyserving.wire.json_numbers import NumberArray
from pyserving.wire.json_tensors import NotPlainError

_LONG_ARRAY = 4 << 10
_LONG_BASE64 = 64 << 10
"""Bytes of text from which on the detour pays."""

_BEGIN = re.compile(rb'"[ \t\r\n]*:[ \t\r\n]*\[|"b64"[ \t\r\n]*:[ \t\r\n]*"')

_MISS = 1000
"""Bytes that have to be lifted for each place that was looked at in vain, lest many short arrays make it slow."""
_FREE_MISSES = 64

_WORD = "x" + secrets.token_hex(8)

_PIECE = 1 << 18
"""Bytes of base64 decoded at a time; a multiple of four."""


class LongValues:
    """The long values of one document."""

    __slots__ = ("_arrays", "_spans", "_text", "rest")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._arrays: dict[str, tuple[int, int]] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self.rest = self._lift()
        """The document with a word for each long value."""

    def _lift(self) -> bytes:
        text = self._text
        view = memoryview(text)
        parts: list[bytes | memoryview] = []
        done = position = misses = lifted = 0
        while match := _BEGIN.search(text, position):
            position = match.end()
            quote = text.find(b'"', position)
            limit = quote if quote >= 0 else len(text)
            word = f"{_WORD}{len(self._arrays) + len(self._spans)}"
            if text[position - 1] == ord('"'):
                start, end = position, limit
                if long := end - start >= _LONG_BASE64 and quote >= 0:
                    self._spans[word] = (start, end)
                    parts += [view[done:start], word.encode()]
            else:
                # An array of numbers ends before the next member, and before the object does.
                start = position - 1
                brace = text.find(b"}", start, limit)
                end = text.rfind(b"]", start, brace if brace >= 0 else limit) + 1
                if long := end - start >= _LONG_ARRAY:
                    self._arrays[word] = (start, end)
                    parts += [view[done:start], b'"%b"' % word.encode()]
            if long:
                lifted += end - start
                done = position = end
                continue
            misses += 1
            if (misses - _FREE_MISSES) * _MISS > lifted:
                break
        if not parts:
            return text
        return b"".join((*parts, view[done:]))

    @property
    def left(self) -> int:
        """How many were not taken yet."""
        return len(self._arrays) + len(self._spans)

    def has_array(self, value: object) -> bool:
        """Whether ``value`` stands for an array."""
        return type(value) is str and value in self._arrays

    def take_array(self, word: str) -> NumberArray:
        """Raises NotPlainError if it is no regular array."""
        return NumberArray(self._text, *self._arrays.pop(word))

    def decode_base64(self, text: str) -> bytes:
        """The bytes that the text of a b64 stands for, be it a word or not. Raises ServingError and NotPlainError."""
        span = self._spans.pop(text, None)
        if span is None:
            return decode_base64(text)
        start, end = span
        if (end - start) % 4 or self._text.find(b"=", start, end - 2) >= 0:
            raise NotPlainError
        view = memoryview(self._text)
        buffer = ByteBuffer((end - start) // 4 * 3 - self._text.count(b"=", end - 2, end))
        try:
            for at in range(start, end, _PIECE):
                buffer.write(binascii.a2b_base64(view[at : min(at + _PIECE, end)], strict_mode=True))
                breathe()
        except ValueError:
            raise NotPlainError from None
        return buffer.take()
