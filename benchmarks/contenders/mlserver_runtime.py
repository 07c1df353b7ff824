"""A custom runtime of MLServer, which speaks the Open Inference Protocol (V2)."""

from pathlib import Path
from typing import Any

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from saved_model import SavedModel


class SavedModelRuntime(MLModel):
    async def load(self) -> bool:
        self._model = SavedModel(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        output = self._model(self.decode(payload.inputs[0], NumpyCodec))
        return InferenceResponse(model_name=self.name, outputs=[_encoded(output)])


def _encoded(output: Any) -> Any:
    if output.dtype == object:
        return StringCodec.encode_output("output", [value.decode() for value in output])
    return NumpyCodec.encode_output("output", output)
