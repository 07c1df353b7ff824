"""Predict: named tensors in, named tensors out."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from time import perf_counter

from pyserving.api.models import DEFAULT_SIGNATURE
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.handle import ServableHandle
from pyserving.monitoring.serving_metrics import FULL, ServingMetrics
from pyserving.platforms.model import Array, Model, Signature

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
METHOD_NAMES = (PREDICT, CLASSIFY, REGRESS)
"""What a signature may say it was made for."""


class Engine:
    """Runs signatures for one method of the API, and records how long it took."""

    __slots__ = ("check_method_names", "executor", "metrics", "runs")

    def __init__(
        self, executor: EngineExecutor, metrics: ServingMetrics, api: str, *, check_method_names: bool = False
    ) -> None:
        """``api``: the method's name, as over gRPC: ``Predict``.

        ``check_method_names``: refuse a signature whose method name says that it was made for something else. Those
        of TensorFlow 2 all say that they are for Predict.
        """
        self.check_method_names = check_method_names
        self.executor = executor
        self.metrics = metrics
        self.runs = metrics.runs(api)


def find_signature(model: Model, name: str) -> Signature:
    """The signature ``name``, or the default one where it is empty. Raises FAILED_PRECONDITION."""
    try:
        return model.signatures[name or DEFAULT_SIGNATURE]
    except KeyError:
        raise ServingError(
            Code.FAILED_PRECONDITION, f'Serving signature key "{name or DEFAULT_SIGNATURE}" not found.'
        ) from None


def find_rest_signature(model: Model, name: str) -> Signature:
    """As ``find_signature``, with the code and the text that REST has for it."""
    signature = model.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise invalid_argument(f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def')
    if not signature.inputs:
        raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    return signature


def check_predict_method_name(engine: Engine, signature: Signature) -> None:
    """Raises INTERNAL, as the real server does, for a signature of none of the three methods, if that is checked."""
    if engine.check_method_names and signature.method_name not in METHOD_NAMES:
        raise ServingError(
            Code.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(METHOD_NAMES)}}}. "
            f"Was: {signature.method_name}",
        )


def check_input_names(signature: Signature, given: AbstractSet[str]) -> None:
    """Raises INVALID_ARGUMENT unless every input was given or has a default value.

    Rules and texts are the real server's: as long as the counts fit, a name too many is passed over.
    """
    wanted = signature.inputs
    if wanted.keys() == given:
        return
    if len(given) > len(wanted) or (len(given) < len(wanted) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({_set(given)}) != "
            f"len({_set(wanted)}). Sent extra: {_set(set(given) - set(wanted))}. "
            f"Missing but required: {_set(set(wanted) - set(given))}."
        )
    for name in sorted(wanted):
        if name not in given and name not in signature.defaults:
            raise invalid_argument(
                f"Signature input alias: {name}(feed name: {wanted[name].tensor_name}) not found in request and no "
                f"default value provided. Inputs expected to be in the request {_set(given)}, or default input alias "
                f"set: {','.join(sorted(signature.defaults))}"
            )


def select_outputs(signature: Signature, output_filter: Sequence[str]) -> Sequence[str]:
    """The outputs to compute: those asked for, else all. Raises INVALID_ARGUMENT."""
    if not output_filter:
        return tuple(signature.outputs)
    for position, name in enumerate(output_filter):
        if name not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if name in output_filter[:position]:
            raise invalid_argument(f"duplicate output tensor alias: {name}")
    return tuple(output_filter)


async def predict(
    engine: Engine,
    handle: ServableHandle,
    signature: Signature,
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    deadline: float | None,
    priority: str = "",
) -> dict[str, Array]:
    """Computes ``outputs``. ``inputs`` were checked with check_input_names(); defaults are filled in here."""
    if len(inputs) != len(signature.inputs):
        inputs = {**signature.defaults, **inputs}
    start = perf_counter()
    results = await engine.executor.run(handle, signature, inputs, outputs, deadline, priority)
    runs = engine.runs[handle.id.name]
    runs.append(perf_counter() - start)
    if len(runs) >= FULL:
        engine.runs.flush()
    return dict(zip(outputs, results, strict=True))


def _set(names: Collection[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
