"""Recorded requests sent to a server, whatever they were recorded of."""

from typing import Any

import numpy as np

from pyserving.client.aio import AsyncClient
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.validation.samples import Method, Sample, class_arrays
from pyserving.wire.tensor_proto import read_tensor


class ServerTarget:
    """Answers samples by a server. Used on one event loop."""

    def __init__(
        self,
        client: AsyncClient,
        *,
        model: str = "",
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """``model``, ``version`` and ``label`` take the place of what the requests name."""
        self._client = client
        self._model = model
        self._version = version
        self._label = label
        self._timeout = timeout

    async def answer(self, sample: Sample) -> dict[str, Array]:
        """As ``validation.samples.answer_arrays`` has it. Raises ServingError."""
        client, request = self._client, sample.request
        name = self._model or sample.model_name
        signature = sample.signature_name
        where: dict[str, Any] = {**self._choice(sample), "timeout": self._timeout}
        match sample.method:
            case Method.PREDICT:
                inputs = {alias: read_tensor(proto, alias) for alias, proto in request.inputs.items()}
                outputs = tuple(request.output_filter)
                default = signature or "serving_default"
                return dict(await client.predict(name, inputs, signature=default, outputs=outputs, **where))
            case Method.CLASSIFY:
                return class_arrays(await client.classify(name, _examples(request.input), signature=signature, **where))
            case Method.REGRESS:
                values = await client.regress(name, _examples(request.input), signature=signature, **where)
                return {"values": values}
            case Method.MULTI_INFERENCE:
                tasks = [
                    (task.method_name.rpartition("/")[2], task.model_spec.signature_name) for task in request.tasks
                ]
                results = await client.multi_inference(name, tasks, _examples(request.input), **where)
                arrays = {}
                for number, result in enumerate(results):
                    named = {"values": result} if isinstance(result, np.ndarray) else class_arrays(result)
                    arrays.update({f"{number}/{key}": array for key, array in named.items()})
                return arrays
            case Method.PREDICT_STREAMED:
                raise ServingError(Code.UNIMPLEMENTED, "requests whose answers stream are not replayed to servers")

    async def close(self) -> None:
        await self._client.close()

    def _choice(self, sample: Sample) -> dict[str, Any]:
        if self._version is not None or self._label is not None:
            return {"version": self._version, "label": self._label}
        if self._model:
            return {}
        spec = sample.model_spec
        return {
            "version": spec.version.value if spec.HasField("version") else None,
            "label": spec.version_label or None,
        }


def _examples(given: messages.Input) -> list[messages.Example]:
    if given.WhichOneof("kind") != "example_list_with_context":
        return list(given.example_list.examples)
    # A later feature of one name takes the place of an earlier one, as where servers join the two.
    context = given.example_list_with_context.context.SerializeToString()
    return [
        messages.Example.FromString(context + example.SerializeToString())
        for example in given.example_list_with_context.examples
    ]
