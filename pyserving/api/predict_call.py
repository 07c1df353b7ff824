"""A PredictRequest as the api sees it: what it asks for, and its tensors."""

from collections.abc import Mapping

from pyserving.api.models import ModelSpec, read_model_spec
from pyserving.api.parse_message import parse_message
from pyserving.platforms.model import Array, Signature
from pyserving.protos import messages
from pyserving.wire.long_contents import lift_contents
from pyserving.wire.predict_templates import PredictTemplates
from pyserving.wire.tensor_proto import LiftedValues, read_tensor

_LONG = 64 << 10
"""Bytes of a message from which on its values are read where they lie: a copy of them would be no trifle."""


class PredictHead:
    """What a PredictRequest asks for. Requests that differ in their values alone share one."""

    __slots__ = ("input_names", "model_name", "output_filter", "signature_name", "spec")

    def __init__(self, request: messages.PredictRequest) -> None:
        spec = request.model_spec
        self.spec: ModelSpec | None = read_model_spec(spec) if request.HasField("model_spec") else None
        self.model_name: str = spec.name
        self.signature_name: str = spec.signature_name
        """Empty where the request names none."""
        self.output_filter = tuple(request.output_filter)
        self.input_names = frozenset(request.inputs)


class PredictCall:
    """One request. Its tensors are read once its signature is known, for only those that the signature has matter."""

    __slots__ = ("_arrays", "_lifted", "_protos", "head")

    def __init__(
        self,
        head: PredictHead,
        protos: Mapping[str, messages.TensorProto] | None,
        arrays: dict[str, Array] | None = None,
        lifted: Mapping[str, LiftedValues] = {},
    ) -> None:
        """One of ``protos`` and ``arrays``, of the names in ``head``; ``lifted``: what was taken out of ``protos``."""
        self.head = head
        self._lifted = lifted
        self._protos = protos
        self._arrays = arrays

    def tensors(self, signature: Signature) -> dict[str, Array]:
        """Those of the signature's inputs that were sent. Raises ServingError, see ``read_tensor``."""
        arrays = self._arrays
        if arrays is not None:
            if signature.inputs.keys() == arrays.keys():
                return arrays
            return {name: arrays[name] for name in signature.inputs if name in arrays}
        protos = self._protos
        assert protos is not None
        return {
            name: read_tensor(protos[name], name, self._lifted.get(name)) for name in signature.inputs if name in protos
        }


def predict_call(request: messages.PredictRequest) -> PredictCall:
    return PredictCall(PredictHead(request), request.inputs)


class PredictCallReader:
    """Makes calls from serialized messages. It remembers those that more of the same kind may follow."""

    __slots__ = ("_templates",)

    def __init__(self) -> None:
        self._templates: PredictTemplates[PredictHead] = PredictTemplates()

    def read(self, data: bytes) -> PredictCall:
        """Raises INTERNAL where ``data`` is no PredictRequest."""
        if len(data) >= _LONG:
            lifted = lift_contents(data)
            request = parse_message(messages.PredictRequest, lifted.rest)
            return PredictCall(PredictHead(request), request.inputs, lifted=lifted.contents)
        template = self._templates.find(data)
        if template is not None:
            return PredictCall(template.head, None, template.values(data))
        request = parse_message(messages.PredictRequest, data)
        call = predict_call(request)
        self._templates.learn(data, request, call.head)
        return call
