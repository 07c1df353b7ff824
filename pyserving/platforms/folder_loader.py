"""A Loader for models that are files in a folder."""

import os
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from pyserving.core.errors import Code, ServingError
from pyserving.core.resources import Resources
from pyserving.platforms.freed_memory import give_memory_back
from pyserving.platforms.model import Model


class ClosableModel(Model, Protocol):
    """A model that has something to give back."""

    def close(self) -> None:
        """No run may be going on."""
        ...


M = TypeVar("M", bound=ClosableModel)


class FolderLoader(Generic[M]):
    """A ``Loader`` that opens the version folder ``path`` with ``open_model``, and closes what that returned."""

    def __init__(self, path: str, open_model: Callable[[str], M], *, ram_per_file_byte: float = 1.2) -> None:
        """``ram_per_file_byte``: what the model needs for each byte of all files; as a rule, what TensorFlow Serving
        reckons with."""
        self.path = path
        self._open_model = open_model
        self._ram_per_file_byte = ram_per_file_byte
        self._model: M | None = None

    def estimate_resources(self) -> Resources:
        """Raises NOT_FOUND where there is no such folder."""
        try:
            return Resources(ram_bytes=int(size_of_files(self.path) * self._ram_per_file_byte))
        except OSError as error:
            raise ServingError(Code.NOT_FOUND, f"{self.path} cannot be read: {error.strerror}") from None

    def load(self) -> M:
        self._model = self._open_model(self.path)
        return self._model

    def unload(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None
            give_memory_back()


def size_of_files(folder: str) -> int:
    """In bytes, of all files under ``folder``. Raises OSError."""

    def fail(error: OSError) -> None:
        raise error

    return sum(
        os.path.getsize(os.path.join(parent, name))
        for parent, _, names in os.walk(folder, onerror=fail, followlinks=True)
        for name in names
    )
