"""What a ``model.py`` is written with: ``from pyserving import Model, Tensor``.

A version folder with a file ``model.py`` is served by an object of the one class in it that derives from ``Model``.
Importing this module imports numpy, and neither an engine nor the server.
"""

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar, overload

import numpy as np

from pyserving.core.errors import Code, ServingError

_NUMBERS = (
    *("float16", "float32", "float64", "bfloat16", "complex64", "complex128", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
_DTYPES = (*_NUMBERS, "str", "bytes")

F = TypeVar("F", bound=Callable[..., Any])


class InvalidInput(ServingError, ValueError):  # noqa: N818 - read as what the request is, not as an accident
    """Raised by model code where the request cannot be right: the client gets INVALID_ARGUMENT (400) and the text.

    Any other exception of model code is told to clients by the name of its type alone.
    """

    def __init__(self, message: str) -> None:
        super().__init__(Code.INVALID_ARGUMENT, message)


@dataclass(frozen=True, slots=True)
class TensorType:
    """An element type and a shape, as an annotation gives them."""

    dtype: str
    """A name of numpy's, ``bfloat16``, ``str`` or ``bytes``."""
    shape: tuple[int | None, ...] | None
    """None where any shape will do; None in it where any size will."""


class Tensor:
    """Annotates an input or an output: ``Tensor[np.float32, None, 4]``.

    First the element type: of numpy, or ``str`` or ``bytes`` (both are DT_STRING to clients; ``str`` is UTF-8), by
    itself or by name. Then the size of each dimension, None for any; no sizes are a scalar, ``...`` is any shape.
    Model code gets and returns numpy arrays; strings are arrays of objects, of Python's ``str`` or ``bytes``.
    """

    def __class_getitem__(cls, given: Any) -> Any:
        dtype, *sizes = given if isinstance(given, tuple) else (given,)
        shape = None if sizes == [Ellipsis] else tuple(sizes)
        for size in shape or ():
            if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
                raise TypeError(f"Tensor: expected sizes that are None or not negative, got {size!r}")
        return Annotated[np.ndarray, TensorType(_dtype_name(dtype), shape)]


def _dtype_name(given: Any) -> str:
    if given in (str, bytes):
        return str(given.__name__)
    if given in ("string", "str", "bytes"):
        return "bytes" if given == "bytes" else "str"
    try:
        name = given if given == "bfloat16" else np.dtype(given).name
    except TypeError:
        name = str(given)
    if name not in _DTYPES:
        raise TypeError(f"Tensor: expected an element type of {', '.join(_DTYPES)}, got {given!r}")
    return str(name)


class ModelClient(Protocol):
    """Another model of the same server."""

    def predict(
        self, inputs: Mapping[str, Any] | None = None, /, *, signature: str = "", **named: Any
    ) -> dict[str, np.ndarray]:
        """Its outputs by name, for inputs given by name: arrays, or lists and numbers of the right kind.

        Waits for the answer; in an ``async`` method use ``predict_async``. ``signature`` is empty for the default
        one. Strings come back as bytes. Raises ServingError, which may be left to reach the client.
        """
        ...

    async def predict_async(
        self, inputs: Mapping[str, Any] | None = None, /, *, signature: str = "", **named: Any
    ) -> dict[str, np.ndarray]:
        """The same, to be awaited."""
        ...

    def stream(
        self, inputs: Mapping[str, Any] | None = None, /, *, signature: str = "", **named: Any
    ) -> Generator[dict[str, np.ndarray], None, None]:
        """The pieces of an answer that streams; one piece of any other. To close it stops the other model."""
        ...

    def stream_async(
        self, inputs: Mapping[str, Any] | None = None, /, *, signature: str = "", **named: Any
    ) -> AsyncGenerator[dict[str, np.ndarray], None]:
        """The same, for ``async for``."""
        ...


class Models(Protocol):
    """The models of the server: ``models["name"]``, ``models["name", 3]`` (a version), ``models["name", "stable"]``
    (a label). What they name is looked up when it is called.

    Within one request all calls of ``models["name"]`` reach the same version, which stays loaded until the request
    ends. Only code that runs for a request, or for ``load``, may call them.
    """

    def __getitem__(self, name: str | tuple[str, int | str]) -> ModelClient: ...


class Model:
    """The base of the class in a ``model.py``.

    ``predict`` and each method marked with ``@signature`` become signatures, by their annotations. They may be plain
    or ``async``, and generators: those stream their answer. Plain ones run on threads, several at once, so they may
    change what they share only under a lock.

    Those of the following settings that say so are read before any code of the file runs, so they have to be
    written as constants.
    """

    isolation: ClassVar[Literal["threads", "process"]] = "threads"
    """``process``: a process of its own; one that crashes, hangs or needs too much memory is started again.
    A constant."""
    concurrency: ClassVar[int] = 8
    """How many calls run at the same time; others wait."""
    time_limit: ClassVar[float] = 60.0
    """Seconds that a call may take, and that a stream may take for each piece."""
    load_time_limit: ClassVar[float] = 300.0
    """Seconds for the import of the file and ``load``. A constant."""
    memory_limit: ClassVar[int | None] = None
    """Bytes of memory of its process, with ``isolation = "process"`` on Linux; None: no limit. A constant."""

    models: Models
    """The other models of the server. Set before ``load``."""

    def load(self, folder: Path) -> None:
        """Called once, before the first request. ``folder`` is the version's, where its files are."""

    def unload(self) -> None:
        """Called once, after the last request."""


@dataclass(frozen=True, slots=True)
class SignatureOptions:
    """What ``@signature`` says of a method."""

    name: str
    row_wise: bool


OPTIONS = "_pyserving_signature"
"""The attribute of a method that holds its SignatureOptions."""


@overload
def signature(method: F, /) -> F: ...


@overload
def signature(*, name: str = ..., row_wise: bool = ...) -> Callable[[F], F]: ...


def signature(method: F | None = None, /, *, name: str = "", row_wise: bool = False) -> F | Callable[[F], F]:
    """Marks a method of a ``Model`` as a signature.

    ``name``: by default the method's, and ``serving_default`` for ``predict``. ``row_wise``: a promise that each row
    of the outputs is computed from that row of the inputs alone, and that to compute it twice does no harm. Then what
    arrives while a call runs is joined for the next call.
    """

    def mark(method: F) -> F:
        setattr(method, OPTIONS, SignatureOptions(name or default_name(method.__name__), row_wise))
        return method

    return mark if method is None else mark(method)


def default_name(method_name: str) -> str:
    """The signature that a method is if nothing else is said."""
    return "serving_default" if method_name == "predict" else method_name
