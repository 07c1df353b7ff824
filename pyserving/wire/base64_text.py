"""Base64 as the real server reads it (``absl::Base64Unescape``)."""

import binascii
import re
from contextlib import suppress

from pyserving.core.errors import invalid_argument

_BLANKS = re.compile(r"[ \t\n\v\f\r]+")
_TEXT = re.compile(r"([A-Za-z0-9+/]*)([=.]*)")


def decode_base64(text: str) -> bytes:
    """The bytes that ``text`` stands for. Raises INVALID_ARGUMENT.

    More is accepted than RFC 4648 allows: blanks anywhere, padding left out (all of it, or none), ``.`` for ``=``,
    and bits after the last byte that are not zero.
    """
    if not len(text) % 4 and not text.endswith("==="):  # binascii passes over padding after a whole group
        with suppress(ValueError):
            return binascii.a2b_base64(text, strict_mode=True)
    match = _TEXT.fullmatch(_BLANKS.sub("", text))
    if match:
        data, padding = match.groups()
        missing = -len(data) % 4
        if missing != 3 and len(padding) in (0, missing):
            return binascii.a2b_base64(data + "=" * missing)
    raise invalid_argument("Unable to base64 decode")


def encode_base64(value: bytes) -> str:
    """Standard base64, with padding and on one line."""
    return binascii.b2a_base64(value, newline=False).decode("ascii")
