"""A REST request and its answer as the messages that mean the same over gRPC, serialized."""

from collections.abc import Mapping

from pyserving.api.inference import Classes
from pyserving.api.models import ModelSpec
from pyserving.api.prediction_methods import (
    classification_response,
    effective_spec,
    inputs_field,
    outputs_field,
    regression_response,
)
from pyserving.api.request_log import RequestAndResponse
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.wire.json_examples import ExamplesBody


def predict_messages(
    spec: ModelSpec,
    signature_name: str,
    inputs: Mapping[str, Array],
    servable: ServableId,
    results: Mapping[str, Array],
) -> RequestAndResponse:
    """PredictRequest and PredictResponse, their tensors in tensor_content."""
    request = messages.PredictRequest(model_spec=_asked(spec, signature_name))
    response = messages.PredictResponse(model_spec=effective_spec(servable, signature_name))
    return (
        request.SerializeToString() + inputs_field(inputs, as_tensor_content=True),
        response.SerializeToString() + outputs_field(results, as_tensor_content=True),
    )


def classify_messages(
    spec: ModelSpec, body: ExamplesBody, servable: ServableId, classes: Classes
) -> RequestAndResponse:
    """ClassificationRequest and ClassificationResponse."""
    request = messages.ClassificationRequest(model_spec=_asked(spec, body.signature_name), input=examples_input(body))
    return request.SerializeToString(), classification_response(servable, body.signature_name, classes)


def regress_messages(spec: ModelSpec, body: ExamplesBody, servable: ServableId, values: Array) -> RequestAndResponse:
    """RegressionRequest and RegressionResponse."""
    request = messages.RegressionRequest(model_spec=_asked(spec, body.signature_name), input=examples_input(body))
    return request.SerializeToString(), regression_response(servable, body.signature_name, values)


def _asked(spec: ModelSpec, signature_name: str) -> messages.ModelSpec:
    asked = messages.ModelSpec(name=spec.name, signature_name=signature_name)
    if spec.version is not None:
        asked.version.value = spec.version
    elif spec.label is not None:
        asked.version_label = spec.label
    return asked


def examples_input(body: ExamplesBody) -> messages.Input:
    """The field that holds the examples of a ClassificationRequest or RegressionRequest."""
    examples = [messages.Example.FromString(example) for example in body.examples]
    if not body.context:
        return messages.Input(example_list=messages.ExampleList(examples=examples))
    return messages.Input(
        example_list_with_context=messages.ExampleListWithContext(
            examples=examples, context=messages.Example.FromString(body.context)
        )
    )
