"""A SavedModel's graph and variables in memory, ready to run."""

import ctypes
import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pyserving.core.background import in_background
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.model import Array
from pyserving.platforms.stepping_back import stepped_back
from pyserving.platforms.tensorflow.fed_tensor import FedTensor
from pyserving.platforms.tensorflow.library import Buffer, Output, TensorFlow
from pyserving.platforms.tensorflow.passing_path import PassingPath
from pyserving.platforms.tensorflow.session_config import UNSTEADY_POOL
from pyserving.platforms.tensorflow.status import Status
from pyserving.platforms.tensorflow.tensors import take_tensor
from pyserving.protos.messages import ConfigProto, RunOptions

_IN_CALLERS_THREAD = -1
_QUICK = 5e-3
"""Seconds of a run that is not worth several threads between its operations, nor a time-out between its kernels."""
_FORGETTING = 1.1
"""By so much what the quickest run took grows with each run: 25 that are slow make ten times as much of it."""


class RunPlan:
    """What to feed and what to fetch, in the form that the C API takes: made once, used by many runs at once."""

    def __init__(self, feeds: Sequence[Output], fetches: Sequence[Output], targets: Sequence[int] = ()) -> None:
        """``targets``: operations to run though nothing of them is fetched."""
        self.num_feeds, self.num_fetches, self.num_targets = len(feeds), len(fetches), len(targets)
        self._feeds = (Output * len(feeds))(*feeds)
        self._fetches = (Output * len(fetches))(*fetches)
        self.feeds = ctypes.addressof(self._feeds)
        self.fetches = ctypes.addressof(self._fetches)
        self._targets = (ctypes.c_void_p * len(targets))(*targets)
        self.targets = ctypes.addressof(self._targets)
        self.idle: list[_Arguments] = []
        """Arguments that no run uses now; append and pop are atomic."""
        self._seconds: dict[int, float] = {}

    def is_quick(self, kind: int) -> bool:
        """Whether a run with inputs of this kind has lately been seen to take so little that it needs no time-out."""
        return self._seconds.get(kind, math.inf) < _QUICK

    def took(self, kind: int, seconds: float) -> None:
        """Of a run that went well. The quickest counts: others had to wait for a CPU, or for a thread."""
        self._seconds[kind] = min(seconds, _FORGETTING * self._seconds.get(kind, math.inf))


class _Arguments:
    """What a run of a plan needs for itself alone."""

    __slots__ = ("call", "fed", "inputs", "outputs", "status")

    def __init__(self, tf: TensorFlow, plan: RunPlan) -> None:
        self.fed: list[FedTensor | None] = [None] * plan.num_feeds
        self.inputs = (ctypes.c_void_p * plan.num_feeds)()
        self.outputs = (ctypes.c_void_p * plan.num_fetches)()
        self.status = Status(tf)
        self.call = (
            ctypes.c_void_p(plan.feeds),
            ctypes.c_void_p(ctypes.addressof(self.inputs)),
            ctypes.c_int(plan.num_feeds),
            ctypes.c_void_p(plan.fetches),
            ctypes.c_void_p(ctypes.addressof(self.outputs)),
            ctypes.c_int(plan.num_fetches),
            ctypes.c_void_p(plan.targets),
            ctypes.c_int(plan.num_targets),
            None,
            ctypes.c_void_p(self.status.address),
        )
        """Of TF_SessionRun, from the third on."""

    def feed(self, tf: TensorFlow, arrays: Sequence[Array]) -> None:
        """Raises INVALID_ARGUMENT for an array that TensorFlow has no element type for."""
        fed = self.fed
        for index, array in enumerate(arrays):
            kept = fed[index]
            if kept is not None:
                if kept.refill(array):
                    continue
                fed[index] = None
                kept.delete()
            fed[index] = new = FedTensor(tf, array)
            self.inputs[index] = new.address

    def release_fed(self) -> None:
        fed = self.fed
        for index, tensor in enumerate(fed):
            if tensor is not None:
                fed[index] = tensor.released()

    def __del__(self) -> None:
        self.status.delete()
        for tensor in self.fed:
            if tensor is not None:
                tensor.delete()


