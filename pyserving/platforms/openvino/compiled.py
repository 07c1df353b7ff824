"""One function that OpenVINO has compiled: arrays in, arrays out."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.input_check import check_input
from pyserving.platforms.model import Array, TensorSpec
from pyserving.platforms.openvino.runtime import core, message, openvino
from pyserving.platforms.openvino.tensor_types import check_range, too_wide

_TAKE_AS_LONG_AS_THEY_LIKE = frozenset({"If", "Loop", "TensorIterator"})
"""How long they take depends on the values that they are fed."""


class CompiledFunction:
    """A compiled ``openvino.Model``, and the requests that run it: each for one run at a time.

    A new one is made when all others are busy. So there are never more than runs at the same time.
    """

    def __init__(
        self, model: Any, inputs: Mapping[int, TensorSpec], outputs: Mapping[str, int], num_threads: int
    ) -> None:
        """``inputs``: by index, what is fed there. ``outputs``: by name, which output of the model is meant.

        ``num_threads`` share one operation; 0: as many as there are cores. Raises UNIMPLEMENTED for a model that
        OpenVINO would compute something else from, INVALID_ARGUMENT for one that it cannot compile.
        """
        _check_constants(model)
        op_types = {node.get_type_name() for node in model.get_ops()}
        self.steady = _TAKE_AS_LONG_AS_THEY_LIKE.isdisjoint(op_types)
        """See ``Signature.steady``."""
        self.random = any(name.startswith(("Random", "Multinomial")) for name in op_types)
        """Whether two runs on the same inputs may give different answers."""
        self._keeps_state = bool(model.get_sinks())
        self._inputs = dict(inputs)
        self._outputs = dict(outputs)
        self._tensor = openvino().Tensor
        options: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": "f32",  # where the CPU has bfloat16, the default would round to it
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # several models would be pinned to the same cores
        }
        if num_threads:
            options["INFERENCE_NUM_THREADS"] = num_threads
        try:
            self._compiled = core().compile_model(model, "CPU", options)
        except Exception as error:
            raise invalid_argument(f"OpenVINO cannot compile the model: {message(error)}") from None
        self._infer = _infer_alone if self._compiled.get_property("INFERENCE_NUM_THREADS") == 1 else _infer
        self._idle: deque[Any] = deque()

    def run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,  # noqa: ARG002 - OpenVINO's runs cannot be ended
        inline: bool = False,  # noqa: ARG002 - it makes no difference
    ) -> list[Array]:
        """The outputs of these names, in that order, in memory of their own.

        A run cannot be ended. It lets other Python threads go on. Raises INVALID_ARGUMENT where an input does not fit.
        """
        for spec in self._inputs.values():
            array = inputs[spec.name]
            check_input(spec, array)
            check_range(spec, array)
        try:
            request = self._idle.pop()  # one call, so that no lock is needed
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            if self._keeps_state:
                request.reset_state()
            for index, spec in self._inputs.items():
                request.set_input_tensor(index, self._to_tensor(inputs[spec.name]))
            self._infer(request)
            results = [np.array(request.get_output_tensor(self._outputs[name]).data) for name in outputs]
        except MemoryError:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "there is no memory for the run") from None
        except Exception as error:
            # Shapes that the graph cannot join, an index out of range. The request is dropped: who knows its state.
            given = ", ".join(f"{spec.name} {list(inputs[spec.name].shape)}" for spec in self._inputs.values())
            raise invalid_argument(f"OpenVINO cannot compute with inputs of shapes {given}: {message(error)}") from None
        self._idle.append(request)
        return results

    def close(self) -> None:
        """Gives back the memory. No run may be going on."""
        self._idle.clear()
        self._compiled = None

    def _to_tensor(self, array: Array) -> Any:
        """Shares the array's memory where OpenVINO can read it as it is."""
        return self._tensor(array, shared_memory=array.flags.writeable and array.flags.aligned)


def _infer(request: Any) -> None:
    request.infer()


def _infer_alone(request: Any) -> None:
    """Where one thread computes, as on one CPU. ``infer`` loses its errors then (OpenVINO 2026.4): for shapes that the
    graph cannot join it leaves what was in the memory before, or ends the process. This takes 11 µs more."""
    request.start_async()
    request.wait()


def _check_constants(model: Any) -> None:
    """Raises UNIMPLEMENTED where a constant does not fit into the 32 bits that it would be computed in."""
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in ("i64", "u64", "u32"):
            wide = too_wide(node.get_data())
            if wide is not None:
                raise ServingError(
                    Code.UNIMPLEMENTED, f"the model computes with {wide}, and OpenVINO computes integers in 32 bits"
                )
