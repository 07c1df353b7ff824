"""One LiteRT interpreter: for one thread at a time."""

from collections.abc import Sequence

import numpy as np

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.model import Array
from pyserving.platforms.tflite.litert import LiteRT
from pyserving.platforms.tflite.model_file import ModelFile, check_header
from pyserving.platforms.tflite.signatures import BoundSignature
from pyserving.platforms.tflite.tensor_types import from_litert, to_litert

Shapes = tuple[tuple[int, ...], ...]

_MAX_REPORT = 16 << 10


class Interpreter:
    """Has its own activations, variables and packed weights, and shares the file's bytes.

    Only a run lets other Python threads go on; what is done before it does not.
    """

    def __init__(self, litert: LiteRT, content: bytes, num_threads: int) -> None:
        """Checks the file. Raises INVALID_ARGUMENT where it is damaged."""
        check_header(litert, content)
        try:
            # It keeps the bytes, which the wrapped interpreter goes on reading.
            self._owner = litert.interpreter.Interpreter(model_content=content, num_threads=num_threads)
        except (ValueError, RuntimeError) as error:
            raise invalid_argument(f"LiteRT cannot read the TensorFlow Lite file: {error}") from None
        # The public methods reach the first subgraph only.
        self._wrapped = self._owner._interpreter
        self._shapes: dict[int, Shapes] = {}
        self._report = ""

    @property
    def worn_out(self) -> bool:
        """LiteRT keeps the text of every error until its interpreter goes."""
        return len(self._report) > _MAX_REPORT

    def allocate(self, file: ModelFile, subgraphs: Sequence[int]) -> None:
        """Gets ready to run. Raises UNIMPLEMENTED for operations that LiteRT does not have, else INVALID_ARGUMENT."""
        flex = [name for name in file.custom_ops if name.startswith("Flex")]
        if flex:
            raise ServingError(
                Code.UNIMPLEMENTED,
                f"the model needs TensorFlow's own operations {', '.join(flex)}, which LiteRT cannot run: "
                "convert it without SELECT_TF_OPS, or serve the SavedModel",
            )
        for subgraph in subgraphs:
            try:
                self._wrapped.AllocateTensors(subgraph)
            except (ValueError, RuntimeError) as error:
                if file.custom_ops:
                    ops = ", ".join(file.custom_ops)
                    raise ServingError(
                        Code.UNIMPLEMENTED, f"LiteRT cannot run the model, which has custom operations {ops}: {error}"
                    ) from None
                raise invalid_argument(f"LiteRT cannot run the model: {error}") from None

    def has_shapes(self, subgraph: int, shapes: Shapes) -> bool:
        """Whether a run with inputs of these shapes needs no new memory."""
        return self._shapes.get(subgraph) == shapes

    def run(
        self, bound: BoundSignature, arrays: Sequence[Array], shapes: Shapes, outputs: Sequence[str], *, reset: bool
    ) -> list[Array]:
        """Computes ``outputs`` from the signature's inputs, in its order. ``reset`` clears what sequences carry on.

        Raises INVALID_ARGUMENT where the model cannot take inputs of these shapes together, INTERNAL where it fails.
        """
        wrapped, subgraph, signature = self._wrapped, bound.subgraph, bound.signature
        indices = [bound.inputs[name] for name in signature.inputs]
        if not self.has_shapes(subgraph, shapes):
            self._shapes.pop(subgraph, None)
            try:
                for index, shape in zip(indices, shapes, strict=True):
                    wrapped.ResizeInputTensor(index, np.array(shape, np.int32), False, subgraph)
                wrapped.AllocateTensors(subgraph)
            except (ValueError, RuntimeError) as error:
                given = ", ".join(f"{name} {list(shape)}" for name, shape in zip(signature.inputs, shapes, strict=True))
                raise invalid_argument(f"the model cannot take inputs of shapes {given}: {self._new(error)}") from None
            self._shapes[subgraph] = shapes
        try:
            if reset:
                wrapped.ResetVariableTensors()
            for index, spec, array in zip(indices, signature.inputs.values(), arrays, strict=True):
                wrapped.SetTensor(index, to_litert(spec.dtype, array), subgraph)
            wrapped.Invoke(subgraph)
            return [
                from_litert(signature.outputs[name].dtype, wrapped.GetTensor(bound.outputs[name], subgraph))
                for name in outputs
            ]
        except (ValueError, RuntimeError) as error:
            raise ServingError(Code.INTERNAL, f"Failed to invoke TfLite interpreter: {self._new(error)}") from None

    def _new(self, error: Exception) -> str:
        """The text of the error without those of all errors before, which LiteRT puts in front of it."""
        report = str(error)
        new = report.removeprefix(self._report)
        self._report = report
        return new
