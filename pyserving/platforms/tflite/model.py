"""One loaded TensorFlow Lite model."""

from collections.abc import Mapping, Sequence

from pyserving.core.errors import invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF
from pyserving.platforms.model import Array, Signature, TensorSpec
from pyserving.platforms.tflite.interpreter import Interpreter
from pyserving.platforms.tflite.litert import litert
from pyserving.platforms.tflite.model_file import read_content, read_model_file
from pyserving.platforms.tflite.options import TFLiteOptions
from pyserving.platforms.tflite.pool import InterpreterPool
from pyserving.platforms.tflite.signatures import read_signatures
from pyserving.protos.messages import SignatureDef

_MAX_DIM = (1 << 31) - 1


class TFLiteModel:
    """A ``Model`` computed by LiteRT interpreters."""

    def __init__(self, path: str, options: TFLiteOptions) -> None:
        """Loads ``model.tflite`` in the folder ``path``. Raises ServingError."""
        lite = litert()
        content = read_content(path)
        # LiteRT checks the whole file when it makes an interpreter; only then may it be read.
        first: list[Interpreter] = [Interpreter(lite, content, options.num_threads)]
        file = read_model_file(lite, content)
        self._bound = read_signatures(file, tensor_names=options.tensor_names)
        self.signatures: Mapping[str, Signature] = {name: bound.signature for name, bound in self._bound.items()}
        self.signature_defs: Mapping[str, SignatureDef] = {
            name: bound.signature_def for name, bound in self._bound.items()
        }
        self._resets_variables = file.has_variable_tensors
        subgraphs = sorted({bound.subgraph for bound in self._bound.values()})

        def make() -> Interpreter:
            interpreter = first.pop() if first else Interpreter(lite, content, options.num_threads)
            interpreter.allocate(file, subgraphs)
            return interpreter

        self._pool = InterpreterPool(make, options.num_interpreters, keeps_state=file.assigns_variables)

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        inline: bool = False,
    ) -> list[Array]:
        """See ``Model.run``. ``timeout`` ends the wait for an interpreter; a run that has begun cannot be stopped."""
        bound = self._bound[signature.name]
        arrays = [inputs[name] for name in bound.signature.inputs]
        for spec, array in zip(bound.signature.inputs.values(), arrays, strict=True):
            _check(spec, array, resizes_batch=bound.resizes_batch)
        shapes = tuple([array.shape for array in arrays])
        interpreter = self._pool.take(bound.subgraph, shapes, timeout=timeout, inline=inline)
        try:
            return interpreter.run(bound, arrays, shapes, outputs, reset=self._resets_variables)
        finally:
            self._pool.give_back(interpreter)

    def close(self) -> None:
        """Gives back the interpreters' memory. No run may be going on."""
        self._pool.close()


def _check(spec: TensorSpec, array: Array, *, resizes_batch: bool) -> None:
    """Raises INVALID_ARGUMENT unless the array is what the file says of this input.

    LiteRT itself would take other ranks and sizes, and compute something from them.
    """
    if array.dtype != NUMPY_OF[spec.dtype]:
        given = DTYPE_OF[array.dtype].text if array.dtype in DTYPE_OF else str(array.dtype)
        raise invalid_argument(f"input {spec.name} must be a {spec.dtype.text} tensor, got {given}")
    shape = array.shape
    if any(size > _MAX_DIM for size in shape):
        raise invalid_argument(f"input {spec.name} has shape {list(shape)}, of which LiteRT has no dimension so large")
    if spec.shape is None:
        return
    fits = len(shape) == len(spec.shape) and all(
        wanted is None or wanted == size or (resizes_batch and dimension == 0)
        for dimension, (wanted, size) in enumerate(zip(spec.shape, shape, strict=True))
    )
    if not fits:
        wanted = [-1 if size is None else size for size in spec.shape]
        raise invalid_argument(f"input {spec.name} must have shape {wanted}, got {list(shape)}")
