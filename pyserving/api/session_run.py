"""SessionRun: any tensors of a model's graph are fed, any are fetched, whether a signature names them or not.

TensorFlow Serving has the messages and the service's definition, and no server that answers it: the error texts are
our own.
"""

from collections.abc import Iterable, Mapping

from pyserving.api.models import DEFAULT_SIGNATURE
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.handle import ServableHandle
from pyserving.platforms.model import Array, GraphModel, Signature, TensorSpec
from pyserving.protos import messages
from pyserving.wire.tensor_proto import read_tensor, write_tensor


async def session_run(
    executor: EngineExecutor,
    handle: ServableHandle,
    request: messages.SessionRunRequest,
    deadline: float | None,
    priority: str = "",
) -> bytes:
    """A serialized SessionRunResponse: the tensors by the names that the request fetches, in that order.

    With ``tensor_name_is_alias``, names are those that the signature of the ModelSpec gives to its inputs (feeds) and
    outputs (fetches, targets). ``options`` are passed over, as their definition says. ``deadline`` is on the clock of
    ``time.monotonic``. Raises ServingError.
    """
    model = handle.servable
    if not isinstance(model, GraphModel):
        raise ServingError(Code.UNIMPLEMENTED, f"{handle.id} has no TensorFlow graph to run")
    feeds: dict[str, Array] = {}
    for feed in request.feed:
        if feed.name in feeds:
            raise invalid_argument(f"{feed.name} is fed twice")
        feeds[feed.name] = read_tensor(feed.tensor, feed.name)
    fetches, targets = list(request.fetch), list(request.target)
    if not fetches and not targets:
        raise invalid_argument("Expected at least one tensor to fetch or target to run, got neither")
    signature_name = request.model_spec.signature_name
    if request.tensor_name_is_alias:
        signature = _signature(model.signatures, signature_name or DEFAULT_SIGNATURE)
        feeds = {_tensor_name(signature.inputs, name, "input"): array for name, array in feeds.items()}
        fetches = [_tensor_name(signature.outputs, name, "output") for name in fetches]
        targets = [_tensor_name(signature.outputs, name, "output").partition(":")[0] for name in targets]

    def run(timeout: float | None) -> list[Array]:
        return model.run_graph(feeds, fetches, targets, timeout=timeout)

    arrays = await executor.call(handle, run, deadline, priority)
    response = messages.SessionRunResponse()
    response.model_spec.name = handle.id.name
    response.model_spec.version.value = handle.id.version
    response.model_spec.signature_name = signature_name
    for name, array in zip(request.fetch, arrays, strict=True):
        response.tensor.add(name=name).tensor.MergeFromString(write_tensor(array))
    serialized: bytes = response.SerializeToString()
    return serialized


def _signature(signatures: Mapping[str, Signature], name: str) -> Signature:
    try:
        return signatures[name]
    except KeyError:
        raise invalid_argument(f'No signature "{name}" to find aliases in; there are {_quoted(signatures)}') from None


def _tensor_name(specs: Mapping[str, TensorSpec], alias: str, kind: str) -> str:
    try:
        return specs[alias].tensor_name
    except KeyError:
        raise invalid_argument(f'No {kind} "{alias}" in the signature; there are {_quoted(specs)}') from None


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names)) or "none"
