"""Gathers pieces of bytes into one, without a last copy and without twice the memory."""

import io

from pyserving.platforms.memory import mapped_zeros

_SHORT = 1 << 20
_TRUST = 16
"""Room for an announced size is made once a part like this has come: then what is announced is no idle talk."""


class ByteBuffer:
    """Takes pieces, tiny or large, and gives them away as one.

    BytesIO grows by an eighth at a time, so that many pieces cost no quadratic time, and gives its memory away as a
    bytes object without a copy. One that is made with zero bytes has room from the start: these are no pages of
    memory until they are written to.
    """

    __slots__ = ("_announced", "_file")

    def __init__(self, announced: int = 0) -> None:
        """``announced``: bytes to come, as far as that is known; there may be more or fewer."""
        self._announced = announced
        self._file = io.BytesIO()

    def write(self, piece: bytes | memoryview) -> None:
        if self._announced > _SHORT and len(self) >= self._announced // _TRUST:
            small, self._file = self._file, io.BytesIO(mapped_zeros(self._announced))
            self._announced = 0
            self._file.write(small.getvalue())
        self._file.write(piece)

    def __len__(self) -> int:
        return self._file.tell()

    def take(self) -> bytes:
        """All that was written. The buffer is empty then."""
        file, self._file = self._file, io.BytesIO()
        file.truncate()
        return file.getvalue()
