"""One loaded ONNX model."""

import logging
import os
from collections.abc import Mapping, Sequence
from threading import Timer
from typing import Any

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.input_check import check_input
from pyserving.platforms.model import Array, Signature, TensorSpec
from pyserving.platforms.onnx.op_types import count_op_types
from pyserving.platforms.onnx.runtime import onnxruntime
from pyserving.platforms.onnx.tensor_types import dtype_of, from_onnx, to_onnx
from pyserving.platforms.signature_def import DEFAULT_SIGNATURE, PREDICT_METHOD, signature_defs
from pyserving.protos.messages import SignatureDef

FILE_NAME = "model.onnx"

_TAKE_AS_LONG_AS_THEY_LIKE = frozenset({"If", "ImageDecoder", "Loop", "NonMaxSuppression", "Scan"})
"""How long they take depends on the values that they are fed."""
logger = logging.getLogger("pyserving.onnx")


class OnnxModel:
    """A ``Model`` computed by a session of ONNX Runtime, on the CPU. A session takes any number of runs at once."""

    def __init__(self, folder: str, num_threads: int) -> None:
        """Loads ``model.onnx`` in ``folder``, and files with weights that it names beside it.

        ``num_threads`` share one operation; 0: as many as there are cores. Raises ServingError.
        """
        runtime = onnxruntime()
        path = os.path.join(folder, FILE_NAME)
        op_types = count_op_types(path)
        self._run_options = runtime.RunOptions
        self._session = _session(runtime, path, num_threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        steady = _TAKE_AS_LONG_AS_THEY_LIKE.isdisjoint(op_types)
        signature = Signature(
            name=DEFAULT_SIGNATURE,
            inputs={each.name: _spec(each) for each in inputs},
            outputs=_outputs(outputs),
            method_name=PREDICT_METHOD,
            stateless=True,  # an ONNX graph has no variables
            steady=steady,
        )
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: signature}
        self.signature_defs: Mapping[str, SignatureDef] = signature_defs(self.signatures)

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        inline: bool = False,  # noqa: ARG002 - it makes no difference
    ) -> list[Array]:
        """See ``Model.run``. ``timeout`` ends runs of models with loops, between two operations."""
        for name, spec in signature.inputs.items():
            check_input(spec, inputs[name])
        feeds = {name: to_onnx(name, inputs[name]) for name in signature.inputs}
        if timeout is None or signature.steady:
            results = self._run(feeds, outputs, None)
        else:
            results = self._run_limited(feeds, outputs, timeout)
        return [from_onnx(result) for result in results]

    def close(self) -> None:
        """Gives back the session's memory. No run may be going on."""
        self._session = None

    def _run_limited(self, feeds: Mapping[str, Array], outputs: Sequence[str], timeout: float) -> list[Any]:
        options = self._run_options()
        ran_out = []

        def terminate() -> None:
            ran_out.append(True)
            options.terminate = True

        timer = Timer(timeout, terminate)
        timer.daemon = True
        timer.start()
        try:
            return self._run(feeds, outputs, options)
        except ServingError:
            if ran_out:
                raise ServingError(Code.DEADLINE_EXCEEDED, f"the run was ended after {timeout:.3f} s") from None
            raise
        finally:
            timer.cancel()

    def _run(self, feeds: Mapping[str, Array], outputs: Sequence[str], options: Any) -> list[Any]:
        session: Any = self._session
        try:
            results: list[Any] = session.run(list(outputs), feeds, options)
            return results
        except MemoryError:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "there is no memory for the run") from None
        except UnicodeDecodeError as error:
            raise ServingError(Code.INTERNAL, f"the model computed text that is not UTF-8: {error}") from None
        except Exception as error:
            # Shapes that the graph cannot join, an index out of range: that it depends on what was fed is all but sure,
            # for the graph itself was checked when it was loaded.
            given = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise invalid_argument(
                f"ONNX Runtime cannot compute with inputs of shapes {given}: {_message(error)}"
            ) from None


def _session(runtime: Any, path: str, num_threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    # What goes wrong is in the exceptions; a log line for each bad request would let clients fill the disk.
    options.log_severity_level = 4
    # Idle threads would otherwise spin, on cores that the server and other models need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except MemoryError:
        raise ServingError(Code.RESOURCE_EXHAUSTED, f"there is no memory for {path}") from None
    except Exception as error:
        code = Code.UNIMPLEMENTED if type(error).__name__ == "NotImplemented" else Code.INVALID_ARGUMENT
        raise ServingError(code, f"ONNX Runtime {runtime.__version__} cannot load {path}: {_message(error)}") from None


def _message(error: Exception) -> str:
    """Without the prefix ``[ONNXRuntimeError] : 10 : INVALID_GRAPH :``."""
    text = " ".join(str(error).split())
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text


def _spec(node: Any) -> TensorSpec:
    # A size is a number, or the name that the exporter gave to one that is not known, or nothing.
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in node.shape)
    return TensorSpec(node.name, node.name, dtype_of(node.name, node.type), shape)


def _outputs(nodes: Sequence[Any]) -> dict[str, TensorSpec]:
    """Without those that are no tensors, such as the probabilities of scikit-learn's classifiers by class."""
    specs = {}
    for node in nodes:
        try:
            specs[node.name] = _spec(node)
        except ServingError as error:
            logger.warning("Output %s is left out: %s", node.name, error.message)
    if not specs:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"no output is a tensor that can be served: {', '.join(f'{node.name} {node.type}' for node in nodes)}",
        )
    return specs
