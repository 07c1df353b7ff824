"""TensorFlow's C API, called by ctypes on the shared library inside the installed TensorFlow wheel."""

import ctypes
import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.tensorflow.memory import prepare_allocator
from pyserving.platforms.tensorflow.quiet_stderr import quiet_stderr

Function = Callable[..., Any]

_NAMES = {
    "linux": ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2"),
    "darwin": ("libtensorflow_cc.2.dylib", "libtensorflow_framework.2.dylib"),
    "win32": ("python/_pywrap_tensorflow_common.dll", "python/_pywrap_tensorflow_internal.pyd"),
}


class Buffer(ctypes.Structure):
    """``TF_Buffer``: bytes that go in or out, mostly a serialized message."""

    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


class Output(ctypes.Structure):
    """``TF_Output``: one output of an operation of a graph, to be fed or fetched."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


class TensorFlow:
    """The functions of the C API that are used here, under short names. Handles are addresses (int).

    Functions that only read or write memory are called with the GIL held: dropping it costs less than a
    microsecond alone, but a wait for its turn beside a busy Python thread. Those that load, close or run for
    long drop it.
    """

    def __init__(self, path: Path) -> None:
        quick, free = _open(path)

        def function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Function:
            found = library[name]  # unlike getattr, this makes a new function object: prototypes are its own
            found.restype, found.argtypes = result, arguments
            return found

        run = (None, *(c_void_p,) * 4, c_int, c_void_p, c_void_p, c_int, c_void_p, c_int, c_void_p, c_void_p)

        self.version: str = function(quick, "TF_Version", c_char_p)().decode()

        self.new_status = function(quick, "TF_NewStatus", c_void_p)
        self.delete_status = function(quick, "TF_DeleteStatus", None, c_void_p)
        self.get_code = function(quick, "TF_GetCode", c_int, c_void_p)
        self.message = function(quick, "TF_Message", c_char_p, c_void_p)

        self.allocate_tensor = function(quick, "TF_AllocateTensor", c_void_p, c_int, POINTER(c_int64), c_int, c_size_t)
        self.tensor_from_proto = function(quick, "TF_TensorFromProto", None, c_void_p, c_void_p, c_void_p)
        self.delete_tensor = function(quick, "TF_DeleteTensor", None, c_void_p)
        self.tensor_maybe_move = function(quick, "TF_TensorMaybeMove", c_void_p, c_void_p)
        self.tensor_type = function(quick, "TF_TensorType", c_int, c_void_p)
        self.num_dims = function(quick, "TF_NumDims", c_int, c_void_p)
        self.dim = function(quick, "TF_Dim", c_int64, c_void_p, c_int)
        self.tensor_byte_size = function(quick, "TF_TensorByteSize", c_size_t, c_void_p)
        self.tensor_data = function(quick, "TF_TensorData", c_void_p, c_void_p)

        self.new_graph = function(quick, "TF_NewGraph", c_void_p)
        self.delete_graph = function(free, "TF_DeleteGraph", None, c_void_p)
        self.operation_by_name = function(quick, "TF_GraphOperationByName", c_void_p, c_void_p, c_char_p)
        self.operation_num_outputs = function(quick, "TF_OperationNumOutputs", c_int, c_void_p)
        self.op_is_stateful = function(quick, "TF_OpIsStateful", c_int, c_char_p, c_void_p)

        self.load_library = function(free, "TF_LoadLibrary", c_void_p, c_char_p, c_void_p)
        self.get_op_list = function(quick, "TF_GetOpList", Buffer, c_void_p)
        self.get_all_kernels = function(quick, "TF_GetAllRegisteredKernels", POINTER(Buffer), c_void_p)

        self.new_buffer = function(quick, "TF_NewBuffer", POINTER(Buffer))
        self.delete_buffer = function(quick, "TF_DeleteBuffer", None, POINTER(Buffer))
        self.new_session_options = function(quick, "TF_NewSessionOptions", c_void_p)
        self.delete_session_options = function(quick, "TF_DeleteSessionOptions", None, c_void_p)
        self.set_config = function(quick, "TF_SetConfig", None, c_void_p, c_char_p, c_size_t, c_void_p)
        self.new_session = function(free, "TF_NewSession", c_void_p, c_void_p, c_void_p, c_void_p)
        self.load_session = function(
            free,
            "TF_LoadSessionFromSavedModel",
            c_void_p,
            c_void_p,
            POINTER(Buffer),
            c_char_p,
            POINTER(c_char_p),
            c_int,
            c_void_p,
            POINTER(Buffer),
            c_void_p,
        )
        self.extend_session = function(free, "TF_ExtendSession", None, c_void_p, c_void_p)
        self.close_session = function(free, "TF_CloseSession", None, c_void_p, c_void_p)
        self.delete_session = function(free, "TF_DeleteSession", None, c_void_p, c_void_p)
        self.session_run = function(free, "TF_SessionRun", *run)
        self.session_run_holding_gil = function(quick, "TF_SessionRun", *run)

        # ctypes.memmove itself drops the GIL; its address under another prototype does not.
        memmove = ctypes.PYFUNCTYPE(c_void_p, c_void_p, c_char_p, c_size_t)
        self.move_bytes: Function = memmove(ctypes.cast(ctypes.memmove, c_void_p).value or 0)


def _open(path: Path) -> tuple[ctypes.PyDLL, ctypes.CDLL]:
    """The library twice: calls of the first hold the GIL, those of the second drop it. Raises FAILED_PRECONDITION."""
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    prepare_allocator()
    try:
        with nullcontext() if level in ("0", "1") else quiet_stderr():
            # RTLD_LOCAL, which is ctypes' default: with RTLD_GLOBAL a later `import tensorflow` crashes.
            return ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
    except OSError as error:
        raise ServingError(Code.FAILED_PRECONDITION, f"TensorFlow's library cannot be opened: {error}") from None


_lock = threading.Lock()


def tensorflow() -> TensorFlow:
    """The library, opened at the first call (half a second, 350 MB; no thread is started).

    Raises FAILED_PRECONDITION where no TensorFlow is installed.
    """
    with _lock:  # several models may be the first to load; they would trip over each other's quiet_stderr()
        return _opened()


@functools.cache
def _opened() -> TensorFlow:
    return TensorFlow(find_library())


def find_library() -> Path:
    """The shared library with the C API in the installed ``tensorflow`` package, which is not imported.

    Raises FAILED_PRECONDITION.
    """
    names = _NAMES.get(sys.platform, _NAMES["linux"])
    folders = list(_package_folders())
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    if folders:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"no TensorFlow library in {folders[0]}: expected one of {', '.join(names)} (TensorFlow 2.16 or later)",
        )
    raise ServingError(
        Code.FAILED_PRECONDITION,
        "TensorFlow is not installed, so TensorFlow models cannot be loaded: pip install 'pyserving[tensorflow]' (or "
        "'pyserving[openvino]', which is smaller, for those that OpenVINO can read)",
    )


def is_installed() -> bool:
    """Whether there is a package of TensorFlow, whole or not. Nothing is opened."""
    return any(True for _ in _package_folders())


def _package_folders() -> Iterator[Path]:
    try:
        spec = importlib.util.find_spec("tensorflow")  # of a top-level package: finds, does not import
    except (ImportError, ValueError):
        return
    if spec is not None:
        yield from map(Path, spec.submodule_search_locations or ())
