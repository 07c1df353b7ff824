"""Requests for a version that no client has sent: from files, or made up after its signatures."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import orjson

from pyserving.api.models import DEFAULT_SIGNATURE, ModelSpec
from pyserving.api.predict import REGRESS, find_signature
from pyserving.api.rest_messages import examples_input, predict_messages
from pyserving.core.errors import ServingError, invalid_argument
from pyserving.core.servable import ServableId
from pyserving.exporting.staging import writing_error
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array, Model, Signature, TensorSpec
from pyserving.protos import messages
from pyserving.sources.os_errors import serving_error
from pyserving.validation.samples import Method, Sample, read_samples
from pyserving.wire.json_examples import parse_examples
from pyserving.wire.json_request import parse_predict
from pyserving.wire.tfrecord import frame_record

INITIALISATION = "__saved_model_init_op"
_JSON_STARTS = b"{ \t\r\n"
_MOST_BYTES = 64 << 20
"""Of an input that is made up."""


def read_requests(path: str, model: Model, servable: ServableId) -> list[Sample]:
    """The requests in a file: JSON lines, or a TFRecord file of PredictionLogs such as a request log.

    A line is the body of a REST request: ``{"instances": ...}``, ``{"inputs": ...}`` or ``{"examples": ...}``, with
    ``"signature_name"`` where it is not the default one. ``"expected"`` may hold the outputs, as ``"inputs"`` holds
    inputs. Raises ServingError, which names the line.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(1)
    except OSError as error:
        raise serving_error(path, error) from None
    if start and start not in _JSON_STARTS:
        return list(read_samples(path, "request"))
    samples = []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                samples.append(_read_line(number, line, model, servable))
            except ServingError as error:
                raise ServingError(error.code, f"{path}, line {number}: {error.message}") from None
    return samples


def make_requests(model: Model, servable: ServableId, count: int) -> Iterator[Sample]:
    """``count`` requests of one row for each signature whose runs leave the model as it is, the same ones every time.

    Numbers of floating point lie between 0 and 1, whole ones are 0 or 1, texts are short: what almost any model takes.
    """
    number = 0
    for signature in model.signatures.values():
        if not signature.stateless or signature.name == INITIALISATION or not signature.inputs:
            continue
        for position in range(count):
            random = np.random.default_rng(position)
            made = {
                name: _made_up(spec, random)
                for name, spec in signature.inputs.items()
                if name not in signature.defaults
            }
            inputs = {name: array for name, array in made.items() if array is not None}
            if len(inputs) == len(made):
                number += 1
                yield predict_sample(number, signature, inputs, {}, servable)


def predict_sample(
    number: int, signature: Signature, inputs: Mapping[str, Array], expected: dict[str, Array], servable: ServableId
) -> Sample:
    request, _ = predict_messages(ModelSpec(servable.name), signature.name, inputs, servable, {})
    method = Method.PREDICT_STREAMED if signature.streams else Method.PREDICT
    return Sample(number, method, messages.PredictRequest.FromString(request), expected, 0)


def signature_of(sample: Sample) -> str:
    """Which signature a request asks, for people."""
    if sample.method is Method.MULTI_INFERENCE:
        return ", ".join(task.model_spec.signature_name or DEFAULT_SIGNATURE for task in sample.request.tasks)
    return sample.signature_name or DEFAULT_SIGNATURE


def write_warmup(path: str, samples: Iterable[Sample]) -> int:
    """Writes the file as a whole or not at all; returns its size in bytes. Raises what the system says."""
    scratch = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(scratch, "wb") as file:
            for sample in samples:
                file.write(frame_record(_log_of(sample).SerializeToString()))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(scratch, path)
    except OSError as error:
        with suppress(OSError):
            os.remove(scratch)
        raise writing_error(path, error) from None
    return size


def _log_of(sample: Sample) -> messages.PredictionLog:
    log = messages.PredictionLog()
    recorded = getattr(log, sample.method.value)
    if sample.method is Method.PREDICT_STREAMED:
        recorded.request.append(sample.request)
    else:
        recorded.request.CopyFrom(sample.request)
    return log


def _read_line(number: int, line: bytes, model: Model, servable: ServableId) -> Sample:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise invalid_argument(f"it is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise invalid_argument("expected the body of a REST request, a JSON object")
    if "examples" in document:
        return _examples_sample(number, line, document, model, servable)
    parsed = parse_predict(line)
    signature = find_signature(model, parsed.signature_name)
    inputs, row = parsed.tensors(signature.inputs)
    expected: dict[str, Array] = {}
    if "expected" in document:
        body = orjson.dumps({"instances" if row else "inputs": document["expected"]})
        expected, _ = parse_predict(body).tensors(signature.outputs)
    return predict_sample(number, signature, inputs, expected, servable)


def _examples_sample(number: int, line: bytes, document: dict[str, Any], model: Model, servable: ServableId) -> Sample:
    """A classification, or a regression where the signature says that it is one, or has but one output."""
    if "expected" in document:
        raise invalid_argument("expected answers to examples are read from PredictionLogs alone")
    body = parse_examples(line)
    signature = find_signature(model, body.signature_name)
    spec = messages.ModelSpec(name=servable.name, signature_name=body.signature_name)
    if signature.method_name == REGRESS or "outputs" in signature.outputs:
        regression = messages.RegressionRequest(model_spec=spec, input=examples_input(body))
        return Sample(number, Method.REGRESS, regression, {}, 0)
    classification = messages.ClassificationRequest(model_spec=spec, input=examples_input(body))
    return Sample(number, Method.CLASSIFY, classification, {}, 0)


def _made_up(spec: TensorSpec, random: np.random.Generator) -> Array | None:
    """None for what is too large, or of no type that can be fed."""
    dtype = NUMPY_OF.get(spec.dtype)
    shape = tuple(1 if size is None else size for size in (spec.shape if spec.shape is not None else (1,)))
    if dtype is None or not spec.tensor_name or int(np.prod(shape, dtype=np.float64)) * dtype.itemsize > _MOST_BYTES:
        return None
    if spec.dtype is DType.STRING:
        return np.full(shape, b"text", object)
    if dtype.names is not None:
        return np.zeros(shape, dtype)
    if dtype.kind in "iub":
        return random.integers(0, 2, shape).astype(dtype)
    return random.random(shape).astype(dtype)


def describe_sample(sample: Sample) -> str:
    """What it feeds, for people: types and shapes, or the number of examples."""
    if sample.method in (Method.PREDICT, Method.PREDICT_STREAMED):
        return ", ".join(
            f"{name} {DType(proto.dtype).text}({','.join(str(dim.size) for dim in proto.tensor_shape.dim)})"
            for name, proto in sorted(sample.request.inputs.items())
        )
    given = sample.request.input
    count = len(given.example_list.examples) + len(given.example_list_with_context.examples)
    return f"{count} examples"
