"""Calls of the gRPC services: method paths and messages."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from pyserving.client.answers import Class, ModelMetadata, Prediction, SignatureSpec, VersionStatus, read_metadata
from pyserving.client.call import Call, ModelSpec, Task
from pyserving.client.errors import Mismatch, NotOffered
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.dtypes import DTYPE_OF, DType
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.protos.messages import Example, ModelServerConfig
from pyserving.wire.tensor_proto import read_tensor, tensor_parts, varint

T = TypeVar("T")

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"


class GrpcCodec:
    """Tensors go as ``tensor_content``, the array's own bytes; strings as ``string_val``."""

    def predict(
        self,
        spec: ModelSpec,
        signature: SignatureSpec,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        streamed: bool = False,
    ) -> Call[Prediction]:
        # Put together by hand, for protobuf would copy large arrays twice.
        parts: list[bytes | memoryview] = [_field(1, _spec(spec, signature.name).SerializeToString())]
        for name, array in inputs.items():
            tensor = tensor_parts(array, as_content=DTYPE_OF[array.dtype] is not DType.STRING)
            key = _field(1, name.encode())
            head = b"\x12" + varint(len(tensor[0]) + len(tensor[1]))
            parts += [b"\x12" + varint(len(key) + len(head) + len(tensor[0]) + len(tensor[1])), key, head, *tensor]
        parts += [_field(3, name.encode()) for name in outputs]
        path = _PREDICTION + ("PredictStreamed" if streamed else "Predict")
        return Call(path, b"".join(parts), _reader(messages.PredictResponse.FromString, _prediction))

    def classify(self, spec: ModelSpec, signature: str, examples: Sequence[Example]) -> Call[list[list[Class]]]:
        request = messages.ClassificationRequest(model_spec=_spec(spec, signature), input=_input(examples))
        read = _reader(messages.ClassificationResponse.FromString, lambda answer: _classes(answer.result))
        return Call(_PREDICTION + "Classify", request.SerializeToString(), read)

    def regress(self, spec: ModelSpec, signature: str, examples: Sequence[Example]) -> Call[Array]:
        request = messages.RegressionRequest(model_spec=_spec(spec, signature), input=_input(examples))
        read = _reader(messages.RegressionResponse.FromString, lambda answer: _values(answer.result))
        return Call(_PREDICTION + "Regress", request.SerializeToString(), read)

    def multi_inference(
        self, spec: ModelSpec, tasks: Sequence[Task], examples: Sequence[Example]
    ) -> Call[list[list[list[Class]] | Array]]:
        request = messages.MultiInferenceRequest(
            tasks=[
                messages.InferenceTask(
                    model_spec=_spec(spec, task.signature), method_name=f"tensorflow/serving/{task.method}"
                )
                for task in tasks
            ],
            input=_input(examples),
        )
        read = _reader(messages.MultiInferenceResponse.FromString, _results)
        return Call(_PREDICTION + "MultiInference", request.SerializeToString(), read)

    def metadata(self, spec: ModelSpec) -> Call[ModelMetadata]:
        request = messages.GetModelMetadataRequest(model_spec=_spec(spec, ""), metadata_field=["signature_def"])
        read = _reader(messages.GetModelMetadataResponse.FromString, partial(_metadata, spec.name))
        return Call(_PREDICTION + "GetModelMetadata", request.SerializeToString(), read)

    def status(self, spec: ModelSpec) -> Call[list[VersionStatus]]:
        request = messages.GetModelStatusRequest(model_spec=_spec(spec, ""))
        return Call(
            _MODEL + "GetModelStatus",
            request.SerializeToString(),
            _reader(messages.GetModelStatusResponse.FromString, _statuses),
        )

    def models(self) -> Call[dict[str, list[VersionStatus]]]:
        raise NotOffered("the list of all models is asked for over REST; gRPC has no such method")

    def reload(self, config: ModelServerConfig) -> Call[None]:
        request = messages.ReloadConfigRequest(config=config)
        return Call(
            _MODEL + "HandleReloadConfigRequest",
            request.SerializeToString(),
            _reader(messages.ReloadConfigResponse.FromString, _check_reload),
        )

    def ready(self) -> Call[bool]:
        return Call(
            "/grpc.health.v1.Health/Check",
            messages.HealthCheckRequest().SerializeToString(),
            _reader(
                messages.HealthCheckResponse.FromString,
                lambda answer: bool(answer.status == messages.HealthCheckResponse.SERVING),
            ),
        )


def _field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def _spec(spec: ModelSpec, signature: str) -> messages.ModelSpec:
    made = messages.ModelSpec(name=spec.name, signature_name=signature)
    if spec.version is not None:
        made.version.value = spec.version
    elif spec.label is not None:
        made.version_label = spec.label
    return made


def _input(examples: Sequence[Example]) -> messages.Input:
    return messages.Input(example_list=messages.ExampleList(examples=examples))


M = TypeVar("M")


def _reader(parse: Callable[[bytes], M], read: Callable[[M], T]) -> Callable[[bytes], T]:
    def read_body(body: bytes) -> T:
        try:
            return read(parse(body))
        except DecodeError as error:
            raise Mismatch(f"the answer is not one of a model server: {error}") from None

    return read_body


def _prediction(answer: messages.PredictResponse) -> Prediction:
    try:
        outputs = {name: read_tensor(proto, name) for name, proto in answer.outputs.items()}
    except ServingError as error:
        raise Mismatch(f"an output cannot be read: {error.message}") from None
    # What lies in the message's own memory cannot be written to.
    outputs = {name: array if array.flags.writeable else array.copy() for name, array in outputs.items()}
    version = answer.model_spec.version.value if answer.model_spec.HasField("version") else None
    return Prediction(outputs, version)


def _classes(result: messages.ClassificationResult) -> list[list[Class]]:
    return [[Class(one.label, one.score) for one in row.classes] for row in result.classifications]


def _values(result: messages.RegressionResult) -> Array:
    return np.array([one.value for one in result.regressions], np.float32)


def _results(answer: messages.MultiInferenceResponse) -> list[list[list[Class]] | Array]:
    return [
        _classes(result.classification_result)
        if result.WhichOneof("result") == "classification_result"
        else _values(result.regression_result)
        for result in answer.results
    ]


def _metadata(name: str, answer: messages.GetModelMetadataResponse) -> ModelMetadata:
    held = messages.SignatureDefMap.FromString(answer.metadata["signature_def"].value)
    return read_metadata(name, answer.model_spec.version.value, dict(held.signature_def))


def _statuses(answer: messages.GetModelStatusResponse) -> list[VersionStatus]:
    return [
        VersionStatus(
            one.version,
            messages.ModelVersionStatus.State.Name(one.state),
            Code(one.status.error_code).name,
            one.status.error_message,
        )
        for one in answer.model_version_status
    ]


def _check_reload(answer: messages.ReloadConfigResponse) -> None:
    if answer.status.error_code:
        raise ServingError(Code(answer.status.error_code), answer.status.error_message)
