"""A path to a version folder that many folders have, one after the other."""

import os
from contextlib import suppress

from pyserving.core.errors import ServingError


class PassingPath:
    """``path`` leads to ``folder`` until ``close``; later the same path leads to another.

    TensorFlow counts and times loads by the path that it loads from, and forgets none: 2 kB for each, which lie
    scattered over the heap and keep four times as much of it from being given back. A server whose versions come and go
    would grow without end. On Linux an open folder has a path by the number of its file descriptor, and the lowest free
    number is taken again and again.
    """

    def __init__(self, folder: str) -> None:
        """Where there is no such path, ``path`` is ``folder`` itself."""
        self._folder = folder
        self.path = folder
        self._descriptor: int | None = None
        with suppress(OSError, AttributeError):
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            path = f"/proc/self/fd/{self._descriptor}"
            # No /proc may be mounted, or not for a process that changed its user.
            if os.access(path, os.R_OK | os.X_OK) and os.path.samefile(path, folder):
                self.path = path

    def named(self, error: ServingError) -> ServingError:
        """``error``, with the folder's own path where TensorFlow tells of this one."""
        return ServingError(error.code, error.message.replace(self.path, self._folder))

    def close(self) -> None:
        """Whatever opens files of the folder has ended."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
