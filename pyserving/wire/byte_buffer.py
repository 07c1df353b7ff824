"""Gathers pieces of bytes into one, without a last copy and without twice the memory."""

import io


class ByteBuffer:
    """Room for ``size`` bytes, which pieces fill; more of them make it grow.

    BytesIO gives its memory away as a bytes object where it is exactly full. One that was made with zero bytes has
    room from the start: those are no pages of memory until they are written to.
    """

    __slots__ = ("_file",)

    def __init__(self, size: int = 0) -> None:
        self._file = io.BytesIO(bytes(size))

    def write(self, piece: bytes | memoryview) -> None:
        self._file.write(piece)

    def reserve(self, size: int) -> None:
        """Makes room for ``size`` bytes in all."""
        at = self._file.tell()
        larger = io.BytesIO(bytes(size))
        with self._file.getbuffer() as written:
            larger.write(written[:at])
        self._file = larger

    def __len__(self) -> int:
        return self._file.tell()

    def take(self) -> bytes:
        """All that was written. The buffer is empty then."""
        file, self._file = self._file, io.BytesIO()
        file.truncate()
        return file.getvalue()
