"""Checksums of files, as object stores tell them."""

import hashlib
import os
import zlib
from dataclasses import dataclass

import google_crc32c

_PIECE = 1 << 20
_MIB = 1 << 20
_USUAL_PARTS = (8, 5, 16, 10, 15, 20, 25, 32, 50, 64, 100, 128, 256, 512)
"""MiB, of the AWS CLI and SDKs, rclone, s3fs, Hadoop and others."""
_GUESSES = 16


@dataclass(frozen=True, slots=True)
class Digests:
    """Of the whole content; CRCs in big endian."""

    md5: bytes
    crc32: bytes
    crc32c: bytes


def digests_of(path: str) -> Digests:
    """Raises OSError."""
    md5 = hashlib.md5(usedforsecurity=False)
    crc32 = crc32c = 0
    with open(path, "rb") as file:
        while data := file.read(_PIECE):
            md5.update(data)
            crc32 = zlib.crc32(data, crc32)
            crc32c = google_crc32c.extend(crc32c, data)
    return Digests(md5.digest(), crc32.to_bytes(4, "big"), crc32c.to_bytes(4, "big"))


def is_of_parts(path: str, expected: bytes, parts: int) -> bool:
    """Whether ``expected`` is the MD5 of the MD5s of so many parts: the ETag that S3 gives to a multipart upload.

    It does not tell the size of a part; the usual ones are tried, then whole MiB. Raises OSError.
    """
    return any(_md5_of_parts(path, size) == expected for size in _part_sizes(os.path.getsize(path), parts))


def _part_sizes(size: int, parts: int) -> list[int]:
    """Bytes; of those that make so many parts."""
    first, last = -(-size // parts), (size - 1) // (parts - 1) if parts > 1 else max(size, 512 * _MIB)
    usual = [count * _MIB for count in _USUAL_PARTS]
    others = range(-(-first // _MIB) * _MIB, last + 1, _MIB)[:_GUESSES]
    return [found for found in dict.fromkeys([*usual, *others]) if first <= found <= last][:_GUESSES]


def _md5_of_parts(path: str, size: int) -> bytes:
    whole = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        left = os.path.getsize(path)
        while left > 0:
            part = hashlib.md5(usedforsecurity=False)
            in_part = min(size, left)
            left -= in_part
            while in_part > 0 and (data := file.read(min(_PIECE, in_part))):
                part.update(data)
                in_part -= len(data)
            whole.update(part.digest())
    return whole.digest()
