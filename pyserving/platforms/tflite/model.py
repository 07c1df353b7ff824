"""One loaded TensorFlow Lite model."""

from collections.abc import Mapping, Sequence

from pyserving.platforms.input_check import check_input
from pyserving.platforms.model import Array, Signature
from pyserving.platforms.tflite.interpreter import Interpreter
from pyserving.platforms.tflite.litert import litert
from pyserving.platforms.tflite.model_file import read_content, read_model_file
from pyserving.platforms.tflite.options import TFLiteOptions
from pyserving.platforms.tflite.pool import InterpreterPool
from pyserving.platforms.tflite.signatures import read_signatures
from pyserving.protos.messages import SignatureDef


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
            check_input(spec, array, any_batch=bound.resizes_batch)
        shapes = tuple([array.shape for array in arrays])
        interpreter = self._pool.take(bound.subgraph, shapes, timeout=timeout, inline=inline)
        try:
            return interpreter.run(bound, arrays, shapes, outputs, reset=self._resets_variables)
        finally:
            self._pool.give_back(interpreter)

    def close(self) -> None:
        """Gives back the interpreters' memory. No run may be going on."""
        self._pool.close()