class Session:
    """``TF_Session``. All methods but close() may be called from several threads at once."""

    def __init__(self, tf: TensorFlow, path: str, tags: Sequence[str], config_proto: ConfigProto) -> None:
        """Loads the graph with exactly ``tags``: restores variables, runs the init op.

        Raises ServingError with TensorFlow's code and text.
        """
        _guard.check()
        self._tf = tf
        self._graph: int = tf.new_graph()
        self._session: ctypes.c_void_p | None = None
        self._path = PassingPath(path)
        """Open as long as the session: its operations may read assets at any time."""
        self.meta_graph = memoryview(b"")
        """The serialized ``MetaGraphDef``; whoever has read it may drop it."""
        self._inline_options = _RunOptions(RunOptions(inter_op_thread_pool=_IN_CALLERS_THREAD))
        self._steps_back = not _has_threads_of_its_own(config_proto)
        self._unsteady_pool = UNSTEADY_POOL if len(config_proto.session_inter_op_thread_pool) > UNSTEADY_POOL else 0
        config: bytes = config_proto.SerializeToString()
        options = tf.new_session_options()
        meta_graph = tf.new_buffer()
        c_tags = (ctypes.c_char_p * len(tags))(*[tag.encode() for tag in tags])
        with Status(tf) as status:
            try:
                tf.set_config(options, config, len(config), status.address)
                status.check()
                _guard.session_exists()
                steps_back = self._steps_back and in_background()
                load: Callable[..., int | None] = tf.load_session
                if steps_back:
                    self._start_threads(options)
                    load = partial(stepped_back, load)
                # Variables are restored on the loading thread then, at its priority.
                run_options = self._inline_options.buffer if steps_back else None
                session = load(
                    options,
                    run_options,
                    os.fsencode(self._path.path),
                    c_tags,
                    len(tags),
                    self._graph,
                    meta_graph,
                    status.address,
                )
                self._session = ctypes.c_void_p(session) if session else None
                status.check()
                self.meta_graph = _copy(meta_graph.contents)
                # The graph is complete: no run needs to look for additions to it.
                tf.extend_session(self._session, status.address)
                status.check()
            except ServingError as error:
                self.close()
                raise self._path.named(error) from None
            finally:
                tf.delete_buffer(meta_graph)
                tf.delete_session_options(options)

    def _start_threads(self, options: int) -> None:
        """Starts the threads that all sessions share, lest they have the low priority of a load for ever.

        The first session does that, with its options; here it is one without a graph. Raises nothing: what is wrong
        with the options will be told by the load.
        """
        tf = self._tf
        with Status(tf) as status:
            graph = tf.new_graph()
            session = tf.new_session(graph, options, status.address)
            if session:
                tf.delete_session(session, status.address)
            tf.delete_graph(graph)

    def output(self, tensor_name: str) -> Output:
        """The graph's output of that name (``operation:index``, or ``operation`` for its first).

        Raises INVALID_ARGUMENT where the graph has none.
        """
        operation_name, _, index = tensor_name.partition(":")
        operation = self._tf.operation_by_name(self._graph, operation_name.encode())
        if not operation or (index and not index.isdecimal()):
            raise invalid_argument(f"Tensor {tensor_name} is not in the graph")
        if int(index or 0) >= self._tf.operation_num_outputs(operation):
            raise invalid_argument(f"Tensor {tensor_name} is no output of its operation")
        return Output(operation, int(index or 0))

    def operation(self, name: str) -> int:
        """The graph's operation of that name. Raises INVALID_ARGUMENT where the graph has none."""
        operation: int | None = self._tf.operation_by_name(self._graph, name.encode())
        if not operation:
            raise invalid_argument(f"Operation {name} is not in the graph")
        return operation

    def run(
        self,
        plan: RunPlan,
        inputs: Sequence[Array],
        *,
        timeout: float | None = None,
        inline: bool = False,
        steady: bool = True,
        copy: bool = False,
    ) -> list[Array]:
        """Feeds ``inputs`` and returns what the plan fetches, read-only.

        ``timeout``, in seconds, is looked at between two kernels. ``inline``: on the calling thread, holding
        the GIL, with no time-out. ``steady``: no kernel is known that may keep a thread for long. ``copy``: no output
        shares memory with the session. Raises ServingError.

        In the background (``core/background.py``) a run without a time-out keeps to one thread of low priority, but
        for kernels that share their work with TensorFlow's threads.
        """
        _guard.check()
        tf = self._tf
        try:
            arguments = plan.idle.pop()
        except IndexError:
            arguments = _Arguments(tf, plan)
        arguments.feed(tf, inputs)
        if inline:
            tf.session_run_holding_gil(self._session, self._inline_options.address, *arguments.call)
        elif timeout is None and self._steps_back and in_background():
            stepped_back(tf.session_run, self._session, self._inline_options.address, *arguments.call)
        elif steady:
            self._run_steady(plan, inputs, arguments, timeout)
        else:
            options = _run_options(timeout, self._unsteady_pool)
            tf.session_run(self._session, options and options.address, *arguments.call)
        arguments.status.check()
        outputs = list(arguments.outputs)
        results: list[Array] = []
        try:
            for tensor in outputs:
                results.append(take_tensor(tf, tensor, copy=copy))
        except BaseException:
            for tensor in outputs[len(results) + 1 :]:
                tf.delete_tensor(tensor)
            raise
        arguments.release_fed()
        plan.idle.append(arguments)
        return results

    def _run_steady(self, plan: RunPlan, inputs: Sequence[Array], arguments: _Arguments, timeout: float | None) -> None:
        """What is quick is run by the calling thread: TensorFlow's own do first what came first, so that each kernel of
        a small model would wait for those of all runs of a large one."""
        kind = sum(array.nbytes for array in inputs).bit_length()
        options = self._inline_options if plan.is_quick(kind) else _run_options(timeout, 0)
        began = time.perf_counter()
        self._tf.session_run(self._session, options and options.address, *arguments.call)
        seconds = time.perf_counter() - began
        arguments.status.check()
        plan.took(kind, seconds)

    def close(self) -> None:
        """Gives back all memory but that of large outputs still in use. No run may be going on."""
        tf = self._tf
        if self._session is not None:
            with Status(tf) as status:
                tf.close_session(self._session, status.address)
                tf.delete_session(self._session, status.address)
            self._session = None
        if self._graph:
            tf.delete_graph(self._graph)
            self._graph = 0
        self._path.close()


def _copy(buffer: Buffer) -> memoryview:
    """Of what is in a ``TF_Buffer``. By numpy, which drops the GIL while it copies some megabytes."""
    if not buffer.length:
        return memoryview(b"")
    pointer = ctypes.cast(buffer.data, ctypes.POINTER(ctypes.c_uint8))
    return np.ctypeslib.as_array(pointer, (buffer.length,)).copy().data


def _has_threads_of_its_own(config: ConfigProto) -> bool:
    """Whether a session with this config starts threads, which would keep the priority of the load."""
    return config.use_per_session_threads or any(not pool.global_name for pool in config.session_inter_op_thread_pool)


class _RunOptions:
    """A serialized ``RunOptions`` as a ``TF_Buffer``."""

    def __init__(self, options: RunOptions) -> None:
        serialized: bytes = options.SerializeToString()
        self._data = ctypes.create_string_buffer(serialized, len(serialized))
        self._content = Buffer(ctypes.addressof(self._data), len(serialized), None)
        self.buffer = ctypes.pointer(self._content)
        self.address = ctypes.c_void_p(ctypes.addressof(self._content))


def _run_options(timeout: float | None, pool: int) -> _RunOptions | None:
    """``timeout`` in seconds; ``pool`` 0 is that of all sessions. None: TensorFlow's defaults."""
    if timeout is None and not pool:
        return None
    milliseconds = 0 if timeout is None else max(1, math.ceil(timeout * 1e3))
    return _RunOptions(RunOptions(timeout_in_ms=milliseconds, inter_op_thread_pool=pool))


class _ForkGuard:
    """A child forked after the first session has none of TensorFlow's threads: there a run would wait for ever."""

    def __init__(self) -> None:
        self._session_exists = False
        self._forked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def session_exists(self) -> None:
        self._session_exists = True

    def _after_fork(self) -> None:
        self._forked = self._session_exists

    def check(self) -> None:
        """Raises FAILED_PRECONDITION in such a child."""
        if self._forked:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                "this process was forked from one with a TensorFlow session: fork before the first, or use exec",
            )


_guard = _ForkGuard()
